//! Trains tokenizers and writes them as `tokenizer.json` values that HuggingFace's `tokenizers` also executes.
//!
//! BPE, WordPiece and Unigram all work over GPT-2's byte alphabet (256 printable characters, one a byte) and know all
//! of it, so there is no unknown token and every text survives. The library keeps its counts in maps with a random
//! order, so everything that could leak that order into the result is fixed here: the same text gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Trainer};

use crate::config::{TrainedConfig, UnigramConfig};
use crate::error::Error;
use crate::tokenizer::{END_OF_TEXT, chunks::chunks};

/// Marks a WordPiece that continues a word (BERT's `##`). The byte alphabet lacks it, so no text can write one.
const CONTINUES: &str = "‿";

/// The byte alphabet's letter for the byte 0, which sources refuse.
const NUL_BYTE: char = 'Ā';

/// WordPiece and Unigram cut longer words, in bytes: WordPiece takes quadratic time over a word.
const LONGEST_WORD: usize = 64;

/// Byte-level byte-pair encoding as GPT-2's.
pub(crate) fn bpe(config: &TrainedConfig, documents: &[String]) -> Result<Value, Error> {
    check_size("bpe", config.vocab_size, 256)?;
    let model = train_bpe(config, documents, None)?;
    let size = model.get_vocab().len();
    warn_shortfall(config.vocab_size, size);
    let model = serde_json::to_value(&model).map_err(failed)?;
    Ok(tokenizer(model, Some(size), byte_level(), byte_level()))
}

/// WordPiece over bytes. As in the library, the pieces are those that byte-pair merging finds.
pub(crate) fn wordpiece(config: &TrainedConfig, documents: &[String]) -> Result<Value, Error> {
    check_size("wordpiece", config.vocab_size, 512)?;
    let vocab = train_bpe(config, documents, Some(CONTINUES))?.get_vocab();
    let size = vocab.len();
    warn_shortfall(config.vocab_size, size);
    let vocab: BTreeMap<String, u32> = vocab.into_iter().collect();
    let model = json!({
        // The library demands the name of an unknown token and looks it up only when it needs one, which is never.
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": CONTINUES,
        "max_input_chars_per_word": LONGEST_WORD, "vocab": vocab,
    });
    let strip = json!({"type": "Replace", "pattern": {"String": CONTINUES}, "content": ""});
    let decoder = json!({"type": "Sequence", "decoders": [strip, byte_level()]});
    Ok(tokenizer(model, Some(size), byte_words(), decoder))
}

/// Unigram over bytes.
pub(crate) fn unigram(config: &UnigramConfig, documents: &[String]) -> Result<Value, Error> {
    check_size("unigram", config.vocab_size, 256)?;
    let mut pieces = unigram_pieces(count_words(documents)?, &alphabet(), NUL_BYTE, config.vocab_size - 1)?;
    // The byte 0 owes its frequency to the copies that its letter continues.
    let rarest = pieces.iter().map(|(_, score)| *score).fold(0.0, f64::min);
    pieces.iter_mut().filter(|(piece, _)| piece.starts_with(NUL_BYTE)).for_each(|(_, score)| *score = rarest);
    warn_shortfall(config.vocab_size, pieces.len());
    let size = pieces.len();
    let model = json!({"type": "Unigram", "unk_id": null, "vocab": pieces, "byte_fallback": false});
    Ok(tokenizer(model, Some(size), byte_words(), byte_level()))
}

