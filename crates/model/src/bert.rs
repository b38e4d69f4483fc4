//! BERT, top to bottom: layer, body, heads, initialization.
//!
//! Source: Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers", and HuggingFace `transformers`'
//! `modeling_bert.py`.

mod config;
mod relabel;
mod stored;

pub use config::{BertConfig, BertHead, Problem};

use crate::checkpointed::Stack;
use crate::config::ConfigError;
use crate::lora::{self, Lora, LoraConfig, adapted};
use crate::pass::Pass;
use crate::weights::{self, Initial};
use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{
    Activation, AttentionOptions, CrossEntropy, Function, NormPlace, Precision, Residual, Sublayer, attention,
    cross_entropy_sum, dropout, embedding, layer_norm, linear, residual_add, tied_head,
};

/// The sum of word, position and token-type embeddings, normalized.
#[derive(Module, Debug)]
struct Embeddings {
    words: Embedding,
    positions: Embedding,
    token_types: Embedding,
    norm: LayerNorm,
}

/// One transformer layer: attention, then feed-forward, each normalized after it is added.
#[derive(Module, Debug)]
struct Layer {
    qkv: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    norm: LayerNorm,
    query_lora: Option<Lora>,
    key_lora: Option<Lora>,
    value_lora: Option<Lora>,
    attention_output_lora: Option<Lora>,
    up_lora: Option<Lora>,
    down_lora: Option<Lora>,
}

impl Layer {
    fn is_adapted(&self) -> bool {
        let attention = [&self.query_lora, &self.key_lora, &self.value_lora, &self.attention_output_lora];
        attention.into_iter().chain([&self.up_lora, &self.down_lora]).any(Option::is_some)
    }

    /// What the adapters of query, key and value add, side by side; none where there is none of them.
    ///
    /// # Shapes
    /// - `x`: `[batch, seq, d_model]`, returns `[batch, seq, 3 * d_model]`
    fn added_to_qkv(&self, x: &Tensor<3>, pass: &Pass, site: u32) -> Option<Tensor<3>> {
        let adapters = [&self.query_lora, &self.key_lora, &self.value_lora];
        if adapters.iter().all(|lora| lora.is_none()) {
            return None;
        }
        let of = |(number, lora): (usize, &Option<Lora>)| match lora {
            Some(lora) => lora.forward(x.clone(), pass, lora::site(site, number as u32)),
            None => x.zeros_like(),
        };
        Some(Tensor::cat(adapters.into_iter().enumerate().map(of).collect(), 2))
    }
}

/// What turns a hidden state into the logits of its token, with the word embeddings.
#[derive(Module, Debug)]
struct Predictions {
    transform: Linear,
    norm: LayerNorm,
    bias: Param<Tensor<1>>,
}

/// A BERT with its head.
#[derive(Module, Debug)]
pub struct Bert {
    embeddings: Embeddings,
    layers: Vec<Layer>,
    pooler: Option<Linear>,
    predictions: Option<Predictions>,
    next_sentence: Option<Linear>,
    classifier: Option<Linear>,
    n_head: usize,
    hidden_dropout: f64,
    attn_dropout: f64,
    classifier_dropout: f64,
    layer_norm_eps: f64,
}

/// What BERT reads.
#[derive(Clone, Debug)]
pub struct Input {
    /// `[batch, seq]`, ids below `vocab_size`.
    pub tokens: Tensor<2, Int>,
    /// `[batch, seq]`, below `max_seq_len`.
    pub positions: Tensor<2, Int>,
    /// `[batch, seq]`, below `type_vocab_size`; none: every token is of sentence A.
    pub token_types: Option<Tensor<2, Int>>,
}

impl Input {
    /// Uploads ids, each `[batch, seq]` row by row.
    pub fn new(
        shape: [usize; 2],
        tokens: &[u32],
        positions: &[u32],
        token_types: Option<&[u32]>,
        device: &Device,
    ) -> Self {
        let ids = |values: &[u32]| {
            let values: Vec<i32> = values.iter().map(|id| *id as i32).collect();
            Tensor::<2, Int>::from_data(TensorData::new(values, shape), device)
        };
        Self { tokens: ids(tokens), positions: ids(positions), token_types: token_types.map(ids) }
    }
}

impl Bert {
    /// A fresh model: weights from N(0, `initializer_range`), biases zero, norms one (Devlin et al. 2019's released code).
    ///
    /// The weights are a function of `seed` and the parameter's place alone: every device starts from the same.
    pub fn new(config: &BertConfig, seed: u64, device: &Device) -> Self {
        weights::initialize(Self::blank(config, device), seed, |name| match name {
            _ if name.ends_with("LayerNorm.weight") => Initial::Ones,
            _ if name.ends_with("bias") => Initial::Zeros,
            _ => Initial::Normal(config.initializer_range),
        })
    }

