//! BERT, top to bottom: configuration, layer, body, heads, initialization, and how HuggingFace stores it.
//!
//! Source: Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers", and HuggingFace `transformers`'
//! `modeling_bert.py`.

use crate::config::BertSettings;
use crate::gpt::ConfigError;
use crate::pass::Pass;
use crate::weights::{self, Family, Flat, Found, HostTensor, Initial, Tensors};
use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{
    Activation, AttentionOptions, CrossEntropy, NormPlace, Precision, Residual, attention_sublayer, cross_entropy_sum,
    dropout, embedding, feed_forward_sublayer, layer_norm, linear, residual_add, tied_head,
};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// BERT's `initializer_range`: the standard deviation of fresh weights.
const INITIALIZER_RANGE: f64 = 0.02;

/// The shape of a BERT, its dropouts and its head.
#[derive(Clone, Debug, PartialEq)]
pub struct BertConfig {
    /// Transformer layers.
    pub n_layer: usize,
    /// Attention heads of a layer; divides `d_model`.
    pub n_head: usize,
    /// Width of the hidden states.
    pub d_model: usize,
    /// Width of the feed-forward part's hidden layer.
    pub d_ff: usize,
    /// Positions the model has learned, and so the longest input in tokens.
    pub max_seq_len: usize,
    /// Rows of the word embedding; at least the tokenizer's ids.
    pub vocab_size: usize,
    /// Kinds of token: sentence A and B.
    pub type_vocab_size: usize,
    /// Dropout after the embeddings and of what each half of a layer adds.
    pub hidden_dropout: f64,
    /// Dropout on the attention weights.
    pub attn_dropout: f64,
    /// Dropout before a classifier.
    pub classifier_dropout: f64,
    /// Epsilon of every LayerNorm.
    pub layer_norm_eps: f64,
    /// What the hidden states become.
    pub head: BertHead,
}

/// What a BERT predicts.
#[derive(Clone, Debug, PartialEq)]
pub enum BertHead {
    /// Nothing: hidden states and the pooled first token.
    None,
    /// The tokens that were masked.
    MaskedLm,
    /// Whether the second sentence follows the first.
    NextSentence,
    /// Both.
    PreTraining,
    /// Something of the whole input.
    SequenceClassification {
        /// Names of the outputs, by id.
        labels: Vec<String>,
        /// What kind of answer they are.
        problem: Problem,
    },
    /// A label of each token.
    TokenClassification {
        /// Names of the labels, by id.
        labels: Vec<String>,
    },
}

/// What kind of answer a sequence classifier gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Exactly one label.
    SingleLabel,
    /// Any number of labels.
    MultiLabel,
    /// Numbers.
    Regression,
}

impl Problem {
    const ALL: [(Self, &'static str); 3] = [
        (Self::SingleLabel, "single_label_classification"),
        (Self::MultiLabel, "multi_label_classification"),
        (Self::Regression, "regression"),
    ];
}

impl BertHead {
    /// HuggingFace's class.
    pub fn architecture(&self) -> &'static str {
        match self {
            Self::None => "BertModel",
            Self::MaskedLm => "BertForMaskedLM",
            Self::NextSentence => "BertForNextSentencePrediction",
            Self::PreTraining => "BertForPreTraining",
            Self::SequenceClassification { .. } => "BertForSequenceClassification",
            Self::TokenClassification { .. } => "BertForTokenClassification",
        }
    }

    /// Names of a classifier's outputs, by id; empty for another head.
    pub fn labels(&self) -> &[String] {
        match self {
            Self::SequenceClassification { labels, .. } | Self::TokenClassification { labels } => labels,
            _ => &[],
        }
    }

    fn predicts_tokens(&self) -> bool {
        matches!(self, Self::MaskedLm | Self::PreTraining)
    }

    fn predicts_next_sentence(&self) -> bool {
        matches!(self, Self::NextSentence | Self::PreTraining)
    }

