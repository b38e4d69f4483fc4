//! BERT's tokenizers: WordPiece, single characters and Unigram behind BERT's normalizer, trained or from a `vocab.txt`.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::tokenizer::{
    AddedToken, NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Trainer,
};

use crate::config::{BertTokenizerConfig, TokenLevel};
use crate::error::Error;
use crate::tokenizer_training::unigram_pieces;

/// The special tokens, in the order of their ids.
pub(crate) const SPECIALS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Marks a piece that continues a word.
const CONTINUES: &str = "##";

/// WordPiece gives `[UNK]` for longer words, in characters; Unigram is trained on parts of this length of longer ones.
const LONGEST_WORD: usize = 100;

/// A control character: BERT's normalizer leaves none of them in a text.
const ABSENT: char = '\u{1}';

/// Trains the tokenizer that `config` asks for; the same documents always give the same one.
pub(crate) fn train(config: &BertTokenizerConfig, documents: &[String]) -> Result<Value, Error> {
    // Unigram finds the words of a script that writes no spaces by itself.
    let han_apart = config.level != TokenLevel::Unigram;
    let mut words = count_words(&BertNormalizer::new(true, han_apart, None, config.lowercase), documents)?;
    let mut normalizer = normalizer_json(config.lowercase);
    normalizer["handle_chinese_chars"] = json!(han_apart);
    match config.level {
        TokenLevel::Wordpiece => {
            words.retain(|word, _| word.chars().count() <= LONGEST_WORD);
            wordpiece(pieces(config, &words)?, normalizer)
        }
        TokenLevel::Char => {
            let tokens = letters(config, &words)?.into_iter().map(String::from);
            let vocab = vocabulary(SPECIALS.map(String::from).into_iter().chain(tokens));
            let model = json!({"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"});
            let letters = json!({"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false});
            let cut = json!({"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}, letters]});
            Ok(whole(model, normalizer, cut, json!({"type": "Fuse"}), &vocab))
        }
        TokenLevel::Unigram => {
            let known: BTreeSet<char> = letters(config, &words)?.into_iter().collect();
            let pieces = unigram_pieces(parts(&words, &known), &known, ABSENT, room(config)?)?;
            let pieces: Vec<(String, f64)> =
                SPECIALS.map(|special| (special.to_string(), 0.0)).into_iter().chain(pieces).collect();
            note_shortfall(config, pieces.len());
            let vocab = vocabulary(pieces.iter().map(|(piece, _)| piece.clone()));
            let model = json!({"type": "Unigram", "unk_id": vocab["[UNK]"], "vocab": pieces, "byte_fallback": false});
            Ok(whole(model, normalizer, json!({"type": "BertPreTokenizer"}), json!({"type": "Fuse"}), &vocab))
        }
    }
}

/// A tokenizer from a `vocab.txt`, one token a line. How text is normalized stands in `config`, the keys of a
/// `tokenizer_config.json`; without `do_lower_case` it is lower-cased if no token has a capital.
///
/// # Errors
/// Why it is none.
pub(crate) fn from_vocab(text: &str, config: &Map<String, Value>) -> Result<Value, String> {
    let tokens: Vec<String> = text.lines().map(|line| line.trim_end_matches('\r').to_string()).collect();
    let missing: Vec<&str> = SPECIALS.into_iter().filter(|special| !tokens.iter().any(|t| t == special)).collect();
    if !missing.is_empty() {
        return Err(format!("the vocabulary has no {}", missing.join(", ")));
    }
    let setting = |key: &str| match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(format!("`{key}` of tokenizer_config.json is {other}, neither true nor false")),
    };
    let is_special = |token: &str| token.starts_with('[') && token.ends_with(']');
    let uncased = || !tokens.iter().any(|token| !is_special(token) && token.chars().any(char::is_uppercase));
    let mut normalizer = normalizer_json(setting("do_lower_case")?.unwrap_or_else(uncased));
    normalizer["strip_accents"] = json!(setting("strip_accents")?);
    normalizer["handle_chinese_chars"] = json!(setting("tokenize_chinese_chars")?.unwrap_or(true));
    wordpiece(vocabulary(tokens.into_iter()), normalizer).map_err(|error| error.to_string())
}

/// Ids in order; a token that stands twice keeps its last, as BERT's reader has it.
fn vocabulary(tokens: impl Iterator<Item = String>) -> BTreeMap<String, u32> {
    tokens.zip(0..).collect()
}

fn room(config: &BertTokenizerConfig) -> Result<usize, Error> {
    config.vocab_size.checked_sub(SPECIALS.len()).filter(|room| *room > 0).ok_or_else(|| {
        let message = format!("{} leaves no room beside the {} special tokens", config.vocab_size, SPECIALS.len());
        Error::config("tokenizer.bert.vocab_size", message, "a few thousand are usual")
    })
}

/// The characters that become tokens, the most frequent first.
fn letters(config: &BertTokenizerConfig, words: &BTreeMap<String, u64>) -> Result<Vec<char>, Error> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in words {
        word.chars().for_each(|letter| *counts.entry(letter).or_default() += count);
    }
    let mut letters: Vec<(char, u64)> =
        counts.into_iter().filter(|(_, count)| *count >= config.min_frequency).collect();
    letters.sort_by_key(|(letter, count)| (std::cmp::Reverse(*count), *letter));
    letters.truncate(room(config)?);
    Ok(letters.into_iter().map(|(letter, _)| letter).collect())
}

/// What stands between the unknown letters of words, in parts of at most [`LONGEST_WORD`] letters.
fn parts(words: &BTreeMap<String, u64>, known: &BTreeSet<char>) -> BTreeMap<String, u64> {
    let mut parts: BTreeMap<String, u64> = BTreeMap::new();
    for (word, count) in words {
        for run in word.split(|letter| !known.contains(&letter)) {
            for part in run.chars().collect::<Vec<_>>().chunks(LONGEST_WORD) {
                *parts.entry(part.iter().collect()).or_default() += count;
            }
        }
    }
    parts
}

/// The pieces that byte-pair merging finds, as the library's own WordPiece trainer does.
fn pieces(config: &BertTokenizerConfig, words: &BTreeMap<String, u64>) -> Result<BTreeMap<String, u32>, Error> {
    // Of each letter, how often it occurs and whether it does so inside a word.
    let mut letters: BTreeMap<char, (u64, bool)> = BTreeMap::new();
    for (word, count) in words {
        for (i, letter) in word.chars().enumerate() {
            let (total, inside) = letters.entry(letter).or_default();
            *total += count;
            *inside |= i > 0;
        }
    }
    let room = room(config)?;
    let mut letters: Vec<(char, u64, bool)> =
        letters.into_iter().map(|(letter, (count, inside))| (letter, count, inside)).collect();
    letters.retain(|(_, count, _)| *count >= config.min_frequency);
    letters.sort_by_key(|(letter, count, _)| (std::cmp::Reverse(*count), *letter));
    // Every letter may begin a word, as the library has it too. Given as special tokens, letters have their ids before
    // the library looks at the words in random order.
    let mut known = BTreeSet::new();
    let mut tokens = BTreeSet::new();
    for (letter, _, inside) in letters {
        if tokens.len() + 1 + usize::from(inside) > room {
            break;
        }
        known.insert(letter);
        tokens.insert(letter.to_string());
        tokens.extend(inside.then(|| format!("{CONTINUES}{letter}")));
    }
    let specials = SPECIALS.into_iter().chain(tokens.iter().map(String::as_str));
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(config.vocab_size)
        .min_frequency(config.min_frequency)
        .continuing_subword_prefix(CONTINUES.to_owned())
        .special_tokens(specials.map(|token| AddedToken::from(token.to_string(), false)).collect())
        .build();
    // A word with a letter that is no token is `[UNK]` whatever its other pieces.
    let usable: Vec<(&String, u64)> = words
        .iter()
        .filter(|(word, _)| word.chars().all(|letter| known.contains(&letter)))
        .map(|(word, count)| (word, *count))
        .collect();
    // The library counts what it is fed; more copies than this change no order of frequencies that matters.
    let most = usable.iter().map(|(_, count)| *count).max().unwrap_or(1).div_ceil(1 << 20).max(1);
    let texts =
        usable.iter().flat_map(|(word, count)| std::iter::repeat_n(word.as_str(), count.div_ceil(most) as usize));
    trainer.feed(texts, |word| Ok(vec![word.to_owned()])).map_err(failed)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(failed)?;
    let vocab: BTreeMap<String, u32> = model.get_vocab().into_iter().collect();
    note_shortfall(config, vocab.len());
    Ok(vocab)
}

fn note_shortfall(config: &BertTokenizerConfig, tokens: usize) {
    if tokens < config.vocab_size {
        tracing::info!("the text gives {tokens} tokens of the {} asked for", config.vocab_size);
    }
}

/// How often each word occurs.
fn count_words(normalizer: &BertNormalizer, documents: &[String]) -> Result<BTreeMap<String, u64>, Error> {
    let lines: Vec<&str> = documents.iter().flat_map(|document| document.lines()).collect();
    let counts = lines.par_chunks(256).map(|lines| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for line in lines {
            let mut text = NormalizedString::from(*line);
            normalizer.normalize(&mut text)?;
            let mut split = PreTokenizedString::from(text.get());
            BertPreTokenizer.pre_tokenize(&mut split)?;
            for (word, _, _) in split.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
                *counts.entry(word.to_owned()).or_default() += 1;
            }
        }
        Ok(counts)
    });
    let merged = counts.try_reduce(BTreeMap::new, |a, b| {
        let (mut all, few) = if a.len() < b.len() { (b, a) } else { (a, b) };
        few.into_iter().for_each(|(word, count)| *all.entry(word).or_default() += count);
        Ok(all)
    });
    merged.map_err(|error: tokenizers::Error| failed(error))
}

