//! Files written and read back, files of other programs, and files that are broken.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use proptest::prelude::*;

use crate::safetensors::{Reader, write};
use crate::*;

fn tensor(shape: &[usize], values: &[f32]) -> HostTensor {
    HostTensor { shape: shape.to_vec(), values: values.to_vec() }
}

fn some() -> Tensors {
    Tensors::from([
        ("wte.weight".to_string(), tensor(&[2, 3], &[0.0, -0.0, 1.5, f32::MIN_POSITIVE, 65504.0, -2.25])),
        ("bias".to_string(), tensor(&[1], &[f32::INFINITY])),
        ("empty".to_string(), tensor(&[0, 4], &[])),
        ("scalar".to_string(), tensor(&[], &[3.0])),
    ])
}

fn sources(tensors: &Tensors) -> Sources {
    tensors.iter().map(|(name, tensor)| (name.clone(), Source::Host(tensor.clone()))).collect()
}

fn written(tensors: &Tensors, dtype: Dtype) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    write(&path, &sources(tensors), dtype, &BTreeMap::new()).unwrap();
    (dir, path)
}

/// A file with this header and this many bytes behind it.
fn by_hand(dir: &Path, header: &str, data: usize) -> PathBuf {
    let path = dir.join("by_hand.safetensors");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 1);
    fs::write(&path, bytes).unwrap();
    path
}

fn refusal(path: &Path) -> String {
    let error = Reader::open(path).err().expect("the file is broken");
    assert!(matches!(error, Error::Malformed { .. }), "{error}");
    assert_eq!(error.kind(), Kind::Checkpoint);
    let message = error.to_string();
    assert!(message.contains("hint:"), "{message}");
    message
}

#[test]
fn f32_survives_to_the_last_bit_and_the_header_says_pt() {
    let (_dir, path) = written(&some(), Dtype::F32);
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.metadata(), BTreeMap::from([("format".into(), "pt".into())]));
    assert_eq!(reader.names(), ["bias", "empty", "scalar", "wte.weight"]);
    assert_eq!(reader.shape("wte.weight"), Some(&[2, 3][..]));
    assert_eq!(reader.dtype("bias").as_deref(), Some("F32"));
    let read = reader.tensors().unwrap();
    let bits =
        |tensors: &Tensors| -> Vec<u32> { tensors.values().flat_map(|t| &t.values).map(|x| x.to_bits()).collect() };
    assert_eq!(bits(&read), bits(&some()));
    assert_eq!(read, some());
}

#[test]
fn the_numbers_are_aligned_and_the_same_tensors_give_the_same_bytes() {
    let (_a, first) = written(&some(), Dtype::F32);
    let (_b, second) = written(&some(), Dtype::F32);
    let bytes = fs::read(first).unwrap();
    assert_eq!(bytes, fs::read(second).unwrap());
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(header % 8, 0);
}

#[test]
fn half_precision_rounds_to_nearest_and_f16_refuses_what_it_cannot_hold() {
    let values = [1.0, 1.0 / 3.0, -65504.0, 1e-3];
    let tensors = Tensors::from([("w".to_string(), tensor(&[4], &values))]);
    let (_dir, path) = written(&tensors, Dtype::F16);
    let read = Reader::open(&path).unwrap().tensor("w").unwrap();
    assert_eq!(read.values, values.map(|x| f16::from_f32(x).to_f32()));
    let (_dir, path) = written(&tensors, Dtype::Bf16);
    let read = Reader::open(&path).unwrap().tensor("w").unwrap();
    assert_eq!(read.values, values.map(|x| bf16::from_f32(x).to_f32()));

    let large = Tensors::from([("w".to_string(), tensor(&[1], &[70000.0]))]);
    let error = write(&path, &sources(&large), Dtype::F16, &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("\"w\"") && error.contains("bf16"), "{error}");
    write(&path, &sources(&large), Dtype::Bf16, &BTreeMap::new()).unwrap();
}

#[test]
fn f64_is_read_and_integers_are_listed_but_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let header = r#"{"double":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"ids":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},"mask":{"dtype":"BOOL","shape":[2],"data_offsets":[16,18]}}"#;
    let path = by_hand(dir.path(), header, 18);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8 + header.len()..][..8].copy_from_slice(&0.1f64.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.tensor("double").unwrap().values, [0.1f32]);
    assert_eq!(reader.names(), ["double", "ids", "mask"]);
    assert_eq!(reader.shape("ids"), Some(&[1][..]));
    for (name, dtype) in [("ids", "I64"), ("mask", "BOOL")] {
        let error = reader.tensor(name).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(dtype), "{error}");
    }
    let error = reader.tensor("absent").unwrap_err().to_string();
    assert!(error.contains("\"absent\"") && error.contains("double, ids, mask"), "{error}");
}

#[test]
fn every_truncation_is_an_error_with_a_hint() {
    let (dir, path) = written(&some(), Dtype::F32);
    let bytes = fs::read(path).unwrap();
    let cut = dir.path().join("cut.safetensors");
    for length in 0..bytes.len() {
        fs::write(&cut, &bytes[..length]).unwrap();
        assert!(refusal(&cut).contains("truncated"), "{length}");
    }
    fs::write(&cut, [&bytes[..], &[0]].concat()).unwrap();
    refusal(&cut);
}

