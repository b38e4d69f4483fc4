//! CSV with a header line, the text in a named column.

use std::path::Path;

use super::{line_at, quoted, text_of};
use crate::error::Error;

/// Appends the documents of one file.
pub(super) fn documents(path: &Path, text: &str, column: &str, documents: &mut Vec<String>) -> Result<(), Error> {
    records(path, text.as_bytes(), b',', &[("field", column)], |record| {
        documents.push(record?.1.remove(0));
        Ok(())
    })
}

/// Calls `each` with every record's line and named columns, or with what is wrong with it; behind a bad record it goes on
/// at the next line. A column comes with the key that names it.
///
/// # Errors
/// A header that cannot be read or lacks a column; what `each` returns.
pub(crate) fn records(
    path: &Path,
    bytes: &[u8],
    delimiter: u8,
    columns: &[(&str, &str)],
    mut each: impl FnMut(Result<(u64, Vec<String>), Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let error =
        |line: u64, message: String, hint: &str| Error::Record { path: path.into(), line, message, hint: hint.into() };
    let mut records = Records { path, bytes, delimiter, start: 0, line: 1, width: None };
    let Some(header) = records.next() else {
        return Err(error(1, "there is no header line".into(), "the first line must name the columns"));
    };
    let Found { start, end, .. } = header?;
    let mut fields = csv::StringRecord::new();
    let failed = |line: u64| move |cause: csv::Error| error(line, cause.to_string(), "quote a field with line breaks");
    reader(&bytes[start..end], delimiter).read_record(&mut fields).map_err(failed(1))?;
    let find = |(key, column): &(&str, &str)| {
        let mut places = fields.iter().enumerate().filter(|(_, name)| name == column).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => {
                Err(error(1, format!("the header has two columns `{column}`"), "give each column a name of its own"))
            }
            (None, _) => {
                let message = format!("no column `{column}`; the header has {}", quoted(&fields));
                Err(error(1, message, &format!("name one of them with `{key}`; the first line must be the header")))
            }
        }
    };
    let indices = columns.iter().map(find).collect::<Result<Vec<usize>, Error>>()?;
    records.width = Some(fields.len());

    // Good records that follow each other are read together.
    let mut good: Vec<Found> = Vec::new();
    let mut read = |good: &mut Vec<Found>, each: &mut dyn FnMut(Result<_, Error>) -> Result<(), Error>| {
        let [Some(first), Some(last)] = [good.first(), good.last()] else { return Ok(()) };
        let mut reader = reader(&bytes[first.start..last.end], delimiter);
        for found in good.drain(..) {
            reader.read_record(&mut fields).map_err(failed(found.line))?;
            let of_columns = indices.iter().map(|index| fields.get(*index).unwrap_or_default().to_owned());
            each(Ok((found.line, of_columns.collect())))?;
        }
        Ok(())
    };
    for record in records {
        match record {
            Ok(found) => good.push(found),
            Err(problem) => {
                read(&mut good, &mut each)?;
                each(Err(problem))?;
            }
        }
    }
    read(&mut good, &mut each)
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

fn reader(bytes: &[u8], delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(bytes)
}

/// A record's bytes, its line break included, and its line.
struct Found {
    start: usize,
    end: usize,
    line: u64,
}

/// The records of a file, each checked before the reader sees it: the reader would take an open quote for a field that runs
/// to the end of the file, and drop what follows a closing one.
struct Records<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    delimiter: u8,
    /// Where the next record begins, and its line.
    start: usize,
    line: u64,
    /// The fields of the header, once it is read.
    width: Option<usize>,
}

impl Iterator for Records<'_> {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(b'\n' | b'\r') = self.bytes.get(self.start) {
            self.skip_to(self.start + 1);
        }
        let (start, line) = (self.start, self.line);
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let error =
            |line, message, hint: &str| Error::Record { path: self.path.into(), line, message, hint: hint.into() };
        let (length, record) = match scan(rest, self.delimiter) {
            Err(BrokenQuote { opened, followed }) => {
                // Where the record ends is unknown: perhaps where its first line does.
                let next_line = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
                let line_of = |offset| line + line_at(rest, offset) - 1;
                let message = match followed.map(line_of) {
                    None => "a quoted field never closes".into(),
                    Some(closed) if closed == line_of(opened) => "text follows a closing quote".into(),
                    Some(closed) => {
                        format!("a quoted field runs on to line {closed}, where text follows its closing quote")
                    }
                };
                let hint = "quote a field that holds quotes, and double those inside it";
                (next_line, Err(error(line_of(opened), message, hint)))
            }
            Ok((length, fields)) => {
                let text = text_of(self.path, line, &rest[..length]);
                let record = text.and_then(|_| match self.width {
                    Some(width) if width != fields => {
                        let message = format!("the record has {fields} fields, the header has {width}");
                        Err(error(line, message, "quote a field that holds commas or line breaks"))
                    }
                    _ => Ok(Found { start, end: start + length, line }),
                });
                (length, record)
            }
        };
        self.skip_to(start + length);
        Some(record)
    }
}

impl Records<'_> {
    fn skip_to(&mut self, start: usize) {
        self.line += line_at(&self.bytes[self.start..start], start - self.start) - 1;
        self.start = start;
    }
}

