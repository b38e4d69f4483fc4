//! A conversation as tokens, each with its owner.
//!
//! The template runs once over the messages and once over stand-ins for their contents; where the stand-ins come to
//! lie says exactly which bytes of the text are which message. Put back in place of the stand-ins, the messages must give
//! the text, byte for byte; a template for which they do not is refused.

use std::ops::Range;

use super::stand_ins::{self, Placed};
use super::{ChatTemplate, Conversation, Message};
use crate::config::{ChatTrainingConfig, TrainOn};
use crate::error::Error;
use crate::tokenizer::SpecialTokenParser;

/// Where a message lies in a rendered text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageSpan {
    /// Its place in the conversation.
    pub message: usize,
    /// The bytes of its content.
    pub content: Range<usize>,
    /// The bytes that end its turn: up to the special token behind it, if only white space lies between; else empty.
    pub end_of_turn: Range<usize>,
}

/// What a token is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A message's content, by its place in the conversation.
    Content(usize),
    /// What ends a message's turn.
    EndOfTurn(usize),
    /// What the template puts around messages.
    Template,
}

/// A conversation as a model reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedConversation {
    /// The tokens' ids.
    pub ids: Vec<u32>,
    /// Whose each token is.
    pub owners: Vec<Owner>,
    /// How much each token counts when it is predicted; 0 trains nothing.
    pub weights: Vec<f32>,
}

impl EncodedConversation {
    /// Whether any token is trained. The first never is: nothing stands before it.
    pub fn trains(&self) -> bool {
        self.weights.iter().skip(1).any(|weight| *weight != 0.0)
    }
}

/// What is wrong with a template for one conversation.
fn not_located(conversation: &Conversation, message: String) -> Error {
    Error::Record {
        path: conversation.place.0.clone(),
        line: conversation.place.1,
        message,
        hint: "a template must write each message once, as it is or trimmed".into(),
    }
}

/// A conversation's text and where its messages lie in it.
///
/// # Errors
/// What the template refuses; a template that changes, leaves out or repeats messages, by the conversation's place.
pub fn render(
    template: &ChatTemplate,
    conversation: &Conversation,
    special_tokens: &[String],
) -> Result<(String, Vec<MessageSpan>), Error> {
    let messages = &conversation.messages;
    let refused = |error: Error| not_located(conversation, error.to_string());
    let text = template.render(messages, false).map_err(refused)?;
    let located = match stand_ins::locate(template, messages, &text) {
        Placed::Exactly(located) => located,
        Placed::Ambiguously => {
            let message = "the chat template trims messages so that it cannot be told where they begin and end";
            return Err(not_located(conversation, message.into()));
        }
        Placed::Nowhere => {
            return Err(not_located(conversation, "the chat template changes messages or repeats them".into()));
        }
    };
    let says = |message: &Message| message.role == "assistant" && !message.content.trim().is_empty();
    let mut answers = (0..messages.len()).filter(|place| says(&messages[*place]));
    if let Some(lost) = answers.find(|place| located.iter().all(|(message, _)| message != place)) {
        return Err(not_located(conversation, format!("the chat template leaves out message {}", lost + 1)));
    }
    let begins: Vec<usize> = located.iter().map(|(_, content)| content.start).collect();
    let spans = located.into_iter().enumerate().map(|(index, (message, content))| {
        let until = begins.get(index + 1).copied().unwrap_or(text.len());
        let end = content.end;
        let end_of_turn = end..end + end_of_turn(&text[end..until], special_tokens);
        MessageSpan { message, content, end_of_turn }
    });
    let spans = spans.collect();
    Ok((text, spans))
}

/// Bytes up to the end of the first special token, if only white space lies before it.
fn end_of_turn(behind: &str, special_tokens: &[String]) -> usize {
    let blank = behind.len() - behind.trim_start().len();
    let token = special_tokens.iter().filter(|token| behind[blank..].starts_with(token.as_str()));
    token.map(|token| blank + token.len()).max().unwrap_or(0)
}

