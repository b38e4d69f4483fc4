//! Tokens to text, as they come.

use data::{Error, Tokenizer};

/// Turns tokens into text one after another, in time that does not grow with the text: a token is decoded with the few
/// before it that its text may depend on. A character whose bytes are not all there is held back.
#[derive(Debug, Default)]
pub struct TextStream {
    ids: Vec<u32>,
    /// Where decoding begins.
    from: usize,
    /// What has been given out already, counted in tokens.
    given: usize,
}

impl TextStream {
    /// The text that this token completes; special tokens have none.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, Error> {
        self.ids.push(id);
        let before = tokenizer.decode_skipping_special(&self.ids[self.from..self.given])?;
        let now = tokenizer.decode_skipping_special(&self.ids[self.from..])?;
        match now.get(before.len()..) {
            Some(new) if !new.is_empty() && !now.ends_with('\u{fffd}') => {
                let new = new.to_owned();
                self.from = self.given;
                self.given = self.ids.len();
                Ok(new)
            }
            _ => Ok(String::new()),
        }
    }

    /// What was held back, at the end of the text.
    ///
    /// # Errors
    /// As [`TextStream::push`].
    pub fn rest(&self, tokenizer: &Tokenizer) -> Result<String, Error> {
        let before = tokenizer.decode_skipping_special(&self.ids[self.from..self.given])?;
        let now = tokenizer.decode_skipping_special(&self.ids[self.from..])?;
        Ok(now.get(before.len()..).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::TokenizerConfig;

    #[test]
    fn the_pieces_make_the_whole_text_and_no_character_is_broken() {
        let config = data::config::TrainedConfig { vocab_size: 270, min_frequency: 2 };
        let text = "héllo 你好 wörld, 👋🏽 hello hello.";
        let tokenizer = Tokenizer::train(&TokenizerConfig::Bpe(config), &[text.repeat(3)], false).expect("trains");
        let mut stream = TextStream::default();
        let mut pieces: Vec<String> = Vec::new();
        for id in tokenizer.encode(text).expect("encodes") {
            pieces.push(stream.push(&tokenizer, id).expect("decodes"));
        }
        assert!(pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
        assert_eq!(pieces.concat() + &stream.rest(&tokenizer).expect("decodes"), text);
        assert!(pieces.iter().filter(|piece| !piece.is_empty()).count() >= 8);
        // However long the text, only the last few tokens are decoded.
        assert!(stream.ids.len() - stream.from < 10);
    }
}
