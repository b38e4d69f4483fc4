//! GPT-2, top to bottom: configuration, block, model, initialization.
//!
//! Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", and HuggingFace
//! `transformers`' `modeling_gpt2.py`, whose parameter names and layout (`Conv1D`, `[in, out]`) the fields follow.

use crate::attention::{CausalSelfAttention, CausalSelfAttentionConfig};
use crate::checkpointed::Stack;
use crate::config::{GPT2_LAYER_NORM_EPS, GptSettings};
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::int8::Int8Head;
use crate::kv_cache::KvCache;
use crate::lora::{self, LoraConfig};
use crate::pass::Pass;
use crate::weights::{self, Family, Flat, Found, Initial, Place, Tensors, transpose};
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kernels::{
    CrossEntropy, Dropout, LayerCache, NewPositions, NormPlace, Residual, Sublayer, cross_entropy_and_correct,
    cross_entropy_sum, dropout, embedding, int8_cross_entropy_and_correct, int8_head, layer_norm, residual_add,
    sublayers, tied_head,
};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;

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

/// A configuration that cannot be built or read.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// GPT-2's `initializer_range`: the standard deviation of fresh weights.
const INITIALIZER_RANGE: f64 = 0.02;

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
    /// shape key may only agree.
    ///
    /// # Errors
    /// Every shape key that contradicts the directory, and a vocabulary that the tokenizer does not fit.
    pub fn overridden(self, settings: &GptSettings, tokenizer_size: usize) -> Result<Self, ConfigError> {
        let contradictions: Vec<String> = [
            ("n_layer", settings.n_layer, self.n_layer),
            ("n_head", settings.n_head, self.n_head),
            ("d_model", settings.d_model, self.d_model),
            ("d_ff", settings.d_ff, self.d_ff),
            ("max_seq_len", settings.max_seq_len, self.max_seq_len),
            ("vocab_size", settings.vocab_size, self.vocab_size),
        ]
        .into_iter()
        .filter_map(|(key, asked, found)| {
            asked
                .filter(|asked| *asked != found)
                .map(|asked| format!("`model.gpt.{key}` is {asked}, but `model.init_from` holds a model with {found}"))
        })
        .collect();
        if !contradictions.is_empty() {
            return Err(ConfigError(format!(
                "{}; hint: leave the shape keys out, they are read from the directory",
                contradictions.join("; ")
            )));
        }
        let eps = settings.layer_norm_eps.unwrap_or(self.layer_norm_eps);
        Self { layer_norm_eps: eps, ..self }.with_dropouts(settings).check(tokenizer_size)
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
        if self.n_head == 0 || !self.d_model.is_multiple_of(self.n_head) {
            return Err(ConfigError(format!(
                "`d_model` is {}, which `n_head` = {} does not divide",
                self.d_model, self.n_head
            )));
        }
        if self.vocab_size < tokenizer_size {
            return Err(ConfigError(format!(
                "the model's vocabulary has {} entries, but the tokenizer has {tokenizer_size}; hint: use the \
                 tokenizer the model was trained with, or a larger `model.gpt.vocab_size`",
                self.vocab_size
            )));
        }
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
        let size =
            |key: &str| {
                config[key].as_u64().filter(|v| *v > 0).map(|v| v as usize).ok_or_else(|| {
                    ConfigError(format!("config.json: `{key}` is missing or not a positive whole number"))
                })
            };
        let number = |key: &str, default: f64| config[key].as_f64().unwrap_or(default);
        for (key, fits, needed) in [
            (
                "activation_function",
                config["activation_function"].as_str().is_none_or(|a| a == "gelu_new" || a == "gelu_pytorch_tanh"),
                "the tanh GELU (\"gelu_new\")",
            ),
            (
                "tie_word_embeddings",
                config["tie_word_embeddings"].as_bool().unwrap_or(true),
                "a head tied to the embedding (true)",
            ),
            ("scale_attn_weights", config["scale_attn_weights"].as_bool().unwrap_or(true), "scaled attention (true)"),
            (
                "scale_attn_by_inverse_layer_idx",
                !config["scale_attn_by_inverse_layer_idx"].as_bool().unwrap_or(false),
                "attention not scaled by layer (false)",
            ),
            (
                "add_cross_attention",
                !config["add_cross_attention"].as_bool().unwrap_or(false),
                "no cross attention (false)",
            ),
        ] {
            if !fits {
                return Err(ConfigError(format!(
                    "config.json: `{key}` is {}, but only {needed} is supported",
                    config[key]
                )));
            }
        }
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
            embd_dropout: number("embd_pdrop", 0.1),
            attn_dropout: number("attn_pdrop", 0.1),
            resid_dropout: number("resid_pdrop", 0.1),
            layer_norm_eps: number("layer_norm_epsilon", GPT2_LAYER_NORM_EPS),
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

/// One transformer block: attention, then feed-forward, each on a normalized copy of the residual stream.
#[derive(Module, Debug)]
pub struct Block {
    ln_1: LayerNorm,
    attn: CausalSelfAttention,
    ln_2: LayerNorm,
    mlp: FeedForward,
    layer_norm_eps: f64,
    resid_dropout: f64,
}

impl Block {
    fn new(config: &GptConfig, device: &Device) -> Self {
        let norm = || LayerNormConfig::new(config.d_model).with_epsilon(config.layer_norm_eps).init(device);
        let (d_model, n_head, attn_dropout) = (config.d_model, config.n_head, config.attn_dropout);
        Self {
            ln_1: norm(),
            attn: CausalSelfAttentionConfig { d_model, n_head, attn_dropout }.init(device),
            ln_2: norm(),
            mlp: FeedForwardConfig { d_model, d_ff: config.d_ff }.init(device),
            layer_norm_eps: config.layer_norm_eps,
            resid_dropout: config.resid_dropout,
        }
    }

    /// Its halves; `index` counts the blocks from 0.
    fn halves<'a>(&'a self, pass: &'a Pass, index: usize) -> [Sublayer<'a>; 2] {
        // The embedding's dropout is site 0, then come three a block.
        let site = |i: u32| 3 * index as u32 + i;
        let around = |norm, i| self.residual(norm, pass.dropout(self.resid_dropout, site(i)));
        [
            Sublayer { function: self.attn.function(pass, site(1)), residual: around(&self.ln_1, 2) },
            Sublayer { function: self.mlp.function(pass, site(3)), residual: around(&self.ln_2, 3) },
        ]
    }

    /// What it makes of `x` without dropout, for positions that continue what `cache` has seen.
    ///
    /// # Shapes
    /// - `x`: `[rows, new, d_model]`, returns the same
    fn forward_cached(&self, x: Tensor<3>, positions: &NewPositions, cache: &mut LayerCache) -> Tensor<3> {
        let attend = |x| self.attn.forward_cached(x, positions, cache);
        let x = self.residual(&self.ln_1, None).around(x, attend);
        let pass = Pass::default();
        let function = self.mlp.function(&pass, 0);
        sublayers(x, &[Sublayer { function, residual: self.residual(&self.ln_2, None) }])
    }

    /// What stands around each half.
    fn residual<'a>(&self, norm: &'a LayerNorm, dropout: Option<Dropout>) -> Residual<'a> {
        Residual { norm, epsilon: self.layer_norm_eps, place: NormPlace::Before, dropout }
    }
}