/// A conversation as tokens with their owners and what each counts.
///
/// # Errors
/// As [`render`]; a character that a character-level tokenizer does not know.
pub fn encode(
    template: &ChatTemplate,
    parser: &SpecialTokenParser,
    config: &ChatTrainingConfig,
    conversation: &Conversation,
) -> Result<EncodedConversation, Error> {
    let (text, mut spans) = render(template, conversation, parser.special_tokens())?;
    for span in &mut spans {
        // What a model writes before its answer is learned with it, or it never begins one.
        let writes = conversation.messages[span.message].role == "assistant";
        if writes && text[..span.content.start].ends_with(template.lead()) {
            span.content.start -= template.lead().len();
        }
    }
    let tokens = parser.encode(&text).map_err(|error| not_located(conversation, error.to_string()))?;
    let overlaps = |a: &Range<usize>, b: &Range<usize>| a.start < b.end && b.start < a.end;
    // Both are in order: a token is compared with the spans that are not behind it yet.
    let mut first = 0;
    let owner = |(id, range): &(u32, Range<usize>)| {
        let range = &if parser.is_special(*id) { without_blanks(&text, range) } else { range.clone() };
        while first < spans.len() && spans[first].end_of_turn.end.max(spans[first].content.end) <= range.start {
            first += 1;
        }
        let near = &spans[first..(first + 2).min(spans.len())];
        let content = near.iter().find(|span| overlaps(&span.content, range));
        let end = || near.iter().find(|span| overlaps(&span.end_of_turn, range));
        match content {
            Some(span) => Owner::Content(span.message),
            None => end().map_or(Owner::Template, |span| Owner::EndOfTurn(span.message)),
        }
    };
    let owners: Vec<Owner> = tokens.iter().map(owner).collect();
    let of_messages = message_weights(config, &conversation.messages);
    let weight = |owner: &Owner| match owner {
        Owner::Content(message) => of_messages[*message],
        Owner::EndOfTurn(message) if config.train_end_of_turn => of_messages[*message],
        Owner::EndOfTurn(_) => 0.0,
        Owner::Template => f32::from(u8::from(config.train_on == TrainOn::All)),
    };
    let weights = owners.iter().map(weight).collect();
    Ok(EncodedConversation { ids: tokens.into_iter().map(|(id, _)| id).collect(), owners, weights })
}

/// A special token may take the white space beside it; it lies where its own text lies.
fn without_blanks(text: &str, range: &Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + part.len() - part.trim_start().len();
    if part.trim().is_empty() { range.clone() } else { start..start + part.trim().len() }
}

