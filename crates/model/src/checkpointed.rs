//! The gradient with each block computed twice, so that between forward and backward only the blocks' inputs are kept.
//!
//! Source: Chen et al. 2016, section 3, with a segment for each block.

use crate::pass::Pass;
use crate::weights::{self, Family, Flat, Freeze};
use burn::tensor::Tensor;
use kernels::{Sublayer, sublayers};
use std::collections::BTreeMap;
use std::ops::Range;

/// A model whose blocks stand one on the other between an embedding and a head.
pub trait Stack: Family {
    /// What it reads.
    type Input: Clone;

    /// How many blocks there are.
    fn depth(&self) -> usize;

    /// The input outside autodiff.
    fn inner(input: &Self::Input) -> Self::Input;

    /// What enters the first block, `[batch, seq, d_model]`.
    fn enter(&self, input: Self::Input, pass: &Pass) -> Tensor<3>;

    /// The halves of block `index`.
    fn block<'a>(&'a self, index: usize, pass: &'a Pass) -> [Sublayer<'a>; 2];

    /// What some blocks make of what enters them, `[batch, seq, d_model]`.
    fn through(&self, blocks: Range<usize>, x: Tensor<3>, pass: &Pass) -> Tensor<3> {
        sublayers(x, &blocks.flat_map(|index| self.block(index, pass)).collect::<Vec<_>>())
    }

    /// What leaves the last block, `[batch, seq, d_model]`.
    fn leave(&self, input: Self::Input, pass: &Pass) -> Tensor<3> {
        self.through(0..self.depth(), self.enter(input, pass), pass)
    }
}

/// The loss terms that `terms` makes of what leaves the last block, outside autodiff, and the gradient of their sum for
/// every parameter that is not frozen: the same as without checkpointing.
pub fn block_by_block<M: Stack>(
    model: &M,
    input: M::Input,
    pass: &Pass,
    frozen: Freeze,
    terms: impl Fn(&M, Tensor<3>) -> Vec<Tensor<1>>,
) -> (Vec<Tensor<1>>, Vec<Flat>) {
    let blocks = model.depth();
    let plain = model.valid();
    let inner = Pass {
        segments: pass.segments.clone().map(Tensor::inner),
        embedding_noise: pass.embedding_noise.clone().map(Tensor::inner),
        ..pass.clone()
    };
    let mut x = plain.enter(M::inner(&input), &inner);
    let mut inputs = Vec::with_capacity(blocks);
    for index in 0..blocks {
        inputs.push(x.clone());
        x = plain.through(index..index + 1, x, &inner);
    }

    let mut of_parameters: BTreeMap<String, Flat> = BTreeMap::new();
    let mut add = |found: Vec<Flat>| weights::add(&mut of_parameters, found);
    let leaf = |x: Tensor<3>| x.autodiff().require_grad();
    let x = leaf(x);
    let terms = terms(model, x.clone());
    let mut gradients = sum(&terms).backward();
    let mut dx = x.grad_remove(&mut gradients).expect("the loss depends on the last block");
    add(weights::gradients(model, &mut gradients));
    // Nothing below what is frozen is learned.
    for (index, x) in inputs.into_iter().enumerate().skip(frozen.layers).rev() {
        let x = leaf(x);
        let y = model.through(index..index + 1, x.clone(), pass);
        // The gradient of this sum is that of the loss: `dx` takes part as a constant.
        let mut gradients = (y * dx.autodiff()).sum().backward();
        dx = x.grad_remove(&mut gradients).expect("a block depends on its input");
        add(weights::gradients(model, &mut gradients));
    }
    if !frozen.embeddings() {
        let mut gradients = (model.enter(input, pass) * dx.autodiff()).sum().backward();
        add(weights::gradients(model, &mut gradients));
    }
    (terms.into_iter().map(Tensor::inner).collect(), weights::in_order(model, of_parameters))
}

/// The sum of loss terms, `[1]`.
///
/// # Panics
/// If there is none.
pub fn sum(terms: &[Tensor<1>]) -> Tensor<1> {
    terms.iter().cloned().reduce(|a, b| a + b).expect("a loss has a term")
}