/// A quoted field that never closes, or behind whose closing quote text follows.
struct BrokenQuote {
    /// Where the field opens.
    opened: usize,
    /// Where the text stands that follows it.
    followed: Option<usize>,
}

/// The length of the record that begins here, its line break included, and the number of its fields.
fn scan(bytes: &[u8], delimiter: u8) -> Result<(usize, usize), BrokenQuote> {
    let mut fields = 1;
    let mut field_start = true;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if matches!(byte, b'\n' | b'\r') {
            return Ok((at, fields));
        }
        if byte == delimiter {
            fields += 1;
        }
        if field_start && byte == b'"' {
            let opened = at - 1;
            loop {
                let quote = bytes[at..].iter().position(|byte| *byte == b'"');
                at += 1 + quote.ok_or(BrokenQuote { opened, followed: None })?;
                match bytes.get(at) {
                    Some(b'"') => at += 1,
                    None | Some(b'\n' | b'\r') => break,
                    Some(next) if *next == delimiter => break,
                    Some(_) => return Err(BrokenQuote { opened, followed: Some(at) }),
                }
            }
        }
        field_start = byte == delimiter;
    }
    Ok((at, fields))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read_files, records};
    use crate::config::SourceConfig;
    use crate::error::Error;
    use crate::source::Corpus;
    use proptest::prelude::*;
    use std::path::Path;

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
    fn a_needed_column_that_stands_twice_is_an_error() {
        let error = read("text,id,text\na,1,b\n").unwrap_err().to_string();
        assert!(error.contains("a.csv:1: the header has two columns `text`"), "{error}");
        assert_eq!(read("id,text,id\n1,a,2\n").unwrap().documents, ["a"]);
    }

    #[test]
    fn a_broken_quote_is_an_error_at_its_line() {
        let error = read("text,id\na,1\n\"open,2\nb,3\n").unwrap_err().to_string();
        assert!(error.contains("a.csv:3: a quoted field never closes"), "{error}");
        let error = read("text,id\n\"one\"x,2\n").unwrap_err().to_string();
        assert!(error.contains("a.csv:2: text follows a closing quote"), "{error}");
        let error = read("text,id\na,1\n\"open,2\nb,3\n\"quoted, well\",4\n").unwrap_err().to_string();
        let expected = "a.csv:3: a quoted field runs on to line 5, where text follows its closing quote";
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_record_of_another_length_is_an_error_at_its_line() {
        let error = read("text,id\na,1\nb,2,3\n").unwrap_err().to_string();
        assert!(error.contains("a.csv:3: the record has 3 fields, the header has 2"), "{error}");
    }

    /// The texts of the good records, and the lines of the bad ones.
    fn read_good(contents: &[u8]) -> (Vec<String>, Vec<u64>) {
        let (mut texts, mut bad) = (Vec::new(), Vec::new());
        super::records(Path::new("a.csv"), contents, b',', &[("text", "text")], |record| {
            match record {
                Ok((_, mut values)) => texts.push(values.remove(0)),
                Err(Error::Record { line, .. }) => bad.push(line),
                Err(other) => return Err(other),
            }
            Ok(())
        })
        .unwrap();
        (texts, bad)
    }

    #[test]
    fn behind_a_bad_record_the_next_line_is_read() {
        let (texts, bad) = read_good(b"text,id\na,1\n\"open,2\nb,3\n\"c\nd\",4\ne,5,6\nf,7\n\"never,8\ng,9\n");
        assert_eq!(texts, ["a", "b", "c\nd", "f", "g"]);
        assert_eq!(bad, [3, 7, 9]);
    }

    #[test]
    fn records_that_are_no_text_are_bad_and_those_around_them_good() {
        let (texts, bad) = read_good(b"text,id\na,1\ncaf\xe9,2\n\"b\n\",3\nx\0,4\n\"c\n\xff\",5\nd,6");
        assert_eq!((texts, bad), (vec!["a".into(), "b\n".into(), "d".into()], vec![3, 6, 8]));
        assert_eq!(read_good(b"text,id\n"), (vec![], vec![]));
        assert_eq!(read_good(b"\r\n\ntext,id\r\n\r\na,1\rb,2").0, ["a", "b"]);
    }

    #[test]
    fn a_header_alone_holds_no_text() {
        assert!(matches!(read("text\n"), Err(Error::NoDocuments { .. })));
    }

    proptest! {
        #[test]
        fn what_is_written_as_csv_is_read_as_it_was(rows in proptest::collection::vec("[a\",\n é]{1,8}", 0..12)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["id", "text"]).unwrap();
            rows.iter().for_each(|text| writer.write_record(["1", text]).unwrap());
            prop_assert_eq!(read_good(&writer.into_inner().unwrap()), (rows, vec![]));
        }

        #[test]
        fn whatever_stands_in_a_file_bad_records_have_a_line_of_it_and_good_ones_are_read(
            bytes in proptest::collection::vec(proptest::sample::select(b"a\",\n\r\0\xff\xe9".to_vec()), 0..60),
        ) {
            let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
            let (texts, bad) = read_good(&[b"text,id\n", &bytes[..], b"\ngood,1\n"].concat());
            prop_assert!(bad.iter().all(|line| (2..=2 + lines as u64).contains(line)));
            // Unless an open quote takes it in, or its line stands behind what closes one.
            prop_assert!(bytes.contains(&b'"') || texts.last().map(String::as_str) == Some("good"));
        }
    }
}