/// A GPT-2 with its language-model head tied to the token embedding.
#[derive(Module, Debug)]
pub struct Gpt {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<Block>,
    ln_f: LayerNorm,
    layer_norm_eps: f64,
    embd_dropout: f64,
    #[module(skip)]
    int8_head: Int8Head,
}

/// What the language-model classes of `transformers` put before the names of a base model.
const PREFIX: &str = "transformer.";

/// The linear layers of GPT-2 are `Conv1D`, stored `[in, out]` as Burn's are: nothing is transposed. Adapters are PyTorch's
/// linear layers, stored `[out, in]`.
impl Family for Gpt {
    const ADAPTABLE: &'static [&'static str] = &["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

    fn name(path: &str) -> String {
        format!("{PREFIX}{}", lora::named(path))
    }

    fn stored(parameter: Flat) -> Vec<Flat> {
        let Flat { name, shape, values } = parameter;
        if !lora::is_adapter(&name) {
            return vec![Flat { name, shape, values }];
        }
        let [rows, columns] = [shape[0], shape[1]];
        let values = values.reshape([rows, columns]).transpose().reshape([rows * columns]);
        vec![Flat { name, shape: vec![columns, rows], values }]
    }

    /// Names may lack the prefix, as base models' do; older files carry the causal mask as a buffer.
    fn parameters_of(tensors: &Tensors) -> BTreeMap<String, Found<'_>> {
        let is_mask = |name: &str| name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
        let full = |name: &str| match name.starts_with(PREFIX) || name == "lm_head.weight" {
            true => name.to_string(),
            false => Self::name(name),
        };
        tensors
            .iter()
            .filter(|(name, _)| !is_mask(name))
            .map(|(name, tensor)| {
                let transposed = lora::is_adapter(name) && tensor.shape.len() == 2;
                let in_layout = if transposed { Cow::Owned(transpose(tensor)) } else { Cow::Borrowed(tensor) };
                (full(name), Found { names: vec![name], tensor: in_layout })
            })
            .collect()
    }

    fn place(name: &str) -> Place {
        match Place::of_layer(name, ".h.") {
            Some(layer) => layer,
            None if name.contains(".wte.") || name.contains(".wpe.") => Place::Embeddings,
            None => Place::Head,
        }
    }
}

