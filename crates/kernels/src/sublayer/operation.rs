//! Sublayers as one operation on backends.

use super::attention::Heads;
use super::layers::Layers;
use super::rows::{self, Half, HalfFunction, Wanted};
use super::{Function, Residual, Rule, Sublayer};
use crate::Precision;
use crate::attention::{Rule as HeadsRule, Shape};
use crate::host::{Host, covers, on_host_backends};
use crate::linear::Activation;
use crate::product::{FEW_ROWS, Matrix};
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    Autodiff, Backend, BackendTensor, Dispatch, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind,
    ExtensionType, backend_extension,
};
use burn::nn::Linear;
use burn::tensor::Tensor;

/// Numbers that the backward pass of several sublayers may keep at one time for the gradients of their weights. With more,
/// threads wait for each other a few hundredths of the time: meeting less often is not worth the memory.
const MOST_TOGETHER: usize = 1 << 23;

/// How many of the first sublayers run on `x` as one operation; none if the first does not.
pub(super) fn together(x: &Tensor<3>, sublayers: &[Sublayer]) -> usize {
    let [batch, seq, _] = x.dims();
    // A few rows are shared out between threads by columns.
    if !covers(x) || batch * seq <= FEW_ROWS {
        return 0;
    }
    // Nothing goes back through sublayers that learn nothing.
    let tracked = |sublayer: &Sublayer| x.is_tracked() || sublayer.is_tracked();
    let (learns, precision) = (tracked(&sublayers[0]), sublayers[0].precision());
    let alike = |sublayer: &&Sublayer| {
        sublayer.runs_in_one() && sublayer.precision() == precision && (learns || !tracked(sublayer))
    };
    let numbers = sublayers.iter().take_while(alike).map(|sublayer| sublayer.numbers(batch * seq));
    sizes(numbers).0
}

/// How many of the first sublayers of these sizes run as one operation, and the sum of their sizes.
fn sizes(numbers: impl Iterator<Item = usize>) -> (usize, usize) {
    let mut sums = Vec::new();
    for numbers in numbers {
        let sum = sums.last().unwrap_or(&0) + numbers;
        if !sums.is_empty() && sum > MOST_TOGETHER {
            break;
        }
        sums.push(sum);
    }
    // What an operation has of parents is part of its type.
    let count = [8, 4, 2, 1].into_iter().find(|size| *size <= sums.len()).unwrap_or(0);
    (count, sums[..count].last().copied().unwrap_or(0))
}

/// Numbers that the backward pass through so many blocks holds at a time besides what was kept of them: operands of the
/// weights' gradients and the weights in the order that products read; where several sublayers are one operation, also the
/// gradients of all of their weights and those between two sublayers. Without blocks that of one sublayer alone.
pub fn sublayer_buffers(tokens: usize, d_model: usize, d_ff: usize, blocks: usize) -> usize {
    let of_layers = |layers: [[usize; 2]; 2]| layers.map(|dims| numbers_of_layer(tokens, dims)).iter().sum::<usize>();
    let attention = of_layers([[d_model, 3 * d_model], [d_model, d_model]]);
    let feed_forward = of_layers([[d_model, d_ff], [d_ff, d_model]]);
    let (together, numbers) = sizes([attention, feed_forward].into_iter().cycle().take(2 * blocks));
    match together {
        0 | 1 => attention.max(feed_forward),
        together => numbers + together / 2 * d_model * (4 * d_model + 2 * d_ff) + 2 * tokens * d_model,
    }
}

/// Numbers of the operands that the gradient of a layer's weight is a product of, and of the weight.
fn numbers_of_layer(m: usize, [rows, columns]: [usize; 2]) -> usize {
    m * (rows + columns) + rows * columns
}

impl Sublayer<'_> {
    fn runs_in_one(&self) -> bool {
        let has_biases = |layers: [&Linear; 2]| layers.iter().all(|layer| layer.bias.is_some());
        self.residual.norm.beta.is_some() && self.function.layers().is_some_and(has_biases)
    }

    fn precision(&self) -> Option<Precision> {
        match &self.function {
            Function::Attention { options, .. } => Some(options.precision),
            Function::FeedForward { precision, .. } => Some(*precision),
            Function::Other(_) => None,
        }
    }

    /// Whether it learns.
    fn is_tracked(&self) -> bool {
        let Residual { norm, .. } = &self.residual;
        let layers = self.function.layers();
        let layers = || layers.iter().flatten();
        let vectors =
            [Some(&norm.gamma), norm.beta.as_ref()].into_iter().chain(layers().map(|layer| layer.bias.as_ref()));
        vectors.flatten().any(|vector| vector.is_tracked()) || layers().any(|layer| layer.weight.is_tracked())
    }

    /// Numbers of the operands that the gradients of its weights are products of, and of its weights.
    fn numbers(&self, m: usize) -> usize {
        self.function.layers().into_iter().flatten().map(|layer| numbers_of_layer(m, layer.weight.dims())).sum()
    }
}

