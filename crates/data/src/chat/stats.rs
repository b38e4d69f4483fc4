//! What conversations amount to as training data.

use std::collections::{BTreeMap, HashSet};

use rayon::prelude::*;
use serde::Serialize;

use super::fitting::with_system;
use super::render::encode;
use super::{ChatExamples, ChatTemplate, Conversation};
use crate::config::ChatTrainingConfig;
use crate::error::Error;
use crate::rows::Row;
use crate::tokenizer::Tokenizer;

/// Figures about conversations and the rows that they become.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChatStats {
    /// How many conversations there are.
    pub conversations: usize,
    /// How many of them stand before.
    pub duplicates: usize,
    /// Messages of each role.
    pub messages: BTreeMap<String, usize>,
    /// Messages of a conversation, those of the system aside.
    pub turns: Distribution,
    /// Tokens of a conversation, before it is cut to fit.
    pub tokens: Distribution,
    /// Conversations of which turns, or the end, are cut off.
    pub cut: usize,
    /// Conversations that do not fit and are left out.
    pub dropped: usize,
    /// Conversations of which nothing is trained, and which are left out.
    pub untrained: usize,
    /// The context, in tokens.
    pub max_seq_len: usize,
    /// Rows of an epoch.
    pub rows: usize,
    /// Conversations in a row.
    pub conversations_per_row: f64,
    /// Tokens that are read in an epoch.
    pub row_tokens: usize,
    /// The share of the rows' places that hold a token, if every row had the whole context.
    pub packing_efficiency: f64,
    /// The share of padding in batches of `batch_rows` rows, each as long as its longest row.
    pub padding_share: f64,
    /// Rows of a batch.
    pub batch_rows: usize,
    /// Tokens that are trained in an epoch.
    pub trained_tokens: usize,
    /// The share of the tokens that are trained.
    pub trained_share: f64,
}

/// How numbers are spread; all 0 where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Distribution {
    /// The least.
    pub min: usize,
    /// Half are at most this.
    pub p50: usize,
    /// Nine in ten are at most this.
    pub p90: usize,
    /// 99 in a hundred are at most this.
    pub p99: usize,
    /// The greatest.
    pub max: usize,
    /// The mean.
    pub mean: f64,
}

impl Distribution {
    /// The percentiles are the smallest numbers that so large a share does not exceed (nearest rank).
    fn of(mut values: Vec<usize>) -> Self {
        values.sort_unstable();
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return Self::default() };
        let percentile = |percent: usize| values[(percent * values.len()).div_ceil(100).max(1) - 1];
        let mean = values.iter().map(|value| *value as f64).sum::<f64>() / values.len() as f64;
        Self { min: *min, p50: percentile(50), p90: percentile(90), p99: percentile(99), max: *max, mean }
    }
}

impl ChatStats {
    /// Figures for a context of `max_seq_len` tokens and batches of `batch_rows` rows.
    ///
    /// # Errors
    /// As [`encode`].
    pub fn new(
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        config: &ChatTrainingConfig,
        conversations: &[Conversation],
        max_seq_len: usize,
        batch_rows: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let parser = tokenizer.parser();
        let length = |conversation: &Conversation| {
            let whole = with_system(config, conversation);
            Ok(encode(template, &parser, config, &whole)?.ids.len())
        };
        let lengths = conversations.par_iter().map(length).collect::<Result<Vec<usize>, Error>>()?;
        let examples = ChatExamples::new(template, tokenizer, config, conversations, max_seq_len, seed)?;
        let mut messages: BTreeMap<String, usize> = BTreeMap::new();
        for message in conversations.iter().flat_map(|conversation| &conversation.messages) {
            *messages.entry(message.role.clone()).or_default() += 1;
        }
        let turns = |conversation: &Conversation| {
            conversation.messages.iter().filter(|message| message.role != "system").count()
        };
        let mut seen = HashSet::new();
        let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        let counts = examples.counts();
        Ok(Self {
            conversations: conversations.len(),
            duplicates: conversations.iter().filter(|conversation| !seen.insert(conversation.content())).count(),
            messages,
            turns: Distribution::of(conversations.iter().map(turns).collect()),
            tokens: Distribution::of(lengths),
            cut: counts.cut,
            dropped: counts.dropped,
            untrained: counts.untrained,
            max_seq_len,
            rows: examples.len(),
            conversations_per_row: share(examples.conversations().len(), examples.len()),
            row_tokens: examples.tokens(),
            packing_efficiency: share(examples.tokens(), examples.len() * max_seq_len),
            padding_share: if examples.is_empty() { 0.0 } else { examples.padding_share(batch_rows) },
            batch_rows,
            trained_tokens: examples.trained_tokens(),
            trained_share: share(examples.trained_tokens(), examples.tokens()),
        })
    }
}