    /// Whether the model has a pooler: as HuggingFace's classes have.
    fn pools(&self) -> bool {
        !matches!(self, Self::MaskedLm | Self::TokenClassification { .. })
    }

    fn from_hf(config: &Value) -> Result<Self, ConfigError> {
        let name = config["architectures"][0].as_str().unwrap_or("BertModel");
        let head = match name {
            "BertModel" => Self::None,
            "BertForMaskedLM" => Self::MaskedLm,
            "BertForNextSentencePrediction" => Self::NextSentence,
            "BertForPreTraining" => Self::PreTraining,
            "BertForSequenceClassification" => {
                let labels = labels_from_hf(config)?;
                let problem = match config["problem_type"].as_str() {
                    // As `transformers` decides for integer labels.
                    None if labels.len() == 1 => Problem::Regression,
                    None => Problem::SingleLabel,
                    Some(name) => {
                        let known = Problem::ALL.into_iter().find(|(_, known)| *known == name);
                        known.map(|(problem, _)| problem).ok_or_else(|| {
                            ConfigError(format!("config.json: `problem_type` \"{name}\" is none that BERT knows"))
                        })?
                    }
                };
                Self::SequenceClassification { labels, problem }
            }
            "BertForTokenClassification" => Self::TokenClassification { labels: labels_from_hf(config)? },
            _ => return Err(ConfigError(format!("config.json: the architecture \"{name}\" is not supported"))),
        };
        Ok(head)
    }
}

/// `id2label` in the order of the ids; two unnamed labels where there is none, as `transformers` has it.
fn labels_from_hf(config: &Value) -> Result<Vec<String>, ConfigError> {
    let Some(names) = config["id2label"].as_object() else {
        let count = config["num_labels"].as_u64().unwrap_or(2);
        return Ok((0..count).map(|id| format!("LABEL_{id}")).collect());
    };
    if names.is_empty() {
        return Err(ConfigError("config.json: `id2label` names no label".into()));
    }
    let name = |id: usize| names.get(&id.to_string()).and_then(Value::as_str).map(String::from);
    let missing = |id| ConfigError(format!("config.json: `id2label` does not name label {id}"));
    (0..names.len()).map(|id| name(id).ok_or_else(|| missing(id))).collect()
}

impl Default for BertConfig {
    /// The body of BERT base (110M parameters), cased or not, without a head.
    fn default() -> Self {
        Self {
            n_layer: 12,
            n_head: 12,
            d_model: 768,
            d_ff: 3072,
            max_seq_len: 512,
            vocab_size: 30522,
            type_vocab_size: 2,
            hidden_dropout: 0.1,
            attn_dropout: 0.1,
            classifier_dropout: 0.1,
            layer_norm_eps: 1e-12,
            head: BertHead::None,
        }
    }
}

impl BertConfig {
    /// The configuration that `settings` describe for a tokenizer of `tokenizer_size` ids.
    ///
    /// # Errors
    /// A vocabulary smaller than the tokenizer's, or a width that the heads do not divide.
    pub fn from_settings(settings: &BertSettings, tokenizer_size: usize, head: BertHead) -> Result<Self, ConfigError> {
        let base = Self::default();
        let d_model = settings.d_model.unwrap_or(base.d_model);
        let hidden_dropout = settings.hidden_dropout.or(settings.dropout).unwrap_or(base.hidden_dropout);
        Self {
            n_layer: settings.n_layer.unwrap_or(base.n_layer),
            n_head: settings.n_head.unwrap_or(base.n_head),
            d_model,
            d_ff: settings.d_ff.unwrap_or(d_model.saturating_mul(4)),
            max_seq_len: settings.max_seq_len.unwrap_or(base.max_seq_len),
            vocab_size: settings.vocab_size.unwrap_or(tokenizer_size),
            type_vocab_size: settings.type_vocab_size.unwrap_or(base.type_vocab_size),
            hidden_dropout,
            attn_dropout: settings.attn_dropout.or(settings.dropout).unwrap_or(base.attn_dropout),
            classifier_dropout: settings.classifier_dropout.or(settings.dropout).unwrap_or(hidden_dropout),
            layer_norm_eps: settings.layer_norm_eps.unwrap_or(base.layer_norm_eps),
            head,
        }
        .check(tokenizer_size)
    }