impl Gpt {
    /// A fresh model: weights from N(0, 0.02), the projections into the residual stream scaled by
    /// 1/sqrt(2 * n_layer) (GPT-2, section 2.3), biases zero, norms one.
    ///
    /// The weights are a function of `seed` and the parameter's name alone: every device starts from the same.
    pub fn new(config: &GptConfig, seed: u64, device: &Device) -> Self {
        let scaled = INITIALIZER_RANGE / ((2 * config.n_layer) as f64).sqrt();
        weights::initialize(Self::blank(config, device), seed, |name| match name {
            _ if name.contains("ln_") && name.ends_with(".weight") => Initial::Ones,
            _ if name.ends_with(".bias") => Initial::Zeros,
            _ if name.ends_with("c_proj.weight") => Initial::Normal(scaled),
            _ => Initial::Normal(INITIALIZER_RANGE),
        })
    }

    /// A model whose parameters are not set yet: for loading into.
    pub fn blank(config: &GptConfig, device: &Device) -> Self {
        let table = |rows| {
            EmbeddingConfig::new(rows, config.d_model).with_initializer(burn::nn::Initializer::Zeros).init(device)
        };
        Self {
            wte: table(config.vocab_size),
            wpe: table(config.max_seq_len),
            h: (0..config.n_layer).map(|_| Block::new(config, device)).collect(),
            ln_f: LayerNormConfig::new(config.d_model).with_epsilon(config.layer_norm_eps).init(device),
            layer_norm_eps: config.layer_norm_eps,
            embd_dropout: config.embd_dropout,
            int8_head: Int8Head::default(),
        }
    }

    /// The same with fresh adapters beside the layers that `config` names.
    ///
    /// # Errors
    /// As [`LoraConfig::layers`].
    pub fn with_adapters(mut self, config: &LoraConfig, seed: u64) -> Result<Self, ConfigError> {
        let names = config.layers::<Self>()?;
        let device = self.device();
        for block in &mut self.h {
            let beside = |name: &str, layer: &Linear| names.contains(&name).then(|| config.beside(layer, &device));
            block.attn.adapt(|layer, of| beside(&format!("attn.{layer}"), of));
            block.mlp.adapt(|layer, of| beside(&format!("mlp.{layer}"), of));
        }
        Ok(lora::initialize(self, seed))
    }

