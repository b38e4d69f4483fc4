//! Text to token ids and back, in HuggingFace's `tokenizer.json` format.

mod bert;
pub(crate) mod characters;
pub(crate) mod chunks;
mod parsing;
pub(crate) mod subwords;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value, json};

use crate::config::{TokenizerConfig, TruncationConfig};
use crate::error::Error;
use crate::tokenizer_training;

pub use parsing::SpecialTokenParser;
pub use subwords::SubwordSampler;

/// The token between two documents, as GPT-2 writes it.
pub const END_OF_TEXT: &str = "<|endoftext|>";

const TOKENIZER_FILE: &str = "tokenizer.json";
const VOCABULARY_FILE: &str = "vocab.txt";
const CONFIG_FILE: &str = "tokenizer_config.json";
const CHAT_TEMPLATE_FILE: &str = "chat_template.jinja";
/// The key of the tokenizer config that holds the chat template.
const CHAT_TEMPLATE: &str = "chat_template";
/// The key of the tokenizer config that says what is cut.
const TRUNCATION: &str = "truncation_strategy";
const SPECIAL_TOKENS_FILE: &str = "special_tokens_map.json";

/// A tokenizer: the one a model was or will be trained with.
///
/// Encoding takes every text as plain text: `<|endoftext|>` inside a document is encoded as the characters it is made
/// of, never as the special token, so no document can end itself. Special tokens come from their ids alone.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// `tokenizer.json` as it was opened or trained: saving writes it back byte for byte.
    json: String,
    /// The keys of `tokenizer_config.json`, where the tokenizer came from a directory.
    config: Map<String, Value>,
    /// The alphabet, if this is a character-level tokenizer.
    characters: Option<HashMap<char, u32>>,
    /// Whether a text may be cut in front of certain lines without changing its ids.
    cuttable: bool,
    end_of_text: Option<u32>,
    specials: Option<Specials>,
    /// What is no piece of text: the above, the unknown token, and what `tokenizer.json` calls special.
    special_ids: BTreeSet<u32>,
    vocab_size: usize,
}

