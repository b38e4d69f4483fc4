//! CSV with a header line, the text in a named column.

use std::path::Path;

use super::quoted;
use crate::error::Error;

/// Appends the documents of one file.
pub(super) fn documents(path: &Path, text: &str, column: &str, documents: &mut Vec<String>) -> Result<(), Error> {
    records(path, text, b',', &[("field", column)], |record| {
        documents.push(record?.1.remove(0));
        Ok(())
    })
}

/// Calls `each` with every record's line and named columns, or with what is wrong with it. A column comes with the key
/// that names it.
pub(crate) fn records(
    path: &Path,
    text: &str,
    delimiter: u8,
    columns: &[(&str, &str)],
    mut each: impl FnMut(Result<(u64, Vec<String>), Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let error =
        |line: u64, message: String, hint: &str| Error::Record { path: path.into(), line, message, hint: hint.into() };
    // The reader would take an open quote for a field that runs to the end of the file.
    if let Some((line, message)) = broken_quote(text, delimiter) {
        return Err(error(line, message.into(), "quote a field that holds quotes, and double those inside it"));
    }
    let malformed = |cause: csv::Error| {
        let line = cause.position().map_or(1, csv::Position::line);
        let message = match cause.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("the record has {len} fields, the header has {expected_len}")
            }
            _ => cause.to_string(),
        };
        error(line, message, "quote a field that holds commas or line breaks")
    };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let header = reader.headers().map_err(malformed)?;
    let find = |(key, column): &(&str, &str)| {
        header.iter().position(|name| name == *column).ok_or_else(|| {
            let message = format!("no column `{column}`; the header has {}", quoted(header));
            error(1, message, &format!("name one of them with `{key}`; the first line must be the header"))
        })
    };
    let indices = columns.iter().map(find).collect::<Result<Vec<usize>, Error>>()?;
    for record in reader.records() {
        let record = record.map_err(malformed).map(|record| {
            // The reader makes all records as long as the header.
            let of_columns = indices.iter().map(|index| record.get(*index).unwrap_or_default().to_owned());
            (record.position().map_or(1, csv::Position::line), of_columns.collect())
        });
        each(record)?;
    }
    Ok(())
}

/// The names of the columns.
pub(crate) fn header(path: &Path, text: &str, delimiter: u8) -> Result<Vec<String>, Error> {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|cause| Error::Record {
        path: path.into(),
        line: 1,
        message: cause.to_string(),
        hint: "the first line must be the header".into(),
    })?;
    Ok(header.iter().map(Into::into).collect())
}

/// The line of the first quoted field that never closes, or that goes on behind its closing quote.
fn broken_quote(text: &str, delimiter: u8) -> Option<(u64, &'static str)> {
    let mut bytes = text.bytes().peekable();
    let mut line = 1;
    let mut field_start = true;
    while let Some(byte) = bytes.next() {
        if byte == b'\n' {
            line += 1;
        }
        if !(field_start && byte == b'"') {
            field_start = byte == delimiter || matches!(byte, b'\n' | b'\r');
            continue;
        }
        let opened = line;
        loop {
            match bytes.next() {
                None => return Some((opened, "a quoted field never closes")),
                Some(b'"') => match bytes.peek() {
                    Some(b'"') => _ = bytes.next(),
                    None | Some(b'\n' | b'\r') => break,
                    Some(next) if *next == delimiter => break,
                    Some(_) => return Some((line, "text follows a closing quote")),
                },
                Some(b'\n') => line += 1,
                Some(_) => {}
            }
        }
        field_start = false;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read_files, records};
    use crate::config::SourceConfig;
    use crate::error::Error;
    use crate::source::Corpus;

    fn read(text: &str) -> Result<Corpus, Error> {
        read_files(&[("a.csv", text.as_bytes())], |files| SourceConfig::Csv(records(files)), &["a.csv"])
    }

    #[test]
    fn a_record_is_a_document_with_quotes_and_line_breaks_undone() {
        let corpus = read("\u{feff}id,text\r\n1,plain\r\n2,\"a, \"\"b\"\"\nc\"\r\n\r\n3,it's 5\" wide\r\n").unwrap();
        assert_eq!(corpus.documents, ["plain", "a, \"b\"\nc", "it's 5\" wide"]);
    }

    #[test]
    fn a_missing_column_lists_those_there_are() {
        let error = read("id,body\n1,x\n").unwrap_err().to_string();
        assert!(error.contains("a.csv:1: no column `text`; the header has `id`, `body`"), "{error}");
    }

    #[test]
    fn a_broken_quote_is_an_error_at_its_line() {
        let error = read("text,id\na,1\n\"open,2\nb,3\n").unwrap_err().to_string();
        assert!(error.contains("a.csv:3: a quoted field never closes"), "{error}");
        let error = read("text,id\n\"two\nlines\"x,2\n").unwrap_err().to_string();
        assert!(error.contains("a.csv:3: text follows a closing quote"), "{error}");
    }

    #[test]
    fn a_record_of_another_length_is_an_error_at_its_line() {
        let error = read("text,id\na,1\nb,2,3\n").unwrap_err().to_string();
        assert!(error.contains("a.csv:3: the record has 3 fields, the header has 2"), "{error}");
    }

    #[test]
    fn a_header_alone_holds_no_text() {
        assert!(matches!(read("text\n"), Err(Error::NoDocuments { .. })));
    }
}
