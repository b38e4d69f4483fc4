//! Conversations written as messages, and files redacted, both as a stream.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::lines::Lines;
use super::output::Output;
use super::redact::{Counts, add};
use super::{Conversation, Redactor, read_file};
use crate::config::{ChatConfig, ChatFiles};
use crate::error::Error;
use crate::source::{expand, extension};

/// A conversation in OpenAI's format; the fields are written in this order.
#[derive(Serialize)]
struct Record<'a> {
    messages: Vec<Turn<'a>>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'a str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f32>,
}

/// Writes a conversation as one line of JSONL in OpenAI's format, which [`super::read`] reads again.
///
/// # Errors
/// What writing fails with.
pub fn write_messages(conversation: &Conversation, mut to: impl Write) -> io::Result<()> {
    let turns = conversation.messages.iter();
    let messages = turns.map(|m| Turn { role: &m.role, content: &m.content, weight: m.weight }).collect();
    serde_json::to_writer(&mut to, &Record { messages })?;
    to.write_all(b"\n")
}

/// What was converted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Conversations that were written.
    pub conversations: u64,
    /// What a person should know: the formats, and what was left out.
    pub notes: Vec<String>,
}

/// Writes the conversations of all `files` of a config, one after the other, as JSONL in OpenAI's format. Weights of files
/// have no part in it. The output stands there whole or not at all.
///
/// # Errors
/// As [`read_file`]; no conversation at all; an output that cannot be written.
pub fn convert(config: &ChatConfig, output: &Path) -> Result<Converted, Error> {
    super::check(config)?;
    let patterns: Vec<&str> = config.files.iter().map(ChatFiles::path).collect();
    let mut converted = Converted::default();
    let mut writer = Output::create(output)?;
    let mut line = Vec::new();
    for path in expand("files", &patterns, ChatConfig::USUAL_EXTENSION)? {
        read_file(&path, config, &mut converted.notes, |conversation| {
            line.clear();
            write_messages(&conversation, &mut line).map_err(Error::output(output))?;
            converted.conversations += 1;
            writer.write(&line)
        })?;
    }
    if converted.conversations == 0 {
        return Err(Error::config("files", "they hold no conversation", "nothing was written"));
    }
    writer.finish()?;
    Ok(converted)
}

/// Replaces personal data in a text file, line by line: of JSON, by the extensions `.jsonl`, `.ndjson` and `.json`, in
/// the values that are strings, and nothing else changes; of any other text in all of it. What goes over the end of a line
/// is not found. The output stands there whole or not at all.
///
/// # Errors
/// A file that cannot be read, or is no UTF-8; a line that is too long or is malformed JSON; an output that cannot be
/// written.
pub fn redact_file(redactor: &Redactor, input: &Path, output: &Path) -> Result<Counts, Error> {
    let extension = extension(input);
    let records = matches!(extension.as_deref(), Some("jsonl" | "ndjson"));
    let json = records || extension.as_deref() == Some("json");
    let mut lines = Lines::open(input)?;
    let mut writer = Output::create(output)?;
    let mut counts = Counts::new();
    while let Some((number, line)) = lines.next()? {
        let line = line?;
        let malformed = |cause: serde_json::Error| {
            let said = cause.to_string();
            let reason = said.split(" at line ").next().unwrap_or(&said).to_owned();
            Error::Record {
                path: input.into(),
                line: number,
                message: format!("malformed JSON: {reason}"),
                hint: "rename the file to .txt to redact it as plain text".into(),
            }
        };
        let record = line.trim_end_matches(['\r', '\n']);
        if records && !record.trim().is_empty() {
            serde_json::from_str::<IgnoredAny>(record).map_err(malformed)?;
        }
        let (redacted, found) =
            if json { redact_strings(redactor, line).map_err(malformed)? } else { redactor.redact(line) };
        add(&mut counts, found);
        writer.write(redacted.as_bytes())?;
    }
    drop(lines);
    writer.finish()?;
    Ok(counts)
}

/// Redacts the strings of JSON that are values, and leaves every other character as it is.
fn redact_strings(redactor: &Redactor, json: &str) -> serde_json::Result<(String, Counts)> {
    let mut redacted = String::with_capacity(json.len());
    let mut counts = Counts::new();
    let mut rest = json;
    while let Some(start) = rest.find('"') {
        redacted.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = string_end(rest);
        let (string, behind) = rest.split_at(end);
        let is_key = behind.trim_start().starts_with(':');
        let (text, found) =
            if is_key { Default::default() } else { redactor.redact(&serde_json::from_str::<String>(string)?) };
        if found.is_empty() {
            redacted.push_str(string);
        } else {
            redacted.push_str(&serde_json::to_string(&text)?);
            add(&mut counts, found);
        }
        rest = behind;
    }
    redacted.push_str(rest);
    Ok((redacted, counts))
}