impl std::fmt::Display for Distribution {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { min, p50, p90, p99, max, mean } = self;
        write!(formatter, "mean {mean:.1}, least {min}, half {p50}, 90% {p90}, 99% {p99}, most {max}")
    }
}

impl std::fmt::Display for ChatStats {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let messages: Vec<String> = self.messages.iter().map(|(role, count)| format!("{count} {role}")).collect();
        writeln!(formatter, "  conversations  {} ({} stand before)", self.conversations, self.duplicates)?;
        writeln!(formatter, "  messages       {}", messages.join(", "))?;
        writeln!(formatter, "  turns          {}", self.turns)?;
        writeln!(formatter, "  tokens         {}", self.tokens)?;
        let Self { cut, dropped, untrained, max_seq_len, .. } = self;
        let lost = format!("{cut} cut, {dropped} do not fit, {untrained} train nothing");
        writeln!(formatter, "  context        {max_seq_len} tokens: {lost}")?;
        let (filled, padding) = (100.0 * self.packing_efficiency, 100.0 * self.padding_share);
        let rows = format!("{} of {:.1} conversations, {filled:.1}% full", self.rows, self.conversations_per_row);
        writeln!(formatter, "  rows           {rows}; {padding:.1}% padding in batches of {}", self.batch_rows)?;
        let share = 100.0 * self.trained_share;
        writeln!(formatter, "  trained        {} of {} tokens, {share:.1}%", self.trained_tokens, self.row_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerConfig;
    use crate::chat::Message;

    fn stats(config: &str, sizes: &[usize], context: usize) -> ChatStats {
        let config: ChatTrainingConfig = toml::from_str(config).unwrap();
        let text = "User: Assistant:\nxy".to_string();
        let tokenizer = Tokenizer::train(&TokenizerConfig::Char(Default::default()), &[text], true).unwrap();
        let (template, tokenizer) = ChatTemplate::for_training(&config, tokenizer).unwrap();
        let message = |role: &str, content: String| Message { role: role.into(), content, weight: None };
        let talk = |(line, size): (u64, &usize)| Conversation {
            messages: vec![message("user", "x".into()), message("assistant", "y".repeat(*size))],
            place: ("f".into(), line),
        };
        let talks: Vec<Conversation> = (1..).zip(sizes).map(talk).collect();
        ChatStats::new(&template, &tokenizer, &config, &talks, context, 2, 1).unwrap()
    }

    #[test]
    fn figures_of_conversations_whose_lengths_are_known() {
        // "User: x\n" has 8 tokens, "Assistant: " 11, of which the model writes the space, the end 2, of which the line
        // break is the template's.
        let found = stats("template = 'plain'", &[9, 19, 9, 59, 19], 60);
        assert_eq!((found.conversations, found.duplicates), (5, 2));
        assert_eq!(found.messages, BTreeMap::from([("assistant".into(), 5), ("user".into(), 5)]));
        assert_eq!(found.turns, Distribution { min: 2, p50: 2, p90: 2, p99: 2, max: 2, mean: 2.0 });
        assert_eq!(found.tokens, Distribution { min: 30, p50: 40, p90: 80, p99: 80, max: 80, mean: 44.0 });
        assert_eq!((found.cut, found.dropped, found.untrained), (0, 1, 0));
        // The last token of each is a target alone; 29 and 29 share a row, 39 and 39 do not fit together.
        assert_eq!((found.rows, found.row_tokens, found.trained_tokens), (3, 136, 11 + 21 + 11 + 21));
        assert_eq!(found.packing_efficiency, 136.0 / 180.0);
        assert_eq!(found.conversations_per_row, 4.0 / 3.0);
        assert!((found.trained_share - 64.0 / 136.0).abs() < 1e-12);
        let cut = stats("template = 'plain'\ntruncation = 'end'\npacking = false", &[9, 59], 60);
        assert_eq!((cut.cut, cut.rows, cut.row_tokens), (1, 2, 29 + 60));
        assert_eq!(cut.padding_share, 1.0 - 89.0 / 120.0);
    }

    #[test]
    fn no_conversation_gives_zeros_that_json_can_write() {
        let found = stats("template = 'plain'", &[], 60);
        assert_eq!((found.tokens, found.rows, found.trained_share), (Distribution::default(), 0, 0.0));
        assert!(!serde_json::to_string(&found).unwrap().contains("null"));
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let of = Distribution::of((1..=100).rev().collect());
        assert_eq!((of.min, of.p50, of.p90, of.p99, of.max, of.mean), (1, 50, 90, 99, 100, 50.5));
        assert_eq!(Distribution::of(vec![7]).p50, 7);
        assert_eq!(Distribution::of(vec![1, 2, 3]).p50, 2);
    }
}
