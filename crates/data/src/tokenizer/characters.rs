//! Character-level tokenizers: made, recognized and run.

use std::collections::{BTreeSet, HashMap};

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::tokenizer_training::tokenizer;

/// One token for every distinct character, in the order of code points; `<|endoftext|>` behind them if asked for.
pub(crate) fn train(documents: &[String], end_of_text: bool) -> Value {
    let alphabet: BTreeSet<char> = documents
        .par_iter()
        .map(|document| document.chars().collect::<BTreeSet<char>>())
        .reduce(BTreeSet::new, |a, b| &a | &b);
    let vocab: Map<String, Value> =
        alphabet.iter().zip(0u32..).map(|(character, id)| (character.to_string(), id.into())).collect();
    // Byte-pair encoding that never merges leaves characters; the library joins tokens with spaces unless told to fuse.
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
        "vocab": vocab, "merges": [],
    });
    tokenizer(model, end_of_text.then_some(alphabet.len()), Value::Null, json!({"type": "Fuse"}))
}

/// The alphabet of a character-level tokenizer: byte-pair encoding without merges over whole characters.
pub(crate) fn recognize(tokenizer: &Value) -> Option<HashMap<char, u32>> {
    let model = &tokenizer["model"];
    let plain = |key: &str| matches!(&model[key], Value::Null | Value::Bool(false));
    let options = ["unk_token", "dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"];
    let stages = ["normalizer", "pre_tokenizer"].iter().all(|stage| tokenizer[stage].is_null());
    let special =
        tokenizer["added_tokens"].as_array().is_none_or(|tokens| tokens.iter().all(|token| token["special"] == true));
    let merges = model["merges"].as_array()?;
    if model["type"] != "BPE" || !merges.is_empty() || !stages || !special || !options.into_iter().all(plain) {
        return None;
    }
    let mut characters = HashMap::new();
    for (token, id) in model["vocab"].as_object()? {
        let mut letters = token.chars();
        match (letters.next(), letters.next()) {
            (Some(letter), None) => _ = characters.insert(letter, u32::try_from(id.as_u64()?).ok()?),
            // Only the special tokens may be longer, and text never gives those.
            _ if tokenizer["added_tokens"].as_array()?.iter().any(|added| added["content"] == **token) => {}
            _ => return None,
        }
    }
    Some(characters)
}

pub(crate) fn encode(characters: &HashMap<char, u32>, text: &str) -> Result<Vec<u32>, Error> {
    let mut ids = Vec::with_capacity(text.len());
    for (offset, character) in text.char_indices() {
        let id = characters.get(&character).ok_or_else(|| Error::UnknownCharacter {
            character,
            offset,
            line: 1 + text[..offset].matches('\n').count(),
            alphabet: characters.len(),
        })?;
        ids.push(*id);
    }
    Ok(ids)
}
