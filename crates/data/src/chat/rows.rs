//! Conversations as rows: cut to fit, and packed so that little is padding.

use std::sync::Arc;

use rayon::prelude::*;

use super::fitting::{Fitted, fit};
use super::render::EncodedConversation;
use super::{ChatTemplate, Conversation};
use crate::batch::{Batch, RowId, Target};
use crate::config::ChatTrainingConfig;
use crate::error::Error;
use crate::length_order::LengthOrder;
use crate::packing::pack;
use crate::tokenizer::Tokenizer;

/// Encoded conversations and the rows they stand in; cheap to clone.
#[derive(Clone, Debug)]
pub struct ChatExamples {
    conversations: Arc<[EncodedConversation]>,
    /// Of each, its place among those that were given.
    given: Arc<[u32]>,
    /// The conversations of each row, by their places.
    rows: Arc<[Vec<u32>]>,
    order: LengthOrder,
    counts: ChatCounts,
}

/// What became of the conversations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChatCounts {
    /// Of which turns, or the end, were cut off.
    pub cut: usize,
    /// That did not fit and were left out.
    pub dropped: usize,
    /// Of which nothing is trained, and which were left out.
    pub untrained: usize,
}

impl ChatExamples {
    /// Encodes conversations for a context of `max_seq_len` tokens.
    ///
    /// # Errors
    /// As [`super::encode`].
    pub fn new(
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        config: &ChatTrainingConfig,
        conversations: &[Conversation],
        max_seq_len: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let parser = tokenizer.parser();
        let fit = |conversation: &Conversation| fit(template, &parser, config, conversation, max_seq_len);
        let fitted = conversations.par_iter().map(fit).collect::<Result<Vec<_>, Error>>()?;
        let mut counts = ChatCounts::default();
        let (mut kept, mut given) = (Vec::with_capacity(fitted.len()), Vec::with_capacity(fitted.len()));
        for (place, fitted) in (0..).zip(fitted) {
            let Some(Fitted { encoded, cut, .. }) = fitted else {
                counts.dropped += 1;
                continue;
            };
            counts.cut += usize::from(cut);
            if !encoded.trains() {
                counts.untrained += 1;
                continue;
            }
            kept.push(encoded);
            given.push(place);
        }
        let lengths: Vec<usize> = kept.iter().map(|encoded| encoded.ids.len() - 1).collect();
        let rows = match config.packing {
            true => pack(&lengths, max_seq_len, seed),
            false => (0..lengths.len() as u32).map(|place| vec![place]).collect(),
        };
        let of_row = |row: &Vec<u32>| row.iter().map(|place| lengths[*place as usize]).sum::<usize>();
        let order = LengthOrder::new(rows.iter().map(of_row), seed);
        Ok(Self { conversations: kept.into(), given: given.into(), rows: rows.into(), order, counts })
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The conversations, in the order they were given.
    pub fn conversations(&self) -> &[EncodedConversation] {
        &self.conversations
    }

    /// What was cut and left out.
    pub fn counts(&self) -> ChatCounts {
        self.counts
    }

    /// The conversations of a row, by their places among those that were given.
    pub(super) fn given(&self, row: u64) -> Vec<usize> {
        self.rows[row as usize].iter().map(|place| self.given[*place as usize] as usize).collect()
    }

    /// Tokens that are read, all rows together.
    pub fn tokens(&self) -> usize {
        self.order.tokens()
    }

    /// Tokens that are trained.
    pub fn trained_tokens(&self) -> usize {
        let of_one = |encoded: &EncodedConversation| encoded.weights.iter().skip(1).filter(|w| **w != 0.0).count();
        self.conversations.iter().map(of_one).sum()
    }

    /// The share of padding in batches of `rows` rows over the first epoch.
    pub fn padding_share(&self, rows: usize) -> f64 {
        self.order.padding_share(rows)
    }

    /// The rows behind the first `position` rows of a run.
    pub(crate) fn at(&self, position: u64, rows: usize) -> Batch {
        self.batch(self.order.rows(position, rows))
    }

    /// At most `most` rows, for evaluations: by length, for the fewest padding.
    pub(crate) fn by_length(&self, most: usize) -> Vec<u64> {
        self.order.by_length(most)
    }

    /// These rows, padded to the longest of them: every conversation is a segment of its own, and trained towards its own
    /// next token alone.
    pub(crate) fn batch(&self, ids: Vec<RowId>) -> Batch {
        let rows: Vec<Vec<&EncodedConversation>> = ids
            .iter()
            .map(|id| self.rows[id.row as usize].iter().map(|place| &self.conversations[*place as usize]).collect())
            .collect();
        let width = rows.iter().map(|row| row.iter().map(|one| one.ids.len() - 1).sum()).max().unwrap_or(0);
        let size = rows.len() * width;
        let mut batch = Batch {
            shape: [rows.len(), width],
            tokens: Vec::with_capacity(size),
            segments: Vec::with_capacity(size),
            positions: Vec::with_capacity(size),
            token_types: None,
            targets: Vec::new(),
            weights: Vec::new(),
            rows: ids,
        };
        let mut targets = Vec::with_capacity(size);
        let mut weights = Vec::with_capacity(size);
        for (index, row) in rows.iter().enumerate() {
            for (segment, one) in (1..).zip(row) {
                let length = one.ids.len() - 1;
                batch.tokens.extend_from_slice(&one.ids[..length]);
                batch.segments.extend(std::iter::repeat_n(segment, length));
                batch.positions.extend(0..length as u32);
                targets.extend_from_slice(&one.ids[1..]);
                weights.extend_from_slice(&one.weights[1..]);
            }
            let end = (index + 1) * width;
            for values in [&mut batch.tokens, &mut batch.segments, &mut batch.positions, &mut targets] {
                values.resize(end, 0);
            }
            weights.resize(end, 0.0);
        }
        batch.targets = vec![Target::Tokens(targets)];
        batch.weights = vec![weights];
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerConfig;
    use crate::chat::{Message, Owner};
    use std::collections::BTreeSet;

    fn conversation(turns: usize, words: usize) -> Conversation {
        let message = |place: usize| Message {
            role: ["user", "assistant"][place % 2].into(),
            content: format!("{} {place}", "hello".repeat(words)),
            weight: None,
        };
        Conversation { messages: (0..2 * turns).map(message).collect(), place: ("c.jsonl".into(), turns as u64) }
    }

    fn setup(config: &str) -> (ChatTrainingConfig, ChatTemplate, Tokenizer) {
        let config: ChatTrainingConfig = toml::from_str(config).unwrap();
        let text = "hello 0 1 2 3 4 5 6 7 8 9 <|im_start|>user\n<|im_end|>assistant system".to_string();
        let tokenizer = Tokenizer::train(&TokenizerConfig::Char(Default::default()), &[text], true).unwrap();
        let (template, tokenizer) = ChatTemplate::for_training(&config, tokenizer).unwrap();
        (config, template, tokenizer)
    }

    fn examples(config: &str, conversations: &[Conversation], most: usize) -> ChatExamples {
        let (config, template, tokenizer) = setup(config);
        ChatExamples::new(&template, &tokenizer, &config, conversations, most, 5).unwrap()
    }

    #[test]
    fn a_packed_row_holds_each_conversation_as_it_is_alone() {
        let talks: Vec<Conversation> = (1..30).map(|i| conversation(1 + i % 3, i % 4)).collect();
        let packed = examples("", &talks, 200);
        let alone = examples("packing = false", &talks, 200);
        assert!(packed.len() < alone.len() && packed.tokens() == alone.tokens());
        assert_eq!(packed.conversations(), alone.conversations());
        let segments = |examples: &ChatExamples| -> BTreeSet<Vec<(u32, u32, u32, u32)>> {
            let batch = examples.at(0, examples.len());
            let Target::Tokens(targets) = &batch.targets[0] else { panic!("tokens are trained") };
            let mut found = Vec::new();
            for (place, target) in targets.iter().enumerate().filter(|(place, _)| batch.segments[*place] != 0) {
                if batch.positions[place] == 0 {
                    found.push(Vec::new());
                }
                let weight = batch.weights[0][place] as u32;
                found.last_mut().unwrap().push((batch.tokens[place], batch.positions[place], *target, weight));
            }
            found.into_iter().collect()
        };
        assert_eq!(segments(&packed), segments(&alone));
        assert_eq!(packed.at(3, 5), packed.at(3, 5));
        assert!(packed.padding_share(4) < 0.2, "{}", packed.padding_share(4));
    }

    #[test]
    fn long_conversations_lose_their_oldest_turns_their_end_or_are_left_out() {
        let talks = [conversation(4, 2), conversation(1, 0), conversation(1, 40)];
        let first_messages = |examples: &ChatExamples| -> Vec<usize> {
            let first = |one: &EncodedConversation| {
                one.owners.iter().find_map(|owner| if let Owner::Content(place) = owner { Some(*place) } else { None })
            };
            examples.conversations().iter().filter_map(first).collect()
        };
        let oldest = examples("system = 'hello'", &talks, 120);
        assert_eq!(oldest.counts(), ChatCounts { cut: 1, dropped: 1, untrained: 0 });
        assert_eq!(first_messages(&oldest), [0, 0]);
        let (_, _, tokenizer) = setup("");
        let text = tokenizer.decode(&oldest.conversations()[0].ids).unwrap();
        assert!(
            text.starts_with("<|im_start|>system\nhello") && text.contains(" 7<|im_end|>") && !text.contains(" 0<"),
            "{text}"
        );
        let end = examples("truncation = 'end'", &talks, 120);
        assert_eq!(end.counts(), ChatCounts { cut: 2, dropped: 0, untrained: 1 });
        assert_eq!(end.conversations()[0].ids.len(), 121);
        assert_eq!(examples("truncation = 'drop'", &talks, 120).counts().dropped, 2);
    }
}
