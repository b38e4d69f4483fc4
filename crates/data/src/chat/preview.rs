//! Training rows as a person reads them: every token with its text, its owner and what it counts.

mod page;

use std::path::PathBuf;

use serde::Serialize;

use super::fitting::{Fitted, fit};
use super::{ChatExamples, ChatTemplate, Conversation, Owner};
use crate::config::ChatTrainingConfig;
use crate::error::Error;
use crate::tokenizer::{SpecialTokenParser, Tokenizer};

pub use page::page;

/// A training row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreviewRow {
    /// Its number in the epoch's plan, from 0.
    pub row: u64,
    /// The conversations in it, which do not see each other.
    pub conversations: Vec<PreviewConversation>,
}

/// A conversation of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreviewConversation {
    /// The file, and the line or the number of the record in it, from 1.
    pub place: (PathBuf, u64),
    /// Whether turns, or its end, are cut off.
    pub cut: bool,
    /// Tokens that follow each other and are alike in everything but text.
    pub runs: Vec<PreviewRun>,
}

/// Tokens of one owner.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PreviewRun {
    /// Who speaks; none for the template.
    pub role: Option<String>,
    /// What the tokens are part of.
    pub kind: TokenKind,
    /// How much each counts when it is predicted; 0 trains nothing.
    pub weight: f32,
    /// The tokens.
    pub tokens: Vec<PreviewToken>,
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PreviewToken {
    /// Its text; of a token that is only part of a character, the name that the tokenizer has for it.
    pub text: String,
    /// Its id.
    pub id: u32,
    /// Whether it is a special token.
    pub special: bool,
}

/// What a token is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A message.
    Content,
    /// What ends a message's turn.
    EndOfTurn,
    /// What the template puts around messages.
    Template,
}

/// The first `count` rows of the first epoch.
///
/// # Errors
/// As [`super::encode`].
pub fn preview(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    config: &ChatTrainingConfig,
    conversations: &[Conversation],
    max_seq_len: usize,
    seed: u64,
    count: usize,
) -> Result<Vec<PreviewRow>, Error> {
    let examples = ChatExamples::new(template, tokenizer, config, conversations, max_seq_len, seed)?;
    if examples.is_empty() {
        return Ok(Vec::new());
    }
    let parser = tokenizer.parser();
    let conversation = |given: usize| {
        let fitted = fit(template, &parser, config, &conversations[given], max_seq_len)?;
        Ok(fitted.map(|fitted| previewed(&fitted, tokenizer, &parser)))
    };
    let row = |row: u64| {
        let given = examples.given(row).into_iter();
        let conversations = given.map(conversation).filter_map(Result::transpose).collect::<Result<_, Error>>()?;
        Ok(PreviewRow { row, conversations })
    };
    examples.at(0, count.min(examples.len())).rows.iter().map(|id| row(id.row)).collect()
}

fn previewed(fitted: &Fitted, tokenizer: &Tokenizer, parser: &SpecialTokenParser) -> PreviewConversation {
    let Fitted { conversation, encoded, cut } = fitted;
    let mut runs: Vec<PreviewRun> = Vec::new();
    let mut before = None;
    for (place, ((id, owner), weight)) in encoded.ids.iter().zip(&encoded.owners).zip(&encoded.weights).enumerate() {
        // The first token is never predicted, whatever it is part of.
        let weight = if place == 0 { 0.0 } else { *weight };
        let token = PreviewToken { text: text(tokenizer, *id), id: *id, special: parser.is_special(*id) };
        match runs.last_mut() {
            Some(run) if before == Some((*owner, weight)) => run.tokens.push(token),
            _ => {
                let (message, kind) = match owner {
                    Owner::Content(message) => (Some(*message), TokenKind::Content),
                    Owner::EndOfTurn(message) => (Some(*message), TokenKind::EndOfTurn),
                    Owner::Template => (None, TokenKind::Template),
                };
                let role = message.map(|message| conversation.messages[message].role.clone());
                runs.push(PreviewRun { role, kind, weight, tokens: vec![token] });
            }
        }
        before = Some((*owner, weight));
    }
    PreviewConversation { place: conversation.place.clone(), cut: *cut, runs }
}

/// What a token alone stands for.
fn text(tokenizer: &Tokenizer, id: u32) -> String {
    let alone = tokenizer.decode(&[id]).unwrap_or_default();
    if alone.is_empty() || alone.contains('\u{fffd}') { tokenizer.token(id).unwrap_or(alone) } else { alone }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerConfig;
    use crate::chat::Message;

    pub(super) fn rows(config: &str, turns: &[&[(&str, &str)]]) -> Vec<PreviewRow> {
        let config: ChatTrainingConfig = toml::from_str(config).unwrap();
        let bpe = toml::from_str("vocab_size = 290").unwrap();
        let text = "hello there, how are you? user assistant system <b> ".repeat(9);
        let tokenizer = Tokenizer::train(&TokenizerConfig::Bpe(bpe), &[text.clone(), text], true).unwrap();
        let (template, tokenizer) = ChatTemplate::for_training(&config, tokenizer).unwrap();
        let message =
            |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into(), weight: None };
        let talk = |(line, turns): (u64, &&[(&str, &str)])| Conversation {
            messages: turns.iter().map(message).collect(),
            place: ("f.jsonl".into(), line),
        };
        let talks: Vec<Conversation> = (1..).zip(turns).map(talk).collect();
        preview(&template, &tokenizer, &config, &talks, 120, 3, 5).unwrap()
    }

    pub(super) const TALKS: [&[(&str, &str)]; 2] =
        [&[("user", "hello <b>"), ("assistant", "how?\n狐")], &[("user", "you"), ("assistant", "there")]];

    #[test]
    fn a_row_shows_every_token_of_its_conversations_with_owner_and_weight() {
        let rows = rows("", &TALKS);
        assert_eq!(rows.len(), 1);
        let shown = &rows[0].conversations;
        assert_eq!(shown.len(), 2);
        let first = shown.iter().find(|one| one.place.1 == 1).unwrap();
        let runs: Vec<(Option<&str>, TokenKind, f32, String)> = first
            .runs
            .iter()
            .map(|run| (run.role.as_deref(), run.kind, run.weight, run.tokens.iter().map(|t| &t.text[..]).collect()))
            .collect();
        let (user, assistant) = (Some("user"), Some("assistant"));
        // The character that is cut into bytes is shown as the tokenizer names these.
        let expected = [
            (None, TokenKind::Template, 0.0, "<|im_start|>user\n"),
            (user, TokenKind::Content, 0.0, "hello <b>"),
            (user, TokenKind::EndOfTurn, 0.0, "<|im_end|>"),
            (None, TokenKind::Template, 0.0, "\n<|im_start|>assistant\n"),
            (assistant, TokenKind::Content, 1.0, "how?\nçĭĲ"),
            (assistant, TokenKind::EndOfTurn, 1.0, "<|im_end|>"),
            (None, TokenKind::Template, 0.0, "\n"),
        ];
        assert_eq!(runs, expected.map(|(role, kind, weight, text)| (role, kind, weight, text.to_owned())));
        let special = |run: &PreviewRun| run.tokens.iter().filter(|token| token.special).count();
        assert_eq!(first.runs.iter().map(special).collect::<Vec<_>>(), [1, 0, 1, 1, 0, 1, 0]);
        assert!(super::tests::rows("role_weights = { assistant = 0 }", &TALKS).is_empty());
    }
}
