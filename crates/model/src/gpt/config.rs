//! A GPT-2's shape, and HuggingFace's `config.json` of it.

use crate::config::{ConfigError, GPT2_LAYER_NORM_EPS, GptSettings};
use crate::shape;
use serde_json::{Value, json};

/// The shape of a GPT-2 and its dropouts.
#[derive(Clone, Debug, PartialEq)]
pub struct GptConfig {
    /// Transformer blocks.
    pub n_layer: usize,
    /// Attention heads of a block; divides `d_model`.
    pub n_head: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of the feed-forward layer's hidden state.
    pub d_ff: usize,
    /// Positions the model has learned, and so the longest context in tokens.
    pub max_seq_len: usize,
    /// Rows of the embedding; at least the tokenizer's ids.
    pub vocab_size: usize,
    /// Dropout after the embeddings.
    pub embd_dropout: f64,
    /// Dropout on the attention weights.
    pub attn_dropout: f64,
    /// Dropout on what each half of a block adds to the residual stream.
    pub resid_dropout: f64,
    /// Epsilon of every LayerNorm.
    pub layer_norm_eps: f64,
}

/// GPT-2's `initializer_range`: the standard deviation of fresh weights.
pub(super) const INITIALIZER_RANGE: f64 = 0.02;

impl Default for GptConfig {
    /// GPT-2 small (124M parameters).
    fn default() -> Self {
        Self {
            n_layer: 12,
            n_head: 12,
            d_model: 768,
            d_ff: 3072,
            max_seq_len: 1024,
            vocab_size: 50257,
            embd_dropout: 0.1,
            attn_dropout: 0.1,
            resid_dropout: 0.1,
            layer_norm_eps: GPT2_LAYER_NORM_EPS,
        }
    }
}

impl GptConfig {
    /// The configuration that `[model.gpt]` describes for a tokenizer of `tokenizer_size` ids.
    ///
    /// # Errors
    /// A vocabulary smaller than the tokenizer's, or a width that the heads do not divide.
    pub fn from_settings(settings: &GptSettings, tokenizer_size: usize) -> Result<Self, ConfigError> {
        let settings = settings.with_defaults();
        let base = Self::default();
        Self {
            n_layer: settings.n_layer.unwrap_or(base.n_layer),
            n_head: settings.n_head.unwrap_or(base.n_head),
            d_model: settings.d_model.unwrap_or(base.d_model),
            d_ff: settings.d_ff.unwrap_or(base.d_ff),
            max_seq_len: settings.max_seq_len.unwrap_or(base.max_seq_len),
            vocab_size: settings.vocab_size.unwrap_or(tokenizer_size),
            layer_norm_eps: settings.layer_norm_eps.unwrap_or(base.layer_norm_eps),
            ..base
        }
        .with_dropouts(&settings)
        .check(tokenizer_size)
    }

    /// This configuration, read from a pre-trained directory, under a run's `[model.gpt]`: dropouts override, a
    /// shape key or the epsilon may only agree.
    ///
    /// # Errors
    /// Every key that contradicts the directory, and a vocabulary that the tokenizer does not fit.
    pub fn overridden(self, settings: &GptSettings, tokenizer_size: usize) -> Result<Self, ConfigError> {
        let keys = [
            ("n_layer", settings.n_layer, self.n_layer),
            ("n_head", settings.n_head, self.n_head),
            ("d_model", settings.d_model, self.d_model),
            ("d_ff", settings.d_ff, self.d_ff),
            ("max_seq_len", settings.max_seq_len, self.max_seq_len),
            ("vocab_size", settings.vocab_size, self.vocab_size),
        ];
        shape::agree("gpt", &keys, (settings.layer_norm_eps, self.layer_norm_eps))?;
        self.with_dropouts(settings).check(tokenizer_size)
    }

    fn with_dropouts(self, settings: &GptSettings) -> Self {
        let settings = settings.with_dropout_spread();
        Self {
            embd_dropout: settings.embd_dropout.unwrap_or(self.embd_dropout),
            attn_dropout: settings.attn_dropout.unwrap_or(self.attn_dropout),
            resid_dropout: settings.resid_dropout.unwrap_or(self.resid_dropout),
            ..self
        }
    }

