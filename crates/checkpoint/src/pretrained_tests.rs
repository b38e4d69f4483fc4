//! Directories of other programs whose weights would make a model compute something else.

use std::fs;
use std::path::Path;

use ::safetensors::tensor::{Dtype as StoredDtype, TensorView};
use burn::tensor::Device;
use model::bert::{Bert, BertConfig, BertHead};
use model::{Gpt, GptConfig};

use crate::*;

const BIAS: &str = "bert.encoder.layer.0.output.dense.bias";
const WORDS: &str = "bert.embeddings.word_embeddings.weight";
const DECODER: &str = "cls.predictions.decoder.weight";

fn config() -> BertConfig {
    BertConfig {
        n_layer: 1,
        n_head: 2,
        d_model: 8,
        d_ff: 16,
        max_seq_len: 8,
        vocab_size: 12,
        head: BertHead::MaskedLm,
        ..BertConfig::default()
    }
}

/// What a file of a model of this shape holds.
fn tensors() -> Tensors {
    let model = Bert::new(&config(), 1, &Device::flex());
    let on_host = |flat: model::weights::Flat| {
        (flat.name, HostTensor { shape: flat.shape, values: model::weights::to_host(flat.values) })
    };
    model::weights::stored(&model).into_iter().map(on_host).collect()
}

/// A directory with these tensors, and beside them one of another type.
fn directory(config: serde_json::Value, tensors: &Tensors, other: Option<(&str, StoredDtype)>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let bytes = |tensor: &HostTensor| tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let stored: Vec<(&String, Vec<u8>)> = tensors.iter().map(|(name, tensor)| (name, bytes(tensor))).collect();
    let zeros = [0; 64];
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
    let mut views: Vec<(&str, TensorView)> = stored
        .iter()
        .map(|(name, bytes)| (name.as_str(), view(StoredDtype::F32, &tensors[*name].shape, &bytes[..])))
        .collect();
    views.extend(other.map(|(name, dtype)| {
        let len = 8 * dtype.bitsize() / 8;
        (name, view(dtype, &[8], &zeros[..len]))
    }));
    fs::write(dir.path().join(weights::FILE), ::safetensors::serialize(views, None).unwrap()).unwrap();
    dir
}

fn bert(tensors: &Tensors, other: Option<(&str, StoredDtype)>) -> Result<Tensors, Error> {
    let dir = directory(config().to_hf(Some(0)), tensors, other);
    read_bert(dir.path()).map(|(_, tensors)| tensors)
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    for (value, named) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut tensors = tensors();
        tensors.get_mut(BIAS).unwrap().values[3] = value;
        let error = bert(&tensors, None).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(BIAS) && message.contains(&format!("safetensors holds {named};")), "{message}");
        assert_eq!(error.kind(), Kind::Checkpoint);
    }
}

#[test]
fn a_weight_of_a_type_that_is_not_read_is_named_with_it_and_a_buffer_is_not_read() {
    let mut others = tensors();
    others.remove(BIAS);
    let message = bert(&others, Some((BIAS, StoredDtype::I8))).unwrap_err().to_string();
    assert!(message.contains(BIAS) && message.contains("stored as I8"), "{message}");
    let read = bert(&tensors(), Some(("bert.embeddings.position_ids", StoredDtype::I64))).unwrap();
    assert_eq!(read, tensors());
}

#[test]
fn a_head_that_is_not_the_embedding_is_refused_by_name() {
    let mut tensors = tensors();
    tensors.insert(DECODER.into(), tensors[WORDS].clone());
    assert_eq!(bert(&tensors, None).unwrap(), tensors);
    tensors.get_mut(DECODER).unwrap().values[0] += 1.0;
    let message = bert(&tensors, None).unwrap_err().to_string();
    assert!(message.contains(DECODER) && message.contains(WORDS), "{message}");

    let tensor = |value| HostTensor { shape: vec![2, 1], values: vec![1.0, value] };
    let gpt = |head| {
        let tensors = [("lm_head.weight", tensor(head)), ("wte.weight", tensor(2.0))];
        let tensors = tensors.map(|(name, tensor)| (name.to_string(), tensor)).into();
        let dir = directory(GptConfig::default().to_hf(None), &tensors, None);
        weights::read::<Gpt>(dir.path())
    };
    assert!(gpt(2.0).is_ok());
    let message = gpt(3.0).unwrap_err().to_string();
    assert!(message.contains("`lm_head.weight` and `wte.weight` are not the same"), "{message}");
}

#[test]
fn a_missing_tokenizer_is_told_with_its_directory_once() {
    let dir = directory(config().to_hf(Some(0)), &tensors(), None);
    let message = tokenizer(dir.path()).unwrap_err().to_string();
    let path = Path::new(dir.path()).display().to_string();
    assert_eq!(message.matches(&path).count(), 1, "{message}");
}
