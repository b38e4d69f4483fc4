//! The same mathematics as HuggingFace's BERT: `scripts/make_bert_golden.py` made the fixtures.

use crate::support::{devices, distance, fixture};
use burn::tensor::{Device, Int, Tensor, TensorData};
use checkpoint::safetensors::Reader;
use data::{Batch, RowId, Target};
use model::bert::Input;
use model::weights::{self, Family, Flat};
use model::{Bert, BertConfig, BertHead, Pass, Tensors, loss};
use std::path::Path;
use trainer::config::{AdamwConfig, OptimizerConfig};
use trainer::forward::{StepGradient, StepOptions, step_gradient};
use trainer::optimizer::{Optimizer, Rates, Scale, clip_factor, squared_norm};

const ROWS: usize = 3;
const SEQ: usize = 9;
const CLASSES: [&str; 4] = ["bert-masked-lm", "bert-pre-training", "bert-classes", "bert-tags"];

/// A fixture's directory, what it was made with and what it should give.
struct Golden {
    name: &'static str,
    config: BertConfig,
    tensors: Tensors,
    expected: Reader,
    bytes: Vec<u8>,
}

impl Golden {
    fn open(name: &'static str) -> Self {
        let path = fixture(name).join("golden.safetensors");
        let (config, tensors) = checkpoint::read_bert(&fixture(name)).expect("a bert directory");
        let expected = Reader::open(&path).expect("the fixture is there");
        Self { name, config, tensors, expected, bytes: std::fs::read(path).expect("the fixture is there") }
    }

    fn model(&self, device: &Device) -> Bert {
        let (model, report) = weights::load(Bert::blank(&self.config, device), &self.tensors).expect("its weights fit");
        assert_eq!((report.fresh.len(), report.unused.len()), (0, 0), "{}: {report:?}", self.name);
        model
    }

    fn values(&self, name: &str) -> Vec<f32> {
        self.expected.tensor(name).expect("in the fixture").values
    }

    /// Numbers of the batch; `transformers` marks what trains nothing by -100.
    fn integers(&self, name: &str) -> Vec<i64> {
        let tensors = safetensors::SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let data = tensors.tensor(name).expect("in the fixture").data().to_vec();
        data.chunks(8).map(|number| i64::from_le_bytes(number.try_into().expect("eight bytes"))).collect()
    }

    fn grid(&self, name: &str, device: &Device) -> Tensor<2, Int> {
        let values = self.integers(name).into_iter().map(|value| value as i32).collect();
        Tensor::from_data(TensorData::new::<i32, _>(values, [ROWS, SEQ]), device)
    }

    fn input(&self, device: &Device) -> (Input, Pass) {
        let input = Input {
            tokens: self.grid("input_ids", device),
            positions: Tensor::<1, Int>::arange(0..SEQ as i64, device).reshape([1, SEQ]).repeat_dim(0, ROWS),
            token_types: Some(self.grid("token_type_ids", device)),
        };
        (input, Pass { segments: Some(self.grid("attention_mask", device)), ..Pass::default() })
    }

    /// The batch as the trainer gets one, with a loss term for each kind of target.
    fn batch(&self) -> Batch {
        let ids = |name: &str| self.integers(name).into_iter().map(|id| id as u32).collect::<Vec<u32>>();
        // What `transformers` marks by -100 weighs nothing.
        let targets = |name: &str| -> (Vec<u32>, Vec<f32>) {
            self.integers(name).iter().map(|id| if *id < 0 { (0, 0.0) } else { (*id as u32, 1.0) }).unzip()
        };
        let (labels, weights) = targets("labels");
        let mut terms = match &self.config.head {
            BertHead::SequenceClassification { .. } => vec![(Target::Classes(labels), weights)],
            _ => vec![(Target::Tokens(labels), weights)],
        };
        if self.config.head == BertHead::PreTraining {
            let (next, weights) = targets("next_sentence_label");
            terms.push((Target::Classes(next), weights));
        }
        let (targets, weights) = terms.into_iter().unzip();
        Batch {
            shape: [ROWS, SEQ],
            tokens: ids("input_ids"),
            segments: ids("attention_mask"),
            positions: (0..(ROWS * SEQ) as u32).map(|place| place % SEQ as u32).collect(),
            token_types: Some(ids("token_type_ids")),
            targets,
            weights,
            rows: (0..ROWS as u64).map(|row| RowId { epoch: 0, row }).collect(),
        }
    }

