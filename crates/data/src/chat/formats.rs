//! The formats of records: which one a record is in, and the messages it holds.

use serde_json::{Map, Value};

use super::Message;
use super::turns::{self, Problem, is_given, kind, message};
use crate::config::{ChatColumns, ChatFormat};

impl ChatFormat {
    /// Its name in a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Sharegpt => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::PromptCompletion => "prompt_completion",
            Self::QuestionAnswer => "question_answer",
        }
    }

    /// The fields that a record of this format has.
    pub(super) fn fields(self, columns: &ChatColumns) -> [&str; 2] {
        match self {
            Self::Messages => ["messages"; 2],
            Self::Sharegpt => ["conversations"; 2],
            Self::Alpaca => ["instruction", "output"],
            Self::PromptCompletion => ["prompt", "completion"],
            Self::QuestionAnswer => [&columns.question, &columns.answer],
        }
    }

    /// The formats, in the order in which they are looked for: those of one field first, since records often repeat their
    /// first message beside it. Columns that are named in the config are looked for before everything.
    fn in_order(columns: &ChatColumns) -> Vec<Self> {
        let mut formats =
            vec![Self::Messages, Self::Sharegpt, Self::Alpaca, Self::PromptCompletion, Self::QuestionAnswer];
        let default = ChatColumns::default();
        if (&columns.question, &columns.answer) != (&default.question, &default.answer) {
            formats.rotate_right(1);
        }
        formats
    }

    /// The format whose fields are among `names`.
    pub(super) fn detect(names: &[&str], columns: &ChatColumns) -> Result<Self, Problem> {
        let formats = Self::in_order(columns);
        let fits = |format: &&Self| format.fields(columns).iter().all(|field| names.contains(field));
        formats.iter().find(fits).copied().ok_or_else(|| {
            let known = |format: &Self| {
                let [first, second] = format.fields(columns);
                let second = if first == second { String::new() } else { format!(" and `{second}`") };
                format!("`{first}`{second} ({})", format.name())
            };
            let known: Vec<String> = formats.iter().map(known).collect();
            let found = crate::source::quoted(names.iter().copied());
            (format!("no format has the fields {found}"), format!("known are {}", known.join(", ")))
        })
    }

    /// The messages of a record.
    pub(super) fn messages(self, record: &Map<String, Value>, columns: &ChatColumns) -> Result<Vec<Message>, Problem> {
        let messages = match self {
            Self::Messages => turns::messages("messages", field(record, "messages")?)?,
            Self::Sharegpt => turns::messages("conversations", field(record, "conversations")?)?,
            Self::Alpaca => alpaca(record)?,
            Self::PromptCompletion => {
                let mut all = either(record, "prompt", "user")?;
                all.extend(either(record, "completion", "assistant")?);
                all
            }
            Self::QuestionAnswer => {
                let [question, answer] = self.fields(columns);
                let (question, answer) = (text(record, question)?, text(record, answer)?);
                vec![message("user", question), message("assistant", answer)]
            }
        };
        let messages = with_system(messages, record, columns)?;
        if messages.is_empty() {
            return Err(("the conversation has no message".into(), "leave the record out".into()));
        }
        if messages.iter().all(|message| message.role != "assistant") {
            let hint = "a conversation needs an answer to train on".into();
            return Err(("the conversation has no message of the assistant".into(), hint));
        }
        Ok(messages)
    }
}

/// The record of a value.
pub(super) fn object(value: &Value) -> Result<&Map<String, Value>, Problem> {
    value.as_object().ok_or_else(|| {
        let hint = "a record is a JSON object, such as {\"messages\": [...]}";
        (format!("expected a JSON object, found {}", kind(value)), hint.into())
    })
}

fn field<'a>(record: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Problem> {
    record.get(name).ok_or_else(|| {
        let found = turns::quoted(record.keys());
        (
            format!("no field `{name}`; the record has {found}"),
            "set `format` to what the file is, or leave it out".into(),
        )
    })
}

fn text(record: &Map<String, Value>, name: &str) -> Result<String, Problem> {
    match field(record, name)? {
        Value::String(text) => Ok(text.clone()),
        other => {
            Err((format!("`{name}` is {}, not a string", kind(other)), "fill it in, or leave the record out".into()))
        }
    }
}

/// Instruction and input in one message.
///
/// Source: Taori et al. 2023, Stanford Alpaca: an input follows its instruction behind a blank line.
fn alpaca(record: &Map<String, Value>) -> Result<Vec<Message>, Problem> {
    let mut asked = text(record, "instruction")?;
    if record.get("input").is_some_and(is_given) {
        let input = text(record, "input")?;
        if !input.is_empty() {
            asked = if asked.is_empty() { input } else { format!("{asked}\n\n{input}") };
        }
    }
    if record.get("history").is_some_and(is_given) {
        let hint = "write the turns as `messages`: [{\"role\": ..., \"content\": ...}, ...]";
        return Err(("`history` cannot be read".into(), hint.into()));
    }
    Ok(vec![message("user", asked), message("assistant", text(record, "output")?)])
}

/// A side of prompt and completion: a string, or a list of messages.
fn either(record: &Map<String, Value>, name: &str, role: &str) -> Result<Vec<Message>, Problem> {
    match field(record, name)? {
        Value::String(text) => Ok(vec![message(role, text.clone())]),
        list @ Value::Array(_) => turns::messages(name, list),
        other => {
            let hint = "it is a string or a list of messages".into();
            Err((format!("`{name}` is {}", kind(other)), hint))
        }
    }
}

/// Puts the system message that stands beside the others before them.
fn with_system(
    mut messages: Vec<Message>,
    record: &Map<String, Value>,
    columns: &ChatColumns,
) -> Result<Vec<Message>, Problem> {
    let name = columns.system();
    if record.get(name).is_some_and(is_given) {
        let system = text(record, name)?;
        if !system.trim().is_empty() && messages.first().is_none_or(|first| first.role != "system") {
            messages.insert(0, message("system", system));
        }
    }
    Ok(messages)
}
