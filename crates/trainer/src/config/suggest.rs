//! What someone who wrote a wrong name most likely meant.

use strsim::damerau_levenshtein;

use super::document::Document;
use super::shape::{Shape, alternatives};

/// Names that other trainers use, and ours.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("attn_pdrop", "attn_dropout"),
    ("batch_size", "micro_batch_size"),
    ("block_size", "max_seq_len"),
    ("clip_grad_norm", "max_grad_norm"),
    ("context_length", "max_seq_len"),
    ("dtype", "precision"),
    ("embd_pdrop", "embd_dropout"),
    ("epochs", "num_epochs"),
    ("eval_interval", "eval_every"),
    ("eval_iters", "eval_batches"),
    ("eval_steps", "eval_every"),
    ("grad_accumulation_steps", "gradient_accumulation_steps"),
    ("grad_clip", "max_grad_norm"),
    ("hidden_size", "d_model"),
    ("intermediate_size", "d_ff"),
    ("label_smoothing_factor", "label_smoothing"),
    ("layer_norm_epsilon", "layer_norm_eps"),
    ("learning_rate", "lr"),
    ("log_interval", "log_every"),
    ("logging_steps", "log_every"),
    ("lora_alpha", "alpha"),
    ("lora_dropout", "dropout"),
    ("lora_r", "rank"),
    ("lora_target_modules", "target_modules"),
    ("lr_decay_iters", "decay_steps"),
    ("max_iters", "max_steps"),
    ("n_ctx", "max_seq_len"),
    ("n_embd", "d_model"),
    ("n_inner", "d_ff"),
    ("n_positions", "max_seq_len"),
    ("neftune_noise_alpha", "neftune_alpha"),
    ("num_attention_heads", "n_head"),
    ("num_heads", "n_head"),
    ("num_hidden_layers", "n_layer"),
    ("num_layers", "n_layer"),
    ("num_train_epochs", "num_epochs"),
    ("out_dir", "output_dir"),
    ("r", "rank"),
    ("resid_pdrop", "resid_dropout"),
    ("save_interval", "save_every"),
    ("save_steps", "save_every"),
    ("save_total_limit", "keep_last"),
    ("warmup_iters", "warmup_steps"),
];

/// The name nearest to a wrong one, if any is near enough to be meant.
pub(super) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing costs the product of the lengths; no name of ours is nearly this long.
    if wrong.len() > 64 {
        return None;
    }
    let wrong = wrong.to_lowercase().replace('-', "_");
    let allowed = (wrong.chars().count() / 3).max(1);
    names
        .map(|name| (damerau_levenshtein(&wrong, name), name))
        .filter(|(distance, name)| *distance <= allowed && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// What to write in place of an unknown key of a table.
pub(super) struct Suggestion {
    /// Said as the hint.
    pub hint: String,
    /// The dotted paths of the keys that may be meant.
    pub meant: Vec<String>,
}

/// A suggestion for an unknown key of the table at `path` (empty for the top level).
pub(super) fn for_key(key: &str, path: &str, shape: &Shape, root: &Shape, document: &Document) -> Option<Suggestion> {
    let here: Vec<&str> = shape.fields().iter().map(|field| &*field.name).collect();
    if let Some(name) = renamed(key).filter(|name| here.contains(name)) {
        return Some(in_this_table(path, name, root));
    }
    // One letter off is a slip, whatever other tables have.
    if let Some(name) = nearest(key, here.iter().copied()).filter(|name| damerau_levenshtein(key, name) == 1) {
        return Some(in_this_table(path, name, root));
    }
    let elsewhere = leaves(root, document);
    if let Some(found) = in_other_tables(key, key, &elsewhere) {
        return Some(found);
    }
    let close = nearest(key, here.iter().copied()).or_else(|| near_renamed(key).filter(|name| here.contains(name)));
    if let Some(name) = close {
        return Some(in_this_table(path, name, root));
    }
    let name =
        renamed(key).or_else(|| nearest(key, elsewhere.iter().map(|leaf| &*leaf.key))).or_else(|| near_renamed(key))?;
    in_other_tables(key, name, &elsewhere)
}

fn renamed(key: &str) -> Option<&'static str> {
    let found = OTHER_NAMES.iter().find(|(other, _)| *other == key);
    found.map(|(_, ours)| *ours)
}

fn near_renamed(key: &str) -> Option<&'static str> {
    nearest(key, OTHER_NAMES.iter().map(|(other, _)| *other)).and_then(renamed)
}

fn in_this_table(path: &str, name: &str, root: &Shape) -> Suggestion {
    let full = join(path, name);
    let table = full.split('.').try_fold(root, |shape, key| shape.child(key));
    let hint = match table {
        Some(shape) if shape.is_table() => format!("did you mean [{full}]?"),
        _ => format!("did you mean `{name}`?"),
    };
    Suggestion { hint, meant: vec![full] }
}

/// `name` in the tables that have it: those that the file uses, or else every one.
fn in_other_tables(key: &str, name: &str, leaves: &[Leaf]) -> Option<Suggestion> {
    let mut found: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.key == name).collect();
    if found.iter().any(|leaf| leaf.in_use) {
        found.retain(|leaf| leaf.in_use);
    }
    if found.is_empty() {
        return None;
    }
    let tables = alternatives(found.iter().map(|leaf| format!("[{}]", leaf.table)).collect());
    let hint = if key == name {
        format!("`{name}` belongs in {tables}")
    } else {
        format!("did you mean `{name}` in {tables}?")
    };
    Some(Suggestion { hint, meant: found.iter().map(|leaf| join(&leaf.table, name)).collect() })
}

/// A key that is not a table.
struct Leaf {
    table: String,
    key: String,
    in_use: bool,
}

fn leaves(root: &Shape, document: &Document) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    collect(root, "", document, &mut leaves);
    leaves
}

fn collect(shape: &Shape, table: &str, document: &Document, leaves: &mut Vec<Leaf>) {
    for field in shape.fields() {
        if field.shape.is_table() {
            collect(&field.shape, &join(table, &field.name), document, leaves);
        } else {
            leaves.push(Leaf {
                table: table.to_owned(),
                key: field.name.clone(),
                in_use: document.find(table).is_some(),
            });
        }
    }
}

/// The dotted path of a key of the table at `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let names = || ["max_steps", "num_epochs", "seed", "lr"].into_iter();
        assert_eq!(nearest("max_step", names()), Some("max_steps"));
        assert_eq!(nearest("Max-Steps", names()), Some("max_steps"));
        assert_eq!(nearest("sede", names()), Some("seed"));
        assert_eq!(nearest("l", names()), Some("lr"));
        assert_eq!(nearest("x", names()), None);
        assert_eq!(nearest("momentum", names()), None);
        assert_eq!(nearest(&"s".repeat(10_000), names()), None);
    }

    #[test]
    fn every_other_name_leads_to_a_key_of_ours() {
        let root = Shape::from_schema(&super::super::schema());
        let document = Document::parse("x.toml", "").unwrap();
        let leaves = leaves(&root, &document);
        for (other, ours) in OTHER_NAMES {
            assert!(leaves.iter().any(|leaf| leaf.key == *ours), "{other} -> {ours}");
            assert!(!leaves.iter().any(|leaf| leaf.key == *other), "{other} is a key");
        }
    }
}
