//! A BERT's shape and head, and HuggingFace's `config.json` of it.

use crate::config::{BertSettings, ConfigError};
use crate::shape;
use serde_json::{Map, Value, json};

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
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
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
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Problem {
    /// Exactly one label.
    SingleLabel,
    /// Any number of labels.
    MultiLabel {
        /// The probability from which a label counts as given.
        threshold: f64,
    },
    /// Numbers.
    Regression,
}

impl Problem {
    /// The threshold of a `config.json` that names none.
    const THRESHOLD: f64 = 0.5;

    /// HuggingFace's `problem_type`.
    fn name(self) -> &'static str {
        match self {
            Self::SingleLabel => "single_label_classification",
            Self::MultiLabel { .. } => "multi_label_classification",
            Self::Regression => "regression",
        }
    }
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

    /// The probability from which a label counts as given, where a text may have several.
    pub fn threshold(&self) -> f32 {
        match self {
            Self::SequenceClassification { problem: Problem::MultiLabel { threshold }, .. } => *threshold as f32,
            _ => Problem::THRESHOLD as f32,
        }
    }

    /// Whether it predicts masked tokens.
    pub fn predicts_tokens(&self) -> bool {
        matches!(self, Self::MaskedLm | Self::PreTraining)
    }

    /// Whether it predicts that one stretch of text follows another.
    pub fn predicts_next_sentence(&self) -> bool {
        matches!(self, Self::NextSentence | Self::PreTraining)
    }

    /// Whether the model has a pooler: as HuggingFace's classes have.
    pub(super) fn pools(&self) -> bool {
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
                        let threshold = config["threshold"].as_f64().unwrap_or(Problem::THRESHOLD);
                        let known = [Problem::SingleLabel, Problem::MultiLabel { threshold }, Problem::Regression];
                        known.into_iter().find(|problem| problem.name() == name).ok_or_else(|| {
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
        return Ok(["LABEL_0", "LABEL_1"].map(String::from).to_vec());
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
            initializer_range: INITIALIZER_RANGE,
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
            initializer_range: settings.initializer_range.unwrap_or(base.initializer_range),
            head,
        }
        .check(tokenizer_size)
    }

    /// This body, read from a pre-trained directory, with a head of its own under a run's `[model.bert]`: dropouts
    /// override, a shape key or the epsilon may only agree.
    ///
    /// # Errors
    /// Every key that contradicts the directory, and a vocabulary that the tokenizer does not fit.
    pub fn overridden(
        self,
        settings: &BertSettings,
        tokenizer_size: usize,
        head: BertHead,
    ) -> Result<Self, ConfigError> {
        let keys = [
            ("n_layer", settings.n_layer, self.n_layer),
            ("n_head", settings.n_head, self.n_head),
            ("d_model", settings.d_model, self.d_model),
            ("d_ff", settings.d_ff, self.d_ff),
            ("max_seq_len", settings.max_seq_len, self.max_seq_len),
            ("vocab_size", settings.vocab_size, self.vocab_size),
            ("type_vocab_size", settings.type_vocab_size, self.type_vocab_size),
        ];
        shape::agree("bert", &keys, (settings.layer_norm_eps, self.layer_norm_eps))?;
        let hidden_dropout = settings.hidden_dropout.or(settings.dropout).unwrap_or(self.hidden_dropout);
        Self {
            hidden_dropout,
            attn_dropout: settings.attn_dropout.or(settings.dropout).unwrap_or(self.attn_dropout),
            classifier_dropout: settings.classifier_dropout.or(settings.dropout).unwrap_or(hidden_dropout),
            initializer_range: settings.initializer_range.unwrap_or(self.initializer_range),
            head,
            ..self
        }
        .check(tokenizer_size)
    }

    /// Parameters by part of the model.
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        let (d, f, l) = (self.d_model, self.d_ff, self.n_layer);
        let mut head = if self.head.pools() { d * d + d } else { 0 };
        if self.head.predicts_tokens() {
            head += d * d + d + 2 * d + self.vocab_size;
        }
        if self.head.predicts_next_sentence() {
            head += 2 * d + 2;
        }
        let labels = self.head.labels().len();
        head += labels * (d + 1);
        vec![
            ("word embedding", self.vocab_size * d),
            ("position and type embedding", (self.max_seq_len + self.type_vocab_size) * d),
            ("attention", l * (d * 3 * d + 3 * d + d * d + d)),
            ("feed-forward", l * (d * f + f + f * d + d)),
            ("layer norms", l * 4 * d + 2 * d),
            ("pooler and head", head),
        ]
    }

    fn check(self, tokenizer_size: usize) -> Result<Self, ConfigError> {
        let classifies =
            matches!(self.head, BertHead::SequenceClassification { .. } | BertHead::TokenClassification { .. });
        if classifies && self.head.labels().is_empty() {
            return Err(ConfigError("a classifier needs at least one label".into()));
        }
        shape::check_heads(self.d_model, self.n_head)?;
        shape::check_vocabulary("bert", self.vocab_size, tokenizer_size)?;
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
            "initializer_range": self.initializer_range,
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
            config["problem_type"] = json!(problem.name());
            if let Problem::MultiLabel { threshold } = problem {
                config["threshold"] = json!(threshold);
            }
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
        let off = |key: &str| !shape::is_on(config, key, false);
        let only = |key: &str, name: &str| config[key].as_str().is_none_or(|found| found == name);
        let options = [
            ("hidden_act", only("hidden_act", "gelu"), "the GELU with the error function (\"gelu\")"),
            ("position_embedding_type", only("position_embedding_type", "absolute"), "\"absolute\""),
            (
                "tie_word_embeddings",
                shape::is_on(config, "tie_word_embeddings", true),
                "a head tied to the embedding (true)",
            ),
            ("is_decoder", off("is_decoder"), "an encoder (false)"),
            ("add_cross_attention", off("add_cross_attention"), "no cross attention (false)"),
        ];
        shape::refuse_other_options(config, &options)?;
        let size = |key: &str| shape::size(config, key);
        // HuggingFace's BertConfig defaults.
        let number = |key: &str, default: f64| shape::number(config, key, default);
        let hidden_dropout = number("hidden_dropout_prob", 0.1)?;
        Self {
            n_layer: size("num_hidden_layers")?,
            n_head: size("num_attention_heads")?,
            d_model: size("hidden_size")?,
            d_ff: size("intermediate_size")?,
            max_seq_len: size("max_position_embeddings")?,
            vocab_size: size("vocab_size")?,
            type_vocab_size: if config["type_vocab_size"].is_null() { 2 } else { size("type_vocab_size")? },
            hidden_dropout,
            attn_dropout: number("attention_probs_dropout_prob", 0.1)?,
            classifier_dropout: number("classifier_dropout", hidden_dropout)?,
            layer_norm_eps: shape::positive(config, "layer_norm_eps", 1e-12)?,
            initializer_range: number("initializer_range", INITIALIZER_RANGE)?,
            head: BertHead::from_hf(config)?,
        }
        .check(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classifier() -> BertConfig {
        let labels = ["refund", "发票", "other"].map(String::from).to_vec();
        let head = BertHead::SequenceClassification { labels, problem: Problem::MultiLabel { threshold: 0.3 } };
        BertConfig { classifier_dropout: 0.3, head, ..BertConfig::default() }
    }

    #[test]
    fn a_configuration_survives_its_config_json() {
        let tags = BertHead::TokenClassification { labels: vec!["O".into(), "B-PER".into()] };
        let heads = [BertHead::None, BertHead::MaskedLm, BertHead::NextSentence, BertHead::PreTraining, tags];
        let others = heads.map(|head| BertConfig { head, ..BertConfig::default() });
        for config in others.into_iter().chain([classifier()]) {
            assert_eq!(BertConfig::from_hf(&config.to_hf(Some(0))), Ok(config));
        }
        let hf = classifier().to_hf(Some(0));
        assert_eq!((&hf["id2label"]["1"], &hf["label2id"]["发票"]), (&json!("发票"), &json!(1)));
        assert_eq!(hf["problem_type"], "multi_label_classification");
    }

    #[test]
    fn what_would_compute_something_else_is_refused_by_name() {
        for (key, value) in [
            ("model_type", json!("gpt2")),
            ("hidden_act", json!("gelu_new")),
            ("position_embedding_type", json!("relative_key")),
            ("is_decoder", json!(true)),
            ("add_cross_attention", json!(true)),
            ("tie_word_embeddings", json!(false)),
            ("hidden_size", json!(0)),
            ("num_attention_heads", json!(null)),
            ("problem_type", json!("ranking")),
            ("id2label", json!({"0": "a", "2": "c"})),
            ("id2label", json!({})),
            ("layer_norm_eps", json!(0.0)),
            ("layer_norm_eps", json!(-1e-12)),
            ("layer_norm_eps", json!("1e-12")),
            ("hidden_dropout_prob", json!("0.1")),
        ] {
            let mut hf = classifier().to_hf(None);
            hf[key] = value;
            let error = BertConfig::from_hf(&hf).expect_err(key).to_string();
            assert!(error.contains(&format!("`{key}`")), "{error}");
        }
        let mut hf = classifier().to_hf(None);
        hf["architectures"] = json!(["BertForMultipleChoice"]);
        let error = BertConfig::from_hf(&hf).expect_err("not supported").to_string();
        assert!(error.contains("BertForMultipleChoice"), "{error}");
        hf = classifier().to_hf(None);
        hf["num_attention_heads"] = json!(7);
        let error = BertConfig::from_hf(&hf).expect_err("768 is not divisible by 7").to_string();
        assert!(error.contains("768"), "{error}");
    }

    #[test]
    fn settings_default_to_bert_base_and_dropout_stands_for_all_three() {
        let base = BertConfig::from_settings(&BertSettings::default(), 30522, BertHead::None);
        assert_eq!(base, Ok(BertConfig::default()));
        let given =
            BertSettings { d_model: Some(96), dropout: Some(0.2), attn_dropout: Some(0.0), ..BertSettings::default() };
        let config = BertConfig::from_settings(&given, 100, BertHead::MaskedLm).expect("12 heads divide 96");
        assert_eq!((config.d_ff, config.vocab_size), (384, 100));
        assert_eq!((config.hidden_dropout, config.attn_dropout, config.classifier_dropout), (0.2, 0.0, 0.2));
        let small = BertSettings { vocab_size: Some(50), ..BertSettings::default() };
        assert!(BertConfig::from_settings(&small, 100, BertHead::MaskedLm).is_err());
        let no_labels = BertHead::TokenClassification { labels: vec![] };
        assert!(BertConfig::from_settings(&BertSettings::default(), 100, no_labels).is_err());
    }

    #[test]
    fn what_the_weights_were_trained_with_may_only_agree() {
        let under = |settings: BertSettings| BertConfig::default().overridden(&settings, 30522, BertHead::MaskedLm);
        let same = BertSettings { n_layer: Some(12), layer_norm_eps: Some(1e-12), ..BertSettings::default() };
        assert!(under(same).is_ok());
        let other = BertSettings { n_layer: Some(6), layer_norm_eps: Some(1e-5), ..BertSettings::default() };
        let error = under(other).expect_err("another model").to_string();
        for part in ["`model.bert.n_layer` is 6", "`model.bert.layer_norm_eps` is 1e-5", "a model with 1e-12"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
