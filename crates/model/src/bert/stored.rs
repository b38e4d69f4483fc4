//! How HuggingFace names and stores BERT's parameters.

use super::Bert;
use crate::lora;
use crate::weights::{Family, Flat, Found, HostTensor, Place, Tensors, transpose};
use burn::tensor::Tensor;
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
        let transposed = is_linear_weight(&name, &shape);
        // Biases are matrices of one row.
        let [rows, columns] = if transposed { [shape[0], shape[1]] } else { [1, values.dims()[0]] };
        let part = |name: String, values: Tensor<2>| {
            let [rows, columns] = values.dims();
            let shape = if transposed { vec![columns, rows] } else { vec![columns] };
            Flat { name, shape, values: values.transpose().reshape([rows * columns]) }
        };
        if name.contains(QKV) {
            let values = values.reshape([rows, columns]);
            let width = columns / 3;
            let nth = |(i, named)| part(name.replace(QKV, named), values.clone().narrow(1, i * width, width));
            return PARTS.into_iter().enumerate().map(nth).collect();
        }
        match transposed {
            true => vec![part(name, values.reshape([rows, columns]))],
            false => vec![Flat { name, shape, values }],
        }
    }

    /// Names may lack the prefix, as base models' do, and norms may have the names of TensorFlow's time.
    fn parameters_of(tensors: &Tensors) -> BTreeMap<String, Found<'_>> {
        let mut found = BTreeMap::new();
        for (stored, tensor) in tensors {
            let mut name = stored.replace("LayerNorm.gamma", "LayerNorm.weight");
            name = name.replace("LayerNorm.beta", "LayerNorm.bias");
            if ["embeddings.", "encoder.", "pooler."].iter().any(|part| name.starts_with(part)) {
                name = format!("bert.{name}");
            }
            // A buffer, and copies of the word embeddings and of the bias beside them.
            let is_copy = match name.as_str() {
                "cls.predictions.decoder.weight" => tensors.keys().any(|name| name.ends_with("word_embeddings.weight")),
                "cls.predictions.decoder.bias" => tensors.contains_key("cls.predictions.bias"),
                _ => name.ends_with(".position_ids"),
            };
            if is_copy {
                continue;
            }
            if name == "cls.predictions.decoder.bias" {
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