    /// The same with the weights of its linear layers and its head rounded to eight bits, for generating and evaluating;
    /// embeddings, norms and biases stay as they are, and so do the parameters that the weights were rounded from.
    ///
    /// # Panics
    /// If the model is not on the CPU; see [`kernels::supports_int8`].
    pub fn with_int8_weights(mut self) -> Self {
        assert!(kernels::supports_int8(&self.device()), "weights in eight bits are for the CPU");
        for block in &mut self.h {
            block.attn.quantize();
            block.mlp.quantize();
        }
        self.int8_head = Int8Head::new(self.wte.weight.val());
        self
    }

    /// Bytes of weights that generating one token reads: those of every linear layer and of the head.
    pub fn weight_bytes(&self) -> usize {
        let head = match self.int8_head.table() {
            Some(table) => table.bytes(),
            None => self.wte.weight.lazy_shape().num_elements() * size_of::<f32>(),
        };
        head + self.h.iter().map(|block| block.attn.weight_bytes() + block.mlp.weight_bytes()).sum::<usize>()
    }

    /// Logits of every position.
    ///
    /// # Shapes
    /// - `tokens`, `positions`: `[batch, seq]`, ids below `vocab_size` and `max_seq_len`
    /// - returns `[batch, seq, vocab_size]`
    pub fn forward(&self, tokens: Tensor<2, Int>, positions: Tensor<2, Int>, pass: &Pass) -> Tensor<3> {
        let [batch, seq] = tokens.dims();
        let hidden = self.hidden(tokens, positions, pass);
        let d_model = hidden.dims()[2];
        self.head(hidden.reshape([batch * seq, d_model])).reshape([batch, seq, self.vocab_size()])
    }

    /// The summed cross-entropy of next-token prediction over `targets`, each times its weight.
    ///
    /// # Shapes
    /// - `x`: what leaves the last block, `[batch, seq, d_model]`
    /// - `targets`, `weights`: `[batch, seq]`; returns `[1]`, in nats
    pub fn loss_sum(&self, x: Tensor<3>, pass: &Pass, targets: Tensor<2, Int>, weights: Tensor<2>) -> Tensor<1> {
        let hidden = layer_norm(&self.ln_f, self.layer_norm_eps, x);
        let (hidden, targets, weights) = self.rows(hidden, targets, weights);
        let table = self.wte.weight.val();
        let head_is_frozen = !table.is_require_grad();
        let options = CrossEntropy { label_smoothing: pass.label_smoothing, precision: pass.precision, head_is_frozen };
        cross_entropy_sum(hidden, table, None, targets, weights, options)
    }

    /// The summed cross-entropy as [`Gpt::loss_sum`], and the summed weight of the targets that are the model's best
    /// guess; without a gradient.
    ///
    /// # Shapes
    /// - as [`Gpt::loss_sum`]; returns two of `[1]`
    pub fn loss_and_correct_sum(
        &self,
        x: Tensor<3>,
        pass: &Pass,
        targets: Tensor<2, Int>,
        weights: Tensor<2>,
    ) -> [Tensor<1>; 2] {
        let hidden = layer_norm(&self.ln_f, self.layer_norm_eps, x);
        let (hidden, targets, weights) = self.rows(hidden, targets, weights);
        match self.int8_head.table() {
            Some(table) => int8_cross_entropy_and_correct(hidden, table, targets, weights),
            None => cross_entropy_and_correct(hidden, self.wte.weight.val(), targets, weights, pass.precision),
        }
    }

    /// Rows and columns as one: `[batch * seq, d_model]` and `[batch * seq]`.
    fn rows(
        &self,
        hidden: Tensor<3>,
        targets: Tensor<2, Int>,
        weights: Tensor<2>,
    ) -> (Tensor<2>, Tensor<1, Int>, Tensor<1>) {
        let [batch, seq, d_model] = hidden.dims();
        let count = batch * seq;
        (hidden.reshape([count, d_model]), targets.reshape([count]), weights.reshape([count]))
    }