/// The ids that an encoder's rows are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Specials {
    /// Fills rows up; nothing attends to it.
    pub pad: u32,
    /// Begins a row: what a classifier reads.
    pub cls: u32,
    /// Ends each text of a row.
    pub sep: u32,
    /// Stands for a token that is to be guessed.
    pub mask: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("end_of_text", &self.end_of_text)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Opens a `tokenizer.json`, a BERT's `vocab.txt`, or a HuggingFace directory that has one of the two. Of a directory
    /// without `tokenizer.json` the `tokenizer_config.json` says whether text is lower-cased; where nothing does, it is if no
    /// token has a capital.
    ///
    /// # Errors
    /// A missing file, or one that is no tokenizer.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        if path.extension().is_some_and(|extension| extension == "txt") {
            return Self::from_vocabulary(path, Map::new());
        }
        if !path.is_dir() {
            return Self::from_json(&read(path)?, Map::new()).map_err(|message| unusable(path, message));
        }
        let mut config = Map::new();
        // Older directories keep the names of the special tokens in a file of their own; the config's win.
        for name in [SPECIAL_TOKENS_FILE, CONFIG_FILE] {
            let file = path.join(name);
            if file.exists() {
                let keys: Map<String, Value> =
                    serde_json::from_str(&read(&file)?).map_err(|error| unusable(&file, error.to_string()))?;
                config.extend(keys);
            }
        }
        // Newer directories keep the chat template in a file of its own.
        let template = path.join(CHAT_TEMPLATE_FILE);
        if template.exists() {
            config.insert(CHAT_TEMPLATE.into(), read(&template)?.into());
        }
        let [file, vocabulary] = [TOKENIZER_FILE, VOCABULARY_FILE].map(|name| path.join(name));
        if file.exists() {
            return Self::from_json(&read(&file)?, config).map_err(|message| unusable(&file, message));
        }
        if vocabulary.exists() {
            return Self::from_vocabulary(&vocabulary, config);
        }
        Err(Error::TokenizerFile {
            path: path.into(),
            message: format!("the directory has no {TOKENIZER_FILE} and no BERT's {VOCABULARY_FILE}"),
            hint: "save it from Python with AutoTokenizer.from_pretrained(..).save_pretrained(..)".into(),
        })
    }

    /// The tokenizer of a BERT's `vocab.txt`, with the keys of the `tokenizer_config.json` beside it.
    fn from_vocabulary(path: &Path, config: Map<String, Value>) -> Result<Self, Error> {
        let build = |text: &str| Self::from_json(&bert::from_vocab(text, &config)?.to_string(), config.clone());
        build(&read(path)?).map_err(|message| unusable(path, message))
    }

    /// The tokenizer that the config asks for, trained on the documents or opened from its file. The same documents
    /// always give the same bytes. Trained over bytes (BPE, WordPiece, Unigram), it always has `<|endoftext|>`, as its
    /// last token; character-level, only if `end_of_text` is set.
    ///
    /// # Errors
    /// A vocabulary size too small for the bytes, or a file that cannot be opened.
    pub fn train(config: &TokenizerConfig, documents: &[String], end_of_text: bool) -> Result<Self, Error> {
        let json = match config {
            TokenizerConfig::File(file) => return Self::from_file(&file.path),
            TokenizerConfig::Char(_) => characters::train(documents, end_of_text),
            TokenizerConfig::Bpe(bpe) => tokenizer_training::bpe(bpe, documents)?,
            TokenizerConfig::Wordpiece(wordpiece) => tokenizer_training::wordpiece(wordpiece, documents)?,
            TokenizerConfig::Unigram(unigram) => tokenizer_training::unigram(unigram, documents)?,
            TokenizerConfig::Bert(config) => bert::train(config, documents)?,
        };
        let failed = |message| Error::Tokenizer { action: "build the trained tokenizer", message };
        let mut trained = Self::from_json(&json.to_string(), Map::new()).map_err(failed)?;
        // The library writes a vocabulary in the order of its ids; that form is what is hashed and saved.
        trained.json = trained.inner.to_string(true).map_err(|error| failed(error.to_string()))?;
        Ok(trained)
    }

    fn from_json(text: &str, config: Map<String, Value>) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut inner: tokenizers::Tokenizer = text.parse().map_err(|error: tokenizers::Error| error.to_string())?;
        // A file may carry these from the script that saved it; training needs each text whole and unpadded.
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        let vocabulary = inner.get_vocab(true);
        let vocab_size = vocabulary.values().max().map_or(0, |&id| id as usize + 1);
        let end_of_text = special(&config, "eos_token")
            .into_iter()
            .chain([END_OF_TEXT])
            .find_map(|token| vocabulary.get(token).copied());
        let [pad, unknown, cls, sep, mask] = bert::SPECIALS.map(|token| {
            let key = format!("{}_token", token.trim_matches(['[', ']']).to_lowercase());
            let named = special(&config, &key).and_then(|token| vocabulary.get(token));
            named.or_else(|| vocabulary.get(token)).copied()
        });
        let specials = match (pad, cls, sep, mask) {
            (Some(pad), Some(cls), Some(sep), Some(mask)) => Some(Specials { pad, cls, sep, mask }),
            _ => None,
        };
        let added = inner.get_added_tokens_decoder();
        let added = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id);
        let special_ids = [pad, unknown, cls, sep, mask].into_iter().flatten().chain(added).collect();
        Ok(Self {
            specials,
            special_ids,
            characters: characters::recognize(&value),
            cuttable: chunks::cuttable(&value),
            inner,
            json: text.to_owned(),
            config,
            end_of_text,
            vocab_size,
        })
    }

    /// The ids of a text; nothing is added at its ends.
    ///
    /// # Errors
    /// A character that a character-level tokenizer does not know.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        if let Some(characters) = &self.characters {
            return characters::encode(characters, text);
        }
        let encode = |text: &str| match self.inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(error) => Err(Error::Tokenizer { action: "encode", message: error.to_string() }),
        };
        if !self.cuttable || text.len() < 2 * chunks::CHUNK_BYTES {
            return encode(text);
        }
        let parts: Vec<Vec<u32>> = chunks::chunks(text).into_par_iter().map(encode).collect::<Result<_, _>>()?;
        Ok(parts.concat())
    }

    /// The ids of each document, computed in parallel.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_all(&self, documents: &[String]) -> Result<Vec<Vec<u32>>, Error> {
        documents.par_iter().map(|document| self.encode(document)).collect()
    }

    /// The text of the ids, special tokens as they are written. Ids without a token, which a model with a padded
    /// vocabulary can produce, give nothing.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.decode_with(ids, false)
    }

    /// As [`Tokenizer::decode`], with special tokens left out.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode_skipping_special(&self, ids: &[u32]) -> Result<String, Error> {
        self.decode_with(ids, true)
    }

    fn decode_with(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.inner
            .decode(ids, skip_special)
            .map_err(|error| Error::Tokenizer { action: "decode", message: error.to_string() })
    }

    /// The highest id plus one: how many rows an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// A token as the tokenizer writes it (byte-level ones in their alphabet), or none for an id without one.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The token that ends a document: `eos_token` of the directory it was opened from, else `<|endoftext|>`, if the
    /// vocabulary has it.
    pub fn end_of_text(&self) -> Option<u32> {
        self.end_of_text
    }

    /// The special tokens of an encoder's rows, if the vocabulary has all of them.
    pub fn specials(&self) -> Option<Specials> {
        self.specials
    }

    /// What encodes text whose special tokens count.
    pub fn parser(&self) -> SpecialTokenParser {
        SpecialTokenParser::new(self)
    }

    /// The text of a special token by its name in `tokenizer_config.json`, as `eos_token`.
    pub fn named_token(&self, key: &str) -> Option<String> {
        special(&self.config, key).map(String::from).or_else(|| {
            // Those that saving would name.
            let end = self.end_of_text.and_then(|id| self.token(id));
            end.filter(|token| key == "eos_token" || (key == "bos_token" && token == END_OF_TEXT))
        })
    }

    /// The Jinja source of the chat template, if there is one; of several the one named `default`.
    pub fn chat_template(&self) -> Option<&str> {
        match self.config.get(CHAT_TEMPLATE)? {
            Value::String(source) => Some(source),
            Value::Array(named) => {
                let default = named.iter().find(|template| template["name"] == "default").or(named.first())?;
                default["template"].as_str()
            }
            _ => None,
        }
    }

    /// The same tokenizer with this chat template.
    pub fn with_chat_template(mut self, source: &str) -> Self {
        self.config.insert(CHAT_TEMPLATE.into(), json!(source));
        self
    }

    /// The same tokenizer with these special tokens; those that its vocabulary lacks get the ids behind the last, so that
    /// [`Tokenizer::vocab_size`] grows by their number.
    ///
    /// # Errors
    /// A tokenizer that cannot be built with them.
    pub fn with_special_tokens(self, tokens: &[&str]) -> Result<Self, Error> {
        let failed = |message| Error::Tokenizer { action: "build the extended tokenizer", message };
        // A token that is only a piece of text would never be found in what a template writes.
        let added: BTreeSet<String> =
            self.inner.get_added_tokens_decoder().into_values().map(|token| token.content).collect();
        let missing: BTreeSet<&str> = tokens.iter().copied().filter(|token| !added.contains(*token)).collect();
        if missing.is_empty() {
            return Ok(self);
        }
        let mut next = self.vocab_size as u32..;
        let ids: Vec<(&str, u32)> = tokens
            .iter()
            .filter(|token| missing.contains(*token))
            .filter_map(|token| Some((*token, self.inner.token_to_id(token).or_else(|| next.next())?)))
            .collect();
        let mut value: Value = serde_json::from_str(&self.json).map_err(|error| failed(error.to_string()))?;
        let added = ids.iter().map(|(token, id)| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        });
        match value["added_tokens"].as_array_mut() {
            Some(tokens) => tokens.extend(added),
            None => value["added_tokens"] = added.collect(),
        }
        let mut extended = Self::from_json(&value.to_string(), self.config).map_err(failed)?;
        extended.json = extended.inner.to_string(true).map_err(|error| failed(error.to_string()))?;
        Ok(extended)
    }

    /// What [`crate::examples::encode`] cuts where a pair does not fit.
    pub fn truncation(&self) -> TruncationConfig {
        let stored = self.config.get(TRUNCATION).cloned();
        stored.and_then(|name| serde_json::from_value(name).ok()).unwrap_or_default()
    }

    /// The same tokenizer with this cut, which its files remember.
    pub fn with_truncation(mut self, truncation: TruncationConfig) -> Self {
        if truncation == TruncationConfig::default() {
            self.config.remove(TRUNCATION);
        } else {
            self.config.insert(TRUNCATION.into(), json!(truncation));
        }
        self
    }

    /// Whether an id is no piece of text: padding, an unknown word, the ends of a text, or what else the tokenizer holds as
    /// special; an id without a token too.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id) || self.inner.id_to_token(id).is_none()
    }

    /// Whether a token continues the word of the one before it.
    pub fn continues_word(&self, id: u32) -> bool {
        self.specials.is_some() && self.inner.id_to_token(id).is_some_and(|token| token.starts_with("##"))
    }

    /// Whether any token continues the word of another.
    pub fn has_word_pieces(&self) -> bool {
        (0..self.vocab_size as u32).any(|id| self.continues_word(id))
    }

    /// `tokenizer.json`.
    pub fn to_json(&self) -> &str {
        &self.json
    }

    /// BLAKE3 of `tokenizer.json`, hexadecimal.
    pub fn hash(&self) -> String {
        blake3::hash(self.json.as_bytes()).to_hex().to_string()
    }

    /// The files that HuggingFace's `AutoTokenizer` opens, by name, for a model with a context of `max_seq_len` tokens.
    pub fn files(&self, max_seq_len: usize) -> BTreeMap<String, Vec<u8>> {
        // Sorted here, because whether the library's map keeps the order of insertion depends on other crates.
        let mut config: BTreeMap<String, Value> = self.config.clone().into_iter().collect();
        // These name Python code or a place that another machine does not have.
        for key in ["auto_map", "name_or_path", "tokenizer_file", "vocab_file", "merges_file"] {
            config.remove(key);
        }
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.insert("model_max_length".into(), max_seq_len.into());
        config.insert("clean_up_tokenization_spaces".into(), false.into());
        if let Some(token) = self.end_of_text.and_then(|id| self.token(id)) {
            // The same token begins and ends a document in GPT-2's convention.
            if token == END_OF_TEXT {
                config.entry("bos_token".into()).or_insert_with(|| json!(token));
            }
            config.entry("eos_token".into()).or_insert_with(|| json!(token));
        }
        if let Some(Specials { pad, cls, sep, mask }) = self.specials {
            for (key, id) in [("pad_token", pad), ("cls_token", cls), ("sep_token", sep), ("mask_token", mask)] {
                config.entry(key.into()).or_insert_with(|| json!(self.token(id)));
            }
            config.entry("unk_token".into()).or_insert_with(|| json!(bert::SPECIALS[1]));
            // Without it a tokenizer of no named family leaves the second text of a pair without its type.
            let inputs = json!(["input_ids", "token_type_ids", "attention_mask"]);
            config.entry("model_input_names".into()).or_insert(inputs);
        }
        let mut config = serde_json::to_vec_pretty(&config).expect("JSON values always serialize");
        config.push(b'\n');
        BTreeMap::from([(TOKENIZER_FILE.to_owned(), self.json.clone().into_bytes()), (CONFIG_FILE.to_owned(), config)])
    }
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(Error::io(path))
}

fn unusable(path: &Path, message: String) -> Error {
    Error::TokenizerFile {
        path: path.into(),
        message: format!("not a usable tokenizer file: {message}"),
        hint: "it must be a tokenizer.json as HuggingFace's `tokenizers` saves it, or a BERT's vocab.txt".into(),
    }
}

/// A special token's text; HuggingFace writes it plain or as an object.
fn special<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}