fn normalizer_json(lowercase: bool) -> Value {
    json!({
        "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
        "lowercase": lowercase,
    })
}

fn wordpiece(vocab: BTreeMap<String, u32>, normalizer: Value) -> Result<Value, Error> {
    let model = json!({
        "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": CONTINUES,
        "max_input_chars_per_word": LONGEST_WORD, "vocab": vocab,
    });
    let decoder = json!({"type": "WordPiece", "prefix": CONTINUES, "cleanup": true});
    Ok(whole(model, normalizer, json!({"type": "BertPreTokenizer"}), decoder, &vocab))
}

/// A whole `tokenizer.json`, with `[CLS] A [SEP]` and `[CLS] A [SEP] B [SEP]` around texts.
fn whole(
    model: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
    vocab: &BTreeMap<String, u32>,
) -> Value {
    let added: Vec<Value> = SPECIALS
        .iter()
        .map(|special| {
            json!({
                "id": vocab[*special], "content": special, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    let special = |name: &str, kind: u8| json!({"SpecialToken": {"id": name, "type_id": kind}});
    let text = |name: &str, kind: u8| json!({"Sequence": {"id": name, "type_id": kind}});
    let named = |name: &str| json!({"id": name, "ids": [vocab[name]], "tokens": [name]});
    let single = [special("[CLS]", 0), text("A", 0), special("[SEP]", 0)];
    let pair = [single.to_vec(), vec![text("B", 1), special("[SEP]", 1)]].concat();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": {"[CLS]": named("[CLS]"), "[SEP]": named("[SEP]")},
        },
        "decoder": decoder, "model": model,
    })
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer { action: "train a BERT tokenizer", message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenizerConfig;
    use crate::tokenizer::Tokenizer;

    fn trained(level: TokenLevel, vocab_size: usize) -> Tokenizer {
        let config = BertTokenizerConfig { vocab_size, min_frequency: 1, lowercase: true, level };
        let documents = ["The lower tower was lowest. The towers are low!\n很好吃，下次还来".to_string()];
        Tokenizer::train(&TokenizerConfig::Bert(config), &documents, false).unwrap()
    }

    fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
        tokenizer.encode(text).unwrap().into_iter().map(|id| tokenizer.token(id).unwrap()).collect()
    }

    #[test]
    fn words_are_cut_in_their_longest_pieces_and_each_han_character_stands_alone() {
        let tokenizer = trained(TokenLevel::Wordpiece, 120);
        assert_eq!(tokenizer.specials().unwrap().mask, 4);
        assert_eq!(tokens(&tokenizer, "THE lower!"), ["the", "lower", "!"]);
        assert_eq!(tokens(&tokenizer, "很好"), ["很", "好"]);
        assert_eq!(tokens(&tokenizer, "é lows"), ["e", "low", "##s"]);
        assert_eq!(tokens(&tokenizer, "z low"), ["[UNK]", "low"]);
        // What a text writes is text.
        assert!(!tokenizer.encode("[MASK] [SEP]").unwrap().iter().any(|id| [3, 4].contains(id)));
        assert_eq!(tokenizer.decode(&tokenizer.encode("the lowest towers").unwrap()).unwrap(), "the lowest towers");
    }

    #[test]
    fn characters_are_tokens_and_white_space_is_none() {
        let tokenizer = trained(TokenLevel::Char, 60);
        assert_eq!(tokens(&tokenizer, "Low 好吃z"), ["l", "o", "w", "好", "吃", "[UNK]"]);
        assert_eq!(trained(TokenLevel::Char, 8).vocab_size(), 8);
    }

    #[test]
    fn words_that_no_space_ends_are_found_by_their_frequency() {
        let reviews = ["很好吃，下次还来", "不好吃", "好吃！", "味道很好吃", "还好吃 THE 好吃", "的好吃"];
        let config = |vocab_size, min_frequency| BertTokenizerConfig {
            vocab_size,
            min_frequency,
            lowercase: true,
            level: TokenLevel::Unigram,
        };
        let train = |vocab_size, min_frequency| {
            let documents = reviews.map(String::from);
            Tokenizer::train(&TokenizerConfig::Bert(config(vocab_size, min_frequency)), &documents, false).unwrap()
        };
        let tokenizer = train(23, 1);
        assert_eq!(tokens(&tokenizer, "的好吃，很好吃！"), ["的", "好吃", "，", "很", "好吃", "！"]);
        assert_eq!(tokens(&tokenizer, "好Thé道"), ["好", "t", "h", "e", "道"]);
        assert_eq!(tokens(&tokenizer, "好吃zz很z"), ["好吃", "[UNK]", "很", "[UNK]"]);
        assert!(!tokenizer.encode("[MASK]很[SEP]").unwrap().iter().any(|id| [2, 3, 4].contains(id)));
        assert_eq!(tokenizer.decode(&tokenizer.encode("很好吃").unwrap()).unwrap(), "很好吃");
        assert_eq!(tokens(&train(10, 100), "好吃"), ["[UNK]"]);
        // A letter that is no token parts what stands around it.
        let frequent = train(10, 2);
        assert_eq!(tokens(&frequent, "味好吃道好吃"), ["[UNK]", "好吃", "[UNK]", "好吃"]);
    }

    #[test]
    fn a_vocabulary_is_never_larger_than_asked_for() {
        for level in [TokenLevel::Wordpiece, TokenLevel::Char, TokenLevel::Unigram] {
            for vocab_size in 6..60 {
                assert!(trained(level, vocab_size).vocab_size() <= vocab_size, "{level:?} {vocab_size}");
            }
        }
    }

    #[test]
    fn a_saved_tokenizer_asks_for_the_types_of_a_pair() {
        let files = trained(TokenLevel::Wordpiece, 60).files(32);
        let config: Value = serde_json::from_slice(&files["tokenizer_config.json"]).unwrap();
        assert_eq!(config["model_input_names"], json!(["input_ids", "token_type_ids", "attention_mask"]));
    }

    #[test]
    fn characters_of_words_however_long_are_tokens() {
        let long = ["ab".repeat(LONGEST_WORD) + &"c".repeat(2000)];
        for (level, vocab_size) in [(TokenLevel::Char, 9), (TokenLevel::Unigram, 8)] {
            let config = BertTokenizerConfig { vocab_size, min_frequency: 1, lowercase: true, level };
            let tokenizer = Tokenizer::train(&TokenizerConfig::Bert(config), &long, false).unwrap();
            assert_eq!(tokens(&tokenizer, "ab"), ["a", "b"]);
        }
    }

    #[test]
    fn training_twice_gives_the_same_bytes() {
        for level in [TokenLevel::Wordpiece, TokenLevel::Char, TokenLevel::Unigram] {
            assert_eq!(trained(level, 90).to_json(), trained(level, 90).to_json());
        }
    }

    #[test]
    fn only_wordpiece_marks_what_continues_a_word() {
        for level in [TokenLevel::Wordpiece, TokenLevel::Char, TokenLevel::Unigram] {
            assert_eq!(trained(level, 90).has_word_pieces(), level == TokenLevel::Wordpiece, "{level:?}");
        }
    }

    #[test]
    fn a_vocab_txt_is_opened_and_its_case_recognized() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vocab.txt");
        let open = |words: &str| {
            std::fs::write(&path, format!("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n{words}")).unwrap();
            Tokenizer::from_file(&path).unwrap()
        };
        assert_eq!(tokens(&open("low\n##er\n"), "LOWER"), ["low", "##er"]);
        assert_eq!(tokens(&open("Low\nlow\n##er\n"), "Lower"), ["Low", "##er"]);
        std::fs::write(&path, "a\nb\n").unwrap();
        assert!(Tokenizer::from_file(&path).unwrap_err().to_string().contains("[CLS]"));
    }

    #[test]
    fn a_directory_with_nothing_but_a_vocabulary_is_opened_as_its_config_says() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let open = || Tokenizer::from_file(directory.path());
        write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nlow\nLow\n##er\né\ne\n很\n##好\n");
        assert_eq!(tokens(&open().unwrap(), "Lower é 很好"), ["Low", "##er", "é", "很", "[UNK]"]);
        write("tokenizer_config.json", r#"{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}"#);
        let lower = open().unwrap();
        assert_eq!(tokens(&lower, "Lower é"), ["low", "##er", "e"]);
        write("tokenizer_config.json", r#"{"do_lower_case": false}"#);
        assert_eq!(tokens(&open().unwrap(), "Lower é"), ["Low", "##er", "é"]);
        let others = r#"{"do_lower_case": true, "strip_accents": false, "tokenize_chinese_chars": false}"#;
        write("tokenizer_config.json", others);
        assert_eq!(tokens(&open().unwrap(), "Lower é 很好"), ["low", "##er", "é", "很", "##好"]);
        write("tokenizer_config.json", r#"{"do_lower_case": "yes"}"#);
        let error = open().unwrap_err().to_string();
        assert!(error.contains("vocab.txt") && error.contains("`do_lower_case`"), "{error}");
        // What is saved opens as the same.
        let files = lower.files(32);
        for (name, bytes) in &files {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        assert_eq!(tokens(&open().unwrap(), "Lower é"), ["low", "##er", "e"]);
        assert_eq!(open().unwrap().specials(), lower.specials());
    }
}