    /// The residual stream that enters the first block, `[batch, seq, d_model]`.
    fn embed(&self, tokens: Tensor<2, Int>, positions: Tensor<2, Int>, pass: &Pass) -> Tensor<3> {
        let of_positions = embedding(self.wpe.weight.val(), positions);
        let of_tokens = pass.noisy(embedding(self.wte.weight.val(), tokens));
        let x = residual_add(of_tokens, of_positions, None);
        dropout(x, pass.dropout(self.embd_dropout, 0))
    }

    /// How many blocks there are.
    pub fn n_layer(&self) -> usize {
        self.h.len()
    }

    /// What the head turns into logits, `[batch, seq, d_model]`.
    fn hidden(&self, tokens: Tensor<2, Int>, positions: Tensor<2, Int>, pass: &Pass) -> Tensor<3> {
        layer_norm(&self.ln_f, self.layer_norm_eps, self.leave([tokens, positions], pass))
    }

    /// Logits of each row's last position, continuing what `cache` has seen of the row.
    ///
    /// # Shapes
    /// - `tokens`: `[rows, new]`, of which the first `count` of each row count and the others are padding; the cache
    ///   then holds `count` more positions of each
    /// - returns `[rows, vocab_size]`; of a row without new tokens they mean nothing
    ///
    /// # Panics
    /// If the rows are not the cache's, or one would outgrow `max_seq_len`; see [`KvCache::room`].
    pub fn forward_cached(&self, tokens: Tensor<2, Int>, count: &[usize], cache: &mut KvCache) -> Tensor<2> {
        let [rows, new] = tokens.dims();
        let device = tokens.device();
        let (positions, layers) = cache.advance(count, new, &device);
        let numbers = positions.numbers(new, self.max_seq_len(), &device);
        let mut x = self.embed(tokens, numbers, &Pass::default());
        for (block, layer) in self.h.iter().zip(layers) {
            x = block.forward_cached(x, &positions, layer);
        }
        let d_model = x.dims()[2];
        let x = x.reshape([rows * new, d_model]);
        let last = if new == 1 {
            x
        } else {
            let last = |(row, count): (usize, &usize)| (row * new + count.max(&1) - 1) as i32;
            let last: Vec<i32> = count.iter().enumerate().map(last).collect();
            x.select(0, Tensor::from_data(TensorData::new(last, [rows]), &device))
        };
        self.head(layer_norm(&self.ln_f, self.layer_norm_eps, last))
    }

    /// A cache of `rows` empty rows for generating with this model.
    pub fn cache(&self, rows: usize) -> KvCache {
        KvCache::new(self.h.len(), rows, self.max_seq_len())
    }

    /// The longest context, in tokens.
    pub fn max_seq_len(&self) -> usize {
        self.wpe.weight.lazy_shape()[0]
    }

    /// Where the parameters are.
    pub fn device(&self) -> Device {
        self.wte.weight.lazy_device()
    }

    /// Rows of the token embedding.
    pub fn vocab_size(&self) -> usize {
        self.wte.weight.lazy_shape()[0]
    }

    /// # Shapes
    /// - `x`: `[rows, d_model]`, returns `[rows, vocab]`
    fn head(&self, x: Tensor<2>) -> Tensor<2> {
        match self.int8_head.table() {
            Some(table) => int8_head(x, table),
            None => tied_head(x, self.wte.weight.val()),
        }
    }
}

impl Stack for Gpt {
    /// Tokens and positions, `[batch, seq]`.
    type Input = [Tensor<2, Int>; 2];

    fn depth(&self) -> usize {
        self.h.len()
    }

    fn inner(input: &Self::Input) -> Self::Input {
        input.clone().map(Tensor::inner)
    }

    fn enter(&self, [tokens, positions]: Self::Input, pass: &Pass) -> Tensor<3> {
        self.embed(tokens, positions, pass)
    }

    fn block<'a>(&'a self, index: usize, pass: &'a Pass) -> [Sublayer<'a>; 2] {
        self.h[index].halves(pass, index)
    }
}
