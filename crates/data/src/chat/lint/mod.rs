//! What is likely wrong with conversations, found before they are trained on.

mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;

use super::fitting::{Fitted, cut, with_system};
use super::render::{EncodedConversation, MessageSpan, Owner, encode, render};
use super::{ChatTemplate, Conversation};
use crate::config::{ChatTrainingConfig, ChatTruncation};
use crate::rows::{Row, place};
use crate::tokenizer::{SpecialTokenParser, Tokenizer};

pub use rule::{Rule, Severity};

/// Something that is likely wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Which rule found it.
    pub rule: Rule,
    /// Whether training should not begin.
    pub severity: Severity,
    /// The conversation's file, and the line or the number of the record in it, from 1; none for what concerns all of them.
    pub place: Option<(PathBuf, u64)>,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some((file, line)) = &self.place {
            write!(formatter, "{}:{line}: ", file.display())?;
        }
        write!(formatter, "{} [{}]: {}", self.severity, self.rule, self.message)
    }
}

fn finding(rule: Rule, place: Option<&Conversation>, message: impl Into<String>) -> Finding {
    let place = place.map(|conversation| conversation.place.clone());
    Finding { rule, severity: rule.severity(), place, message: message.into() }
}

/// What is likely wrong with conversations for a context of `max_seq_len` tokens: first what concerns all of them, then
/// conversation by conversation, training before validation.
pub fn lint(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    config: &ChatTrainingConfig,
    train: &[Conversation],
    validation: &[Conversation],
    max_seq_len: usize,
) -> Vec<Finding> {
    let linter = Linter { template, parser: tokenizer.parser(), config, max_seq_len };
    let [of_train, of_validation] = [train, validation]
        .map(|part| part.par_iter().map(|conversation| linter.look_at(conversation)).collect::<Vec<Looked>>());
    let mut findings = of_all(template, tokenizer, config, &of_train);
    findings.extend(of_train.into_iter().flat_map(|looked| looked.findings));
    let trained: HashMap<[u8; 32], &Conversation> = train.iter().rev().map(|row| (row.content(), row)).collect();
    for (conversation, looked) in validation.iter().zip(of_validation) {
        if let Some(same) = trained.get(&conversation.content()) {
            let message = format!("this validation conversation is trained on too, at {}", place(*same));
            findings.push(finding(Rule::ValidationInTraining, Some(conversation), message));
        }
        findings.extend(looked.findings);
    }
    findings
}

/// What concerns no single conversation.
fn of_all(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    config: &ChatTrainingConfig,
    looked: &[Looked],
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if template.writes_date() {
        let message =
            "the template writes the day on which it runs: a run that is resumed on another day sees other rows";
        findings.push(finding(Rule::TemplateWritesDate, None, message));
    }
    let ends_trained = looked.iter().any(|looked| looked.trains_end);
    if !looked.iter().any(|looked| looked.trains) || ends_trained {
        return findings;
    }
    let why = match config.train_end_of_turn {
        true => "the template ends answers with no special token",
        false => "`chat.train_end_of_turn` is false",
    };
    let message = format!("no token that ends a turn is trained, so the model does not learn to stop: {why}");
    // Asked for by name it is no mistake.
    let severity = if config.train_end_of_turn { Severity::Error } else { Severity::Warning };
    findings.push(Finding { severity, ..finding(Rule::EndOfTurnNeverTrained, None, message) });
    let ends: BTreeSet<u32> = looked.iter().flat_map(|looked| looked.ends.clone()).collect();
    if let Some(pad) = tokenizer.named_token("pad_token")
        && ends.iter().any(|id| tokenizer.token(*id).as_ref() == Some(&pad))
    {
        let message = format!("`{pad}` is padding as well as the end of a turn, and is not trained");
        findings.push(finding(Rule::PadEndsTurns, None, message));
    }
    findings
}

/// A conversation, looked at.
#[derive(Default)]
struct Looked {
    findings: Vec<Finding>,
    /// Whether anything is trained.
    trains: bool,
    /// Whether the end of a turn is.
    trains_end: bool,
    /// The tokens that end answers.
    ends: BTreeSet<u32>,
}

struct Linter<'a> {
    template: &'a ChatTemplate,
    parser: SpecialTokenParser,
    config: &'a ChatTrainingConfig,
    max_seq_len: usize,
}

