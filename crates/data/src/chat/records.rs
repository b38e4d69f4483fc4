//! Files in, conversations out, one at a time: JSON, CSV and Parquet, in any of the formats.

use std::path::Path;

use serde_json::{Map, Value};

use super::turns::Problem;
use super::{Conversation, Message, formats, json, parquet};
use crate::config::{ChatColumns, ChatConfig, ChatFormat, OnBadRow};
use crate::error::Error;
use crate::source;

/// Calls `each` with every conversation of a file; what a person should know is added to `notes`.
///
/// # Errors
/// A file that cannot be read, or is neither JSON nor CSV nor Parquet by its extension; a record that is malformed or is
/// no conversation, unless bad rows are skipped; what `each` fails with.
pub fn read_file(
    path: &Path,
    config: &ChatConfig,
    notes: &mut Vec<String>,
    mut each: impl FnMut(Conversation) -> Result<(), Error>,
) -> Result<(), Error> {
    let columns = config.columns();
    let mut format = config.format;
    let mut skipped: (u64, Option<Error>) = (0, None);
    let mut found = 0_u64;
    let mut detected = None;
    let on_record = |line: u64, value: Result<Value, Error>| {
        let messages = value.and_then(|value| {
            let error = |(message, hint): Problem| Error::Record { path: path.into(), line, message, hint };
            let messages = read_record(&value, &mut format, &columns).map_err(error)?;
            if config.format.is_none() && detected.is_none() {
                detected = format.map(|format| (format, line));
            }
            Ok(messages)
        });
        match (messages, config.on_bad_row) {
            (Ok(messages), _) => {
                found += 1;
                each(Conversation { messages, place: (path.into(), line) })
            }
            (Err(error), OnBadRow::Error) => Err(error),
            (Err(error), OnBadRow::Skip) => {
                skipped.0 += 1;
                skipped.1.get_or_insert(error);
                Ok(())
            }
        }
    };
    match source::extension(path).as_deref() {
        Some("jsonl" | "ndjson" | "json") => json::records(path, on_record)?,
        Some("csv") => table(path, b',', config.format, &columns, on_record)?,
        Some("tsv") => table(path, b'\t', config.format, &columns, on_record)?,
        Some("parquet") => parquet::records(path, &columns, on_record)?,
        _ => {
            let message = format!("`{}` is neither .jsonl nor .json nor .csv nor .tsv nor .parquet", path.display());
            return Err(Error::config("files", message, "rename it to what it is"));
        }
    }
    if let Some((format, line)) = detected {
        notes.push(format!("{}:{line}: the format is `{}`", path.display(), format.name()));
    }
    if let (count, Some(first)) = skipped {
        notes.push(format!("left out {count} records of {}; the first: {first}", path.display()));
    }
    Ok(())
}

/// The messages of a record. The first that shows its format decides for the file.
fn read_record(value: &Value, format: &mut Option<ChatFormat>, columns: &ChatColumns) -> Result<Vec<Message>, Problem> {
    let record = formats::object(value)?;
    let known = match *format {
        Some(format) => format,
        None => {
            let given = record.iter().filter(|(_, value)| !value.is_null());
            let names: Vec<&str> = given.map(|(name, _)| name.as_str()).collect();
            // A null may be the only thing wrong; naming it says more than that the field is missing.
            let all: Vec<&str> = record.keys().map(String::as_str).collect();
            ChatFormat::detect(&names, columns).or_else(|_| ChatFormat::detect(&all, columns))?
        }
    };
    let messages = known.messages(record, columns)?;
    *format = Some(known);
    Ok(messages)
}