/// The `size` pieces, each with its log-probability, of a unigram model of these words: all letters of `alphabet`,
/// then the most probable others. The words consist of these letters and are no longer than the library can sum over
/// (a hundred letters are); `absent` is in none of them.
pub(crate) fn unigram_pieces(
    mut counts: BTreeMap<String, u64>,
    alphabet: &BTreeSet<char>,
    absent: char,
    size: usize,
) -> Result<Vec<(String, f64)>, Error> {
    if alphabet.is_empty() {
        return Ok(Vec::new());
    }
    // Each letter is also a text of its own: training then keeps them all, with a score that it learned.
    for letter in alphabet {
        *counts.entry(letter.to_string()).or_default() += 1;
    }
    // The library sums counts in 32 bits.
    let scale = counts.values().sum::<u64>() / u64::from(u32::MAX / 2) + 1;
    let mut sentences: Vec<(String, u32)> = Vec::with_capacity(2 * counts.len());
    for (word, count) in counts {
        let count = count.div_ceil(scale) as u32;
        // The library begins with the strings that more than one letter follows, so that it would never think of a
        // whole word that nothing continues. One copy of each frequent word, continued by a letter that no text has,
        // brings those in; strings that hold this letter are only followed by the end and stay out.
        if count > 1 {
            sentences.push((format!("{word}{absent}"), 1));
            sentences.push((word, count - 1));
        } else {
            sentences.push((word, count));
        }
    }

    // Beside the letters, which it never drops, the library counts an unknown token of its own; asked for fewer than
    // those it would look for others to drop for ever.
    let asked = size.max(alphabet.len()) + usize::from(!alphabet.contains(&absent)) + 1;
    let trainer = UnigramTrainer::builder()
        .show_progress(false)
        .vocab_size(u32::try_from(asked).map_err(failed)?)
        .build()
        .map_err(failed)?;
    let model = train_unigram(&trainer, sentences)?;

    // Six decimals read back from JSON as exactly the same number, here and in Python.
    let round = |score: f64| (score * 1e6).round() / 1e6;
    let is_letter = |piece: &str| piece.chars().nth(1).is_none();
    let mut pieces: Vec<(String, f64)> = model.iter().map(|(piece, score)| (piece.clone(), round(*score))).collect();
    pieces.retain(|(piece, _)| !piece.starts_with(absent) || alphabet.contains(&absent));
    // Letters first whatever their score, then the best pieces.
    pieces.sort_by(|a, b| is_letter(&b.0).cmp(&is_letter(&a.0)).then(b.1.total_cmp(&a.1)).then(a.0.cmp(&b.0)));
    pieces.truncate(size);
    Ok(pieces)
}

fn train_unigram(trainer: &UnigramTrainer, sentences: Vec<(String, u32)>) -> Result<Unigram, Error> {
    // The library divides its floating-point sums among the threads there are; one thread always sums in one order.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().map_err(failed)?;
    // The suffix sorting that it builds on (esaxx-rs 0.1.10 in Rust: `suffixsort` overlooks a run of equal letters
    // before the very last one) panics on a few texts in a thousand, for what they end in.
    const TRIES: usize = 3;
    let between = sentences.len().div_ceil(TRIES).max(1);
    for first in (0..sentences.len().max(1)).step_by(between) {
        if first > 0 {
            tracing::warn!("a library failed on this text; it is tried in another order");
        }
        let train = || -> tokenizers::Result<Unigram> {
            let mut ordered = sentences.clone();
            ordered.rotate_left(first);
            let mut model = Unigram::default();
            trainer.do_train(ordered, &mut model)?;
            Ok(model)
        };
        if let Ok(trained) = catch_unwind(AssertUnwindSafe(|| pool.install(train))) {
            return trained.map_err(failed);
        }
    }
    Err(failed("the library that trains unigram models cannot take this text; another vocab_size may help"))
}

/// Byte-pair merges over the byte alphabet; with a prefix, its continuing forms are part of the alphabet too.
fn train_bpe(config: &TrainedConfig, documents: &[String], prefix: Option<&str>) -> Result<BPE, Error> {
    // Given as special tokens, the whole alphabet has its ids before the library looks at the words in random order.
    let mut letters: Vec<String> = alphabet().iter().map(char::to_string).collect();
    if let Some(prefix) = prefix {
        letters.extend(letters.clone().iter().map(|letter| format!("{prefix}{letter}")));
    }
    let mut builder = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(config.vocab_size - 1)
        .min_frequency(config.min_frequency)
        .special_tokens(letters.into_iter().map(|letter| AddedToken::from(letter, false)).collect());
    if let Some(prefix) = prefix {
        builder = builder.continuing_subword_prefix(prefix.to_owned());
    }
    let mut trainer = builder.build();
    let texts = documents.iter().flat_map(|document| chunks(document));
    trainer.feed(texts, words).map_err(failed)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;
    Ok(model)
}