impl Linter<'_> {
    fn look_at(&self, conversation: &Conversation) -> Looked {
        let mut looked = Looked::default();
        let mut say = |rule: Rule, message: String| looked.findings.push(finding(rule, Some(conversation), message));
        if let Some(message) = out_of_order(conversation) {
            say(Rule::RoleOrder, message);
        }
        for (number, message) in (1..).zip(&conversation.messages) {
            if message.content.trim().is_empty() {
                say(Rule::EmptyTurn, format!("message {number} ({}) is empty", message.role));
            }
            let mut special = self.parser.special_tokens().iter().filter(|token| !token.is_empty());
            if let Some(token) = special.find(|token| message.content.contains(token.as_str())) {
                let message = format!("message {number} ({}) holds `{token}`, which becomes that token", message.role);
                say(Rule::SpecialTokenInContent, message);
            }
        }
        let whole = with_system(self.config, conversation);
        if let Err(error) = self.template.render(&whole.messages, false) {
            say(Rule::TemplateFails, error.to_string());
            return looked;
        }
        let spans = match render(self.template, &whole, self.parser.special_tokens()) {
            Ok((_, spans)) => spans,
            Err(error) => {
                say(Rule::MessagesNotLocated, error.to_string());
                return looked;
            }
        };
        for message in left_out(&whole, &spans) {
            say(Rule::MessageLeftOut, message);
        }
        match encode(self.template, &self.parser, self.config, &whole) {
            Ok(encoded) => {
                self.look_at_tokens(conversation, Fitted { conversation: whole, encoded, cut: false }, looked)
            }
            Err(error) => {
                say(Rule::NotEncodable, error.to_string());
                looked
            }
        }
    }

    fn look_at_tokens(&self, conversation: &Conversation, whole: Fitted, mut looked: Looked) -> Looked {
        let length = whole.encoded.ids.len();
        let mut say = |rule: Rule, message: String| looked.findings.push(finding(rule, Some(conversation), message));
        if self.config.truncation == ChatTruncation::End {
            for message in cut_away(&whole.encoded, self.max_seq_len + 1) {
                say(Rule::AnswerCutAway, format!("of message {} nothing fits into the context", message + 1));
            }
        }
        let Ok(Some(fitted)) = cut(self.template, &self.parser, self.config, whole, self.max_seq_len) else {
            let message = format!("{length} tokens do not fit into a context of {}: left out", self.max_seq_len);
            say(Rule::TooLong, message);
            return looked;
        };
        if !fitted.encoded.trains() {
            say(Rule::NothingTrained, "nothing of it is trained: left out".into());
            return looked;
        }
        looked.trains = true;
        let is_answer = |message: usize| fitted.conversation.messages[message].role == "assistant";
        let EncodedConversation { ids, owners, weights } = &fitted.encoded;
        for ((id, owner), weight) in ids.iter().zip(owners).zip(weights) {
            if matches!(owner, Owner::EndOfTurn(message) if is_answer(*message)) {
                looked.ends.insert(*id);
                looked.trains_end |= *weight != 0.0;
            }
        }
        looked
    }
}

/// What is wrong with who speaks when, for the first message that is out of order.
fn out_of_order(conversation: &Conversation) -> Option<String> {
    let roles: Vec<&str> = conversation.messages.iter().map(|message| message.role.as_str()).collect();
    let mut before = None;
    for (number, role) in (1..).zip(&roles) {
        let fits = match *role {
            "system" => before.is_none(),
            "user" => matches!(before, None | Some("system" | "assistant")),
            "assistant" => matches!(before, Some("user" | "tool")),
            "tool" => matches!(before, Some("assistant" | "tool")),
            _ => false,
        };
        if !fits {
            let behind = before.map_or("at the beginning".to_owned(), |before| format!("behind {before}"));
            return Some(format!("message {number} ({role}) stands {behind}"));
        }
        before = Some(role);
    }
    (before != Some("assistant")).then(|| "it does not end with an answer".to_owned())
}

/// The messages that have text, and that the template did not write.
fn left_out(conversation: &Conversation, spans: &[MessageSpan]) -> Vec<String> {
    let written: BTreeSet<usize> = spans.iter().map(|span| span.message).collect();
    let messages = conversation.messages.iter().enumerate();
    let lost = messages.filter(|(place, message)| !message.content.trim().is_empty() && !written.contains(place));
    lost.map(|(place, message)| format!("the template leaves out message {} ({})", place + 1, message.role)).collect()
}

/// The trained messages of which a conversation cut to `most` tokens would have nothing.
fn cut_away(encoded: &EncodedConversation, most: usize) -> BTreeSet<usize> {
    let trained = |from: usize, to: usize| -> BTreeSet<usize> {
        let pairs = encoded.owners[from..to].iter().zip(&encoded.weights[from..to]);
        let messages = pairs.filter_map(|(owner, weight)| match owner {
            Owner::Content(message) if *weight != 0.0 => Some(*message),
            _ => None,
        });
        messages.collect()
    };
    let most = most.min(encoded.ids.len());
    &trained(most, encoded.ids.len()) - &trained(0, most)
}
