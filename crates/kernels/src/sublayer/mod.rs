//! The halves of a transformer's block: `x + dropout(f(norm(x)))`, or `norm(x + dropout(f(x)))`.
//!
//! All but attention works on each row of `x` alone, and attention on each element of the batch. A thread therefore takes
//! some elements through as many halves as it can while they are in its cache, where separate operations would meet after
//! each and pass everything through memory. Threads meet when the weights are packed, when all rows are through, and,
//! going back, when the gradients of the weights are computed.

mod attention;
mod feed_forward;
mod layers;
mod operation;
mod rows;
#[cfg(test)]
mod tests;

pub use operation::sublayer_buffers;

use crate::attention::{AttentionOptions, attention};
use crate::dropout::Dropout;
use crate::linear::{Activation, linear};
use crate::{Precision, layer_norm, residual_add};
use burn::nn::{LayerNorm, Linear};
use burn::tensor::Tensor;

/// Where a sublayer normalizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Its input, as GPT-2 does: `x + dropout(f(norm(x)))`.
    Before,
    /// Its sum, as BERT does: `norm(x + dropout(f(x)))`.
    After,
}

/// What stands around a sublayer's function.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The normalization.
    pub norm: &'a LayerNorm,
    /// The epsilon that `norm` was built with, which Burn keeps to itself.
    pub epsilon: f64,
    /// Where it stands.
    pub place: NormPlace,
    /// Dropout of what is added to the input.
    pub dropout: Option<Dropout>,
}

impl Residual<'_> {
    /// The sublayer of any function, in separate operations.
    pub fn around<const D: usize>(&self, x: Tensor<D>, function: impl FnOnce(Tensor<D>) -> Tensor<D>) -> Tensor<D> {
        match self.place {
            NormPlace::Before => {
                residual_add(x.clone(), function(layer_norm(self.norm, self.epsilon, x)), self.dropout)
            }
            NormPlace::After => layer_norm(self.norm, self.epsilon, residual_add(x.clone(), function(x), self.dropout)),
        }
    }

    fn rule(&self, precision: Precision) -> Rule {
        let dropout = self.dropout.filter(|dropout| dropout.probability > 0.0);
        Rule { place: self.place, epsilon: self.epsilon as f32, dropout, precision }
    }
}

/// What a sublayer adds to its input.
#[expect(clippy::large_enum_variant, reason = "a pass has a few, on the stack")]
pub enum Function<'a> {
    /// `proj(attention(qkv(..)))`, every product in the options' precision.
    ///
    /// Source: Vaswani et al. 2017, section 3.2.
    Attention {
        /// `[d_model, 3 * d_model]`: queries, keys and values.
        qkv: &'a Linear,
        /// `[d_model, d_model]`.
        proj: &'a Linear,
        /// Which positions attend to which, and how.
        options: AttentionOptions,
    },
    /// `down(activation(up(..)))`.
    ///
    /// Source: Vaswani et al. 2017, section 3.3.
    FeedForward {
        /// `[d_model, d_ff]`.
        up: &'a Linear,
        /// `[d_ff, d_model]`.
        down: &'a Linear,
        /// Between them.
        activation: Activation,
        /// Format of the products' operands.
        precision: Precision,
    },
    /// Any other.
    Other(Box<dyn Fn(Tensor<3>) -> Tensor<3> + 'a>),
}

impl Function<'_> {
    /// In separate operations.
    fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Attention { qkv, proj, options } => {
                let y = attention(linear(qkv, x, Activation::Identity, options.precision), options.clone());
                linear(proj, y, Activation::Identity, options.precision)
            }
            Self::FeedForward { up, down, activation, precision } => {
                let hidden = linear(up, x, *activation, *precision);
                linear(down, hidden, Activation::Identity, *precision)
            }
            Self::Other(function) => function(x),
        }
    }

    /// The layer that reads the input, and the one that writes what is added.
    fn layers(&self) -> Option<[&Linear; 2]> {
        match self {
            Self::Attention { qkv, proj, .. } => Some([qkv, proj]),
            Self::FeedForward { activation: Activation::Identity, .. } | Self::Other(_) => None,
            Self::FeedForward { up, down, .. } => Some([up, down]),
        }
    }
}

/// A half of a block.
pub struct Sublayer<'a> {
    /// What it adds to its input.
    pub function: Function<'a>,
    /// What stands around that.
    pub residual: Residual<'a>,
}

/// Some sublayers, one after the other.
///
/// # Shapes
/// - `x`: `[batch, seq, d_model]`; returns the same
///
/// # Panics
/// As [`attention`](crate::attention()).
///
/// Source: Vaswani et al. 2017, section 3.1.
pub fn sublayers(mut x: Tensor<3>, sublayers: &[Sublayer]) -> Tensor<3> {
    let mut rest = sublayers;
    while let [first, others @ ..] = rest {
        (x, rest) = match operation::together(&x, rest) {
            0 => (first.residual.around(x, |x| first.function.apply(x)), others),
            count => (operation::apply(x, &rest[..count]), &rest[count..]),
        };
    }
    x
}

/// [`Residual`] without tensors.
#[derive(Clone, Copy, Debug)]
struct Rule {
    place: NormPlace,
    epsilon: f32,
    dropout: Option<Dropout>,
    precision: Precision,
}