    fn check(self, tokenizer_size: usize) -> Result<Self, ConfigError> {
        if self.n_head == 0 || !self.d_model.is_multiple_of(self.n_head) {
            return Err(ConfigError(format!(
                "`d_model` is {}, which `n_head` = {} does not divide",
                self.d_model, self.n_head
            )));
        }
        if self.vocab_size < tokenizer_size {
            return Err(ConfigError(format!(
                "the model's vocabulary has {} entries, but the tokenizer has {tokenizer_size}; hint: use the \
                 tokenizer the model was trained with, or a larger `model.bert.vocab_size`",
                self.vocab_size
            )));
        }
        Ok(self)
    }

    /// The `config.json` that HuggingFace reads this model from.
    pub fn to_hf(&self, pad: Option<u32>) -> Value {
        let mut config = json!({
            "architectures": [self.head.architecture()],
            "model_type": "bert",
            "hidden_act": "gelu",
            "position_embedding_type": "absolute",
            "num_hidden_layers": self.n_layer,
            "num_attention_heads": self.n_head,
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "max_position_embeddings": self.max_seq_len,
            "vocab_size": self.vocab_size,
            "type_vocab_size": self.type_vocab_size,
            "hidden_dropout_prob": self.hidden_dropout,
            "attention_probs_dropout_prob": self.attn_dropout,
            "classifier_dropout": self.classifier_dropout,
            "layer_norm_eps": self.layer_norm_eps,
            "initializer_range": INITIALIZER_RANGE,
            "pad_token_id": pad,
            "tie_word_embeddings": true,
            "dtype": "float32",
            "torch_dtype": "float32",
        });
        let labels = self.head.labels();
        if !labels.is_empty() {
            let ids = labels.iter().enumerate();
            let by_id: Map<String, Value> = ids.clone().map(|(id, name)| (id.to_string(), json!(name))).collect();
            let by_name: Map<String, Value> = ids.map(|(id, name)| (name.clone(), json!(id))).collect();
            config["id2label"] = by_id.into();
            config["label2id"] = by_name.into();
        }
        if let BertHead::SequenceClassification { problem, .. } = &self.head {
            let name = Problem::ALL.into_iter().find(|(known, _)| known == problem).map(|(_, name)| name);
            config["problem_type"] = json!(name);
        }
        config
    }

