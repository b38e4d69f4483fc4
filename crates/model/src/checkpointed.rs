//! The gradient with each block computed twice, so that between forward and backward only the blocks' inputs are kept.
//!
//! Source: Chen et al. 2016, section 3, with a segment for each block.

use crate::gpt::Gpt;
use crate::pass::Pass;
use crate::weights::{self, Flat};
use burn::module::Module;
use burn::tensor::{Int, Tensor};
use std::collections::BTreeMap;

/// The loss as [`Gpt::loss_sum`], outside autodiff, and every parameter's gradient, the same as without checkpointing.
///
/// # Shapes
/// - as [`Gpt::loss_sum`]
pub fn block_by_block(
    model: &Gpt,
    tokens: Tensor<2, Int>,
    positions: Tensor<2, Int>,
    pass: &Pass,
    targets: Tensor<2, Int>,
    weights: Tensor<2>,
) -> (Tensor<1>, Vec<Flat>) {
    let blocks = model.n_layer();
    let frozen = model.valid();
    let inner = Pass { segments: pass.segments.clone().map(Tensor::inner), ..pass.clone() };
    let mut x = frozen.embed(tokens.clone().inner(), positions.clone().inner(), &inner);
    let mut inputs = Vec::with_capacity(blocks);
    for index in 0..blocks {
        inputs.push(x.clone());
        x = frozen.block(x, index, &inner);
    }

    let mut of_parameters: BTreeMap<String, Flat> = BTreeMap::new();
    let mut add = |found: Vec<Flat>| {
        for flat in found {
            let sum = match of_parameters.remove(&flat.name) {
                Some(before) => Flat { values: flat.values + before.values, ..before },
                None => flat,
            };
            of_parameters.insert(sum.name.clone(), sum);
        }
    };
    let leaf = |x: Tensor<3>| x.autodiff().require_grad();
    let x = leaf(x);
    let loss = model.loss_of(x.clone(), blocks, pass, targets, weights);
    let mut gradients = loss.backward();
    let mut dx = x.grad_remove(&mut gradients).expect("the loss depends on the last block");
    add(weights::gradients(model, &mut gradients));
    for (index, x) in inputs.into_iter().enumerate().rev() {
        let x = leaf(x);
        let y = model.block(x.clone(), index, pass);
        // The gradient of this sum is that of the loss: `dx` takes part as a constant.
        let mut gradients = (y * dx.autodiff()).sum().backward();
        dx = x.grad_remove(&mut gradients).expect("a block depends on its input");
        add(weights::gradients(model, &mut gradients));
    }
    let y = model.embed(tokens, positions, pass);
    let mut gradients = (y * dx.autodiff()).sum().backward();
    add(weights::gradients(model, &mut gradients));
    let in_order = weights::shapes(model).into_iter().filter_map(|(name, _)| of_parameters.remove(&name)).collect();
    (loss.inner(), in_order)
}
