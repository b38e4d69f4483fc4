//! The `[model]` table: which model is trained, and from what it starts.
//!
//! Every key of `[model.gpt]` is optional in the file. [`GptSettings::with_defaults`] fills in GPT-2 small
//! for a model that starts from random weights; a model that starts from a directory takes its shape from there.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The layer norm epsilon of every published GPT-2.
pub const GPT2_LAYER_NORM_EPS: f64 = 1e-5;

/// A configuration that cannot be built or read.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// The model: its shape, or the directory it starts from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A HuggingFace directory of the `gpt2` or `bert` family (`config.json`, `model.safetensors`) whose weights
    /// training starts from, or a run directory, whose best checkpoint it is; a BERT gets the head that the objective needs,
    /// fresh where the directory has another or one for other labels. The shape comes from there: shape keys and
    /// `layer_norm_eps` given below may only agree with it, dropouts replace its own. Default: random weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_from: Option<PathBuf>,
    /// A GPT with GPT-2's architecture. The defaults are GPT-2 small (124M parameters), or with `init_from` what
    /// that directory says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpt: Option<GptSettings>,
    /// A BERT. The defaults are BERT base (110M parameters), or with `init_from` what that directory says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bert: Option<BertSettings>,
}

/// A GPT with GPT-2's architecture. The defaults are GPT-2 small (124M parameters), or with `init_from` what that
/// directory says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GptSettings {
    /// Number of blocks. Default: `12`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_layer: Option<usize>,
    /// Attention heads of each block; must divide `d_model`. Default: `12`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_head: Option<usize>,
    /// Width: features of each position between blocks. Default: `768`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_model: Option<usize>,
    /// Width of the feed-forward part's hidden layer. Default: `4 * d_model`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_ff: Option<usize>,
    /// Context: the most tokens the model sees at once, and the length of each training row. Default: `1024`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<usize>,
    /// Rows of the token embedding, in tokens. More than the tokenizer has is padding; fewer is an error.
    /// Default: the tokenizer's.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// Probability of dropping a value in training; stands for each of the three below that is not given.
    /// Default: `0.1`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Dropout after the embeddings, a probability. Default: `dropout`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embd_dropout: Option<f64>,
    /// Dropout of the attention weights, a probability. Default: `dropout`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attn_dropout: Option<f64>,
    /// Dropout of what the attention and the feed-forward part add to the residual stream, a probability.
    /// Default: `dropout`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resid_dropout: Option<f64>,
    /// Added to the variance in each layer norm, so that it never divides by zero. Default: `1e-5`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_norm_eps: Option<f64>,
}

impl GptSettings {
    /// These settings with GPT-2 small's value for each that is not given, for a model with random weights.
    ///
    /// `vocab_size` stays as it is: its default is the tokenizer's, which is not known here. `dropout` becomes
    /// `None`, because the three dropouts that it stands for are all given. Doing it twice changes nothing.
    pub fn with_defaults(&self) -> Self {
        let d_model = self.d_model.unwrap_or(768);
        let shape = Self {
            n_layer: self.n_layer.or(Some(12)),
            n_head: self.n_head.or(Some(12)),
            d_model: Some(d_model),
            d_ff: self.d_ff.or(Some(d_model.saturating_mul(4))),
            max_seq_len: self.max_seq_len.or(Some(1024)),
            vocab_size: self.vocab_size,
            dropout: self.dropout.or(Some(0.1)),
            layer_norm_eps: self.layer_norm_eps.or(Some(GPT2_LAYER_NORM_EPS)),
            ..self.clone()
        };
        shape.with_dropout_spread()
    }

    /// These settings with `dropout` moved into each of the three dropouts that is not given.
    ///
    /// All that a model that starts from a directory may have filled in: what is still `None` comes from there.
    pub fn with_dropout_spread(&self) -> Self {
        Self {
            dropout: None,
            embd_dropout: self.embd_dropout.or(self.dropout),
            attn_dropout: self.attn_dropout.or(self.dropout),
            resid_dropout: self.resid_dropout.or(self.dropout),
            ..self.clone()
        }
    }
}

/// A BERT. The defaults are BERT base (110M parameters).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BertSettings {
    /// Number of layers. Default: `12`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_layer: Option<usize>,
    /// Attention heads of each layer; must divide `d_model`. Default: `12`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n_head: Option<usize>,
    /// Width: features of each position between layers. Default: `768`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_model: Option<usize>,
    /// Width of the feed-forward part's hidden layer. Default: `4 * d_model`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_ff: Option<usize>,
    /// The most tokens the model sees at once. Default: `512`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<usize>,
    /// Rows of the word embedding, in tokens. More than the tokenizer has is padding; fewer is an error.
    /// Default: the tokenizer's.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab_size: Option<usize>,
    /// Kinds of token: sentence A and B. Default: `2`.
    #[schemars(range(min = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_vocab_size: Option<usize>,
    /// Probability of dropping a value in training; stands for each of the three below that is not given.
    /// Default: `0.1`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<f64>,
    /// Dropout after the embeddings and of what attention and the feed-forward part add, a probability.
    /// Default: `dropout`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden_dropout: Option<f64>,
    /// Dropout of the attention weights, a probability. Default: `dropout`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attn_dropout: Option<f64>,
    /// Dropout before a classifier, a probability. Default: `dropout`, or else `hidden_dropout`.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier_dropout: Option<f64>,
    /// Standard deviation of fresh weights. Masked tokens are learned sooner from `0.05` or so where the model is narrow.
    /// Default: `0.02`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initializer_range: Option<f64>,
    /// Added to the variance in each layer norm, so that it never divides by zero. Default: `1e-12`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_norm_eps: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_gpt2_small() {
        let gpt = GptSettings::default().with_defaults();
        assert_eq!(
            gpt,
            GptSettings {
                n_layer: Some(12),
                n_head: Some(12),
                d_model: Some(768),
                d_ff: Some(3072),
                max_seq_len: Some(1024),
                vocab_size: None,
                dropout: None,
                embd_dropout: Some(0.1),
                attn_dropout: Some(0.1),
                resid_dropout: Some(0.1),
                layer_norm_eps: Some(1e-5),
            }
        );
    }

    #[test]
    fn a_given_key_is_kept_and_the_rest_follow_it() {
        let given =
            GptSettings { d_model: Some(128), dropout: Some(0.2), attn_dropout: Some(0.0), ..GptSettings::default() };
        let gpt = given.with_defaults();
        assert_eq!(gpt.d_ff, Some(512));
        assert_eq!((gpt.embd_dropout, gpt.attn_dropout, gpt.resid_dropout), (Some(0.2), Some(0.0), Some(0.2)));
        assert_eq!(gpt.with_defaults(), gpt);
    }

    #[test]
    fn spreading_the_dropout_leaves_the_shape_open() {
        let given = GptSettings { dropout: Some(0.2), ..GptSettings::default() };
        let gpt = given.with_dropout_spread();
        assert_eq!(gpt.n_layer, None);
        assert_eq!(gpt.resid_dropout, Some(0.2));
        assert_eq!(GptSettings::default().with_dropout_spread(), GptSettings::default());
    }
}
