//! How HuggingFace names and stores BERT's parameters.

use super::Bert;
use crate::lora;
use crate::weights::{Family, Flat, Found, HostTensor, Place, Tensors, tied, transpose};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Fields, and HuggingFace's modules.
const MODULES: [(&str, &str); 10] = [
    ("embeddings.words", "bert.embeddings.word_embeddings"),
    ("embeddings.positions", "bert.embeddings.position_embeddings"),
    ("embeddings.token_types", "bert.embeddings.token_type_embeddings"),
    ("embeddings.norm", "bert.embeddings.LayerNorm"),
    ("pooler", "bert.pooler.dense"),
    ("predictions.transform", "cls.predictions.transform.dense"),
    ("predictions.norm", "cls.predictions.transform.LayerNorm"),
    ("predictions", "cls.predictions"),
    ("next_sentence", "cls.seq_relationship"),
    ("classifier", "classifier"),
];

/// The same inside a layer. Query, key and value are one product here and three layers there.
const LAYER_MODULES: [(&str, &str); 9] = [
    ("qkv", "attention.self.qkv"),
    ("query", "attention.self.query"),
    ("key", "attention.self.key"),
    ("value", "attention.self.value"),
    ("attention_output", "attention.output.dense"),
    ("attention_norm", "attention.output.LayerNorm"),
    ("up", "intermediate.dense"),
    ("down", "output.dense"),
    ("norm", "output.LayerNorm"),
];

const QKV: &str = ".self.qkv.";
const PARTS: [&str; 3] = [".self.query.", ".self.key.", ".self.value."];

/// The bias of masked tokens' logits by its other name.
const DECODER_BIAS: &str = "cls.predictions.decoder.bias";

/// Whether the parameter is the weight of a linear layer, which PyTorch stores `[out, in]`.
fn is_linear_weight(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && !name.contains("_embeddings.")
}

impl Family for Bert {
    const ADAPTABLE: &'static [&'static str] = &[
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ];

    const TIED: &'static [(&'static str, &'static str)] =
        &[("cls.predictions.decoder.weight", "word_embeddings.weight"), (DECODER_BIAS, "cls.predictions.bias")];

    fn name(path: &str) -> String {
        let path = lora::named(path);
        let path = path.as_str();
        let (before, path, table) = match path.strip_prefix("layers.").and_then(|rest| rest.split_once('.')) {
            Some((index, path)) => (format!("bert.encoder.layer.{index}."), path, &LAYER_MODULES[..]),
            None => (String::new(), path, &MODULES[..]),
        };
        let found = table.iter().find_map(|(field, module)| {
            let rest = path.strip_prefix(field).filter(|rest| rest.starts_with('.'))?;
            Some(format!("{before}{module}{rest}"))
        });
        found.unwrap_or_else(|| path.into())
    }

    fn stored(parameter: Flat) -> Vec<Flat> {
        let Flat { name, shape, values } = parameter;
        let is_weight = is_linear_weight(&name, &shape);
        if !is_weight && !name.contains(QKV) {
            return vec![Flat { name, shape, values }];
        }
        // Biases are matrices of one row.
        let rows = if is_weight { shape[0] } else { 1 };
        let values = values.reshape([rows as i32, -1]);
        let part = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
            let width = shape[0];
            let columns = values.clone().narrow(1, index * width, width);
            Flat { name, shape, values: columns.transpose().reshape([rows * width]) }
        };
        Self::stored_shapes(&name, &shape).into_iter().enumerate().map(part).collect()
    }

    fn stored_shapes(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
        let mut shape = shape.to_vec();
        if is_linear_weight(name, &shape) {
            shape.reverse();
        }
        if !name.contains(QKV) {
            return vec![(name.into(), shape)];
        }
        shape[0] /= PARTS.len();
        PARTS.map(|part| (name.replace(QKV, part), shape.clone())).into()
    }

    fn is_buffer(name: &str) -> bool {
        name.ends_with("embeddings.position_ids") || name.ends_with("embeddings.token_type_ids")
    }

    /// Names may lack the prefix, as base models' do, and norms may have the names of TensorFlow's time.
    fn parameters_of(tensors: &Tensors) -> BTreeMap<String, Found<'_>> {
        let mut found = BTreeMap::new();
        let tied = tied::<Self>(tensors);
        let is_own = |name: &str| !Self::is_buffer(name) && !tied.contains_key(name);
        for (stored, tensor) in tensors.iter().filter(|(name, _)| is_own(name)) {
            let mut name = stored.replace("LayerNorm.gamma", "LayerNorm.weight");
            name = name.replace("LayerNorm.beta", "LayerNorm.bias");
            if ["embeddings.", "encoder.", "pooler."].iter().any(|part| name.starts_with(part)) {
                name = format!("bert.{name}");
            }
            if name == DECODER_BIAS {
                name = "cls.predictions.bias".into();
            }
            let tensor = match is_linear_weight(&name, &tensor.shape) {
                true => Cow::Owned(transpose(tensor)),
                false => Cow::Borrowed(tensor),
            };
            found.insert(name, Found { names: vec![stored.as_str()], tensor });
        }
        let queries: Vec<String> =
            found.keys().filter(|name| name.contains(PARTS[0]) && !lora::is_adapter(name)).cloned().collect();
        for query in queries {
            let names = PARTS.map(|part| query.replace(PARTS[0], part));
            let parts: Vec<&Found> = names.iter().filter_map(|name| found.get(name)).collect();
            if parts.len() == PARTS.len() && parts.iter().all(|part| part.tensor.shape == parts[0].tensor.shape) {
                let tensor = Cow::Owned(side_by_side(&parts));
                let joined = Found { names: parts.iter().flat_map(|part| part.names.clone()).collect(), tensor };
                names.iter().for_each(|name| drop(found.remove(name)));
                found.insert(query.replace(PARTS[0], QKV), joined);
            }
        }
        found
    }

    /// All but embeddings and layers: masked-LM files have no pooler.
    fn is_head(name: &str) -> bool {
        !name.starts_with("bert.") || name.starts_with("bert.pooler.")
    }

    fn place(name: &str) -> Place {
        match Place::of_layer(name, "bert.encoder.layer.") {
            Some(layer) => layer,
            None if name.starts_with("bert.embeddings.") => Place::Embeddings,
            None => Place::Head,
        }
    }
}

/// Tensors of one shape, joined along their last side.
fn side_by_side(parts: &[&Found]) -> HostTensor {
    let mut shape = parts[0].tensor.shape.clone();
    let width = shape.last().copied().unwrap_or(0);
    let rows = parts[0].tensor.values.len() / width.max(1);
    let row = |r: usize| parts.iter().flat_map(move |part| &part.tensor.values[r * width..(r + 1) * width]);
    let values = (0..rows).flat_map(row).copied().collect();
    if let Some(last) = shape.last_mut() {
        *last *= parts.len();
    }
    HostTensor { shape, values }
}