/// The length of the string literal at the start, with both quotes.
fn string_end(json: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;
    use crate::config::{OnBadRow, RedactConfig};

    fn in_directory(name: &str, contents: &str) -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let [input, output] = [name, "out.jsonl"].map(|name| directory.path().join(name));
        std::fs::write(&input, contents).unwrap();
        (directory, input, output)
    }

    fn files(directory: &tempfile::TempDir) -> usize {
        std::fs::read_dir(directory.path()).unwrap().count()
    }

    #[test]
    fn a_conversation_is_a_line_with_its_keys_in_order_and_a_weight_where_it_has_one() {
        let message =
            |role: &str, content: &str, weight| Message { role: role.into(), content: content.into(), weight };
        let messages = vec![message("user", "a\n\"é\"", None), message("assistant", "", Some(0.1))];
        let mut line = Vec::new();
        write_messages(&Conversation { messages, place: ("f".into(), 1) }, &mut line).unwrap();
        let expected = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\\n\\\"é\\\"\"},\
                        {\"role\":\"assistant\",\"content\":\"\",\"weight\":0.1}]}\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn what_is_converted_reads_the_same_and_converts_to_itself() {
        let alpaca = "[{\"instruction\": \"a\", \"input\": \"b\", \"output\": \"c\", \"system\": \"s\"}, {\"instruction\": 3},\n\
                      {\"instruction\": \"d\", \"output\": \"\"}]";
        let (directory, input, output) = in_directory("a.json", alpaca);
        let mut config = ChatConfig::new(vec![ChatFiles::Path(input.display().to_string())]);
        assert!(convert(&config, &output).unwrap_err().to_string().contains("`instruction` is a number"));
        assert_eq!(files(&directory), 1, "nothing is left of an output that failed");
        config.on_bad_row = OnBadRow::Skip;
        let converted = convert(&config, &output).unwrap();
        assert_eq!((converted.conversations, converted.notes.len()), (2, 2));
        let written = std::fs::read_to_string(&output).unwrap();
        assert!(written.starts_with(
            "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"a\\n\\nb\"}"
        ));
        let again = directory.path().join("again.jsonl");
        config.files = vec![ChatFiles::Path(output.display().to_string())];
        convert(&config, &again).unwrap();
        assert_eq!(std::fs::read_to_string(&again).unwrap(), written);
        let read = |path: &Path| {
            let mut messages = Vec::new();
            let each = |conversation: Conversation| {
                messages.push(conversation.messages);
                Ok(())
            };
            read_file(path, &config, &mut vec![], each).unwrap();
            messages
        };
        assert_eq!(read(&input), read(&output));
        // A file may be replaced by what it converts to.
        convert(&config, &output).unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), written);
        std::fs::write(&input, "[]").unwrap();
        config.files = vec![ChatFiles::Path(input.display().to_string())];
        assert!(convert(&config, &again).unwrap_err().to_string().contains("no conversation"));
        let error = convert(&config, Path::new("no/such/directory/out.jsonl")).unwrap_err();
        assert!(matches!(error, Error::Output { .. }), "{error}");
    }

    #[test]
    fn json_is_redacted_in_its_values_and_otherwise_left_as_it_is() {
        let json = "{\"a@b.com\" : \"write to a@b.com\\u0021\", \"n\": 1.50,  \"l\":[\"8.8.8.8\",{\"x\":\"c\\u0040d.org \\\"\"}]}\r\n\n\"\\u00e9\"\n";
        let (_directory, input, output) = in_directory("a.jsonl", json);
        let counts = redact_file(&Redactor::new(&RedactConfig::all()).unwrap(), &input, &output).unwrap();
        let expected = "{\"a@b.com\" : \"write to [EMAIL]!\", \"n\": 1.50,  \"l\":[\"[IP]\",{\"x\":\"[EMAIL] \\\"\"}]}\r\n\n\"\\u00e9\"\n";
        assert_eq!(std::fs::read_to_string(&output).unwrap(), expected);
        assert_eq!(counts, Counts::from([("email".into(), 2), ("ip".into(), 1)]));
        let array = "[\n  {\"k\": \"a@b.com\"},\n  \"end\"\n]\n";
        let (_directory, input, output) = in_directory("a.json", array);
        redact_file(&Redactor::new(&RedactConfig::all()).unwrap(), &input, &output).unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), array.replace("a@b.com", "[EMAIL]"));
    }

    #[test]
    fn plain_text_is_redacted_line_by_line_with_its_line_ends() {
        let (_directory, input, output) = in_directory("a.txt", "x \"a@b.com\r\n\n{8.8.8.8");
        redact_file(&Redactor::new(&RedactConfig::all()).unwrap(), &input, &output).unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap(), "x \"[EMAIL]\r\n\n{[IP]");
    }

    #[test]
    fn what_cannot_be_redacted_is_an_error_and_leaves_no_output() {
        let redactor = Redactor::new(&RedactConfig::all()).unwrap();
        for (name, contents, part) in [
            ("a.jsonl", "{}\n{\"a\": \"x}\n", "a.jsonl:2: malformed JSON: EOF"),
            ("a.json", "[\n\"a\\x\"\n]", "a.json:2: malformed JSON: invalid escape"),
            ("a.txt", "a\0", "NUL byte"),
            ("a.txt", "", "empty"),
        ] {
            let (directory, input, output) = in_directory(name, contents);
            let error = redact_file(&redactor, &input, &output).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert_eq!(files(&directory), 1);
        }
        let missing = redact_file(&redactor, Path::new("no/such/file"), Path::new("out"));
        assert!(matches!(missing, Err(Error::Io { .. })) && !Path::new("out").exists());
    }
}
