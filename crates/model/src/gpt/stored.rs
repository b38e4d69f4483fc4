//! How HuggingFace names and stores GPT-2's parameters.

use super::Gpt;
use crate::lora;
use crate::weights::{Family, Flat, Found, Place, Tensors, transpose};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What the language-model classes of `transformers` put before the names of a base model.
const PREFIX: &str = "transformer.";

/// The linear layers of GPT-2 are `Conv1D`, stored `[in, out]` as Burn's are: nothing is transposed. Adapters are PyTorch's
/// linear layers, stored `[out, in]`.
impl Family for Gpt {
    const ADAPTABLE: &'static [&'static str] = &["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

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

    /// Names may lack the prefix, as base models' do; older files carry the causal mask as a buffer.
    fn parameters_of(tensors: &Tensors) -> BTreeMap<String, Found<'_>> {
        let is_mask = |name: &str| name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
        let full = |name: &str| match name.starts_with(PREFIX) || name == "lm_head.weight" {
            true => name.to_string(),
            false => Self::name(name),
        };
        tensors
            .iter()
            .filter(|(name, _)| !is_mask(name))
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
