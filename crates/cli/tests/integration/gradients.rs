//! What must not change a gradient or a logit.

use crate::support::{devices, distance};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use data::{Batch, RowId, collate};
use model::weights::{self, Family, Flat, Freeze, Place};
use model::{Gpt, GptConfig, KvCache, Pass, Precision};
use trainer::config::{AdamwConfig, OptimizerConfig, SgdConfig};
use trainer::forward::{StepOptions, step_gradient};
use trainer::network::Trainable;
use trainer::optimizer::{Optimizer, Rates, Scale};

const SEQ: usize = 12;
const VOCAB: u32 = 29;

fn small(dropout: f64) -> GptConfig {
    GptConfig {
        n_layer: 2,
        n_head: 2,
        d_model: 16,
        d_ff: 64,
        max_seq_len: SEQ,
        vocab_size: VOCAB as usize,
        embd_dropout: dropout,
        attn_dropout: dropout,
        resid_dropout: dropout,
        layer_norm_eps: 1e-5,
    }
}

/// Eight rows of 3 to 13 tokens.
fn ragged() -> Vec<Vec<u32>> {
    (0..8u32).map(|row| (0..3 + (row * 7) % 11).map(|i| (row * 31 + i * i * 5 + 7) % VOCAB).collect()).collect()
}

fn collated(rows: &[Vec<u32>]) -> Batch {
    let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let names: Vec<RowId> = (0..rows.len() as u64).map(|row| RowId { epoch: 0, row }).collect();
    collate::causal(&rows, SEQ, &names).expect("no row is longer than the context")
}

fn flat(gradients: Vec<Flat>) -> Vec<f32> {
    gradients.into_iter().flat_map(|gradient| weights::to_host(gradient.values)).collect()
}

fn forward(model: &Gpt, batch: &Batch, device: &Device) -> Vec<f32> {
    let [tokens, positions] = Gpt::input(batch, device);
    let segments = Pass::segments(batch.shape, &batch.segments, device);
    weights::to_host(model.forward(tokens, positions, &Pass { segments, ..Pass::default() }).reshape([-1]))
}

#[test]
fn any_split_of_a_step_into_micro_batches_gives_the_same_gradient_with_dropout_too() {
    let options = StepOptions { randomness: Some((3, 4)), ..StepOptions::default() };
    for ((name, device), dropout) in devices().into_iter().flat_map(|device| [(device.clone(), 0.0), (device, 0.2)]) {
        let device = device.autodiff();
        let model = Gpt::new(&small(dropout), 1, &device);
        let whole = collated(&ragged());
        let lengths: Vec<f32> = whole.weights[0].chunks(SEQ).map(|row| row.iter().sum()).collect();
        assert!(lengths.iter().any(|length| *length != lengths[0]), "the rows must differ in length");
        let one = step_gradient(&model, std::slice::from_ref(&whole), options, &device);
        let one_loss = one.loss().into_scalar::<f64>();
        let one = flat(one.gradients);
        for parts in [2, 4, 8] {
            let split = step_gradient(&model, &whole.split(parts), options, &device);
            assert!((split.loss().into_scalar::<f64>() - one_loss).abs() < 1e-5, "{name}: loss of {parts} parts");
            let (off, norm) = distance(&flat(split.gradients), &one);
            assert!(off < 1e-5 * norm, "{name}: {parts} parts are off by {off} of {norm}");
        }
    }
}

#[test]
fn gradient_checkpointing_changes_no_gradient() {
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = Gpt::new(&small(0.2), 2, &device);
        let batches = collated(&ragged()).split(2);
        let of = |gradient_checkpointing| {
            let options = StepOptions { randomness: Some((5, 6)), gradient_checkpointing, ..StepOptions::default() };
            let step = step_gradient(&model, &batches, options, &device);
            let names: Vec<String> = step.gradients.iter().map(|gradient| gradient.name.clone()).collect();
            (step.loss().into_scalar::<f32>(), names, flat(step.gradients))
        };
        let (kept, recomputed) = (of(false), of(true));
        assert_eq!((kept.0, kept.1), (recomputed.0, recomputed.1), "{name}");
        let (off, norm) = distance(&recomputed.2, &kept.2);
        assert!(off <= 1e-6 * norm, "{name}: off by {off} of {norm}");
    }
}