/// Runs as many sublayers as [`together`] says.
pub(super) fn apply(x: Tensor<3>, sublayers: &[Sublayer]) -> Tensor<3> {
    let [batch, seq, d_model] = x.dims();
    let mut parameters = Vec::with_capacity(6 * sublayers.len());
    let mut segments = Vec::new();
    let mut rules = Vec::with_capacity(sublayers.len());
    for Sublayer { function, residual } in sublayers {
        let norm = residual.norm;
        parameters.extend(
            [norm.gamma.val(), norm.beta.as_ref().expect("`together` has tested").val()].map(Tensor::into_dispatch),
        );
        for layer in function.layers().expect("`together` has tested") {
            let bias = layer.bias.as_ref().expect("`together` has tested");
            parameters.extend([layer.weight.val().into_dispatch(), bias.val().into_dispatch()]);
        }
        let (function, precision) = match function {
            Function::Attention { options, .. } => {
                segments.extend(options.segments.clone().map(Tensor::into_dispatch));
                let heads = options.rule([batch, seq, 3 * d_model]);
                (FunctionRule::Attention { heads, in_segments: options.segments.is_some() }, options.precision)
            }
            Function::FeedForward { activation, precision, .. } => (FunctionRule::FeedForward(*activation), *precision),
            Function::Other(_) => unreachable!("`together` has tested"),
        };
        rules.push(HalfRule { around: residual.rule(precision), function });
    }
    let inputs = Inputs { x: x.into_dispatch(), parameters: Floats(parameters), segments: Ints(segments), rules };
    Tensor::from_dispatch(<Dispatch as SublayerOps>::sublayers(inputs))
}

/// A [`Sublayer`] without tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfRule {
    around: Rule,
    function: FunctionRule,
}

#[derive(Clone, Copy, Debug)]
enum FunctionRule {
    Attention { heads: HeadsRule, in_segments: bool },
    FeedForward(Activation),
}

/// Tensors of an operation that has as many as it wants.
macro_rules! many {
    ($name:ident, $tensor:ident, $variant:ident, $accessor:ident, $routing_float:expr) => {
        pub(crate) struct $name<B: Backend>(Vec<$tensor<B>>);

        impl<B: Backend> ExtensionType<B> for $name<B> {
            type Target = $name<Dispatch>;

            fn map_to_dispatch<F>(self, map_kind: F, autodiff: DispatchAutodiffContext) -> Self::Target
            where
                F: Fn(BackendTensor<B>) -> DispatchTensorKind,
            {
                let kinds = self.0.into_iter().map(|tensor| map_kind(BackendTensor::$variant(tensor)));
                $name(kinds.map(|kind| DispatchTensor { kind, autodiff }).collect())
            }

            fn map_from_dispatch<F>(target: Self::Target, unwrap_kind: F) -> Self
            where
                F: Fn(DispatchTensor) -> BackendTensor<B>,
            {
                Self(target.0.into_iter().map(|tensor| unwrap_kind(tensor).$accessor()).collect())
            }

            fn routing_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
                target.0.first()
            }

            fn routing_float_tensor(target: &Self::Target) -> Option<&DispatchTensor> {
                target.0.first().filter(|_| $routing_float)
            }

            fn autodiff_context(target: &Self::Target) -> DispatchAutodiffContext {
                target
                    .0
                    .iter()
                    .fold(DispatchAutodiffContext::Disabled, |context, tensor| context.merge(tensor.autodiff))
            }
        }
    };
}
many!(Floats, FloatTensor, Float, float, true);
many!(Ints, IntTensor, Int, int, false);

/// What the operation gets: of each sublayer six parameters (gain and shift, then weight and bias of the layer that reads
/// the input and of the one that writes what is added), and the segments of each that has some.
#[derive(ExtensionType)]
pub(crate) struct Inputs<B: Backend> {
    x: FloatTensor<B>,
    #[extension_type]
    parameters: Floats<B>,
    #[extension_type]
    segments: Ints<B>,
    rules: Vec<HalfRule>,
}