    fn step(&self, model: &Bert, options: StepOptions, device: &Device) -> StepGradient {
        step_gradient(model, &[self.batch()], options, device)
    }
}

/// All logits of the head, as rows: of each position, or of each input.
fn logits(model: &Bert, head: &BertHead, input: Input, pass: &Pass) -> Tensor<2> {
    let [rows, seq] = input.tokens.dims();
    let device = input.tokens.device();
    let hidden = model.hidden(input, pass);
    match head {
        BertHead::SequenceClassification { .. } => model.class_logits(hidden, None, pass),
        BertHead::TokenClassification { labels } => model.tag_logits(hidden, pass).reshape([rows * seq, labels.len()]),
        _ => model.token_logits(hidden, Tensor::arange(0..(rows * seq) as i64, &device), pass),
    }
}

/// The largest difference, at real tokens alone where there are logits of each.
fn off(ours: &[f32], theirs: &[f32], mask: &[i64]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let width = ours.len() / mask.len().min(ours.len());
    let counts = |i: usize| ours.len() < ROWS * SEQ || mask[i / width] == 1;
    (0..ours.len()).filter(|i| counts(*i)).map(|i| (ours[i] - theirs[i]).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_of_every_bert_head_equal_huggingface_and_a_wrong_gelu_would_not() {
    for golden in CLASSES.map(Golden::open) {
        let mask = golden.integers("attention_mask");
        for (device_name, device) in devices() {
            let name = format!("{} on {device_name}", golden.name);
            let model = golden.model(&device);
            let (input, pass) = golden.input(&device);
            let ours = weights::to_host(logits(&model, &golden.config.head, input.clone(), &pass).reshape([-1]));
            let difference = off(&ours, &golden.values("logits"), &mask);
            assert!(difference < 1e-4, "{name}: logits differ by {difference}");
            let wrong = off(&ours, &golden.values("logits_tanh_gelu"), &mask);
            assert!(wrong > 5e-4, "{name}: the comparison does not tell the GELUs apart: {wrong}");
            if golden.config.head == BertHead::PreTraining {
                let next = model.next_sentence_logits(model.hidden(input, &pass), None, &pass);
                let (off, _) = distance(&weights::to_host(next.reshape([-1])), &golden.values("next_sentence_logits"));
                assert!(off < 1e-4, "{name}: logits of the next sentence differ by {off}");
            }
        }
    }
}

#[test]
fn a_micro_batch_without_a_masked_token_takes_nothing_from_the_others() {
    let device = model::device::ndarray().autodiff();
    for golden in CLASSES.map(Golden::open) {
        let masked = matches!(golden.config.head, BertHead::MaskedLm | BertHead::PreTraining);
        if !masked {
            continue;
        }
        let model = golden.model(&device);
        let mut without = golden.batch();
        without.weights.iter_mut().flatten().for_each(|weight| *weight = 0.0);
        let alone = golden.step(&model, StepOptions::default(), &device).gradients;
        for batches in [[golden.batch(), without.clone()], [without.clone(), golden.batch()]] {
            let together = step_gradient(&model, &batches, StepOptions::default(), &device).gradients;
            assert_eq!(together.len(), alone.len(), "{}", golden.name);
            for (ours, expected) in together.iter().zip(&alone) {
                let [a, b] = [ours, expected].map(|flat| weights::to_host(flat.values.clone()));
                assert!(ours.name == expected.name && distance(&a, &b).0 < 1e-5, "{}: {}", golden.name, ours.name);
            }
        }
    }
}

#[test]
fn every_bert_gradient_equals_pytorch() {
    for golden in CLASSES.map(Golden::open) {
        for (device_name, device) in devices() {
            let device = device.autodiff();
            let model = golden.model(&device);
            let gradients = golden.step(&model, StepOptions::default(), &device).gradients;
            assert_eq!(gradients.len(), weights::shapes(&model).len(), "{}", golden.name);
            let global = squared_norm(&gradients).into_scalar::<f64>().sqrt();
            let stored: Vec<Flat> = gradients.into_iter().flat_map(Bert::stored).collect();
            assert_eq!(stored.len(), golden.expected.names().iter().filter(|name| name.starts_with("grad.")).count());
            for Flat { name, shape, values } in stored {
                let expected = golden.expected.tensor(&format!("grad.{name}")).expect("a gradient of every parameter");
                assert_eq!(expected.shape, shape, "{name}");
                let (off, norm) = distance(&weights::to_host(values), &expected.values);
                assert!(
                    off <= 1e-3 * norm + 1e-6 * global,
                    "{} on {device_name}: gradient of {name} is off by {off} of {norm}",
                    golden.name
                );
            }
        }
    }
}

#[test]
fn ten_adamw_losses_of_every_bert_head_equal_pytorch() {
    for golden in CLASSES.map(Golden::open) {
        let text = std::fs::read_to_string(fixture(golden.name).join("golden.json")).expect("the fixture is there");
        let settings: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let expected: Vec<f64> =
            settings["losses"].as_array().expect("a list").iter().filter_map(|loss| loss.as_f64()).collect();
        let number = |key: &str| settings["optimizer"][key].as_f64().expect("a number");
        for (device_name, device) in devices() {
            let device = device.autodiff();
            let mut model = golden.model(&device);
            let mut optimizer = Optimizer::new(OptimizerConfig::Adamw(AdamwConfig {
                lr: number("lr"),
                weight_decay: number("weight_decay"),
                beta1: number("beta1"),
                beta2: number("beta2"),
                eps: number("eps"),
            }));
            let mut losses = Vec::new();
            for step in 1..=10 {
                // Every other step computes its blocks twice: it must make no difference.
                let options = StepOptions { gradient_checkpointing: step % 2 == 0, ..StepOptions::default() };
                let gradient = golden.step(&model, options, &device);
                losses.push(gradient.loss().into_scalar::<f64>());
                let gradients = gradient.gradients;
                let norm = squared_norm(&gradients).into_scalar::<f64>().sqrt();
                let scale = Scale::Known(clip_factor(norm, number("max_grad_norm")));
                model = optimizer.update(model, gradients, scale, Rates::uniform(number("lr")), step);
            }
            assert_eq!(expected.len(), 10);
            for (ours, theirs) in losses.iter().zip(&expected) {
                let name = golden.name;
                assert!((ours - theirs).abs() < 1e-3, "{name} on {device_name}: {losses:?} instead of {expected:?}");
            }
        }
    }
}

#[test]
fn losses_of_several_labels_and_of_numbers_equal_pytorch() {
    let golden = Golden::open("bert-classes");
    for (name, device) in devices() {
        let model = golden.model(&device);
        let (input, pass) = golden.input(&device);
        let logits = model.class_logits(model.hidden(input, &pass), None, &pass);
        let targets = Tensor::from_data(TensorData::new(golden.values("multi_hot"), [ROWS, 3]), &device);
        let weights = Tensor::<1>::full([ROWS], 1.0 / ROWS as f64, &device);
        let ours = [
            loss::binary_cross_entropy_sum(logits.clone(), targets.clone(), weights.clone()),
            loss::squared_error_sum(logits, targets, weights),
        ];
        for (ours, key) in ours.into_iter().zip(["loss_multi_label", "loss_regression"]) {
            let (ours, theirs) = (ours.into_scalar::<f32>(), golden.values(key)[0]);
            assert!((ours - theirs).abs() < 1e-4 * theirs.abs().max(1.0), "{name}: {key} is {ours}, not {theirs}");
        }
    }
}

#[test]
fn padding_changes_no_logit_of_a_real_token() {
    let (golden, pad) = (Golden::open("bert-tags"), 3);
    for (name, device) in devices() {
        let model = golden.model(&device);
        let (input, pass) = golden.input(&device);
        let alone = weights::to_host(logits(&model, &golden.config.head, input, &pass).reshape([-1]));
        let longer = |key: &str, filler: i32| {
            let rows = golden.integers(key);
            let row = |row: &[i64]| row.iter().map(|v| *v as i32).chain([filler; 3]).collect::<Vec<i32>>();
            let values: Vec<i32> = rows.chunks(SEQ).flat_map(row).collect();
            Tensor::<2, Int>::from_data(TensorData::new(values, [ROWS, SEQ + pad]), &device)
        };
        let positions = Tensor::<1, Int>::arange(0..(SEQ + pad) as i64, &device);
        let input = Input {
            // Padding of any id and type.
            tokens: longer("input_ids", 5),
            positions: positions.reshape([1, SEQ + pad]).repeat_dim(0, ROWS),
            token_types: Some(longer("token_type_ids", 1)),
        };
        let pass = Pass { segments: Some(longer("attention_mask", 0)), ..Pass::default() };
        let padded = weights::to_host(logits(&model, &golden.config.head, input, &pass).reshape([-1]));
        let width = golden.config.head.labels().len();
        let padded: Vec<f32> = padded.chunks((SEQ + pad) * width).flat_map(|row| row[..SEQ * width].to_vec()).collect();
        let difference = off(&padded, &alone, &golden.integers("attention_mask"));
        assert!(difference < 1e-5, "{name}: padding changes logits by {difference}");
    }
}

#[test]
fn a_saved_bert_holds_what_huggingface_wrote() {
    for golden in CLASSES.map(Golden::open) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Where to look at what was written with other tools.
        let keep = std::env::var_os("FIREBOX_TEST_KEEP_BERT").map(|at| Path::new(&at).join(golden.name));
        let to = keep.unwrap_or_else(|| dir.path().join("saved"));
        let model = golden.model(&Device::flex());
        checkpoint::export(&to, &checkpoint::bert_files(&model, &golden.config, None)).expect("writable");
        let (config, tensors) = checkpoint::read_bert(&to).expect("a bert directory");
        assert_eq!(config, golden.config);
        assert_eq!(tensors, golden.tensors, "{}", golden.name);
    }
}

#[test]
fn a_pretrained_body_takes_a_new_head_and_says_so() {
    let golden = Golden::open("bert-masked-lm");
    let classes = Golden::open("bert-classes");
    let device = Device::flex();
    let fresh = Bert::new(&classes.config, 1, &device);
    let (model, report) = weights::load_body(fresh.clone(), &golden.tensors).expect("the same body");
    assert_eq!(
        report.fresh,
        ["bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"]
    );
    assert_eq!(report.unused.len(), 5, "{:?}", report.unused);
    assert!(report.unused.iter().all(|name| name.starts_with("cls.predictions.")), "{:?}", report.unused);
    let (before, after) = (weights::export(&fresh), weights::export(&model));
    for (name, tensor) in &after {
        assert_eq!(before[name] == *tensor, report.fresh.contains(name), "{name}");
    }
    let error = weights::load(fresh, &golden.tensors).expect_err("a whole model has a classifier");
    assert!(error.to_string().contains("`classifier.weight` [3, 16] is missing"), "{error}");
}

#[test]
fn names_of_older_files_are_understood() {
    let golden = Golden::open("bert-pre-training");
    let old = |(name, tensor): (&String, &model::HostTensor)| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        (name, tensor.clone())
    };
    let mut tensors: Tensors = golden.tensors.iter().map(old).collect();
    let words = tensors["bert.embeddings.word_embeddings.weight"].clone();
    tensors.insert("cls.predictions.decoder.weight".into(), words);
    let ids = model::HostTensor { shape: vec![1, 12], values: (0..12).map(|i| i as f32).collect() };
    tensors.insert("bert.embeddings.position_ids".into(), ids);
    let blank = Bert::blank(&golden.config, &Device::flex());
    let (model, report) = weights::load(blank, &tensors).expect("the same model");
    assert_eq!((report.fresh.len(), report.unused.len()), (0, 0), "{report:?}");
    assert_eq!(weights::export(&model), weights::export(&golden.model(&Device::flex())));
}
