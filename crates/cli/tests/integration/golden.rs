//! The same mathematics as HuggingFace: `scripts/make_golden.py` made the fixtures with `transformers` and PyTorch.

use crate::support::{devices, distance, fixture};
use burn::tensor::{Device, Int, Tensor, TensorData};
use checkpoint::safetensors::Reader;
use data::{Batch, RowId, collate};
use model::{Gpt, Pass, weights};
use trainer::config::{AdamwConfig, OptimizerConfig};
use trainer::forward::{StepOptions, step_gradient};
use trainer::optimizer::{Optimizer, Rates, Scale, clip_factor, squared_norm};

const SEQ: usize = 17;
const ROWS: usize = 3;

fn golden() -> Reader {
    Reader::open(&fixture("gpt2-golden/golden.safetensors")).expect("the fixture is there")
}

fn input_ids(file: &str) -> Vec<u32> {
    let bytes = std::fs::read(fixture(file)).expect("the fixture is there");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let ids = tensors.tensor("input_ids").expect("holds the input");
    ids.data().chunks(8).map(|id| i64::from_le_bytes(id.try_into().expect("eight bytes")) as u32).collect()
}

fn load(dir: &str, device: &Device) -> Gpt {
    let (config, tensors) = checkpoint::read_gpt(&fixture(dir)).expect("a gpt2 directory");
    weights::load(Gpt::blank(&config, device), &tensors).expect("its weights fit").0
}

fn logits(model: &Gpt, ids: &[u32], rows: usize, device: &Device) -> Vec<f32> {
    let seq = ids.len() / rows;
    let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows, seq]), device);
    let positions = Tensor::<1, Int>::arange(0..seq as i64, device).reshape([1, seq]).repeat_dim(0, rows);
    let logits = model.forward(tokens, positions, &Pass::default());
    weights::to_host(logits.reshape([-1]))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The batch of the fixture: HuggingFace shifts the labels, so the last token of a row is only a target.
fn batch() -> Batch {
    let ids = input_ids("gpt2-golden/golden.safetensors");
    let rows: Vec<&[u32]> = ids.chunks(SEQ).collect();
    let names: Vec<RowId> = (0..ROWS as u64).map(|row| RowId { epoch: 0, row }).collect();
    collate::causal(&rows, SEQ - 1, &names).expect("rows of one length")
}

#[test]
fn logits_equal_huggingface_and_a_wrong_gelu_would_not() {
    let golden = golden();
    let expected = golden.tensor("logits").expect("in the fixture").values;
    let wrong = golden.tensor("logits_erf_gelu").expect("in the fixture").values;
    for (name, device) in devices() {
        let ours = logits(&load("gpt2-golden", &device), &input_ids("gpt2-golden/golden.safetensors"), ROWS, &device);
        let off = largest_difference(&ours, &expected);
        assert!(off < 1e-4, "{name}: logits differ by {off}");
        assert!(largest_difference(&ours, &wrong) > 1e-3, "{name}: the comparison does not tell the GELUs apart");
    }
}

#[test]
fn a_base_model_without_prefix_and_with_mask_buffers_loads_and_computes_the_same() {
    let expected = Reader::open(&fixture("gpt2-base-prefixless/golden.safetensors")).expect("the fixture is there");
    let shape = expected.shape("logits").expect("in the fixture").to_vec();
    for (name, device) in devices() {
        let ids = input_ids("gpt2-base-prefixless/golden.safetensors");
        let ours = logits(&load("gpt2-base-prefixless", &device), &ids, shape[0], &device);
        let off = largest_difference(&ours, &expected.tensor("logits").expect("in the fixture").values);
        assert!(off < 1e-4, "{name}: logits differ by {off}");
    }
}

#[test]
fn every_gradient_equals_pytorch() {
    let golden = golden();
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = load("gpt2-golden", &device);
        let gradients = step_gradient(&model, &[batch()], StepOptions::default(), &device).gradients;
        assert_eq!(gradients.len(), weights::shapes(&model).len());
        let global = squared_norm(&gradients).into_scalar::<f64>().sqrt();
        for gradient in gradients {
            let expected = golden.tensor(&format!("grad.{}", gradient.name)).expect("a gradient of every parameter");
            assert_eq!(expected.shape, gradient.shape, "{}", gradient.name);
            let (off, norm) = distance(&weights::to_host(gradient.values), &expected.values);
            assert!(
                off <= 1e-3 * norm + 1e-6 * global,
                "{name}: gradient of {} is off by {off} of {norm}",
                gradient.name
            );
        }
    }
}

#[test]
fn ten_adamw_losses_equal_pytorch() {
    let text = std::fs::read_to_string(fixture("gpt2-golden/golden.json")).expect("the fixture is there");
    let golden: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let expected: Vec<f64> = golden["losses"].as_array().expect("a list").iter().filter_map(|l| l.as_f64()).collect();
    let settings = &golden["optimizer"];
    let number = |key: &str| settings[key].as_f64().expect("a number");
    // Clipping by a norm that the host has read, and by one that stays on the device.
    for ((name, device), read) in devices().into_iter().flat_map(|device| [(device.clone(), true), (device, false)]) {
        let device = device.autodiff();
        let mut model = load("gpt2-golden", &device);
        let mut optimizer = Optimizer::new(OptimizerConfig::Adamw(AdamwConfig {
            lr: number("lr"),
            weight_decay: number("weight_decay"),
            beta1: number("beta1"),
            beta2: number("beta2"),
            eps: number("eps"),
        }));
        let mut losses = Vec::new();
        for step in 1..=10 {
            let gradient = step_gradient(&model, &[batch()], StepOptions::default(), &device);
            losses.push(gradient.loss().into_scalar::<f64>());
            let (squared, most) = (squared_norm(&gradient.gradients), number("max_grad_norm"));
            let scale = match read {
                true => Scale::Known(clip_factor(squared.into_scalar::<f64>().sqrt(), most)),
                false => Scale::clipping(squared, most),
            };
            model = optimizer.update(model, gradient.gradients, scale, Rates::uniform(number("lr")), step);
        }
        for (ours, theirs) in losses.iter().zip(&expected) {
            assert!((ours - theirs).abs() < 1e-3, "{name}: {losses:?} instead of {expected:?}");
        }
        assert_eq!(expected.len(), 10);
    }
}
