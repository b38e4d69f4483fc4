//! Cuts long texts where a byte-level tokenizer cannot tell, so that the parts are encoded in parallel.

use serde_json::Value;

/// Long texts are encoded in pieces of at least this many bytes, in parallel.
pub(crate) const CHUNK_BYTES: usize = 1 << 16;

/// Whether cutting as [`chunks`] does leaves the ids as they are: words are found by GPT-2's rule, and no added token
/// reaches over such a cut.
pub(crate) fn cuttable(tokenizer: &Value) -> bool {
    let byte_level = |stage: &Value| {
        stage["type"] == "ByteLevel" && stage["use_regex"] != false && stage["add_prefix_space"] == false
    };
    let stage = &tokenizer["pre_tokenizer"];
    let first = stage["pretokenizers"].get(0).unwrap_or(stage);
    let added =
        |token: &Value| token["lstrip"] == true || token["content"].as_str().is_none_or(|text| text.contains('\n'));
    let reaches_over = tokenizer["added_tokens"].as_array().is_some_and(|tokens| tokens.iter().any(added));
    tokenizer["normalizer"].is_null() && byte_level(first) && !reaches_over
}

/// Cuts a text behind lines. GPT-2's rule looks ahead only from white space to what follows it, so between a lone line
/// break and a character that is no white space its words are the same with and without a cut.
pub(crate) fn chunks(text: &str) -> Vec<&str> {
    let mut chunks = Vec::with_capacity(text.len() / CHUNK_BYTES + 1);
    let mut rest = text;
    while rest.len() > CHUNK_BYTES {
        let from = rest.ceil_char_boundary(CHUNK_BYTES);
        let cut = rest[from..].match_indices('\n').map(|(at, _)| from + at).find(|&at| {
            let before = rest[..at].chars().next_back();
            let after = rest[at + 1..].chars().next();
            before.is_some_and(|letter| !letter.is_whitespace()) && after.is_some_and(|letter| !letter.is_whitespace())
        });
        let Some(at) = cut else { break };
        let (chunk, tail) = rest.split_at(at + 1);
        chunks.push(chunk);
        rest = tail;
    }
    chunks.push(rest);
    chunks
}