/// How often each word occurs, in the byte alphabet.
fn count_words(documents: &[String]) -> Result<BTreeMap<String, u64>, Error> {
    let texts: Vec<&str> = documents.iter().flat_map(|document| chunks(document)).collect();
    let counts = texts.into_par_iter().map(|text| {
        let mut counts = BTreeMap::new();
        for word in words(text)? {
            *counts.entry(word).or_default() += 1;
        }
        Ok(counts)
    });
    counts
        .try_reduce(BTreeMap::new, |a, b| {
            let (mut all, few) = if a.len() < b.len() { (b, a) } else { (a, b) };
            for (word, count) in few {
                *all.entry(word).or_default() += count;
            }
            Ok(all)
        })
        .map_err(|error: tokenizers::Error| failed(error))
}

/// The words of a text by GPT-2's rule, in the byte alphabet, cut to the length that training can take.
fn words(text: &str) -> tokenizers::Result<Vec<String>> {
    let mut split = PreTokenizedString::from(text);
    ByteLevel::new(false, false, true).pre_tokenize(&mut split)?;
    let mut words = Vec::new();
    for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
        let mut rest = word;
        while let Some((cut, _)) = rest.char_indices().nth(LONGEST_WORD) {
            let (head, tail) = rest.split_at(cut);
            words.push(head.to_owned());
            rest = tail;
        }
        words.push(rest.to_owned());
    }
    Ok(words)
}

/// GPT-2's 256 characters, one a byte.
fn alphabet() -> BTreeSet<char> {
    ByteLevel::alphabet().into_iter().collect()
}

fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true})
}

fn byte_words() -> Value {
    let pattern = format!(".{{1,{LONGEST_WORD}}}");
    let cut = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    json!({"type": "Sequence", "pretokenizers": [byte_level(), cut]})
}

/// A whole `tokenizer.json`; `end_of_text` is the id of its special token.
pub(crate) fn tokenizer(model: Value, end_of_text: Option<usize>, pre_tokenizer: Value, decoder: Value) -> Value {
    let added: Vec<Value> = end_of_text
        .into_iter()
        .map(|id| {
            json!({
                "id": id, "content": END_OF_TEXT, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model,
    })
}

fn check_size(kind: &str, vocab_size: usize, letters: usize) -> Result<(), Error> {
    if vocab_size > letters {
        return Ok(());
    }
    let message = format!("{vocab_size} has no room for the {letters} byte tokens and {END_OF_TEXT}");
    let hint = format!("use at least {}; thousands are usual", letters + 1);
    Err(Error::config(&format!("tokenizer.{kind}.vocab_size"), message, hint))
}

fn warn_shortfall(asked: usize, without_special: usize) {
    let found = without_special + 1;
    if found < asked {
        tracing::warn!("the text gives a vocabulary of {found} tokens, `vocab_size` asks for {asked}");
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer { action: "train", message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_the_library_fails_on_is_tried_in_another_order_and_then_an_error() {
        let trainer = UnigramTrainer::builder().show_progress(false).vocab_size(8).build().expect("a trainer");
        let fails = || ("bbcbaccbcbbacacbcc".to_owned(), 1);
        let error = train_unigram(&trainer, vec![fails()]).expect_err("a single sentence has one order");
        assert!(error.to_string().contains("cannot take this text"), "{error}");
        train_unigram(&trainer, vec![("abcabc".to_owned(), 1), fails()])
            .expect("a text that ends in the other sentence");
    }
}
