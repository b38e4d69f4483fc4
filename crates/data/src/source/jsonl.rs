//! JSON Lines: one object a line, the text in a named field.

use std::path::Path;

use serde_json::Value;

use super::quoted;
use crate::error::Error;

/// Appends the documents of one file; blank lines are skipped.
pub(super) fn documents(path: &Path, text: &str, field: &str, documents: &mut Vec<String>) -> Result<(), Error> {
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let error = |message: String, hint: &str| Error::Record {
            path: path.into(),
            line: index as u64 + 1,
            message,
            hint: hint.into(),
        };
        let value: Value = serde_json::from_str(line).map_err(|cause| {
            let hint = if line.trim_start().starts_with('[') {
                "JSONL has one JSON object a line, this looks like a JSON array"
            } else {
                "JSONL has one whole JSON object a line"
            };
            // The library counts the line inside this one line; only its column says something.
            let reason = cause.to_string();
            let reason = reason.split(" at line ").next().unwrap_or(&reason);
            error(format!("malformed JSON at column {}: {reason}", cause.column()), hint)
        })?;
        let Value::Object(mut record) = value else {
            return Err(error(
                format!("expected a JSON object, found {}", kind(&value)),
                "JSONL has one JSON object a line",
            ));
        };
        match record.remove(field) {
            Some(Value::String(text)) => documents.push(text),
            Some(other) => {
                return Err(error(
                    format!("field `{field}` is {}, not a string", kind(&other)),
                    "name a text field with `field`",
                ));
            }
            None => {
                let found = quoted(record.keys().map(String::as_str));
                return Err(error(
                    format!("no field `{field}`; the record has {found}"),
                    "name one of them with `field`",
                ));
            }
        }
    }
    Ok(())
}

fn kind(value: &Value) -> &'static str {
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
