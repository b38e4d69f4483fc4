//! Conversations made to fit a context.

use super::render::{EncodedConversation, encode};
use super::{ChatTemplate, Conversation, Message};
use crate::config::{ChatTrainingConfig, ChatTruncation};
use crate::error::Error;
use crate::tokenizer::SpecialTokenParser;

/// A conversation that fits.
#[derive(Debug)]
pub(super) struct Fitted {
    /// With the config's system message, and without the turns that were left out.
    pub conversation: Conversation,
    pub encoded: EncodedConversation,
    /// Whether turns, or its end, were left out.
    pub cut: bool,
}

/// A conversation that begins with the config's system message, if it has none of its own.
pub fn with_system(config: &ChatTrainingConfig, conversation: &Conversation) -> Conversation {
    let mut conversation = conversation.clone();
    let has_one = conversation.messages.first().is_some_and(|message| message.role == "system");
    if let Some(system) = config.system.as_ref().filter(|_| !has_one) {
        let message = Message { role: "system".into(), content: system.clone(), weight: None };
        conversation.messages.insert(0, message);
    }
    conversation
}

/// A conversation as the config has it for a context of `max_seq_len` tokens; none if it is left out.
///
/// # Errors
/// As [`encode`].
pub(super) fn fit(
    template: &ChatTemplate,
    parser: &SpecialTokenParser,
    config: &ChatTrainingConfig,
    conversation: &Conversation,
    max_seq_len: usize,
) -> Result<Option<Fitted>, Error> {
    let conversation = with_system(config, conversation);
    let encoded = encode(template, parser, config, &conversation)?;
    cut(template, parser, config, Fitted { conversation, encoded, cut: false }, max_seq_len)
}

/// The same for one that is encoded.
///
/// # Errors
/// As [`encode`].
pub(super) fn cut(
    template: &ChatTemplate,
    parser: &SpecialTokenParser,
    config: &ChatTrainingConfig,
    mut whole: Fitted,
    max_seq_len: usize,
) -> Result<Option<Fitted>, Error> {
    // The last token is only ever a target.
    let most = max_seq_len + 1;
    if whole.encoded.ids.len() < 2 {
        return Ok(None);
    }
    if whole.encoded.ids.len() <= most {
        return Ok(Some(whole));
    }
    match config.truncation {
        ChatTruncation::Drop => Ok(None),
        ChatTruncation::End => {
            whole.encoded.ids.truncate(most);
            whole.encoded.owners.truncate(most);
            whole.encoded.weights.truncate(most);
            Ok(Some(Fitted { cut: true, ..whole }))
        }
        ChatTruncation::OldestTurns => {
            let messages = &whole.conversation.messages;
            let first = messages.iter().position(|message| message.role != "system").unwrap_or(messages.len());
            let turns: Vec<usize> =
                (first + 1..messages.len()).filter(|place| messages[*place].role == "user").collect();
            // The more turns are left out, the shorter: the first that fits is found by halving.
            let (mut low, mut high) = (0, turns.len());
            let mut found = None;
            while low < high {
                let middle = low + (high - low) / 2;
                let mut conversation = whole.conversation.clone();
                conversation.messages.drain(first..turns[middle]);
                let encoded = encode(template, parser, config, &conversation)?;
                if encoded.ids.len() <= most {
                    found = Some(Fitted { conversation, encoded, cut: true });
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            Ok(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenizerConfig;
    use crate::tokenizer::Tokenizer;

    #[test]
    fn as_few_of_the_oldest_turns_as_must_be_are_left_out() {
        let config: ChatTrainingConfig = toml::from_str("template = 'plain'\nsystem = 's'").unwrap();
        let text = "User: Assistant:\nsxy0123456789".to_string();
        let tokenizer = Tokenizer::train(&TokenizerConfig::Char(Default::default()), &[text], true).unwrap();
        let (template, tokenizer) = ChatTemplate::for_training(&config, tokenizer).unwrap();
        let message = |place: usize| Message {
            role: ["user", "assistant"][place % 2].into(),
            content: "x".repeat(1 + place * 7 % 5),
            weight: None,
        };
        let talk = Conversation { messages: (0..40).map(message).collect(), place: ("f".into(), 1) };
        let parser = tokenizer.parser();
        let length = |skipped: usize| {
            let mut talk = with_system(&config, &talk);
            talk.messages.drain(1..1 + skipped);
            encode(&template, &parser, &config, &talk).unwrap().ids.len()
        };
        for most in (20..length(0) + 5).step_by(9) {
            let expected = (0..20).map(|turns| 2 * turns).find(|skipped| length(*skipped) <= most + 1);
            let fitted = fit(&template, &parser, &config, &talk, most).unwrap();
            let kept = fitted.map(|fitted| (fitted.conversation.messages.len(), fitted.cut));
            assert_eq!(kept, expected.map(|skipped| (41 - skipped, skipped > 0)), "{most}");
        }
    }
}