    /// A model whose parameters are not set yet: for loading into.
    pub fn blank(config: &BertConfig, device: &Device) -> Self {
        let (d, eps) = (config.d_model, config.layer_norm_eps);
        let table = |rows| EmbeddingConfig::new(rows, d).with_initializer(burn::nn::Initializer::Zeros).init(device);
        let norm = || LayerNormConfig::new(d).with_epsilon(eps).init(device);
        let dense = |from, to| LinearConfig::new(from, to).init(device);
        let head = &config.head;
        Self {
            embeddings: Embeddings {
                words: table(config.vocab_size),
                positions: table(config.max_seq_len),
                token_types: table(config.type_vocab_size),
                norm: norm(),
            },
            layers: (0..config.n_layer)
                .map(|_| Layer {
                    qkv: dense(d, 3 * d),
                    attention_output: dense(d, d),
                    attention_norm: norm(),
                    up: dense(d, config.d_ff),
                    down: dense(config.d_ff, d),
                    norm: norm(),
                    query_lora: None,
                    key_lora: None,
                    value_lora: None,
                    attention_output_lora: None,
                    up_lora: None,
                    down_lora: None,
                })
                .collect(),
            pooler: head.pools().then(|| dense(d, d)),
            predictions: head.predicts_tokens().then(|| Predictions {
                transform: dense(d, d),
                norm: norm(),
                bias: Param::from_tensor(Tensor::zeros([config.vocab_size], device)),
            }),
            next_sentence: head.predicts_next_sentence().then(|| dense(d, 2)),
            classifier: (!head.labels().is_empty()).then(|| dense(d, head.labels().len())),
            n_head: config.n_head,
            hidden_dropout: config.hidden_dropout,
            attn_dropout: config.attn_dropout,
            classifier_dropout: config.classifier_dropout,
            layer_norm_eps: eps,
        }
    }

    /// The same with fresh adapters beside the layers that `config` names.
    ///
    /// # Errors
    /// As [`LoraConfig::layers`].
    pub fn with_adapters(mut self, config: &LoraConfig, seed: u64) -> Result<Self, ConfigError> {
        let names = config.layers::<Self>()?;
        let device = self.device();
        for layer in &mut self.layers {
            let beside = |name: &str, of: &Linear| names.contains(&name).then(|| config.beside(of, &device));
            // Query, key and value are each as wide as the layer behind them.
            layer.query_lora = beside("attention.self.query", &layer.attention_output);
            layer.key_lora = beside("attention.self.key", &layer.attention_output);
            layer.value_lora = beside("attention.self.value", &layer.attention_output);
            layer.attention_output_lora = beside("attention.output.dense", &layer.attention_output);
            layer.up_lora = beside("intermediate.dense", &layer.up);
            layer.down_lora = beside("output.dense", &layer.down);
        }
        Ok(lora::initialize(self, seed))
    }

    /// The hidden state of every position, `[batch, seq, d_model]`.
    pub fn hidden(&self, input: Input, pass: &Pass) -> Tensor<3> {
        self.leave(input, pass)
    }

    /// Whether the head labels whole inputs.
    pub fn classifies(&self) -> bool {
        self.classifier.is_some() && self.pooler.is_some()
    }

    /// What the head of the whole input says: [`Bert::class_logits`] or [`Bert::next_sentence_logits`].
    ///
    /// # Panics
    /// If the head is another.
    pub fn sequence_logits(&self, hidden: Tensor<3>, first: Option<Tensor<1, Int>>, pass: &Pass) -> Tensor<2> {
        match self.next_sentence {
            Some(_) => self.next_sentence_logits(hidden, first, pass),
            None => self.class_logits(hidden, first, pass),
        }
    }

    /// Whether the head labels every token.
    pub fn tags_tokens(&self) -> bool {
        self.classifier.is_some() && self.pooler.is_none()
    }

    fn embed(&self, input: Input, pass: &Pass) -> Tensor<3> {
        let Input { tokens, positions, token_types } = input;
        let token_types = token_types.unwrap_or_else(|| tokens.zeros_like());
        let e = &self.embeddings;
        let words = pass.noisy(embedding(e.words.weight.val(), tokens));
        let x = residual_add(words, embedding(e.positions.weight.val(), positions), None);
        let x = residual_add(x, embedding(e.token_types.weight.val(), token_types), None);
        dropout(layer_norm(&e.norm, self.layer_norm_eps, x), pass.dropout(self.hidden_dropout, 0))
    }

