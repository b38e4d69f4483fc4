//! Encoding text whose special tokens count, as a chat template writes them.

use std::collections::HashMap;
use std::ops::Range;

use super::Tokenizer;
use crate::error::Error;

/// Encodes text in which the text of a special token is that token: what HuggingFace's tokenizers do by default, and
/// what the output of a chat template needs.
#[derive(Clone)]
pub struct SpecialTokenParser {
    inner: tokenizers::Tokenizer,
    alphabet: Option<HashMap<char, u32>>,
    special_tokens: Vec<String>,
}

impl std::fmt::Debug for SpecialTokenParser {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SpecialTokenParser")
            .field("special_tokens", &self.special_tokens)
            .finish_non_exhaustive()
    }
}

impl SpecialTokenParser {
    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let mut inner = tokenizer.inner.clone();
        inner.set_encode_special_tokens(false);
        let added = inner.get_added_tokens_decoder();
        let special_tokens = added.values().filter(|token| token.special).map(|token| token.content.clone()).collect();
        Self { inner, alphabet: tokenizer.characters.clone(), special_tokens }
    }

    /// The texts of all special tokens.
    pub fn special_tokens(&self) -> &[String] {
        &self.special_tokens
    }

    /// Each token's id, and the bytes of the text that it stands for; nothing is added at the ends.
    ///
    /// # Errors
    /// A character that a character-level tokenizer does not know.
    pub fn encode(&self, text: &str) -> Result<Vec<(u32, Range<usize>)>, Error> {
        let encoding = self
            .inner
            .encode(text, false)
            .map_err(|error| Error::Tokenizer { action: "encode", message: error.to_string() })?;
        let tokens: Vec<(u32, Range<usize>)> = encoding
            .get_ids()
            .iter()
            .zip(encoding.get_offsets())
            .map(|(id, (start, end))| (*id, *start..*end))
            .collect();
        if let Some(alphabet) = &self.alphabet {
            // The library leaves unknown characters out without a word.
            let mut covered = 0;
            for (_, range) in &tokens {
                if range.start > covered {
                    break;
                }
                covered = range.end;
            }
            if let Some(character) = text[covered..].chars().next() {
                let line = 1 + text[..covered].matches('\n').count();
                return Err(Error::UnknownCharacter { character, offset: covered, line, alphabet: alphabet.len() });
            }
        }
        Ok(tokens)
    }
}
