//! Chat templates: Jinja programs that write a conversation as one text, as HuggingFace's `apply_chat_template` runs
//! them.

use std::collections::BTreeMap;

use minijinja::value::Value;

use super::{Conversation, Message, jinja};
use crate::config::{ChatTrainingConfig, TemplateName};
use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// The longest source that is read as a template.
const MAX_SOURCE: usize = 1 << 20;

/// A chat template and the names that it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatTemplate {
    source: String,
    /// What runs: the source without the tags that mark generated parts.
    program: String,
    /// The special tokens by the names that templates give them, as `bos_token`.
    tokens: BTreeMap<String, String>,
    /// The white space between what stands before an answer when one is asked for and the answer in a conversation: a
    /// model must write it itself.
    lead: String,
}

impl TemplateName {
    /// The template's source, and the special tokens that it needs beside the end-of-text token; none for the tokenizer's
    /// own.
    pub(super) fn built_in(self) -> Option<(&'static str, &'static [&'static str])> {
        Some(match self {
            Self::Chatml => (include_str!("templates/chatml.jinja"), &["<|im_start|>", "<|im_end|>"]),
            Self::Llama2 => (include_str!("templates/llama2.jinja"), &[]),
            Self::Llama3 => (
                include_str!("templates/llama3.jinja"),
                &["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            ),
            Self::Zephyr => (include_str!("templates/zephyr.jinja"), &[]),
            Self::Alpaca => (include_str!("templates/alpaca.jinja"), &[]),
            Self::Plain => (include_str!("templates/plain.jinja"), &[]),
            Self::Tokenizer => return None,
        })
    }
}

impl ChatTemplate {
    /// A template with the texts that stand for `bos_token` and `eos_token`.
    ///
    /// # Errors
    /// A source that is no Jinja, or too long to be a template.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        if source.len() > MAX_SOURCE {
            return Err(refused(format!("the template has {} bytes, which none needs", source.len())));
        }
        let tokens = [("bos_token", bos), ("eos_token", eos)].map(|(name, text)| (name.into(), text.into())).into();
        let program = without_generation_tags(source);
        let mut template = Self { source: source.into(), program, tokens, lead: String::new() };
        jinja::environment(&template.program, 0).map_err(refused)?;
        template.lead = template.find_lead().unwrap_or_default();
        Ok(template)
    }

    /// What [`ChatTemplate::lead`] is, where the template can be asked.
    fn find_lead(&self) -> Option<String> {
        const ANSWER: &str = "b";
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into(), weight: None };
        let asked = [message("user", "a"), message("assistant", ANSWER)];
        let prompt = self.render(&asked[..1], true).ok()?;
        let whole = self.render(&asked, false).ok()?;
        let (lead, _) = whole.strip_prefix(&prompt)?.split_once(ANSWER)?;
        lead.trim().is_empty().then(|| lead.to_owned())
    }

    /// The white space that a model writes before its answer.
    pub(super) fn lead(&self) -> &str {
        &self.lead
    }

    /// The template of a tokenizer's directory, if it has one.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn of_tokenizer(tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        let [bos, eos] = ["bos_token", "eos_token"].map(|key| tokenizer.named_token(key).unwrap_or_default());
        let Some(source) = tokenizer.chat_template() else { return Ok(None) };
        let mut template = Self::new(source, &bos, &eos)?;
        for name in ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"] {
            template.tokens.extend(tokenizer.named_token(name).map(|text| (name.into(), text)));
        }
        // What the template writes may depend on all of them.
        template.lead = template.find_lead().unwrap_or_default();
        Ok(Some(template))
    }

    /// The template that a config asks for, and the tokenizer with it and the special tokens that it needs.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`]; `template = "tokenizer"` where the tokenizer has none; a file that cannot be read.
    pub fn for_training(config: &ChatTrainingConfig, tokenizer: Tokenizer) -> Result<(Self, Tokenizer), Error> {
        let name = match (config.template, tokenizer.chat_template()) {
            (Some(name), _) => name,
            (None, Some(_)) => TemplateName::Tokenizer,
            (None, None) => TemplateName::Chatml,
        };
        let own;
        let (source, specials) = match (&config.template_file, name.built_in()) {
            (Some(path), _) => {
                own = std::fs::read_to_string(path).map_err(Error::io(path))?;
                (own.trim_end(), &[][..])
            }
            (None, Some((source, specials))) => (source.trim_end(), specials),
            (None, None) => {
                let Some(template) = Self::of_tokenizer(&tokenizer)? else {
                    let message = "the tokenizer's directory has no chat template";
                    return Err(Error::config("chat.template", message, "`chatml` is a usual one"));
                };
                return Ok((template, tokenizer));
            }
        };
        let tokenizer = tokenizer.with_special_tokens(specials)?.with_chat_template(source);
        let template = Self::of_tokenizer(&tokenizer)?;
        Ok((template.expect("just given one"), tokenizer))
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether its texts depend on the day on which it runs.
    pub fn writes_date(&self) -> bool {
        self.program.contains("strftime_now")
    }

    /// A conversation as one text; with `generation_prompt` followed by what stands before an answer.
    ///
    /// # Errors
    /// What the template refuses, with its own words; a template that does not end.
    pub fn render(&self, messages: &[Message], generation_prompt: bool) -> Result<String, Error> {
        let fields = |message: &Message| {
            Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
        };
        let mut context: BTreeMap<&str, Value> =
            self.tokens.iter().map(|(name, text)| (name.as_str(), text.as_str().into())).collect();
        context.insert("messages", messages.iter().map(fields).collect::<Vec<Value>>().into());
        context.insert("add_generation_prompt", generation_prompt.into());
        // Given, but empty, as `apply_chat_template` gives them.
        context.extend(["tools", "documents"].map(|name| (name, ().into())));
        let given = messages.iter().map(|message| message.content.len()).sum();
        let environment = jinja::environment(&self.program, given).map_err(refused)?;
        jinja::run(&environment, Value::from_pairs(context)).map_err(refused)
    }

    /// The tokens after which an answer to these messages follows.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; a text that the tokenizer cannot encode.
    pub fn prompt(&self, messages: &[Message], tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
        let tokens = tokenizer.parser().encode(&self.render(messages, true)?)?;
        if tokens.is_empty() {
            return Err(refused("the template writes nothing before an answer".into()));
        }
        Ok(tokens.into_iter().map(|(id, _)| id).collect())
    }

    /// The tokens that end an answer: what the template puts behind one, and the end-of-text token.
    pub fn stop_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into(), weight: None };
        let messages = vec![message("user", "a"), message("assistant", "b")];
        let probe = Conversation { messages, place: Default::default() };
        let parser = tokenizer.parser();
        let mut found: Vec<u32> = tokenizer.end_of_text().into_iter().collect();
        if let Ok((text, spans)) = super::render(self, &probe, parser.special_tokens())
            && let Some(span) = spans.iter().find(|span| span.message == 1)
        {
            let end = parser.encode(text[span.end_of_turn.clone()].trim()).unwrap_or_default();
            found.extend(end.last().map(|(id, _)| *id).filter(|id| !found.contains(id)));
        }
        found
    }
}