/// The operation on backends.
#[backend_extension(Flex, NdArray, Autodiff)]
pub(crate) trait SublayerOps: Backend {
    fn sublayers(#[extension_type] inputs: Inputs<Self>) -> FloatTensor<Self>;
}

on_host_backends!(SublayerOps {
    fn sublayers(inputs: Inputs<Self>) -> FloatTensor<Self> {
        let Inputs { x, parameters, segments, rules } = inputs;
        forward::<Self>(&x, &parameters.0, &segments.0, &rules).0
    }
});

impl<B: Host, C: CheckpointStrategy> SublayerOps for Autodiff<B, C> {
    fn sublayers(inputs: Inputs<Self>) -> FloatTensor<Self> {
        match inputs.rules.len() {
            1 => tracked::<B, C, 7>(inputs),
            2 => tracked::<B, C, 13>(inputs),
            4 => tracked::<B, C, 25>(inputs),
            8 => tracked::<B, C, 49>(inputs),
            count => unreachable!("{count} sublayers together"),
        }
    }
}

fn tracked<B: Host, C: CheckpointStrategy, const PARENTS: usize>(
    inputs: Inputs<Autodiff<B, C>>,
) -> FloatTensor<Autodiff<B, C>> {
    let Inputs { x, parameters, segments: Ints(segments), rules } = inputs;
    let (x, of_x) = x.into_parts();
    let (parameters, of_parameters): (Vec<_>, Vec<_>) =
        parameters.0.into_iter().map(|parameter| parameter.into_parts()).unzip();
    let parents: Vec<_> = std::iter::once(of_x).chain(of_parameters).collect();
    let parents: [_; PARENTS] = parents.try_into().expect("six parameters for each sublayer");
    let (y, kept) = forward::<B>(&x, &parameters, &segments, &rules);
    match Backward::<B, PARENTS>::prepare::<C>(SublayersBackward, parents).compute_bound().stateful() {
        OpsKind::Tracked(node) => node.finish((x, parameters, segments, rules, kept), y),
        OpsKind::UnTracked(node) => node.finish(y),
    }
}

/// The output, and what the backward pass needs besides the input.
fn forward<B: Host>(
    x: &FloatTensor<B>,
    parameters: &[FloatTensor<B>],
    segments: &[IntTensor<B>],
    rules: &[HalfRule],
) -> (FloatTensor<B>, Vec<f32>) {
    let shape = B::shape(x);
    let (y, kept) =
        with_halves::<B, _>(parameters, segments, rules, &shape, |halves| rows::forward(&B::floats(x), halves));
    (B::tensor(y, shape), kept)
}

/// Calls `body` with the sublayers in host memory; `shape` is that of `x`.
fn with_halves<B: Host, R>(
    parameters: &[FloatTensor<B>],
    segments: &[IntTensor<B>],
    rules: &[HalfRule],
    shape: &[usize],
    body: impl FnOnce(&[Half]) -> R,
) -> R {
    let [batch, seq, d_model] = [shape[0], shape[1], shape[2]];
    let parameters: Vec<_> = parameters.iter().map(|parameter| B::floats(parameter)).collect();
    let segments: Vec<_> = segments.iter().map(|segments| B::ids(segments)).collect();
    let mut segments = segments.iter();
    let halves = rules.iter().zip(parameters.as_chunks::<6>().0).map(|(HalfRule { around, function }, parameters)| {
        let [gamma, beta, w1, b1, w2, b2] = parameters.each_ref().map(|parameter| &**parameter);
        let (w1, w2) = (Matrix::new(w1, d_model, b1.len()), Matrix::new(w2, w2.len() / d_model, d_model));
        let layers = Layers { gamma, beta, w1, b1, w2, b2, seq, rule: *around };
        let function = match *function {
            FunctionRule::FeedForward(activation) => HalfFunction::FeedForward(activation),
            FunctionRule::Attention { heads, in_segments } => {
                let segments = in_segments.then(|| &**segments.next().expect("those of each that has some"));
                HalfFunction::Attention(Heads { shape: Shape::new(batch, seq, d_model, heads), segments })
            }
        };
        Half { layers, function }
    });
    body(&halves.collect::<Vec<_>>())
}

#[derive(Debug)]
struct SublayersBackward;

impl<B: Host, const PARENTS: usize> Backward<B, PARENTS> for SublayersBackward {
    /// Input, parameters, segments, rules, and what the forward pass kept.
    type State = (FloatTensor<B>, Vec<FloatTensor<B>>, Vec<IntTensor<B>>, Vec<HalfRule>, Vec<f32>);

    fn backward(self, ops: Ops<Self::State, PARENTS>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, parameters, segments, rules, kept) = ops.state;
        let parents = ops.parents.map(|parent| parent.map(|node| node.id));
        let (of_x, of_parameters) = parents.split_first().expect("the input is one");
        let of_parameters = of_parameters.as_chunks::<6>().0;
        let wanted: Vec<Wanted> = of_parameters.iter().map(|ids| [ids[2].is_some(), ids[4].is_some()]).collect();
        let (dx, gradients) = with_halves::<B, _>(&parameters, &segments, &rules, &B::shape(&x), |halves| {
            rows::backward(&B::floats(&x), &B::floats(&dy), kept, halves, &wanted)
        });
        let parameters = parameters.iter().zip(of_parameters.as_flattened()).zip(gradients.into_iter().flatten());
        let of_x = ((&x, of_x), Some(dx));
        for ((tensor, id), gradient) in std::iter::once(of_x).chain(parameters) {
            if let (Some(id), Some(gradient)) = (id, gradient) {
                grads.register::<B>(*id, B::tensor(gradient, B::shape(tensor)));
            }
        }
    }
}
