//! GPT-2, top to bottom: block, model, initialization.
//!
//! Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", and HuggingFace
//! `transformers`' `modeling_gpt2.py`, whose parameter names and layout (`Conv1D`, `[in, out]`) the fields follow.

mod config;
mod stored;

pub use config::GptConfig;

use crate::attention::{CausalSelfAttention, CausalSelfAttentionConfig};
use crate::checkpointed::Stack;
use crate::config::ConfigError;
use crate::feed_forward::{FeedForward, FeedForwardConfig};
use crate::int8::Int8Head;
use crate::kv_cache::KvCache;
use crate::lora::{self, LoraConfig};
use crate::pass::Pass;
use crate::weights::{self, Initial};
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Int, Tensor, TensorData};
use config::INITIALIZER_RANGE;
use kernels::{
    CrossEntropy, Dropout, LayerCache, NewPositions, NormPlace, Residual, Sublayer, cross_entropy_and_correct,
    cross_entropy_sum, dropout, embedding, int8_cross_entropy_and_correct, int8_head, layer_norm, residual_add,
    sublayers, tied_head,
};

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