/// How much each message counts: its own weight, else its role's, else whether it is trained.
pub(crate) fn message_weights(config: &ChatTrainingConfig, messages: &[Message]) -> Vec<f32> {
    let last = messages.iter().rposition(|message| message.role == "assistant");
    let weight = |(place, message): (usize, &Message)| {
        let given = message.weight.or_else(|| config.role_weights.get(&message.role).map(|weight| *weight as f32));
        let trained = match config.train_on {
            TrainOn::All => true,
            TrainOn::Assistant => message.role == "assistant",
            TrainOn::LastAssistant => Some(place) == last,
        };
        match message.role == "assistant" {
            true if !trained => 0.0,
            true => given.unwrap_or(1.0),
            false => given.unwrap_or(if trained { 1.0 } else { 0.0 }),
        }
    };
    messages.iter().enumerate().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TemplateName;
    use crate::tokenizer::Tokenizer;

    fn conversation(turns: &[(&str, &str)]) -> Conversation {
        let message =
            |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into(), weight: None };
        Conversation { messages: turns.iter().map(message).collect(), place: ("chat.jsonl".into(), 7) }
    }

    fn tokenizer() -> Tokenizer {
        let config = toml::from_str("vocab_size = 300").unwrap();
        let text = "hello there, how are you? I am fine. ".repeat(20);
        Tokenizer::train(&crate::TokenizerConfig::Bpe(config), &[text.clone(), text], true).unwrap()
    }

    const TURNS: [(&str, &str); 5] = [
        ("system", " Be brief. "),
        ("user", "hello\n"),
        ("assistant", " hi there "),
        ("user", "how are you? 你好"),
        ("assistant", "fine"),
    ];

    #[test]
    fn every_token_of_every_built_in_template_has_its_owner() {
        for name in [
            TemplateName::Chatml,
            TemplateName::Llama2,
            TemplateName::Llama3,
            TemplateName::Zephyr,
            TemplateName::Alpaca,
            TemplateName::Plain,
        ] {
            let config = ChatTrainingConfig { template: Some(name), ..ChatTrainingConfig::default() };
            let (template, tokenizer) = ChatTemplate::for_training(&config, tokenizer()).unwrap();
            let conversation = conversation(&TURNS);
            let parser = tokenizer.parser();
            let encoded = encode(&template, &parser, &config, &conversation).unwrap();
            let of = |wanted: Owner| -> String {
                let ids: Vec<u32> = encoded
                    .ids
                    .iter()
                    .zip(&encoded.owners)
                    .filter(|(_, owner)| **owner == wanted)
                    .map(|(id, _)| *id)
                    .collect();
                tokenizer.decode(&ids).unwrap()
            };
            for (place, (role, content)) in TURNS.iter().enumerate() {
                let owned = of(Owner::Content(place));
                assert_eq!(owned.trim(), content.trim(), "{name:?}");
                if *role == "assistant" {
                    let end = of(Owner::EndOfTurn(place));
                    assert!(end.trim().starts_with("<|") && end.trim().ends_with("|>"), "{name:?}: {end:?}");
                }
            }
            let trained: f32 = encoded.weights.iter().sum();
            let owned = |owner: &&Owner| matches!(owner, Owner::Content(2 | 4) | Owner::EndOfTurn(2 | 4));
            assert_eq!(trained as usize, encoded.owners.iter().filter(owned).count(), "{name:?}");
        }
    }

    #[test]
    fn what_is_trained_follows_config_and_data() {
        let mut talk = conversation(&TURNS);
        let of = |config: &str, talk: &Conversation| message_weights(&toml::from_str(config).unwrap(), &talk.messages);
        assert_eq!(of("", &talk), [0.0, 0.0, 1.0, 0.0, 1.0]);
        assert_eq!(of("train_on = 'last_assistant'", &talk), [0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(of("train_on = 'all'\nrole_weights = { system = 0 }", &talk), [0.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(of("role_weights = { user = 0.25, assistant = 2 }", &talk), [0.0, 0.25, 2.0, 0.25, 2.0]);
        talk.messages[2].weight = Some(0.0);
        talk.messages[4].weight = Some(3.0);
        assert_eq!(of("role_weights = { assistant = 2 }", &talk), [0.0, 0.0, 0.0, 0.0, 3.0]);
    }

    #[test]
    fn a_template_that_hides_changes_or_repeats_messages_is_refused() {
        let render = |source: &str| {
            let template = ChatTemplate::new(source, "", "</s>").unwrap();
            render(&template, &conversation(&TURNS), &["</s>".into()])
        };
        for (source, said) in [
            ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "changes messages"),
            ("{% for m in messages %}{{ m.content + m.content }}{% endfor %}", "changes messages"),
            ("{{ messages[1].content }}", "leaves out message 3"),
            ("{{ raise_exception('no system') }}", "no system"),
        ] {
            let error = render(source).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("chat.jsonl:7"), "{error}");
        }
        // One that is in upper case already is not changed by this.
        let shouts = "{% for m in messages %}{{ m.content | upper }}{% endfor %}";
        let template = ChatTemplate::new(shouts, "", "").unwrap();
        assert!(super::render(&template, &conversation(&[("user", "A"), ("assistant", "B 2")]), &[]).is_ok());
        let (text, spans) = render("{% for m in messages %}{{ m.content | trim }}\n</s>|{% endfor %}").unwrap();
        assert_eq!(&text[spans[2].content.clone()], "hi there");
        assert_eq!(&text[spans[2].end_of_turn.clone()], "\n</s>");
    }

    #[test]
    fn an_empty_message_may_be_written_in_a_way_of_its_own() {
        let source = "{% for m in messages %}{% if m.content %}[{{ m.content }}]{% else %}-{% endif %}{% endfor %}";
        let template = ChatTemplate::new(source, "", "").unwrap();
        let (text, spans) =
            render(&template, &conversation(&[("system", ""), ("user", "a"), ("assistant", "b")]), &[]).unwrap();
        assert_eq!((text.as_str(), spans.len()), ("-[a][b]", 2));
    }

    #[test]
    fn a_special_token_that_takes_white_space_is_no_part_of_a_message() {
        let mut json: serde_json::Value = serde_json::from_str(tokenizer().to_json()).unwrap();
        let first = tokenizer().vocab_size() as u32;
        for (content, id, rstrip, lstrip) in [("<|answer|>", first, true, false), ("<|end|>", first + 1, false, true)] {
            json["added_tokens"].as_array_mut().unwrap().push(serde_json::json!({
                "id": id, "content": content, "single_word": false, "lstrip": lstrip, "rstrip": rstrip,
                "normalized": false, "special": true,
            }));
        }
        // This one would give tokens of white space no place at all.
        json["post_processor"] = serde_json::json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), json.to_string()).unwrap();
        let parser = Tokenizer::from_file(file.path()).unwrap().parser();
        let source = "{% for m in messages %}<|answer|>{{ m.content }}<|end|>{% endfor %}";
        let template = ChatTemplate::new(source, "", "").unwrap();
        let config = toml::from_str("train_end_of_turn = false").unwrap();
        let encoded = encode(&template, &parser, &config, &conversation(&[("assistant", " a\n\n\nb  ")])).unwrap();
        let trained = |wanted: bool| -> Vec<u32> {
            let pairs = encoded.ids.iter().zip(&encoded.weights);
            pairs.filter(|(_, weight)| (**weight > 0.0) == wanted).map(|(id, _)| *id).collect()
        };
        assert_eq!(trained(false), [first, first + 1]);
        assert_eq!(encoded.owners[0], Owner::Template);
        assert_eq!(encoded.owners.last(), Some(&Owner::EndOfTurn(0)));
        assert!(encoded.owners[1..encoded.owners.len() - 1].iter().all(|owner| *owner == Owner::Content(0)));
    }
}
