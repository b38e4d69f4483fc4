//! Parameters by name: to and from HuggingFace's names, initialization, gradients.
//!
//! A parameter's name is HuggingFace's, made from its path in the model by its [`Family`]; LayerNorm's `gamma` and
//! `beta` are renamed for all of them. Where a family stores a parameter in another layout than it computes with, the
//! family converts between the two: everything but the files, the optimizer's state too, knows the model's alone.

use crate::lora::is_adapter;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::borrow::Cow;
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
    /// Tensors of the file that were loaded, and those that are tied to them.
    pub loaded: Vec<String>,
    /// Parameters of the model that keep their fresh values: none for a whole model, a new head later.
    pub fresh: Vec<String>,
    /// Tensors of the file that the model has no use for.
    pub unused: Vec<String>,
    /// Those of `unused` that belong to no other head: the file is of a larger model.
    pub unexpected: Vec<String>,
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
    /// The uniform distribution between this number and its negative.
    Uniform(f64),
}

/// A family of models: how its parameters are named and stored.
pub trait Family: Module {
    /// The linear layers of a block that an adapter can stand beside, by HuggingFace's names inside the block.
    const ADAPTABLE: &'static [&'static str];

    /// Tensors that a file may hold though they are tied to others, with the ends of those others' names.
    const TIED: &'static [(&'static str, &'static str)];

    /// The name of the parameter at this path of fields.
    fn name(path: &str) -> String;

    /// The tensors that a file holds for a parameter: itself, unless the family stores it otherwise.
    fn stored(parameter: Flat) -> Vec<Flat> {
        vec![parameter]
    }

    /// The names and shapes of what [`Family::stored`] makes of the parameter of this name and shape.
    fn stored_shapes(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
        vec![(name.into(), shape.to_vec())]
    }

    /// Whether a file's tensor is a buffer, such as a causal mask, and no parameter.
    fn is_buffer(name: &str) -> bool;

    /// The parameters that a file's tensors hold, by the model's names; no buffers.
    fn parameters_of(tensors: &Tensors) -> BTreeMap<String, Found<'_>>;

    /// Whether a parameter may start fresh where a pre-trained model lacks it.
    fn is_head(_name: &str) -> bool {
        false
    }

    /// Where in the model a parameter stands.
    fn place(name: &str) -> Place;
}

/// Where in a model a parameter stands, from the input up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An embedding, with what normalizes it.
    Embeddings,
    /// This layer, from 0.
    Layer(usize),
    /// Above the last layer.
    Head,
}

impl Place {
    /// The layer that a name like `...<before>3.<rest>` numbers.
    pub(crate) fn of_layer(name: &str, before: &str) -> Option<Self> {
        let (_, rest) = name.split_once(before)?;
        rest.split('.').next()?.parse().ok().map(Self::Layer)
    }

    /// Steps below the head in a model of `layers` layers: 0 for the head itself, `layers + 1` for the embeddings.
    pub fn depth(self, layers: usize) -> usize {
        match self {
            Self::Embeddings => layers + 1,
            Self::Layer(index) => layers.saturating_sub(index),
            Self::Head => 0,
        }
    }
}

/// The module of GPT-2's token embedding, which is its head too.
pub const TOKEN_EMBEDDING: &str = "wte";

/// Whether a parameter of this name lies in the module whose name ends so.
pub fn is_in(name: &str, module: &str) -> bool {
    format!(".{name}").contains(&format!(".{module}."))
}

/// What of a model is not trained: the lowest layers and what lies below them, or all but adapters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freeze {
    /// Whether the embeddings are frozen even where no layer is.
    pub only_embeddings: bool,
    /// So many layers, from the lowest.
    pub layers: usize,
    /// Where all but adapters is frozen, the modules that are trained whole beside them: what the model that they adapt
    /// lacks. By the ends of HuggingFace's names.
    pub but_adapters: Option<&'static [&'static str]>,
}

impl Freeze {
    /// Whether the embeddings are frozen.
    pub fn embeddings(self) -> bool {
        match self.but_adapters {
            Some(whole) => !whole.contains(&TOKEN_EMBEDDING),
            None => self.only_embeddings || self.layers > 0,
        }
    }

    /// Whether the parameter of this name, at this place, is frozen.
    pub fn holds(self, name: &str, place: Place) -> bool {
        if let Some(whole) = self.but_adapters {
            return !is_adapter(name) && !whole.iter().any(|module| is_in(name, module));
        }
        match place {
            Place::Embeddings => self.embeddings(),
            Place::Layer(index) => index < self.layers,
            Place::Head => false,
        }
    }
}

/// The model with the parameters that `frozen` holds outside autodiff: no gradient reaches them or goes below.
pub fn freeze<M: Family>(model: M, frozen: Freeze) -> M {
    struct Fixed(Path, fn(&Path) -> String, fn(&str) -> Place, Freeze);
    impl ModuleMapper for Fixed {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.0.0.push(name.into());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.0.0.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let Self(path, name, place, frozen) = self;
            let name = name(path);
            if frozen.holds(&name, place(&name)) { param.set_require_grad(false) } else { param }
        }
    }
    model.map(&mut Fixed(Path::default(), Path::name::<M>, M::place, frozen))
}