/// The source with `{% generation %}` and its end, by which `transformers` marks what a model writes, replaced by a
/// condition that always holds.
fn without_generation_tags(source: &str) -> String {
    let tag = |name: &str| regex::Regex::new(&format!(r"\{{%([-+]?)\s*{name}\s*([-+]?)%\}}")).expect("a plain pattern");
    let opened = tag("generation").replace_all(source, "{%$1 if true $2%}");
    tag("endgeneration").replace_all(&opened, "{%$1 endif $2%}").into_owned()
}

fn refused(message: String) -> Error {
    Error::config("chat.template", message, "`firebox data preview` shows what a template makes of conversations")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(turns: &[(&str, &str)]) -> Vec<Message> {
        let message =
            |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into(), weight: None };
        turns.iter().map(message).collect()
    }

    #[test]
    fn each_built_in_template_writes_what_its_models_read() {
        let turns = messages(&[("system", "Be kind."), ("user", " Hi\n"), ("assistant", "Hello!")]);
        for (name, expected) in [
            (
                TemplateName::Chatml,
                "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n",
            ),
            (TemplateName::Llama2, "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\n Hi [/INST] Hello! </s>"),
            (
                TemplateName::Llama3,
                "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>",
            ),
            (TemplateName::Zephyr, "<|system|>\nBe kind.</s>\n<|user|>\n Hi\n</s>\n<|assistant|>\nHello!</s>\n"),
            (TemplateName::Alpaca, "Be kind.\n\n### Instruction:\n Hi\n\n\n### Response:\nHello!</s>\n\n"),
            (TemplateName::Plain, "Be kind.\n\nUser:  Hi\n\nAssistant: Hello!</s>\n"),
        ] {
            let source = name.built_in().unwrap().0.trim_end();
            let template = ChatTemplate::new(source, "<s>", "</s>").unwrap();
            assert_eq!(template.render(&turns, false).unwrap(), expected, "{name:?}");
            let prompted = template.render(&turns[..2], true).unwrap();
            let prompt = template.render(&turns[..2], false).unwrap();
            assert!(prompted.starts_with(&prompt), "{name:?}: {prompted}");
        }
    }

    #[test]
    fn a_bad_template_is_told_and_an_endless_one_ends() {
        let told = |source: &str| {
            let template = ChatTemplate::new(source, "", "");
            template.and_then(|template| template.render(&messages(&[("user", "x")]), false)).unwrap_err().to_string()
        };
        assert!(told("{% for x in messages %}").contains("chat.template"), "{}", told("{% for x in messages %}"));
        let endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
        assert!(told(endless).contains("does not come to an end"), "{}", told(endless));
        assert!(told("{{ raise_exception('roles must alternate') }}").contains("roles must alternate"));
        assert!(told(&"x".repeat(MAX_SOURCE + 1)).contains("bytes"));
    }

    #[test]
    fn generation_tags_python_methods_and_json_work_as_in_transformers() {
        let source = "{% for m in messages %}{%- generation -%} {{ m.content.strip().title() }} {%- endgeneration %}{% endfor %}{{ {'a': [1, 'é']} | tojson }}";
        let template = ChatTemplate::new(source, "", "").unwrap();
        assert_eq!(
            template.render(&messages(&[("user", " hi there ")]), false).unwrap(),
            "Hi There{\"a\": [1, \"é\"]}"
        );
    }
}