    /// Reads a HuggingFace `config.json` of the `bert` family.
    ///
    /// # Errors
    /// Another family, a missing key, or an option that would compute something else than this model does.
    pub fn from_hf(config: &Value) -> Result<Self, ConfigError> {
        let family = config["model_type"].as_str().unwrap_or("missing");
        if family != "bert" {
            return Err(ConfigError(format!("config.json: `model_type` is \"{family}\"; hint: `bert` is needed here")));
        }
        let off = |key: &str| !config[key].as_bool().unwrap_or(false);
        let only = |key: &str, name: &str| config[key].as_str().is_none_or(|found| found == name);
        for (key, fits, needed) in [
            ("hidden_act", only("hidden_act", "gelu"), "the GELU with the error function (\"gelu\")"),
            ("position_embedding_type", only("position_embedding_type", "absolute"), "\"absolute\""),
            (
                "tie_word_embeddings",
                config["tie_word_embeddings"].as_bool().unwrap_or(true),
                "a head tied to the embedding (true)",
            ),
            ("is_decoder", off("is_decoder"), "an encoder (false)"),
            ("add_cross_attention", off("add_cross_attention"), "no cross attention (false)"),
        ] {
            if !fits {
                return Err(ConfigError(format!(
                    "config.json: `{key}` is {}, but only {needed} is supported",
                    config[key]
                )));
            }
        }
        let size =
            |key: &str| {
                config[key].as_u64().filter(|v| *v > 0).map(|v| v as usize).ok_or_else(|| {
                    ConfigError(format!("config.json: `{key}` is missing or not a positive whole number"))
                })
            };
        // HuggingFace's BertConfig defaults.
        let number = |key: &str, default: f64| config[key].as_f64().unwrap_or(default);
        let hidden_dropout = number("hidden_dropout_prob", 0.1);
        Self {
            n_layer: size("num_hidden_layers")?,
            n_head: size("num_attention_heads")?,
            d_model: size("hidden_size")?,
            d_ff: size("intermediate_size")?,
            max_seq_len: size("max_position_embeddings")?,
            vocab_size: size("vocab_size")?,
            type_vocab_size: if config["type_vocab_size"].is_null() { 2 } else { size("type_vocab_size")? },
            hidden_dropout,
            attn_dropout: number("attention_probs_dropout_prob", 0.1),
            classifier_dropout: number("classifier_dropout", hidden_dropout),
            layer_norm_eps: number("layer_norm_eps", 1e-12),
            head: BertHead::from_hf(config)?,
        }
        .check(0)
    }
}

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