/// The records of a table with a header line; what is in a cell is a string.
fn table(
    path: &Path,
    delimiter: u8,
    format: Option<ChatFormat>,
    columns: &ChatColumns,
    mut each: impl FnMut(u64, Result<Value, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let text = source::read_utf8(path)?;
    let header = source::csv::header(path, &text, delimiter)?;
    let names: Vec<&str> = header.iter().map(String::as_str).collect();
    let error = |(message, hint): Problem| Error::Record { path: path.into(), line: 1, message, hint };
    let format = match format {
        Some(format) => format,
        None => ChatFormat::detect(&names, columns).map_err(error)?,
    };
    if matches!(format, ChatFormat::Messages | ChatFormat::Sharegpt) {
        let message = format!("the format `{}` holds lists, a table does not", format.name());
        return Err(error((message, "use JSONL or Parquet".into())));
    }
    let missing = |column: &&str| !names.contains(column);
    let hint = match format {
        ChatFormat::QuestionAnswer => "name the columns with `question` and `answer`",
        _ => "set `format` to what the file is, or leave it out",
    };
    let fields = format.fields(columns);
    if let Some(column) = fields.into_iter().chain(columns.system.as_deref()).find(missing) {
        let message = format!("no column `{column}`; the header has {}", source::quoted(names));
        return Err(error((message, hint.into())));
    }
    let mut wanted: Vec<(&str, &str)> = fields.into_iter().map(|column| ("format", column)).collect();
    if format == ChatFormat::Alpaca && names.contains(&"input") {
        wanted.push(("format", "input"));
    }
    if names.contains(&columns.system()) {
        wanted.push(("system", columns.system()));
    }
    source::csv::records(path, text.as_bytes(), delimiter, &wanted, |record| match record {
        Ok((line, cells)) => {
            let names = wanted.iter().map(|(_, column)| (*column).to_string());
            let record: Map<String, Value> = names.zip(cells.into_iter().map(Value::String)).collect();
            each(line, Ok(Value::Object(record)))
        }
        Err(error) => each(1, Err(error)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a file of this name; gives who says what in every conversation, the lines and the notes.
    #[allow(clippy::type_complexity, reason = "three columns of a test")]
    fn read(
        name: &str,
        bytes: &[u8],
        change: impl Fn(&mut ChatConfig),
    ) -> Result<(Vec<String>, Vec<u64>, Vec<String>), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut config = ChatConfig::new(vec![]);
        change(&mut config);
        let (mut said, mut lines, mut notes) = (Vec::new(), Vec::new(), Vec::new());
        let each = |conversation: Conversation| {
            let one = |message: &Message| {
                let weight = message.weight.map_or(String::new(), |weight| format!("*{weight}"));
                format!("{}{weight}={}", message.role, message.content)
            };
            said.push(conversation.messages.iter().map(one).collect::<Vec<_>>().join("|"));
            assert_eq!(conversation.place.0, path);
            lines.push(conversation.place.1);
            Ok(())
        };
        read_file(&path, &config, &mut notes, each).map_err(|error| error.to_string())?;
        Ok((said, lines, notes))
    }

    #[track_caller]
    fn assert_reads(name: &str, text: &str, format: &str, expected: &[&str]) {
        let (said, _, notes) = read(name, text.as_bytes(), |_| ()).unwrap();
        assert_eq!(said, expected);
        assert!(notes[0].ends_with(&format!(": the format is `{format}`")) && notes[0].contains(name), "{notes:?}");
        let given: ChatFormat = serde_json::from_value(format.into()).unwrap();
        let (said, _, notes) = read(name, text.as_bytes(), |config| config.format = Some(given)).unwrap();
        assert_eq!((said, notes), (expected.iter().map(|text| text.to_string()).collect(), vec![]));
    }

    #[test]
    fn every_format_is_found_and_read() {
        assert_reads(
            "a.jsonl",
            "\u{feff}{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\":              [{\"type\": \"text\", \"text\": \"a\"}, {\"type\": \"text\", \"text\": \"b\"}]}, {\"role\": \"assistant\",              \"content\": \"c\", \"weight\": 0.5}, {\"role\": \"tool\", \"content\": \"\", \"weight\": null}]}\r\n\n",
            "messages",
            &["system=S|user=ab|assistant*0.5=c|tool="],
        );
        assert_reads(
            "a.json",
            "[\n{\"id\": 1, \"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\",              \"value\": \"b\"}], \"system\": \"S\"}]",
            "sharegpt",
            &["system=S|user=a|assistant=b"],
        );
        assert_reads(
            "a.json",
            "[{\"instruction\": \"a\", \"input\": \"\", \"output\": \"b\"}, {\"instruction\": \"a\", \"input\": \"x\",              \"output\": \"b\", \"system\": \"S\"}, {\"instruction\": \"a\", \"output\": \"b\"}]",
            "alpaca",
            &["user=a|assistant=b", "system=S|user=a\n\nx|assistant=b", "user=a|assistant=b"],
        );
        assert_reads(
            "a.ndjson",
            "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": [{\"role\": \"user\", \"content\": \"a\"}],              \"completion\": [{\"role\": \"assistant\", \"content\": \"c\"}]}",
            "prompt_completion",
            &["user=a|assistant=b", "user=a|assistant=c"],
        );
        let answers = &["user=a, \"q\"\nb|assistant=b", "system=S|user=c|assistant="];
        let csv = "id,question,answer,system\r\n1,\"a, \"\"q\"\"\nb\",b,\r\n2,c,,S\r\n";
        assert_reads("a.csv", csv, "question_answer", answers);
        let tsv = "answer\tquestion\nb, c\ta\n";
        assert_reads("a.tsv", tsv, "question_answer", &["user=a|assistant=b, c"]);
        assert_reads(
            "a.csv",
            "instruction,input,output\na,,b\na,x,b\n",
            "alpaca",
            &["user=a|assistant=b", "user=a\n\nx|assistant=b"],
        );
        assert_reads("a.csv", "completion,prompt\nb,a\n", "prompt_completion", &["user=a|assistant=b"]);
    }

    #[test]
    fn what_repeats_the_conversation_beside_it_does_not_decide_the_format() {
        let both =
            "{\"prompt\": \"p\", \"completion\": \"c\", \"messages\": [{\"role\": \"assistant\", \"content\": \"m\"}]}";
        assert_reads("a.jsonl", both, "messages", &["assistant=m"]);
        let null = both.replace("[{\"role\": \"assistant\", \"content\": \"m\"}]", "null");
        assert_reads("a.jsonl", &null, "prompt_completion", &["user=p|assistant=c"]);
        let named = |config: &mut ChatConfig| {
            (config.question, config.answer, config.system) = ("prompt".into(), "completion".into(), Some("s".into()))
        };
        let (said, _, notes) = read("a.jsonl", both.as_bytes(), named).unwrap();
        assert!(said == ["user=p|assistant=c"] && notes[0].contains("question_answer"), "{said:?} {notes:?}");
        let (said, ..) = read("a.csv", b"prompt,completion,s\na,b,S", named).unwrap();
        assert_eq!(said, ["system=S|user=a|assistant=b"]);
    }

    #[test]
    fn roles_are_known_by_all_their_names_and_others_are_listed() {
        let of = |from: &str| {
            format!(
                "{{\"conversations\": [{{\"from\": \"{from}\", \"value\": \"x\"}}, {{\"from\": \"gpt\", \"value\": \"y\"}}]}}"
            )
        };
        for (from, role) in [
            ("human", "user"),
            ("USER", "user"),
            ("ChatGPT", "assistant"),
            ("developer", "system"),
            ("function", "tool"),
        ] {
            let (said, ..) = read("a.jsonl", of(from).as_bytes(), |_| ()).unwrap();
            assert_eq!(said, [format!("{role}=x|assistant=y")]);
        }
        let error = read("a.jsonl", of("narrator").as_bytes(), |_| ()).unwrap_err();
        let expected =
            "a.jsonl:1: message 1 of `conversations`: the role `narrator` is unknown; hint: known are `system`";
        assert!(error.contains(expected) && error.contains("`human`"), "{error}");
    }

    #[test]
    fn a_bad_record_is_named_with_its_line_or_skipped_and_counted() {
        let good = "{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}]}\n";
        let deep = format!("{{\"messages\": {}{}}}", "[".repeat(500), "]".repeat(500));
        let messages = |inner: &str| format!("{{\"messages\": [{inner}]}}");
        for (bad, expected) in [
            ("{\"messages\": [".into(), "malformed JSON at column 14: EOF"),
            ("7".into(), "expected a JSON object, found a number"),
            ("{}".into(), "no format has the fields none; hint: known are `messages` (messages)"),
            ("{\"text\": \"a\"}".into(), "no format has the fields `text`"),
            ("{\"messages\": null}".into(), "`messages` is null, not a list"),
            ("{\"messages\": \"hi\"}".into(), "`messages` is a string, not a list"),
            (messages(""), "has no message;"),
            (messages("3"), "message 1 of `messages` is a number, not an object"),
            (messages("{\"role\": \"user\", \"content\": \"a\"}"), "no message of the assistant"),
            (messages("{\"content\": \"a\"}"), "neither `role` nor `from`; hint: the message has `content`"),
            (messages("{\"role\": 1, \"content\": \"a\"}"), "`role` is a number"),
            (messages("{\"role\": \"user\"}"), "neither `content` nor `value`"),
            (messages("{\"role\": \"user\", \"content\": null}"), "`content` is null, not a string"),
            (messages("{\"role\": \"user\", \"content\": [{\"type\": \"image_url\"}]}"), "of type `image_url`"),
            (messages("{\"role\": \"user\", \"content\": \"a\", \"weight\": -1}"), "`weight` is -1"),
            (messages("{\"role\": \"user\", \"content\": \"a\", \"weight\": 1e300}"), "`weight` is 1e+300"),
            (messages("{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [1]}"), "`tool_calls` is no text"),
            ("{\"instruction\": null, \"output\": \"a\"}".into(), "`instruction` is null"),
            (
                "{\"instruction\": \"a\", \"output\": \"a\", \"history\": [[\"a\", \"b\"]]}".into(),
                "`history` cannot be read",
            ),
            ("{\"prompt\": 3, \"completion\": \"a\"}".into(), "`prompt` is a number"),
            ("{\"question\": \"a\", \"answer\": 3}".into(), "`answer` is a number"),
            (deep, "recursion limit"),
            ("\0".into(), "NUL byte"),
            (messages("{\"role\": \"user\", \"content\": \"a\u{1}\"}"), "control character"),
        ] {
            // At the first line it must not decide the format; behind a good one it must still be told.
            let text = format!("\n{bad}\r\n{good}");
            let error = read("a.jsonl", text.as_bytes(), |_| ()).unwrap_err();
            assert!(error.contains("a.jsonl:2: ") && error.contains(expected), "{error}");
            let (said, lines, notes) = read("a.jsonl", text.as_bytes(), |c| c.on_bad_row = OnBadRow::Skip).unwrap();
            assert_eq!((said, lines), (vec!["assistant=x".to_string()], vec![3]));
            assert!(notes[1].contains("left out 1 records") && notes[1].contains(expected), "{notes:?}");
            assert!(notes[0].contains("a.jsonl:3: the format is `messages`"), "{notes:?}");
        }
        let error = read("a.jsonl", b"{\"messages\": \"b\xe9\"}", |_| ()).unwrap_err();
        assert!(error.contains("a.jsonl:1: the byte 0xe9 at offset 15 is not UTF-8"), "{error}");
    }

    #[test]
    fn a_file_of_another_kind_and_a_table_without_its_columns_are_refused() {
        for (name, text, expected) in [
            ("a.txt", "x", "neither .jsonl nor .json"),
            ("a.jsonl", "", "the file is empty"),
            ("a.csv", "", "the file is empty"),
            ("a.csv", "question,reply\na,b\n", "no format has the fields `question`, `reply`"),
            ("a.csv", "messages\na\n", "the format `messages` holds lists"),
            ("a.csv", "question,answer\n\"a,b\n", "a.csv:2: a quoted field never closes"),
            ("a.csv", "question,answer\na,b\nc\n", "a.csv:3: the record has 1 fields"),
            ("a.csv", "question,answer\na\0,b\n", "a.csv:2: NUL byte"),
            ("a.parquet", "", "the file is empty"),
            ("a.parquet", "question,answer\na,b\n", "the Parquet file cannot be read"),
        ] {
            let error = read(name, text.as_bytes(), |_| ()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = read("a.csv", b"question,answer\na,b\n", |c| c.format = Some(ChatFormat::Alpaca)).unwrap_err();
        assert!(error.contains("no column `instruction`; the header has `question`, `answer`"), "{error}");
        let error = read("a.csv", b"question,answer\na,b\n", |c| c.system = Some("role".into())).unwrap_err();
        assert!(error.contains("no column `role`"), "{error}");
        let (said, ..) = read("a.csv", b"question,answer\na,b\nc\n", |c| c.on_bad_row = OnBadRow::Skip).unwrap();
        assert_eq!(said, ["user=a|assistant=b"]);
    }
}
