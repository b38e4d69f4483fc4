//! A conversation with a chat model.

use crate::generator::{Limits, Row, generate};
use crate::sampling::{Sampler, SamplingError, SamplingSettings};
use crate::text_stream::TextStream;
use burn::tensor::Device;
use checkpoint::Pretrained;
use data::Error;
use data::chat::{ChatTemplate, Message};

/// A conversation with a chat model, which answers as its template says.
#[derive(Debug)]
pub struct ChatSession {
    opened: Pretrained,
    device: Device,
    template: ChatTemplate,
    stop: Vec<u32>,
    /// How tokens are chosen; each answer has a seed of its own.
    pub sampling: SamplingSettings,
    /// Tokens of an answer at most.
    pub max_new_tokens: usize,
    system: Option<String>,
    /// Questions and answers in turn.
    messages: Vec<Message>,
    answered: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// Its text.
    pub text: String,
    /// The oldest turns that were forgotten so that the conversation fits.
    pub forgotten: usize,
    /// Whether the model ended it, and not the most new tokens.
    pub ended: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The model has no template, or cannot read what was said.
    #[error(transparent)]
    Data(#[from] Error),
    /// Settings that choose nothing.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A message that does not fit.
    #[error(
        "the message has {tokens} tokens with what the template adds, the model reads {most}; hint: say it shorter"
    )]
    TooLong {
        /// Tokens of the message.
        tokens: usize,
        /// What fits beside an answer.
        most: usize,
    },
    /// There is no last answer.
    #[error("there is no answer yet that could be given again")]
    NothingToRegenerate,
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.into(), content: content.into(), weight: None }
}

impl ChatSession {
    /// A new conversation.
    ///
    /// # Errors
    /// A model without a chat template.
    pub fn new(
        opened: Pretrained,
        device: Device,
        sampling: SamplingSettings,
        max_new_tokens: usize,
    ) -> Result<Self, ChatError> {
        let Some(template) = ChatTemplate::of_tokenizer(&opened.tokenizer)? else {
            let hint = "train it on [data.chat], or use `firebox generate`";
            return Err(Error::config("chat_template", "the model's tokenizer has none", hint).into());
        };
        let stop = template.stop_tokens(&opened.tokenizer);
        let (messages, system) = (Vec::new(), None);
        Ok(Self { opened, device, template, stop, sampling, max_new_tokens, system, messages, answered: 0 })
    }

    /// What was said, the system message first.
    pub fn messages(&self) -> Vec<Message> {
        self.with_system(&self.messages)
    }

    fn with_system(&self, messages: &[Message]) -> Vec<Message> {
        let system = self.system.iter().map(|system| message("system", system));
        system.chain(messages.iter().cloned()).collect()
    }

    /// Forgets everything but the system message.
    pub fn reset(&mut self) {
        self.messages.clear();
    }

    /// Begins anew with this system message, or without one.
    pub fn set_system(&mut self, system: Option<String>) {
        self.system = system;
        self.reset();
    }

    /// Answers; `on_text` sees the answer as it comes, and ends it by returning false.
    ///
    /// # Errors
    /// A message that does not fit, or that the template refuses; what was said before stands.
    pub fn reply(&mut self, said: &str, on_text: impl FnMut(&str) -> bool + Send) -> Result<Reply, ChatError> {
        self.messages.push(message("user", said));
        let answer = self.answer(on_text);
        if answer.is_err() {
            self.messages.pop();
        }
        answer
    }

    /// Answers the last message again, in other words.
    ///
    /// # Errors
    /// As [`ChatSession::reply`]; no answer yet.
    pub fn regenerate(&mut self, on_text: impl FnMut(&str) -> bool + Send) -> Result<Reply, ChatError> {
        if self.messages.last().is_none_or(|last| last.role != "assistant") {
            return Err(ChatError::NothingToRegenerate);
        }
        let before = self.messages.pop();
        let answer = self.answer(on_text);
        if answer.is_err() {
            self.messages.extend(before);
        }
        answer
    }

    /// Answers the last message.
    fn answer(&mut self, mut on_text: impl FnMut(&str) -> bool + Send) -> Result<Reply, ChatError> {
        let most = self.opened.config.max_seq_len;
        // Half of the context is kept free for the answer, where it may be that long.
        let room = most - self.max_new_tokens.clamp(1, (most / 2).max(1)).min(most - 1);
        let mut forgotten = 0;
        let prompt = loop {
            // A turn is a question and its answer; the last question has none yet.
            let kept = &self.messages[2 * forgotten..];
            let prompt = self.template.prompt(&self.with_system(kept), &self.opened.tokenizer)?;
            if prompt.len() <= room {
                break prompt;
            }
            if kept.len() < 3 {
                return Err(ChatError::TooLong { tokens: prompt.len(), most: room });
            }
            forgotten += 1;
        };
        self.messages.drain(..2 * forgotten);
        let sampling =
            SamplingSettings { seed: self.sampling.seed.wrapping_add(self.answered), ..self.sampling.clone() };
        self.answered += 1;
        let mut row = [Row { sampler: Sampler::new(sampling)?, prompt }];
        let limits = Limits {
            max_new_tokens: self.max_new_tokens.min(most - row[0].prompt.len()),
            vocabulary: self.opened.tokenizer.vocab_size(),
            stop: self.stop.clone(),
        };
        let (mut stream, mut text, mut failed) = (TextStream::default(), String::new(), None);
        let tokenizer = &self.opened.tokenizer;
        let new = generate(&self.opened.model, &self.device, &mut row, limits.clone(), |_, id| {
            match stream.push(tokenizer, id) {
                Ok(piece) => {
                    // An answer does not begin with white space, whatever the template leaves to the model.
                    let piece = if text.is_empty() { piece.trim_start() } else { &piece };
                    text += piece;
                    piece.is_empty() || on_text(piece)
                }
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        let rest = stream.rest(tokenizer)?;
        if !rest.is_empty() {
            text += &rest;
            on_text(&rest);
        }
        self.messages.push(message("assistant", text.trim_end()));
        let ended = new.first().is_none_or(|new| new.len() < limits.max_new_tokens);
        Ok(Reply { text: text.trim_end().into(), forgotten, ended })
    }
}