/// A parameter in a file.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The tensors that it was read from.
    pub names: Vec<&'a str>,
    /// Its value in the model's layout.
    pub tensor: Cow<'a, HostTensor>,
}

/// The path of the module being visited, and the parameter's HuggingFace name in it.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn name<M: Family>(&self) -> String {
        let mut parts = self.0.clone();
        if let Some(last) = parts.last_mut() {
            match last.as_str() {
                "gamma" => *last = "weight".into(),
                "beta" => *last = "bias".into(),
                _ => {}
            }
        }
        M::name(&parts.join("."))
    }
}

struct Visit<F> {
    path: Path,
    name: fn(&Path) -> String,
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
        self.each.each((self.name)(&self.path), param);
    }
}

fn visit<M: Family, E: EachParameter>(model: &M, each: E) -> E {
    let mut visitor = Visit { path: Path::default(), name: Path::name::<M>, each };
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
pub fn parameters<M: Family>(model: &M) -> Vec<Flat> {
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
pub fn gradients<M: Family>(model: &M, gradients: &mut Gradients) -> Vec<Flat> {
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

/// Adds gradients to the sums so far, by their parameters' names: some may have no part in one loss or the other.
pub fn add(sums: &mut BTreeMap<String, Flat>, more: Vec<Flat>) {
    for flat in more {
        let sum = match sums.remove(&flat.name) {
            Some(before) => Flat { values: flat.values + before.values, ..before },
            None => flat,
        };
        sums.insert(sum.name.clone(), sum);
    }
}

/// Sums of gradients in the model's order.
pub fn in_order<M: Family>(model: &M, mut sums: BTreeMap<String, Flat>) -> Vec<Flat> {
    shapes(model).into_iter().filter_map(|(name, _)| sums.remove(&name)).collect()
}

/// Every parameter's name and shape, without touching its value.
pub fn shapes<M: Family>(model: &M) -> Vec<(String, Vec<usize>)> {
    struct Shapes(Vec<(String, Vec<usize>)>);
    impl EachParameter for Shapes {
        fn each<const D: usize>(&mut self, name: String, param: &Param<Tensor<D>>) {
            self.0.push((name, param.lazy_shape().to_vec()));
        }
    }
    visit(model, Shapes(Vec::new())).0
}

/// Reads every parameter back to the host.
pub fn export<M: Family>(model: &M) -> Tensors {
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
    name: fn(&Path) -> String,
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
        let new = (self.value_of)(&(self.name)(&self.path), &shape, &mut current, &device.clone().inner());
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
    M: Family,
    F: FnMut(&str, &[usize], &mut dyn FnMut() -> Tensor<1>, &Device) -> Option<Tensor<1>>,
{
    model.map(&mut Map { path: Path::default(), name: Path::name::<M>, value_of })
}

fn from_host(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

/// Fills every parameter as `initial` says for its name.
///
/// The values are drawn on the host, each parameter from a stream of its own, so that every device starts alike.
pub fn initialize<M: Family>(model: M, seed: u64, initial: impl Fn(&str) -> Initial) -> M {
    initialize_some(model, seed, |name, _| Some(initial(name)))
}

/// Fills the parameters for whose name and shape `initial` says how, as [`initialize`] does.
pub(crate) fn initialize_some<M: Family>(
    model: M,
    seed: u64,
    initial: impl Fn(&str, &[usize]) -> Option<Initial>,
) -> M {
    let mut stream = 0;
    map(model, |name, shape, _, device| {
        let len = shape.iter().product();
        stream += 1;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        let values = match initial(name, shape)? {
            Initial::Zeros => vec![0.0; len],
            Initial::Ones => vec![1.0; len],
            Initial::Uniform(bound) => (0..len).map(|_| (bound * (2.0 * rng.random::<f64>() - 1.0)) as f32).collect(),
            Initial::Normal(deviation) => (0..len)
                .map(|_| {
                    let unit: f64 = StandardNormal.sample(&mut rng);
                    (deviation * unit) as f32
                })
                .collect(),
        };
        Some(from_host(values, device))
    })
}

/// Loads every parameter from `tensors`; an adapter that they lack keeps its fresh values.
///
/// # Errors
/// Every missing tensor (with the shape it should have) and every wrongly shaped one (with both shapes), as a file names
/// and stores them.
pub fn load<M: Family>(model: M, tensors: &Tensors) -> Result<(M, LoadReport), LoadError> {
    load_where(model, tensors, is_adapter)
}

/// Loads what `tensors` has of the model; a head that it lacks, or has in another shape, and an adapter that it lacks keep
/// their fresh values.
///
/// # Errors
/// As [`load`], of the model's body.
pub fn load_body<M: Family>(model: M, tensors: &Tensors) -> Result<(M, LoadReport), LoadError> {
    load_where(model, tensors, |name| is_adapter(name) || M::is_head(name))
}

fn load_where<M: Family>(
    model: M,
    tensors: &Tensors,
    may_be_fresh: impl Fn(&str) -> bool,
) -> Result<(M, LoadReport), LoadError> {
    let mut found = M::parameters_of(tensors);
    let mut problems = Vec::new();
    let mut report = LoadReport::default();
    for (name, shape) in shapes(&model) {
        match found.get(&name) {
            Some(found) if found.tensor.shape == shape => {}
            _ if may_be_fresh(&name) => {
                // What remains in `found` is unused.
                report.fresh.push(name);
            }
            _ => problems.extend(misfits::<M>(&name, &shape, tensors, &found)),
        }
    }
    if !problems.is_empty() {
        return Err(LoadError(problems));
    }
    let fresh: std::collections::BTreeSet<String> = report.fresh.iter().cloned().collect();
    let model = map(model, |name, _, _, device| {
        if fresh.contains(name) {
            return None;
        }
        let found = found.remove(name)?;
        report.loaded.extend(found.names.into_iter().map(String::from));
        Some(from_host(found.tensor.into_owned().values, device))
    });
    for (name, found) in found {
        let names = || found.names.iter().map(ToString::to_string);
        report.unused.extend(names());
        if !M::is_head(&name) {
            report.unexpected.extend(names());
        }
    }
    for (copy, original) in tied::<M>(tensors) {
        let is_loaded = report.loaded.iter().any(|name| name == original);
        let with_original = if is_loaded { &mut report.loaded } else { &mut report.unused };
        with_original.push(copy.into());
    }
    Ok((model, report))
}

/// What is wrong with the tensors that a file holds, or should hold, for a parameter that it lacks in the model's shape.
fn misfits<M: Family>(
    name: &str,
    shape: &[usize],
    tensors: &Tensors,
    found: &BTreeMap<String, Found<'_>>,
) -> Vec<String> {
    let whole = found.get(name);
    let misfit = |(index, (part, shape)): (usize, (String, Vec<usize>))| {
        let in_file = match whole {
            Some(whole) => whole.names.get(index),
            None => found.get(&part).and_then(|found| found.names.first()),
        };
        let Some(in_file) = in_file else { return Some(format!("tensor `{part}` {shape:?} is missing")) };
        let there = &tensors[*in_file].shape;
        (*there != shape).then(|| format!("tensor `{in_file}` has shape {there:?}, the model needs {shape:?}"))
    };
    M::stored_shapes(name, shape).into_iter().enumerate().filter_map(misfit).collect()
}

/// The first few names, for a message.
pub fn some_names(names: &[String]) -> String {
    /// So many.
    const NAMED: usize = 4;
    match names {
        [] => "none at all".to_string(),
        _ if names.len() <= NAMED => names.join(", "),
        _ => format!("{} and {} more", names[..NAMED].join(", "), names.len() - NAMED),
    }
}

/// The tensors of a file that are tied to others of it, each with its original.
pub fn tied<M: Family>(tensors: &Tensors) -> BTreeMap<&str, &str> {
    let pair = |(copy, end): &(&str, &str)| {
        let (copy, _) = tensors.get_key_value(*copy)?;
        let original = tensors.keys().find(|name| name.ends_with(end))?;
        Some((copy.as_str(), original.as_str()))
    };
    M::TIED.iter().filter_map(pair).collect()
}

/// An embedding with more rows: the new ones are the mean of the old and a little noise, a hundredth of the old ones'
/// deviation, so that the model's other answers stay nearly the same and no two new rows are equal.
///
/// Source: Hewitt 2021, "Initializing new word embeddings for pretrained language models".
///
/// # Panics
/// If the tensor is no matrix, or has more rows already.
pub fn grow_rows(table: &HostTensor, rows: usize, seed: u64) -> HostTensor {
    let [old, width] = table.shape[..] else { panic!("an embedding is a matrix") };
    assert!(rows >= old, "an embedding of {old} rows does not grow to {rows}");
    let mut mean = vec![0.0f64; width];
    for row in table.values.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) / old as f64);
    }
    let squares = table.values.chunks_exact(width).flat_map(|row| row.iter().zip(&mean));
    let variance = squares.map(|(value, mean)| (f64::from(*value) - mean).powi(2)).sum::<f64>();
    let deviation = (variance / table.values.len().max(1) as f64).sqrt();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut values = table.values.clone();
    for _ in old..rows {
        values.extend(mean.iter().map(|mean| {
            let unit: f64 = StandardNormal.sample(&mut rng);
            (mean + 0.01 * deviation * unit) as f32
        }));
    }
    HostTensor { shape: vec![rows, width], values }
}

/// A matrix with rows and columns exchanged.
pub(crate) fn transpose(matrix: &HostTensor) -> HostTensor {
    let [rows, columns] = [matrix.shape[0], matrix.shape[1]];
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| matrix.values[r * columns + c])).collect();
    HostTensor { shape: vec![columns, rows], values }
}

/// Every tensor that a file of the model holds, by HuggingFace's names and in its layout.
pub fn stored<M: Family>(model: &M) -> Vec<Flat> {
    parameters(model).into_iter().flat_map(M::stored).collect()
}