#[test]
fn frozen_layers_get_no_gradient_and_change_none_of_the_others() {
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = Gpt::new(&small(0.0), 2, &device);
        let batches = collated(&ragged()).split(2);
        let all = step_gradient(&model, &batches, StepOptions::default(), &device).gradients;
        for frozen in [Freeze { only_embeddings: true, ..Freeze::default() }, Freeze { layers: 1, ..Freeze::default() }]
        {
            let model = weights::freeze(model.clone(), frozen);
            for gradient_checkpointing in [false, true] {
                let options = StepOptions { gradient_checkpointing, frozen, ..StepOptions::default() };
                let step = step_gradient(&model, &batches, options, &device);
                let names = |gradients: &[Flat]| gradients.iter().map(|g| g.name.clone()).collect::<Vec<_>>();
                let expected: Vec<Flat> = all
                    .iter()
                    .filter(|gradient| !frozen.holds(&gradient.name, Gpt::place(&gradient.name)))
                    .cloned()
                    .collect();
                assert_eq!(names(&step.gradients), names(&expected), "{name} {frozen:?} {gradient_checkpointing}");
                assert!(expected.len() < all.len());
                let (off, norm) = distance(&flat(step.gradients), &flat(expected));
                assert!(off <= 1e-6 * norm, "{name} {frozen:?}: off by {off} of {norm}");
            }
        }
    }
}

#[test]
fn rates_fall_from_layer_to_layer() {
    let rates = Rates { lr: 1.0, layer_decay: 0.5, layers: 2 };
    let places: Vec<Place> =
        ["transformer.ln_f.weight", "transformer.h.1.ln_1.weight", "transformer.h.0.mlp.c_fc.bias"]
            .into_iter()
            .chain(["transformer.wte.weight", "transformer.wpe.weight"])
            .map(Gpt::place)
            .collect();
    assert_eq!(places.iter().map(|place| rates.of(*place)).collect::<Vec<_>>(), [1.0, 0.5, 0.25, 0.125, 0.125]);
    let of_bert = ["classifier.weight", "bert.pooler.dense.bias", "bert.encoder.layer.0.output.dense.bias"];
    let of_bert = of_bert.into_iter().chain(["bert.embeddings.LayerNorm.weight"]).map(model::Bert::place);
    assert_eq!(of_bert.map(|place| rates.of(place)).collect::<Vec<_>>(), [1.0, 1.0, 0.25, 0.125]);
}

#[test]
fn half_precision_gives_nearly_the_gradient_of_f32() {
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = Gpt::new(&small(0.0), 2, &device);
        let of = |precision, loss_scale| {
            let options = StepOptions { precision, loss_scale, ..StepOptions::default() };
            let step = step_gradient(&model, &[collated(&ragged())], options, &device);
            let loss = step.loss().into_scalar::<f64>();
            (loss, flat(step.gradients).iter().map(|g| g / loss_scale as f32).collect::<Vec<f32>>())
        };
        let (loss, gradient) = of(Precision::F32, 1.0);
        for (precision, tolerance) in [(Precision::Bf16, 2e-2), (Precision::F16, 3e-3)] {
            let (half_loss, half) = of(precision, 1024.0);
            assert!((half_loss - loss).abs() < 1e-2, "{name} {precision:?}: {half_loss} for {loss}");
            let (off, norm) = distance(&half, &gradient);
            assert!(off > 0.0 && off <= tolerance * norm, "{name} {precision:?}: off by {off} of {norm}");
        }
    }
}

#[test]
fn later_tokens_do_not_change_earlier_logits() {
    for (name, device) in devices() {
        let model = Gpt::new(&small(0.0), 2, &device);
        let row: Vec<u32> = (0..SEQ as u32 + 1).map(|i| i % VOCAB).collect();
        let mut changed = row.clone();
        changed[SEQ - 2] = VOCAB - 1;
        let before = forward(&model, &collated(&[row]), &device);
        let after = forward(&model, &collated(&[changed]), &device);
        let first_changed = (SEQ - 2) * VOCAB as usize;
        assert!(distance(&before[..first_changed], &after[..first_changed]).0 < 1e-5, "{name}");
        assert!(distance(&before[first_changed..], &after[first_changed..]).0 > 1e-3, "{name}");
    }
}

