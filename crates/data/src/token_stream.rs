//! The documents of a split as one stream of tokens.

use std::sync::Arc;

use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// All tokens of a split, one after the other; cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenStream {
    tokens: Arc<[u32]>,
}

impl TokenStream {
    /// Joins the documents' tokens. Where there are several, each is followed by the end-of-text token if there is one.
    pub fn new(documents: &[Vec<u32>], end_of_text: Option<u32>) -> Self {
        let end = end_of_text.filter(|_| documents.len() > 1);
        let mut tokens = Vec::with_capacity(documents.iter().map(|document| document.len() + 1).sum());
        for document in documents {
            tokens.extend_from_slice(document);
            tokens.extend(end);
        }
        Self { tokens: tokens.into() }
    }

    /// Encodes the documents and joins them.
    ///
    /// # Errors
    /// A document that the tokenizer cannot encode.
    pub fn encode(tokenizer: &Tokenizer, documents: &[String]) -> Result<Self, Error> {
        Ok(Self::new(&tokenizer.encode_all(documents)?, tokenizer.end_of_text()))
    }

    /// Encodes the documents and joins them as an encoder reads them, with `[SEP]` between two, which no mask ever hides.
    ///
    /// # Errors
    /// A document that the tokenizer cannot encode; a tokenizer without an encoder's special tokens.
    pub fn separated(tokenizer: &Tokenizer, documents: &[String]) -> Result<Self, Error> {
        let sep = crate::examples::specials(tokenizer)?.sep;
        let mut documents = tokenizer.encode_all(documents)?;
        documents.retain(|document| !document.is_empty());
        Ok(Self { tokens: documents.join(&sep).into() })
    }

    /// The token ids.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_each_end_with_the_end_of_text_token() {
        let documents = [vec![1, 2], vec![], vec![3]];
        assert_eq!(TokenStream::new(&documents, Some(9)).tokens(), [1, 2, 9, 9, 3, 9]);
        assert_eq!(TokenStream::new(&documents, None).tokens(), [1, 2, 3]);
        assert_eq!(TokenStream::new(&documents[..1], Some(9)).tokens(), [1, 2]);
    }
}
