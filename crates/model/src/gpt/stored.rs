//! How HuggingFace names and stores GPT-2's parameters.

use super::Gpt;
use crate::lora;
use crate::weights::{Family, Flat, Found, Place, Tensors, tied, transpose};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What the language-model classes of `transformers` put before the names of a base model.
const PREFIX: &str = "transformer.";

/// The language-model head.
const HEAD: &str = "lm_head.weight";

/// The linear layers of GPT-2 are `Conv1D`, stored `[in, out]` as Burn's are: nothing is transposed. Adapters are PyTorch's
/// linear layers, stored `[out, in]`.
impl Family for Gpt {
    const ADAPTABLE: &'static [&'static str] = &["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

    const TIED: &'static [(&'static str, &'static str)] = &[(HEAD, "wte.weight")];

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

    fn stored_shapes(name: &str, shape: &[usize]) -> Vec<(String, Vec<usize>)> {
        let mut shape = shape.to_vec();
        if lora::is_adapter(name) {
            shape.reverse();
        }
        vec![(name.into(), shape)]
    }

    /// The causal mask, in older files.
    fn is_buffer(name: &str) -> bool {
        name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
    }

    /// Names may lack the prefix, as base models' do.
    fn parameters_of(tensors: &Tensors) -> BTreeMap<String, Found<'_>> {
        let full = |name: &str| match name.starts_with(PREFIX) || name == HEAD {
            true => name.to_string(),
            false => Self::name(name),
        };
        let tied = tied::<Self>(tensors);
        tensors
            .iter()
            .filter(|(name, _)| !Self::is_buffer(name) && !tied.contains_key(name.as_str()))
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