impl Bert {
    /// A fresh model: weights from N(0, 0.02), biases zero, norms one (Devlin et al. 2019's released code).
    ///
    /// The weights are a function of `seed` and the parameter's place alone: every device starts from the same.
    pub fn new(config: &BertConfig, seed: u64, device: &Device) -> Self {
        weights::initialize(Self::blank(config, device), seed, |name| match name {
            _ if name.ends_with("LayerNorm.weight") => Initial::Ones,
            _ if name.ends_with("bias") => Initial::Zeros,
            _ => Initial::Normal(INITIALIZER_RANGE),
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

    /// The hidden state of every position, `[batch, seq, d_model]`.
    pub fn hidden(&self, input: Input, pass: &Pass) -> Tensor<3> {
        let x = self.embed(input, pass);
        (0..self.layers.len()).fold(x, |x, index| self.layer(x, index, pass))
    }

    fn embed(&self, input: Input, pass: &Pass) -> Tensor<3> {
        let Input { tokens, positions, token_types } = input;
        let token_types = token_types.unwrap_or_else(|| tokens.zeros_like());
        let e = &self.embeddings;
        let x =
            residual_add(embedding(e.words.weight.val(), tokens), embedding(e.positions.weight.val(), positions), None);
        let x = residual_add(x, embedding(e.token_types.weight.val(), token_types), None);
        dropout(layer_norm(&e.norm, self.layer_norm_eps, x), pass.dropout(self.hidden_dropout, 0))
    }

    fn layer(&self, x: Tensor<3>, index: usize, pass: &Pass) -> Tensor<3> {
        let layer = &self.layers[index];
        // The embedding's dropout is site 0, then come three a layer.
        let site = |i: u32| 3 * index as u32 + i;
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
            precision: pass.precision,
        };
        let x = attention_sublayer(x, &layer.qkv, &layer.attention_output, options, around(&layer.attention_norm, 2));
        let residual = around(&layer.norm, 3);
        feed_forward_sublayer(x, &layer.up, &layer.down, Activation::GeluErf, pass.precision, residual)
    }

    /// The site of the dropout before a classifier.
    fn last_site(&self) -> u32 {
        3 * self.layers.len() as u32 + 1
    }

    /// The first token's state, through the pooler: `[batch, d_model]`.
    fn pooled(&self, hidden: Tensor<3>, pass: &Pass) -> Tensor<2> {
        let [batch, _, d_model] = hidden.dims();
        let first = hidden.narrow(1, 0, 1).reshape([batch, d_model]);
        let pooler = self.pooler.as_ref().expect("a head of the whole input has a pooler");
        linear(pooler, first, Activation::Identity, pass.precision).tanh()
    }

    /// Logits of "is next" and "is not", `[batch, 2]`, from [`Bert::hidden`].
    ///
    /// # Panics
    /// If the head does not predict them.
    pub fn next_sentence_logits(&self, hidden: Tensor<3>, pass: &Pass) -> Tensor<2> {
        let head = self.next_sentence.as_ref().expect("a head that predicts the next sentence");
        linear(head, self.pooled(hidden, pass), Activation::Identity, pass.precision)
    }

    /// Outputs of a sequence classifier, `[batch, labels]`, from [`Bert::hidden`].
    ///
    /// # Panics
    /// If the head is another.
    pub fn class_logits(&self, hidden: Tensor<3>, pass: &Pass) -> Tensor<2> {
        let head = self.classifier.as_ref().expect("a classifier");
        let pooled = dropout(self.pooled(hidden, pass), pass.dropout(self.classifier_dropout, self.last_site()));
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
            return Tensor::zeros([1], &device);
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
        // The bias is one more column of the table, which a state of one meets.
        let ones = Tensor::ones([chosen.len(), 1], &device);
        let bias = self.predictions().bias.val().unsqueeze_dim::<2>(1);
        let table = Tensor::cat(vec![self.embeddings.words.weight.val(), bias], 1);
        let options = CrossEntropy { precision: pass.precision, ..CrossEntropy::default() };
        cross_entropy_sum(Tensor::cat(vec![states, ones], 1), table, targets, weights, options)
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

/// Fields, and HuggingFace's modules.
const MODULES: [(&str, &str); 10] = [
    ("embeddings.words", "bert.embeddings.word_embeddings"),
    ("embeddings.positions", "bert.embeddings.position_embeddings"),
    ("embeddings.token_types", "bert.embeddings.token_type_embeddings"),
    ("embeddings.norm", "bert.embeddings.LayerNorm"),
    ("pooler", "bert.pooler.dense"),
    ("predictions.transform", "cls.predictions.transform.dense"),
    ("predictions.norm", "cls.predictions.transform.LayerNorm"),
    ("predictions", "cls.predictions"),
    ("next_sentence", "cls.seq_relationship"),
    ("classifier", "classifier"),
];

/// The same inside a layer. Query, key and value are one product here and three layers there.
const LAYER_MODULES: [(&str, &str); 6] = [
    ("qkv", "attention.self.qkv"),
    ("attention_output", "attention.output.dense"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("up", "intermediate.dense"),
    ("down", "output.dense"),
    ("norm", "output.LayerNorm"),
];

const QKV: &str = ".self.qkv.";
const PARTS: [&str; 3] = [".self.query.", ".self.key.", ".self.value."];

/// Whether the parameter is the weight of a linear layer, which PyTorch stores `[out, in]`.
fn is_linear_weight(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && !name.contains("_embeddings.")
}

impl Family for Bert {
    fn name(path: &str) -> String {
        let (before, path, table) = match path.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
            Some((index, path)) => (format!("bert.encoder.layer.{index}."), path, &LAYER_MODULES[..]),
            None => (String::new(), path, &MODULES[..]),
        };
        let found = table.iter().find_map(|(field, module)| {
            let rest = path.strip_prefix(field).filter(|rest| rest.starts_with('.'))?;
            Some(format!("{before}{module}{rest}"))
        });
        found.unwrap_or_else(|| path.into())
    }

    fn stored(parameter: Flat) -> Vec<Flat> {
        let Flat { name, shape, values } = parameter;
        let transposed = is_linear_weight(&name, &shape);
        // Biases are matrices of one row.
        let [rows, columns] = if transposed { [shape[0], shape[1]] } else { [1, values.dims()[0]] };
        let part = |name: String, values: Tensor<2>| {
            let [rows, columns] = values.dims();
            let shape = if transposed { vec![columns, rows] } else { vec![columns] };
            Flat { name, shape, values: values.transpose().reshape([rows * columns]) }
        };
        if name.contains(QKV) {
            let values = values.reshape([rows, columns]);
            let width = columns / 3;
            let nth = |(i, named)| part(name.replace(QKV, named), values.clone().narrow(1, i * width, width));
            return PARTS.into_iter().enumerate().map(nth).collect();
        }
        match transposed {
            true => vec![part(name, values.reshape([rows, columns]))],
            false => vec![Flat { name, shape, values }],
        }
    }

    /// Names may lack the prefix, as base models' do, and norms may have the names of TensorFlow's time.
    fn parameters_of(tensors: &Tensors) -> BTreeMap<String, Found<'_>> {
        let mut found = BTreeMap::new();
        for (stored, tensor) in tensors {
            let mut name = stored.replace("LayerNorm.gamma", "LayerNorm.weight");
            name = name.replace("LayerNorm.beta", "LayerNorm.bias");
            if ["embeddings.", "encoder.", "pooler."].iter().any(|part| name.starts_with(part)) {
                name = format!("bert.{name}");
            }
            // A buffer, and copies of the word embeddings and of the bias beside them.
            let is_copy = match name.as_str() {
                "cls.predictions.decoder.weight" => tensors.keys().any(|name| name.ends_with("word_embeddings.weight")),
                "cls.predictions.decoder.bias" => tensors.contains_key("cls.predictions.bias"),
                _ => name.ends_with(".position_ids"),
            };
            if is_copy {
                continue;
            }
            if name == "cls.predictions.decoder.bias" {
                name = "cls.predictions.bias".into();
            }
            let tensor = match is_linear_weight(&name, &tensor.shape) {
                true => Cow::Owned(transpose(tensor)),
                false => Cow::Borrowed(tensor),
            };
            found.insert(name, Found { names: vec![stored.as_str()], tensor });
        }
        let queries: Vec<String> = found.keys().filter(|name| name.contains(PARTS[0])).cloned().collect();
        for query in queries {
            let names = PARTS.map(|part| query.replace(PARTS[0], part));
            let parts: Vec<&Found> = names.iter().filter_map(|name| found.get(name)).collect();
            if parts.len() == PARTS.len() && parts.iter().all(|part| part.tensor.shape == parts[0].tensor.shape) {
                let tensor = Cow::Owned(side_by_side(&parts));
                let joined = Found { names: parts.iter().flat_map(|part| part.names.clone()).collect(), tensor };
                names.iter().for_each(|name| drop(found.remove(name)));
                found.insert(query.replace(PARTS[0], QKV), joined);
            }
        }
        found
    }

    /// All but embeddings and layers: masked-LM files have no pooler.
    fn is_head(name: &str) -> bool {
        !name.starts_with("bert.") || name.starts_with("bert.pooler.")
    }
}

fn transpose(matrix: &HostTensor) -> HostTensor {
    let [rows, columns] = [matrix.shape[0], matrix.shape[1]];
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| matrix.values[r * columns + c])).collect();
    HostTensor { shape: vec![columns, rows], values }
}

/// Tensors of one shape, joined along their last side.
fn side_by_side(parts: &[&Found]) -> HostTensor {
    let mut shape = parts[0].tensor.shape.clone();
    let width = shape.last().copied().unwrap_or(0);
    let rows = parts[0].tensor.values.len() / width.max(1);
    let row = |r: usize| parts.iter().flat_map(move |part| &part.tensor.values[r * width..(r + 1) * width]);
    let values = (0..rows).flat_map(row).copied().collect();
    if let Some(last) = shape.last_mut() {
        *last *= parts.len();
    }
    HostTensor { shape, values }
}
