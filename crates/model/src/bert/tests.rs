use super::*;
use crate::pass::Randomness;
use crate::weights::{Flat, HostTensor, Tensors};

fn config() -> BertConfig {
    let labels = ["a", "b", "c"].map(String::from).to_vec();
    BertConfig {
        n_layer: 2,
        n_head: 2,
        d_model: 16,
        d_ff: 32,
        max_seq_len: 8,
        vocab_size: 20,
        head: BertHead::SequenceClassification { labels, problem: Problem::SingleLabel },
        ..BertConfig::default()
    }
}

fn grid(values: Vec<i32>, rows: usize) -> Tensor<2, Int> {
    let seq = values.len() / rows;
    Tensor::from_data(TensorData::new(values, [rows, seq]), &Device::flex())
}

fn logits(model: &Bert, rows: &[i32], pass: &Pass) -> Vec<f32> {
    let tokens = grid(rows.iter().flat_map(|row| (0..6).map(move |i| (row * 6 + i) % 20)).collect(), rows.len());
    let positions = grid(rows.iter().flat_map(|_| 0..6).collect(), rows.len());
    let hidden = model.hidden(Input { tokens, positions, token_types: None }, pass);
    weights::to_host(model.class_logits(hidden, None, pass).reshape([-1]))
}

fn training(first_row: u64) -> Pass {
    Pass { randomness: Some(Randomness { seed: 1, step: 2, first_row }), ..Pass::default() }
}

#[test]
fn any_split_of_a_step_drops_the_same() {
    let model = Bert::new(&config(), 3, &Device::flex());
    let together = logits(&model, &[0, 1], &training(4));
    let apart = [logits(&model, &[0], &training(4)), logits(&model, &[1], &training(5))].concat();
    let off = together.iter().zip(&apart).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-6, "{together:?} and {apart:?}");
}

#[test]
fn each_dropout_of_the_configuration_drops() {
    let none = BertConfig { hidden_dropout: 0.0, attn_dropout: 0.0, classifier_dropout: 0.0, ..config() };
    let plain = logits(&Bert::new(&none, 3, &Device::flex()), &[0], &training(0));
    for config in [
        BertConfig { hidden_dropout: 0.5, ..none.clone() },
        BertConfig { attn_dropout: 0.5, ..none.clone() },
        BertConfig { classifier_dropout: 0.5, ..none.clone() },
    ] {
        let model = Bert::new(&config, 3, &Device::flex());
        assert_ne!(logits(&model, &[0], &training(0)), plain, "{config:?}");
        assert_eq!(logits(&model, &[0], &Pass::default()), plain, "outside training nothing is dropped");
    }
}

#[test]
fn a_step_that_masks_nothing_has_a_loss_of_zero_and_can_be_differentiated() {
    let config = BertConfig { head: BertHead::MaskedLm, ..config() };
    let model = Bert::new(&config, 3, &Device::flex().autodiff());
    let device = model.device();
    let ids = |ids: Vec<i32>| Tensor::from_data(TensorData::new(ids, [1, 3]), &device);
    let input = Input { tokens: ids(vec![1, 2, 3]), positions: ids(vec![0, 1, 2]), token_types: None };
    let hidden = model.hidden(input, &Pass::default());
    let loss = model.masked_lm_loss_sum(hidden, &[0; 3], &[0.0; 3], &Pass::default());
    let gradients = weights::gradients(&model, &mut loss.backward());
    assert_eq!(loss.into_scalar::<f32>(), 0.0);
    assert!(gradients.iter().all(|gradient| weights::to_host(gradient.values.clone()).iter().all(|g| *g == 0.0)));
}

/// What a file of the model holds.
fn file(model: &Bert) -> Tensors {
    let on_host = |flat: Flat| (flat.name, HostTensor { shape: flat.shape, values: weights::to_host(flat.values) });
    weights::stored(model).into_iter().map(on_host).collect()
}

#[test]
fn what_does_not_fit_is_told_in_the_files_names_and_shapes() {
    let model = Bert::new(&config(), 3, &Device::flex());
    let mut tensors = file(&model);
    let mut put = |name: &str, shape: [usize; 2]| {
        let values = vec![0.0; shape.iter().product()];
        tensors.insert(format!("bert.encoder.layer.0.{name}"), HostTensor { shape: shape.into(), values });
    };
    put("attention.self.query.weight", [17, 16]);
    put("intermediate.dense.weight", [33, 16]);
    tensors.remove("bert.encoder.layer.1.attention.self.key.bias");
    let error = weights::load(model, &tensors).expect_err("another model's").to_string();
    let expected = [
        "tensor `bert.encoder.layer.0.attention.self.query.weight` has shape [17, 16], the model needs [16, 16]",
        "tensor `bert.encoder.layer.0.intermediate.dense.weight` has shape [33, 16], the model needs [32, 16]",
        "tensor `bert.encoder.layer.1.attention.self.key.bias` [16] is missing",
    ];
    assert_eq!(error, expected.join("; "));
}

#[test]
fn a_files_tensors_are_counted_and_those_of_a_larger_model_are_unexpected() {
    let larger = Bert::new(&BertConfig { n_layer: 3, head: BertHead::MaskedLm, ..config() }, 3, &Device::flex());
    let mut tensors = file(&larger);
    let words = tensors["bert.embeddings.word_embeddings.weight"].clone();
    tensors.insert("cls.predictions.decoder.weight".into(), words);
    let (_, report) = weights::load_body(Bert::new(&config(), 4, &Device::flex()), &tensors).expect("a larger model");
    // Those of the embeddings, 16 a layer, and the one that is tied to the first.
    assert_eq!(report.loaded.len(), 5 + 2 * 16 + 1, "{:?}", report.loaded);
    assert_eq!((report.unused.len(), report.unexpected.len()), (5 + 16, 16), "{:?}", report.unused);
    assert!(report.unexpected.iter().all(|name| name.starts_with("bert.encoder.layer.2.")), "{report:?}");
}

#[test]
fn a_file_of_a_model_gives_the_same_model() {
    let model = Bert::new(&config(), 3, &Device::flex());
    let (read, report) = weights::load(Bert::new(&config(), 4, &Device::flex()), &file(&model)).expect("its own");
    assert_eq!(weights::export(&read), weights::export(&model));
    assert!(report.fresh.is_empty() && report.unused.is_empty(), "{report:?}");
}
