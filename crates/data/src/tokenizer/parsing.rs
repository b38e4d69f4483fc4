//! Encoding text whose special tokens count, as a chat template writes them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use tokenizers::PostProcessorWrapper;

use super::Tokenizer;
use crate::error::Error;

/// Encodes text in which the text of a special token is that token: what HuggingFace's tokenizers do by default, and
/// what the output of a chat template needs.
#[derive(Clone)]
pub struct SpecialTokenParser {
    inner: tokenizers::Tokenizer,
    alphabet: Option<HashMap<char, u32>>,
    special_tokens: Vec<String>,
    special_ids: BTreeSet<u32>,
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
        // Nothing is added at the ends; all that is left for it to do is to cut white space off the tokens' places.
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let added = inner.get_added_tokens_decoder();
        let (special_ids, special_tokens) =
            added.into_iter().filter(|(_, token)| token.special).map(|(id, token)| (id, token.content)).unzip();
        Self { inner, alphabet: tokenizer.characters.clone(), special_tokens, special_ids }
    }

    /// The texts of all special tokens.
    pub fn special_tokens(&self) -> &[String] {
        &self.special_tokens
    }

    /// Whether an id is a special token's.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
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
