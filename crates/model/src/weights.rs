//! Parameters by name: to and from HuggingFace's names, initialization, gradients.
//!
//! A model's fields are named as HuggingFace names them, so that a parameter's path is its name: only LayerNorm's
//! `gamma` and `beta` are renamed, and the `transformer.` prefix of the language-model classes is put in front.
//! GPT-2's linear layers are `Conv1D` there, stored `[in, out]` as Burn's are: nothing is transposed.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;

/// A tensor in host memory, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostTensor {
    /// Sizes of the dimensions.
    pub shape: Vec<usize>,
    /// As many values as the product of `shape`.
    pub values: Vec<f32>,
}

/// Tensors by HuggingFace name.
pub type Tensors = BTreeMap<String, HostTensor>;

/// What loading did with each name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Parameters that were loaded.
    pub loaded: Vec<String>,
    /// Parameters of the model that keep their fresh values: none for a whole model, a new head later.
    pub fresh: Vec<String>,
    /// Tensors of the file that the model has no use for.
    pub unused: Vec<String>,
}

/// Weights that do not fit the model: every problem at once.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{}", .0.join("; "))]
pub struct LoadError(pub Vec<String>);

/// How a fresh parameter is filled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// A normal distribution around zero with this standard deviation.
    Normal(f64),
}

const PREFIX: &str = "transformer.";

/// The path of the module being visited, and the parameter's HuggingFace name in it.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn name(&self) -> String {
        let mut parts = self.0.clone();
        if let Some(last) = parts.last_mut() {
            match last.as_str() {
                "gamma" => *last = "weight".into(),
                "beta" => *last = "bias".into(),
                _ => {}
            }
        }
        format!("{PREFIX}{}", parts.join("."))
    }
}

struct Visit<F> {
    path: Path,
    each: F,
}

/// What a visitor is told of a parameter: its name, shape and, lazily, its flat value and gradient.
trait EachParameter {
    fn each<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>);
}

impl<F: EachParameter> ModuleVisitor for Visit<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.0.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.each.each(self.path.name(), param);
    }
}

fn visit<M: Module, E: EachParameter>(model: &M, each: E) -> E {
    let mut visitor = Visit { path: Path::default(), each };
    model.visit(&mut visitor);
    visitor.each
}

/// A parameter flattened: what the optimizer and the files work with.
#[derive(Clone, Debug)]
pub struct Flat {
    /// HuggingFace's name.
    pub name: String,
    /// The parameter's shape.
    pub shape: Vec<usize>,
    /// Its values (or its gradient's), `[product of shape]`, outside autodiff.
    pub values: Tensor<1>,
}

fn flatten<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len = tensor.shape().num_elements();
    tensor.reshape([len])
}

/// Every parameter's value, in the model's order.
pub fn parameters<M: Module>(model: &M) -> Vec<Flat> {
    struct Values(Vec<Flat>);
    impl EachParameter for Values {
        fn each<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>) {
            let value = param.val().inner();
            self.0.push(Flat { name, shape: value.dims().to_vec(), values: flatten(value) });
        }
    }
    visit(model, Values(Vec::new())).0
}

/// Every parameter's gradient, in the model's order; a parameter that took no part in the loss is left out.
pub fn gradients<M: Module>(model: &M, gradients: &mut Gradients) -> Vec<Flat> {
    struct Taken<'a>(Vec<Flat>, &'a mut Gradients);
    impl EachParameter for Taken<'_> {
        fn each<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad_remove(self.1) {
                self.0.push(Flat { name, shape: gradient.dims().to_vec(), values: flatten(gradient) });
            }
        }
    }
    visit(model, Taken(Vec::new(), gradients)).0
}

/// Every parameter's name and shape, without touching its value.
pub fn shapes<M: Module>(model: &M) -> Vec<(String, Vec<usize>)> {
    struct Shapes(Vec<(String, Vec<usize>)>);
    impl EachParameter for Shapes {
        fn each<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>) {
            self.0.push((name, param.lazy_shape().to_vec()));
        }
    }
    visit(model, Shapes(Vec::new())).0
}

/// Reads every parameter back to the host.
pub fn export<M: Module>(model: &M) -> Tensors {
    parameters(model)
        .into_iter()
        .map(|flat| (flat.name, HostTensor { shape: flat.shape, values: to_host(flat.values) }))
        .collect()
}

