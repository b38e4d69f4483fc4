//! Messages as files write them: the names of roles, and the forms of contents.

use serde_json::{Map, Value};

use super::Message;

/// What is wrong with a record, and what to do about it.
pub(super) type Problem = (String, String);

/// The roles, each with the names that files give it.
const ROLES: [(&str, &[&str]); 4] = [
    ("system", &["system", "developer"]),
    ("user", &["user", "human"]),
    ("assistant", &["assistant", "gpt", "chatgpt", "bot", "model", "bard", "bing"]),
    ("tool", &["tool", "function", "observation"]),
];

/// The roles, as conversations have them once they are read.
pub fn roles() -> impl Iterator<Item = &'static str> {
    ROLES.iter().map(|(role, _)| *role)
}

/// The role that a name stands for; upper and lower case are the same.
pub(super) fn role(name: &str) -> Result<&'static str, Problem> {
    let lower = name.trim().to_lowercase();
    let known = ROLES.iter().find(|(_, names)| names.contains(&lower.as_str()));
    known.map(|(role, _)| *role).ok_or_else(|| {
        let names: Vec<String> = ROLES.iter().flat_map(|(_, names)| *names).map(|name| format!("`{name}`")).collect();
        (format!("the role `{name}` is unknown"), format!("known are {}", names.join(", ")))
    })
}

pub(super) fn message(role: &str, content: String) -> Message {
    Message { role: role.into(), content, weight: None }
}

/// The messages of a list; `field` is where the record has it. A message names its role `role` or `from`, and what is
/// said `content` or `value`.
pub(super) fn messages(field: &str, list: &Value) -> Result<Vec<Message>, Problem> {
    let hint = || format!("`{field}` is a list of objects with `role` and `content`");
    let Value::Array(list) = list else {
        return Err((format!("`{field}` is {}, not a list of messages", kind(list)), hint()));
    };
    let mut messages = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let place = format!("message {} of `{field}`", index + 1);
        let Value::Object(value) = value else {
            return Err((format!("{place} is {}, not an object", kind(value)), hint()));
        };
        messages.push(turn(value).map_err(|(message, hint)| (format!("{place}: {message}"), hint))?);
    }
    Ok(messages)
}

fn turn(value: &Map<String, Value>) -> Result<Message, Problem> {
    let either = |names: [&'static str; 2]| {
        let found = names.into_iter().find_map(|name| value.get(name).map(|value| (name, value)));
        found.ok_or_else(|| {
            let keys = quoted(value.keys());
            (format!("neither `{}` nor `{}`", names[0], names[1]), format!("the message has {keys}"))
        })
    };
    let role = match either(["role", "from"])? {
        (_, Value::String(name)) => role(name)?,
        (name, other) => return Err((format!("`{name}` is {}, not a string", kind(other)), "name who speaks".into())),
    };
    // Parquet gives every message every key, those that it lacks as null.
    if let Some(key) = ["tool_calls", "function_call"].into_iter().find(|key| value.get(*key).is_some_and(is_given)) {
        let hint = "write the call as text into `content`, or leave the conversation out".into();
        return Err((format!("`{key}` is no text, and cannot be trained on"), hint));
    }
    let (name, said) = either(["content", "value"])?;
    let content = content(name, said)?;
    let weight = match value.get("weight") {
        None | Some(Value::Null) => None,
        Some(given) => match given.as_f64() {
            Some(weight) if weight >= 0.0 && (weight as f32).is_finite() => Some(weight as f32),
            _ => return Err((format!("`weight` is {given}"), "a weight is a number of 0 or more".into())),
        },
    };
    Ok(Message { role: role.into(), content, weight })
}

/// What a message says: a string, or the texts of a list of parts.
pub(super) fn content(name: &str, value: &Value) -> Result<String, Problem> {
    let parts = match value {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => {
            let hint = "it is a string, or a list of parts like {\"type\": \"text\", \"text\": \"...\"}";
            return Err((format!("`{name}` is {}, not a string", kind(other)), hint.into()));
        }
    };
    let mut content = String::new();
    for part in parts {
        match (part.get("type").and_then(Value::as_str), part.get("text")) {
            (Some("text") | None, Some(Value::String(text))) => content.push_str(text),
            (found, _) => {
                let found = found.map_or("no text".into(), |found| format!("of type `{found}`"));
                let hint = "only parts like {\"type\": \"text\", \"text\": \"...\"} can be read";
                return Err((format!("a part of `{name}` is {found}"), hint.into()));
            }
        }
    }
    Ok(content)
}

/// Whether a value says something.
pub(super) fn is_given(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        _ => true,
    }
}

pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

pub(super) fn quoted<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    crate::source::quoted(names.into_iter().map(String::as_str))
}