#[test]
fn padding_changes_no_logit_of_a_real_token() {
    for (name, device) in devices() {
        let model = Gpt::new(&small(0.0), 3, &device);
        let rows = ragged();
        let padded = forward(&model, &collated(&rows), &device);
        for (index, row) in rows.iter().enumerate() {
            let ids: Vec<i32> = row[..row.len() - 1].iter().map(|id| *id as i32).collect();
            let len = ids.len();
            let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, len]), &device);
            let positions = Tensor::<1, Int>::arange(0..len as i64, &device).reshape([1, len]);
            let alone = model.forward(tokens, positions, &Pass::default());
            let start = index * SEQ * VOCAB as usize;
            let (off, _) =
                distance(&padded[start..start + len * VOCAB as usize], &weights::to_host(alone.reshape([-1])));
            assert!(off < 1e-4, "{name}: row {index} is off by {off}");
        }
    }
}

#[test]
fn a_cached_forward_gives_the_logits_of_a_whole_one() {
    for (name, device) in devices() {
        let model = Gpt::new(&small(0.0), 4, &device);
        let row: Vec<u32> = (0..SEQ as u32 + 1).map(|i| (i * 3) % VOCAB).collect();
        let whole = forward(&model, &collated(std::slice::from_ref(&row)), &device);
        let mut cache = model.cache(1);
        let mut next = 0;
        for new in [5, 1, 1, 2] {
            let ids: Vec<i32> = row[next..next + new].iter().map(|id| *id as i32).collect();
            let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, new]), &device);
            let logits = weights::to_host(model.forward_cached(tokens, &[new], &mut cache).reshape([-1]));
            next += new;
            let expected = &whole[(next - 1) * VOCAB as usize..next * VOCAB as usize];
            assert!(distance(&logits, expected).0 < 1e-4, "{name}: after {next} tokens");
        }
        assert_eq!((cache.lengths(), cache.room(0)), (&[9][..], SEQ - 9));
    }
}

#[test]
fn rows_of_different_lengths_decode_together_as_each_does_alone_and_without_a_cache() {
    for (name, device) in devices() {
        let model = Gpt::new(&small(0.0), 4, &device);
        let rows: Vec<Vec<u32>> =
            (0..4).map(|row| (0..SEQ as u32).map(|i| (i * 3 + row * 5) % VOCAB).collect()).collect();
        // New tokens of each row in each pass: prompts of several lengths, then one token each, then ragged again, up to
        // the whole context of the second row.
        let passes = [[3, 7, 1, 5], [1, 1, 1, 1], [1, 1, 1, 1], [2, 3, 0, 1]];
        let pass = |rows: &[(usize, usize, usize)], cache: &mut KvCache, of: &[Vec<u32>]| {
            let new = rows.iter().map(|(_, _, count)| *count).max().expect("rows");
            let padded = |(row, seen, count): &(usize, usize, usize)| {
                let ids: Vec<i32> = of[*row][*seen..seen + count].iter().map(|id| *id as i32).collect();
                ids.into_iter().chain(std::iter::repeat(0)).take(new).collect::<Vec<_>>()
            };
            let ids: Vec<i32> = rows.iter().flat_map(padded).collect();
            let count: Vec<usize> = rows.iter().map(|(_, _, count)| *count).collect();
            let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows.len(), new]), &device);
            weights::to_host(model.forward_cached(tokens, &count, cache).reshape([-1]))
        };
        let mut together = model.cache(4);
        let mut alone: Vec<KvCache> = (0..4).map(|_| model.cache(1)).collect();
        let mut seen = [0; 4];
        for counts in passes {
            let of_all: Vec<_> = (0..4).map(|row| (row, seen[row], counts[row])).collect();
            let logits = pass(&of_all, &mut together, &rows);
            for row in 0..4 {
                if counts[row] > 0 {
                    let ours = &logits[row * VOCAB as usize..(row + 1) * VOCAB as usize];
                    let single = pass(&of_all[row..row + 1], &mut alone[row], &rows);
                    assert!(distance(ours, &single).0 < 1e-5, "{name}: row {row} alone");
                    let length = seen[row] + counts[row];
                    let whole = forward(&model, &collated(&[[&rows[row][..length], &[0]].concat()]), &device);
                    let last = &whole[(length - 1) * VOCAB as usize..length * VOCAB as usize];
                    assert!(distance(ours, last).0 < 1e-5, "{name}: row {row} without a cache");
                }
                seen[row] += counts[row];
            }
        }
        assert_eq!(together.lengths(), [7, 12, 3, 8]);
        assert_eq!(together.room(1), 0);
    }
}