/// Reads a flat tensor back to the host; waits for the device.
pub fn to_host(values: Tensor<1>) -> Vec<f32> {
    values.into_data().convert::<f32>().try_into_vec().expect("just converted to f32")
}

struct Map<F> {
    path: Path,
    value_of: F,
}

impl<F> ModuleMapper for Map<F>
where
    F: FnMut(&str, &[usize], &mut dyn FnMut() -> Tensor<1>, &Device) -> Option<Tensor<1>>,
{
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.0.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape().to_vec();
        let device = param.lazy_device();
        // The old value is handed over only when asked for, and dropped before the new one is made of it: an
        // update can then reuse its memory.
        let mut old = Some(param);
        let mut taken = None;
        let mut current = || {
            let (id, value, mapper) = old.take().expect("a value is asked for once").consume();
            taken = Some((id, mapper));
            flatten(value.inner())
        };
        let new = (self.value_of)(&self.path.name(), &shape, &mut current, &device.clone().inner());
        let Some(new) = new else {
            return old.expect("a mapper that keeps the value does not take it");
        };
        let dims: [usize; D] = shape.try_into().expect("a parameter has as many sizes as dimensions");
        let (id, mapper) = taken.unwrap_or_else(|| {
            let (id, _, mapper) = old.take().expect("not taken").consume();
            (id, mapper)
        });
        let value = new.reshape(dims);
        let value = if device.is_autodiff() { value.autodiff().require_grad() } else { value };
        Param::from_mapped_value(id, value, mapper)
    }
}

/// Replaces parameters by what `value_of` gives for (name, shape, taking the flat current value, device); `None`
/// keeps the parameter. New values are flat and outside autodiff; they train if the model does.
pub fn map<M, F>(model: M, value_of: F) -> M
where
    M: Module,
    F: FnMut(&str, &[usize], &mut dyn FnMut() -> Tensor<1>, &Device) -> Option<Tensor<1>>,
{
    model.map(&mut Map { path: Path::default(), value_of })
}

fn from_host(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Fills every parameter as `initial` says for its name.
///
/// The values are drawn on the host, each parameter from a stream of its own, so that every device starts alike.
pub fn initialize<M: Module>(model: M, seed: u64, initial: impl Fn(&str) -> Initial) -> M {
    let mut stream = 0;
    map(model, |name, shape, _, device| {
        let len = shape.iter().product();
        stream += 1;
        let values = match initial(name) {
            Initial::Zeros => vec![0.0; len],
            Initial::Ones => vec![1.0; len],
            Initial::Normal(deviation) => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(stream);
                (0..len)
                    .map(|_| {
                        let unit: f64 = StandardNormal.sample(&mut rng);
                        (deviation * unit) as f32
                    })
                    .collect()
            }
        };
        Some(from_host(values, device))
    })
}

/// Buffers that older GPT-2 files carry beside the weights: the causal mask, not a parameter.
fn is_mask_buffer(name: &str) -> bool {
    name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
}

/// Loads every parameter from `tensors`, whose names may lack the `transformer.` prefix, as base models' do.
///
/// # Errors
/// Every missing tensor (with the shape it should have) and every wrongly shaped one (with both shapes).
pub fn load<M: Module>(model: M, tensors: &Tensors) -> Result<(M, LoadReport), LoadError> {
    let mut by_name: BTreeMap<String, (&String, &HostTensor)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let full = if name.starts_with(PREFIX) || name == "lm_head.weight" {
                name.clone()
            } else {
                format!("{PREFIX}{name}")
            };
            (full, (name, tensor))
        })
        .collect();
    let mut problems = Vec::new();
    for (name, shape) in shapes(&model) {
        match by_name.get(&name) {
            None => problems.push(format!("tensor `{name}` {shape:?} is missing")),
            Some((found, tensor)) if tensor.shape != shape => {
                problems.push(format!("tensor `{found}` has shape {:?}, the model needs {shape:?}", tensor.shape))
            }
            Some(_) => {}
        }
    }
    if !problems.is_empty() {
        return Err(LoadError(problems));
    }
    let mut report = LoadReport::default();
    let model = map(model, |name, _, _, device| {
        let (_, tensor) = by_name.remove(name)?;
        report.loaded.push(name.into());
        Some(from_host(tensor.values.clone(), device))
    });
    report.unused =
        by_name.into_iter().filter(|(name, _)| !is_mask_buffer(name)).map(|(_, (found, _))| found.clone()).collect();
    Ok((model, report))
}