    /// The halves of layer `index`.
    fn halves<'a>(&'a self, index: usize, pass: &'a Pass) -> [Sublayer<'a>; 2] {
        let layer = &self.layers[index];
        let precision = pass.precision;
        // The embedding's dropout is site 0, then come three a layer.
        let site = move |i: u32| 3 * index as u32 + i;
        let around = |norm, i| Residual {
            norm,
            epsilon: self.layer_norm_eps,
            place: NormPlace::After,
            dropout: pass.dropout(self.hidden_dropout, site(i)),
        };
        let options = AttentionOptions {
            n_head: self.n_head,
            causal: false,
            segments: pass.segments.clone(),
            dropout: pass.dropout(self.attn_dropout, site(1)),
            precision,
        };
        let activation = Activation::GeluErf;
        let (first, second) = match layer.is_adapted() {
            false => (
                Function::Attention { qkv: &layer.qkv, proj: &layer.attention_output, options },
                Function::FeedForward { up: &layer.up, down: &layer.down, activation, precision },
            ),
            true => (
                Function::Other(Box::new(move |x| {
                    let qkv = linear(&layer.qkv, x.clone(), Activation::Identity, precision); // [batch, seq, 3 * d_model]
                    let qkv = match layer.added_to_qkv(&x, pass, site(1)) {
                        Some(added) => qkv + added,
                        None => qkv,
                    };
                    let y = attention(qkv, options.clone());
                    let (of, place) = (layer.attention_output_lora.as_ref(), lora::site(site(1), 3));
                    adapted(&layer.attention_output, of, y, Activation::Identity, pass, place)
                })),
                Function::Other(Box::new(move |x| {
                    let place = |number| lora::site(site(3), number);
                    let hidden = adapted(&layer.up, layer.up_lora.as_ref(), x, activation, pass, place(0));
                    adapted(&layer.down, layer.down_lora.as_ref(), hidden, Activation::Identity, pass, place(1))
                })),
            ),
        };
        [
            Sublayer { function: first, residual: around(&layer.attention_norm, 2) },
            Sublayer { function: second, residual: around(&layer.norm, 3) },
        ]
    }

    /// The site of the dropout before a classifier.
    fn last_site(&self) -> u32 {
        3 * self.layers.len() as u32 + 1
    }

    /// The states of first tokens, through the pooler: `[inputs, d_model]`.
    fn pooled(&self, hidden: Tensor<3>, first: Option<Tensor<1, Int>>, pass: &Pass) -> Tensor<2> {
        let [batch, seq, d_model] = hidden.dims();
        let first = match first {
            None => hidden.narrow(1, 0, 1).reshape([batch, d_model]),
            Some(first) => hidden.reshape([batch * seq, d_model]).select(0, first),
        };
        let pooler = self.pooler.as_ref().expect("a head of the whole input has a pooler");
        linear(pooler, first, Activation::Identity, pass.precision).tanh()
    }

    /// Logits of "is next" and "is not", `[inputs, 2]`, from [`Bert::hidden`].
    ///
    /// # Shapes
    /// - `first`: each input's first position, `row * seq + position`; none: every row is an input
    ///
    /// # Panics
    /// If the head does not predict them.
    pub fn next_sentence_logits(&self, hidden: Tensor<3>, first: Option<Tensor<1, Int>>, pass: &Pass) -> Tensor<2> {
        let head = self.next_sentence.as_ref().expect("a head that predicts the next sentence");
        linear(head, self.pooled(hidden, first, pass), Activation::Identity, pass.precision)
    }

    /// Outputs of a sequence classifier, `[inputs, labels]`, from [`Bert::hidden`].
    ///
    /// # Shapes
    /// - `first`: as in [`Bert::next_sentence_logits`]
    ///
    /// # Panics
    /// If the head is another.
    pub fn class_logits(&self, hidden: Tensor<3>, first: Option<Tensor<1, Int>>, pass: &Pass) -> Tensor<2> {
        let head = self.classifier.as_ref().expect("a classifier");
        let pooled = self.pooled(hidden, first, pass);
        let pooled = dropout(pooled, pass.dropout(self.classifier_dropout, self.last_site()));
        linear(head, pooled, Activation::Identity, pass.precision)
    }

    /// Logits of each token's label, `[batch, seq, labels]`, from [`Bert::hidden`].
    ///
    /// # Panics
    /// If the head is another.
    pub fn tag_logits(&self, hidden: Tensor<3>, pass: &Pass) -> Tensor<3> {
        let head = self.classifier.as_ref().expect("a classifier");
        let hidden = dropout(hidden, pass.dropout(self.classifier_dropout, self.last_site()));
        linear(head, hidden, Activation::Identity, pass.precision)
    }

    /// The states that [`Bert::hidden`] gave some positions, ready for the product with the word embeddings.
    ///
    /// # Shapes
    /// - `chosen`: `[rows]`, `row * seq + position`; returns `[rows, d_model]`
    fn transformed(&self, hidden: Tensor<3>, chosen: Tensor<1, Int>, precision: Precision) -> Tensor<2> {
        let [batch, seq, d_model] = hidden.dims();
        let rows = hidden.reshape([batch * seq, d_model]).select(0, chosen);
        let head = self.predictions();
        layer_norm(&head.norm, self.layer_norm_eps, linear(&head.transform, rows, Activation::GeluErf, precision))
    }

    fn predictions(&self) -> &Predictions {
        self.predictions.as_ref().expect("a head that predicts tokens")
    }

    /// Logits of the tokens at chosen positions, from [`Bert::hidden`].
    ///
    /// # Shapes
    /// - `chosen`: `[rows]`, `row * seq + position`; returns `[rows, vocab_size]`
    ///
    /// # Panics
    /// If the head does not predict them.
    pub fn token_logits(&self, hidden: Tensor<3>, chosen: Tensor<1, Int>, pass: &Pass) -> Tensor<2> {
        let states = self.transformed(hidden, chosen, pass.precision);
        tied_head(states, self.embeddings.words.weight.val()) + self.predictions().bias.val().unsqueeze::<2>()
    }

    /// The summed cross-entropy of masked tokens, each times its weight, `[1]` in nats, from [`Bert::hidden`].
    ///
    /// Logits exist at positions of weight above 0 alone.
    ///
    /// # Shapes
    /// - `targets`, `weights`: `[batch * seq]`, row by row
    ///
    /// # Panics
    /// If the head does not predict tokens, or the lengths are others.
    pub fn masked_lm_loss_sum(&self, hidden: Tensor<3>, targets: &[u32], weights: &[f32], pass: &Pass) -> Tensor<1> {
        let [batch, seq, _] = hidden.dims();
        assert_eq!([targets.len(), weights.len()], [batch * seq; 2], "a target and a weight for each position");
        let chosen: Vec<usize> = (0..weights.len()).filter(|i| weights[*i] > 0.0).collect();
        let device = hidden.device();
        if chosen.is_empty() {
            // Nothing to learn from, but a loss that can be differentiated.
            return hidden.sum() * 0.0;
        }
        let numbers = |of: &dyn Fn(usize) -> i32| {
            let values: Vec<i32> = chosen.iter().map(|i| of(*i)).collect();
            Tensor::<1, Int>::from_data(TensorData::new(values, [chosen.len()]), &device)
        };
        let at = numbers(&|i| i as i32);
        let targets = numbers(&|i| targets[i] as i32);
        let weights: Vec<f32> = chosen.iter().map(|i| weights[*i]).collect();
        let weights = Tensor::from_data(TensorData::new(weights, [chosen.len()]), &device);
        let states = self.transformed(hidden, at, pass.precision);
        let (words, bias) = (self.embeddings.words.weight.val(), self.predictions().bias.val());
        let head_is_frozen = !words.is_require_grad();
        let options = CrossEntropy { label_smoothing: pass.label_smoothing, precision: pass.precision, head_is_frozen };
        cross_entropy_sum(states, words, Some(bias), targets, weights, options)
    }

    /// Transformer layers.
    pub fn n_layer(&self) -> usize {
        self.layers.len()
    }

    /// Rows of the word embedding.
    pub fn vocab_size(&self) -> usize {
        self.embeddings.words.weight.lazy_shape()[0]
    }

    /// The longest input, in tokens.
    pub fn max_seq_len(&self) -> usize {
        self.embeddings.positions.weight.lazy_shape()[0]
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.embeddings.words.weight.lazy_device()
    }
}

impl Stack for Bert {
    type Input = Input;

    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn inner(input: &Input) -> Input {
        let Input { tokens, positions, token_types } = input.clone();
        Input { tokens: tokens.inner(), positions: positions.inner(), token_types: token_types.map(Tensor::inner) }
    }

    fn enter(&self, input: Input, pass: &Pass) -> Tensor<3> {
        self.embed(input, pass)
    }

    fn block<'a>(&'a self, index: usize, pass: &'a Pass) -> [Sublayer<'a>; 2] {
        self.halves(index, pass)
    }
}

#[cfg(test)]
mod tests;