    fn check(self, tokenizer_size: usize) -> Result<Self, ConfigError> {
        shape::check_heads(self.d_model, self.n_head)?;
        shape::check_vocabulary("gpt", self.vocab_size, tokenizer_size)?;
        Ok(self)
    }

    /// The `config.json` that HuggingFace reads this model from.
    pub fn to_hf(&self, end_of_text: Option<u32>) -> Value {
        json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "activation_function": "gelu_new",
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "n_embd": self.d_model,
            "n_inner": self.d_ff,
            "n_positions": self.max_seq_len,
            "n_ctx": self.max_seq_len,
            "vocab_size": self.vocab_size,
            "embd_pdrop": self.embd_dropout,
            "attn_pdrop": self.attn_dropout,
            "resid_pdrop": self.resid_dropout,
            "layer_norm_epsilon": self.layer_norm_eps,
            "initializer_range": INITIALIZER_RANGE,
            "bos_token_id": end_of_text,
            "eos_token_id": end_of_text,
            "tie_word_embeddings": true,
            "dtype": "float32",
            "torch_dtype": "float32",
        })
    }

    /// Reads a HuggingFace `config.json` of the `gpt2` family.
    ///
    /// # Errors
    /// Another family, a missing key, or an option that would compute something else than this model does.
    pub fn from_hf(config: &Value) -> Result<Self, ConfigError> {
        let family = config["model_type"].as_str().unwrap_or("missing");
        if family != "gpt2" {
            return Err(ConfigError(format!("config.json: `model_type` is \"{family}\"; hint: `gpt2` is supported")));
        }
        let size = |key: &str| shape::size(config, key);
        let number = |key: &str, default: f64| shape::number(config, key, default);
        let options = [
            (
                "activation_function",
                config["activation_function"].as_str().is_none_or(|a| a == "gelu_new" || a == "gelu_pytorch_tanh"),
                "the tanh GELU (\"gelu_new\")",
            ),
            (
                "tie_word_embeddings",
                shape::is_on(config, "tie_word_embeddings", true),
                "a head tied to the embedding (true)",
            ),
            ("scale_attn_weights", shape::is_on(config, "scale_attn_weights", true), "scaled attention (true)"),
            (
                "scale_attn_by_inverse_layer_idx",
                !shape::is_on(config, "scale_attn_by_inverse_layer_idx", false),
                "attention not scaled by layer (false)",
            ),
            ("add_cross_attention", !shape::is_on(config, "add_cross_attention", false), "no cross attention (false)"),
        ];
        shape::refuse_other_options(config, &options)?;
        let d_model = size("n_embd")?;
        let vocab_size = size("vocab_size")?;
        let d_ff = if config["n_inner"].is_null() { 4 * d_model } else { size("n_inner")? };
        Self {
            n_layer: size("n_layer")?,
            n_head: size("n_head")?,
            d_model,
            d_ff,
            max_seq_len: size("n_positions")?,
            vocab_size,
            // HuggingFace's GPT2Config defaults.
            embd_dropout: number("embd_pdrop", 0.1)?,
            attn_dropout: number("attn_pdrop", 0.1)?,
            resid_dropout: number("resid_pdrop", 0.1)?,
            layer_norm_eps: shape::positive(config, "layer_norm_epsilon", GPT2_LAYER_NORM_EPS)?,
        }
        .check(0)
    }

    /// Parameters by part, without building the model; the tied head adds none.
    pub fn parameters(&self) -> Vec<(&'static str, usize)> {
        let (d, f, l) = (self.d_model, self.d_ff, self.n_layer);
        vec![
            ("token embedding (tied head)", self.vocab_size * d),
            ("position embedding", self.max_seq_len * d),
            ("attention", l * (d * 3 * d + 3 * d + d * d + d)),
            ("feed-forward", l * (d * f + f + f * d + d)),
            ("layer norms", l * 4 * d + 2 * d),
        ]
    }
}