#[test]
fn malformed_headers_say_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            12,
            "overlap",
        ),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "gap"),
        (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8, "shape"),
        (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]}}"#, 8, "malformed"),
        (r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#, 8, "F33"),
        (r#"{"a":"#, 0, "malformed header"),
        ("[]", 0, "malformed header"),
    ];
    for (header, data, expected) in cases {
        let message = refusal(&by_hand(dir.path(), header, data));
        assert!(message.contains(expected), "{header}: {message}");
    }
    let path = dir.path().join("x");
    fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert!(refusal(&path).contains("not a safetensors file"));
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\n").unwrap();
    assert!(refusal(&path).contains("git lfs pull"));
}

#[test]
fn a_shape_that_does_not_fit_its_values_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    for (name, bad) in
        [("w", tensor(&[2], &[1.0])), ("w", tensor(&[usize::MAX, 2], &[1.0])), ("__metadata__", tensor(&[1], &[1.0]))]
    {
        let tensors = Tensors::from([(name.to_string(), bad)]);
        let error = write(&path, &sources(&tensors), Dtype::F32, &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(!path.exists());
    }
}

#[test]
fn a_model_in_shards_is_read_through_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let one = |name: &str, value| Tensors::from([(name.to_string(), tensor(&[1], &[value]))]);
    write(&dir.path().join(a), &sources(&one("first", 1.0)), Dtype::F32, &BTreeMap::new()).unwrap();
    write(&dir.path().join(b), &sources(&one("second", 2.0)), Dtype::Bf16, &BTreeMap::new()).unwrap();
    let index = |map: serde_json::Value| {
        let text = serde_json::json!({"metadata": {"total_size": 6}, "weight_map": map}).to_string();
        fs::write(dir.path().join(weights::INDEX), text).unwrap();
    };
    index(serde_json::json!({"first": a, "second": b}));
    let model = open_model(dir.path()).unwrap();
    assert_eq!(model.names().collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(model.shape("second"), Some(&[1][..]));
    assert_eq!(model.tensor("first").unwrap().values, [1.0]);
    assert_eq!(model.tensor("second").unwrap().values, [2.0]);
    assert!(model.tensor("third").unwrap_err().to_string().contains("first, second"));

    for (map, expected) in [
        (serde_json::json!({"first": a, "third": b}), "does not hold it"),
        (serde_json::json!({"first": "../x.safetensors"}), "not a file of that directory"),
        (serde_json::json!({"first": "model-00003.safetensors"}), "is missing"),
        (serde_json::json!(7), "not an index"),
    ] {
        index(map);
        let error = open_model(dir.path()).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("index.json"), "{error}");
    }
}

#[test]
fn a_directory_without_safetensors_says_what_it_holds_instead() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &Path| open_model(path).err().unwrap().to_string();
    assert!(refusal(&dir.path().join("absent")).contains("no such directory"));
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    assert!(refusal(dir.path()).contains("holds config.json"));
    assert!(refusal(&dir.path().join("config.json")).contains("it is a file"));
    fs::write(dir.path().join("other.safetensors"), "").unwrap();
    assert!(refusal(dir.path()).contains("rename"));
    fs::create_dir(dir.path().join("step-000010")).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("a run's directory") && message.contains("step-000010"), "{message}");
    fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("pytorch_model.bin") && message.contains("transformers.AutoModel.from"), "{message}");
    // Another class would lose the head.
    fs::write(dir.path().join("config.json"), r#"{"architectures": ["BertForMaskedLM"]}"#).unwrap();
    assert!(refusal(dir.path()).contains("transformers.BertForMaskedLM.from_pretrained(DIR)"));
}

proptest! {
    #[test]
    fn random_files_are_refused_or_read_but_never_panic(
        header in proptest::collection::vec(any::<u8>(), 0..200), length in 0u64..220, data in 0usize..64,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(header);
        bytes.resize(bytes.len() + data, 0);
        fs::write(&path, bytes).unwrap();
        if let Ok(reader) = Reader::open(&path) {
            let _ = reader.tensors();
        }
    }

    #[test]
    fn a_flipped_bit_in_the_header_is_refused_or_read_but_never_panics(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let (_dir, path) = written(&some(), Dtype::F32);
        let mut bytes = fs::read(&path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[at.index(header)] ^= 1 << bit;
        fs::write(&path, bytes).unwrap();
        if let Ok(reader) = Reader::open(&path) {
            let _ = reader.tensors();
        }
    }

    #[test]
    fn any_bits_written_as_f32_are_read_back(bits in proptest::collection::vec(any::<u32>(), 0..300)) {
        let values: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let (_dir, path) = written(&Tensors::from([("w".to_string(), tensor(&[values.len()], &values))]), Dtype::F32);
        let read = Reader::open(&path).unwrap().tensor("w").unwrap();
        prop_assert_eq!(read.values.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), bits);
    }
}