#[test]
fn dropout_is_a_function_of_seed_and_step_and_is_off_outside_training() {
    for (name, device) in devices() {
        let device = device.autodiff();
        let model = Gpt::new(&small(0.3), 5, &device);
        let batch = collated(&ragged());
        let mut losses = Vec::new();
        for randomness in [(7, 1), (7, 1), (8, 1), (7, 2)] {
            let options = StepOptions { randomness: Some(randomness), ..StepOptions::default() };
            let step = step_gradient(&model, std::slice::from_ref(&batch), options, &device);
            losses.push(step.loss().into_scalar::<f32>());
        }
        assert_eq!(losses[0].to_bits(), losses[1].to_bits(), "{name}");
        assert_ne!(losses[0].to_bits(), losses[2].to_bits(), "{name}");
        assert_ne!(losses[0].to_bits(), losses[3].to_bits(), "{name}");
        let frozen = model.valid();
        let plain = device.inner();
        assert_eq!(forward(&frozen, &batch, &plain), forward(&frozen, &batch, &plain), "{name}");
    }
}

#[test]
fn every_device_starts_from_the_same_weights() {
    let exported: Vec<_> = devices().into_iter().map(|(_, d)| weights::export(&Gpt::new(&small(0.0), 6, &d))).collect();
    assert!(exported.windows(2).all(|pair| pair[0] == pair[1]));
    let projection = &exported[0]["transformer.h.0.mlp.c_proj.weight"].values;
    let deviation = distance(projection, &vec![0.0; projection.len()]).0 / (projection.len() as f64).sqrt();
    assert!((deviation - 0.01).abs() < 0.001, "0.02 / sqrt(2 * 2 layers), found {deviation}");
}

#[test]
fn one_batch_can_be_learned_by_heart() {
    for (name, device) in devices() {
        let device = device.autodiff();
        let mut model = Gpt::new(&small(0.0), 8, &device);
        let mut optimizer =
            Optimizer::new(OptimizerConfig::Adamw(AdamwConfig { weight_decay: 0.0, ..Default::default() }));
        let batch = collated(&[ragged()[7].clone(), ragged()[5].clone()]);
        let mut losses = Vec::new();
        for step in 1..=60 {
            let gradient = step_gradient(&model, std::slice::from_ref(&batch), StepOptions::default(), &device);
            losses.push(gradient.loss().into_scalar::<f64>());
            model = optimizer.update(model, gradient.gradients, Scale::Known(1.0), Rates::uniform(3e-2), step);
        }
        assert!(losses[0] > 3.0 && losses[59] < 0.05, "{name}: from {} to {}", losses[0], losses[59]);
    }
}

#[test]
fn sgd_with_momentum_takes_the_steps_its_formula_says() {
    let device = model::device::ndarray().autodiff();
    let config = SgdConfig { momentum: 0.9, weight_decay: 0.1, ..Default::default() };
    let mut model = Gpt::new(&small(0.0), 9, &device);
    let mut optimizer = Optimizer::new(OptimizerConfig::Sgd(config));
    let batch = collated(&ragged());
    let (lr, mut expected) = (0.5f32, weights::export(&model));
    let mut momentum: std::collections::BTreeMap<String, Vec<f32>> = Default::default();
    for step in 1..=3 {
        let gradient = step_gradient(&model, std::slice::from_ref(&batch), StepOptions::default(), &device);
        for gradient in &gradient.gradients {
            let values = weights::to_host(gradient.values.clone());
            let buffer = momentum.entry(gradient.name.clone()).or_insert_with(|| vec![0.0; values.len()]);
            let tensor = expected.get_mut(&gradient.name).expect("a parameter");
            let decay = if tensor.shape.len() >= 2 { 1.0 - lr * 0.1 } else { 1.0 };
            for ((weight, buffer), gradient) in tensor.values.iter_mut().zip(buffer).zip(values) {
                *buffer = 0.9 * *buffer + gradient * 0.5;
                *weight = *weight * decay - lr * *buffer;
            }
        }
        model = optimizer.update(model, gradient.gradients, Scale::Known(0.5), Rates::uniform(f64::from(lr)), step);
        let ours = weights::export(&model);
        for (name, tensor) in &expected {
            let (off, norm) = distance(&ours[name].values, &tensor.values);
            assert!(off <= 1e-5 * norm, "{name} is off by {off} of {norm}");
        }
    }
}
