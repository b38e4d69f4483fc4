//! JSON Lines: one object a line, the text in a named field.

use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::{lines, quoted, text_of};
use crate::error::Error;

/// Appends the documents of one file; blank lines are skipped.
pub(super) fn documents(path: &Path, text: &str, field: &str, documents: &mut Vec<String>) -> Result<(), Error> {
    records(path, text.as_bytes(), &[("field", field)], false, |record| {
        documents.push(record?.1.remove(0));
        Ok(())
    })
}

/// Calls `each` with every record's line and named fields, or with what is wrong with it. A field comes with the key
/// that names it, and is a text; as a label numbers and truth values are taken as they are written, and arrays where it
/// may be a list.
pub(super) fn records(
    path: &Path,
    bytes: &[u8],
    fields: &[(&str, &str)],
    label_lists: bool,
    mut each: impl FnMut(Result<(u64, Vec<String>), Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    objects(path, bytes, |line, object| {
        let values = |object: Map<String, Value>| -> Result<Vec<String>, Error> {
            let read = |(key, field): &(&str, &str)| match *key {
                "label" => label(path, line, &object, field, label_lists),
                key => text(path, line, &object, key, field),
            };
            fields.iter().map(read).collect()
        };
        each(object.and_then(values).map(|values| (line, values)))
    })
}

/// Calls `each` with every line that is not blank: its number, and its object or what is wrong with it.
pub(super) fn objects(
    path: &Path,
    bytes: &[u8],
    mut each: impl FnMut(u64, Result<Map<String, Value>, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    for (number, line) in lines(bytes) {
        let line = text_of(path, number, line);
        if !line.as_ref().is_ok_and(|line| line.trim().is_empty()) {
            each(number, line.and_then(|line| object(path, number, line)))?;
        }
    }
    Ok(())
}

fn object(path: &Path, number: u64, line: &str) -> Result<Map<String, Value>, Error> {
    let error = |message: String, hint: String| Error::Record { path: path.into(), line: number, message, hint };
    let malformed = |cause: serde_json::Error| {
        let hint = if line.trim_start().starts_with('[') {
            "JSONL has one JSON object a line, this looks like a JSON array"
        } else {
            "JSONL has one whole JSON object a line"
        };
        // The library counts the line inside this one line; only its column says something.
        let reason = cause.to_string();
        let reason = reason.split(" at line ").next().unwrap_or(&reason);
        error(format!("malformed JSON at column {}: {reason}", cause.column()), hint.into())
    };
    if line.trim_start().starts_with('{') {
        return serde_json::from_str(line).map(|Record(record)| record).map_err(malformed);
    }
    let other: Value = serde_json::from_str(line).map_err(malformed)?;
    let message = format!("expected a JSON object, found {}", kind(&other));
    Err(error(message, "JSONL has one JSON object a line".into()))
}

/// A JSON object in which every key stands once; the library alone would take the last of two values.
struct Record(Map<String, Value>);

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Record;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Record, A::Error> {
                let mut fields = Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if fields.contains_key(&key) {
                        return Err(A::Error::custom(format!("the key `{key}` stands twice")));
                    }
                    fields.insert(key, value);
                }
                Ok(Record(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

fn text(path: &Path, line: u64, record: &Map<String, Value>, key: &str, field: &str) -> Result<String, Error> {
    match record.get(field) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => {
            let message = format!("field `{field}` is {}, not a string", kind(other));
            Err(Error::Record { path: path.into(), line, message, hint: format!("name a text field with `{key}`") })
        }
        None => Err(missing(path, line, record, key, field)),
    }
}

/// A label, or a list of labels as it is written.
fn label(path: &Path, line: u64, record: &Map<String, Value>, field: &str, lists: bool) -> Result<String, Error> {
    let wrong = |what: &str, hint: &str| Error::Record {
        path: path.into(),
        line,
        message: format!("field `{field}` is {what}, not a label"),
        hint: hint.into(),
    };
    match record.get(field) {
        Some(value @ Value::Array(_)) if lists => Ok(value.to_string()),
        Some(Value::Array(_)) => Err(wrong("a list", "lists of labels are for `problem` = \"multi_label\"")),
        Some(value) => label_text(value).ok_or_else(|| {
            wrong(kind(value), "fill in the label, name its field with `label`, or set `on_bad_row` = \"skip\"")
        }),
        None => Err(missing(path, line, record, "label", field)),
    }
}

/// A label as it is written alone: a text, a number or a truth value.
pub(super) fn label_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A record lacks the field that `key` names.
pub(super) fn missing(path: &Path, line: u64, record: &Map<String, Value>, key: &str, field: &str) -> Error {
    let found = quoted(record.keys().map(String::as_str));
    let message = format!("no field `{field}`; the record has {found}");
    Error::Record { path: path.into(), line, message, hint: format!("name one of them with `{key}`") }
}

/// What a value is, for an error.
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

#[cfg(test)]
mod tests {
    use super::super::tests::{read_files, records};
    use crate::config::SourceConfig;
    use crate::error::Error;
    use crate::source::Corpus;

    fn read(text: &str) -> Result<Corpus, Error> {
        read_files(&[("a.jsonl", text.as_bytes())], |files| SourceConfig::Jsonl(records(files)), &["a.jsonl"])
    }

    #[test]
    fn a_line_is_a_document_and_blank_lines_are_skipped() {
        let corpus = read("{\"text\": \"a\\nb\", \"id\": 1}\r\n\n  \n{\"text\":\"é\\u0000\"}").unwrap();
        assert_eq!(corpus.documents, ["a\nb", "é\0"]);
    }

    #[test]
    fn malformed_json_is_an_error_with_file_and_line() {
        let error = read("{\"text\": \"a\"}\n{\"text\": \"b\"\n").unwrap_err().to_string();
        assert!(error.contains("a.jsonl:2: malformed JSON at column"), "{error}");
        let error = read("[\n{\"text\": \"a\"}\n]").unwrap_err().to_string();
        assert!(error.contains("a.jsonl:1:") && error.contains("array"), "{error}");
        assert!(read("3").unwrap_err().to_string().contains("found a number"));
    }

    #[test]
    fn a_key_that_stands_twice_is_an_error() {
        let error = read("{\"text\": \"a\"}\n{\"text\": \"b\", \"text\": \"c\"}").unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl:2: malformed JSON at column") && error.contains("`text` stands twice"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_field_lists_those_there_are() {
        let error = read("{\"body\": \"a\", \"id\": 1}").unwrap_err().to_string();
        assert!(error.contains("no field `text`; the record has `body`, `id`"), "{error}");
        assert!(read("{}").unwrap_err().to_string().contains("has none"));
    }

    #[test]
    fn a_field_that_is_no_string_is_an_error() {
        let error = read("{\"text\": 3}").unwrap_err().to_string();
        assert!(error.contains("field `text` is a number, not a string"), "{error}");
    }

    #[test]
    fn empty_texts_are_left_out() {
        assert_eq!(read("{\"text\": \"\"}\n{\"text\": \"a\"}").unwrap().documents, ["a"]);
        assert!(matches!(read("{\"text\": \"\"}"), Err(Error::NoDocuments { .. })));
    }
}
