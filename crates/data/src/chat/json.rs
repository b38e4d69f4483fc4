//! JSON records: one a line, or the elements of one array, read one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::lines::{self, Lines, MAX_RECORD, Record};
use crate::error::Error;

/// Calls `each` with every record's line and value, or with what is wrong with it. Whether the file is an array or JSON
/// Lines is seen at its first character.
pub(super) fn records(
    path: &Path,
    mut each: impl FnMut(u64, Result<Value, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    if is_array(path)? {
        let mut elements = Elements::open(path)?;
        while let Some((line, value)) = elements.next()? {
            each(line, value)?;
        }
        return Ok(());
    }
    let mut lines = Lines::open(path)?;
    while let Some((number, line)) = lines.next()? {
        match line {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => each(number, parse(path, number, line.trim_end_matches(['\r', '\n'])))?,
            Err(error) => each(number, Err(error))?,
        }
    }
    Ok(())
}

fn is_array(path: &Path) -> Result<bool, Error> {
    let (mut reader, _) = lines::open(path)?;
    loop {
        let chunk = reader.fill_buf().map_err(Error::io(path))?;
        if let Some(first) = chunk.iter().find(|byte| !byte.is_ascii_whitespace()) {
            return Ok(*first == b'[');
        }
        let length = chunk.len();
        if length == 0 {
            return Err(Error::EmptyFile { path: path.into() });
        }
        reader.consume(length);
    }
}

/// A value; the text begins at a line of the file.
fn parse(path: &Path, line: u64, text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|cause| {
        let message = cause.to_string();
        let reason = message.split(" at line ").next().unwrap_or(&message);
        let hint = if reason.contains("recursion limit") {
            "the value is nested deeper than any conversation"
        } else if cause.is_eof() {
            "a JSONL file has one whole JSON object a line, a JSON file one array of objects"
        } else {
            "write the record with a JSON library"
        };
        Error::Record {
            path: path.into(),
            line: line + cause.line().saturating_sub(1) as u64,
            message: format!("malformed JSON at column {}: {reason}", cause.column()),
            hint: hint.into(),
        }
    })
}

/// The elements of a file that is one JSON array. Only one is held at a time.
struct Elements {
    path: PathBuf,
    reader: BufReader<File>,
    element: Vec<u8>,
    line: u64,
    offset: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Before,
    First,
    Within,
    Done,
}

impl Elements {
    fn open(path: &Path) -> Result<Self, Error> {
        let (reader, offset) = lines::open(path)?;
        Ok(Self { path: path.into(), reader, element: Vec::new(), line: 1, offset, state: State::Before })
    }

    fn error(&self, line: u64, message: &str) -> Error {
        let hint = "a JSON file is one array of objects: [{...}, {...}]".into();
        Error::Record { path: self.path.clone(), line, message: message.into(), hint }
    }

    fn byte(&mut self) -> Result<Option<u8>, Error> {
        let byte = self.reader.fill_buf().map_err(Error::io(&self.path))?.first().copied();
        if let Some(byte) = byte {
            self.reader.consume(1);
            self.offset += 1;
            self.line += u64::from(byte == b'\n');
        }
        Ok(byte)
    }

    /// The next byte that is no white space, and its line.
    fn visible(&mut self) -> Result<Option<(u8, u64)>, Error> {
        loop {
            match self.byte()? {
                None => return Ok(None),
                Some(byte) if byte.is_ascii_whitespace() => {}
                Some(byte) => return Ok(Some((byte, self.line))),
            }
        }
    }

    /// The next element's line and value, or what is wrong with it.
    ///
    /// # Errors
    /// The file cannot be read any further.
    fn next(&mut self) -> Result<Option<Record<Value>>, Error> {
        if self.state == State::Before {
            // The caller saw the bracket.
            self.visible()?;
            self.state = State::First;
        }
        if self.state == State::Done {
            return Ok(None);
        }
        let (mut byte, start) = match self.visible()? {
            None => return self.end_of_file(),
            Some((b']', _)) if self.state == State::First => return self.end_of_array().map(|()| None),
            Some(found) => found,
        };
        self.state = State::Within;
        self.element.clear();
        let from = self.offset - 1;
        let mut length = 0_u64;
        let (mut depth, mut quoted, mut escaped) = (0_i64, false, false);
        loop {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                _ if quoted => {}
                b',' | b']' if depth <= 0 => break,
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            length += 1;
            if length <= MAX_RECORD as u64 {
                self.element.push(byte);
            }
            byte = match self.byte()? {
                Some(byte) => byte,
                None => return self.end_of_file(),
            };
        }
        if byte == b']' {
            self.end_of_array()?;
        }
        if length > MAX_RECORD as u64 {
            return Ok(Some((start, Err(lines::too_long(&self.path, start, length, MAX_RECORD)))));
        }
        if self.element.trim_ascii().is_empty() {
            return Ok(Some((start, Err(self.error(start, "a value is missing beside a comma")))));
        }
        let value = lines::text(&self.path, start, from, &self.element);
        Ok(Some((start, value.and_then(|text| parse(&self.path, start, text)))))
    }

    fn end_of_file(&mut self) -> Result<Option<Record<Value>>, Error> {
        self.state = State::Done;
        Err(self.error(self.line, "the file ends inside its array"))
    }

    fn end_of_array(&mut self) -> Result<(), Error> {
        self.state = State::Done;
        match self.visible()? {
            None => Ok(()),
            Some((_, line)) => Err(self.error(line, "text follows the end of the array")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::type_complexity, reason = "the records, and how reading ended")]
    fn read(text: &[u8]) -> (Vec<(u64, Result<Value, String>)>, Option<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut all = Vec::new();
        let result = records(file.path(), |line, value| {
            all.push((line, value.map_err(|error| error.to_string())));
            Ok(())
        });
        (all, result.err().map(|error| error.to_string()))
    }

    #[test]
    fn an_array_and_lines_give_the_same_records_with_their_lines() {
        let (array, error) =
            read(b"\xef\xbb\xbf\r\n[ {\"a\": \"],}[{\\\"\"},\r\n\r\n  {\"a\": [1, {\"b\": 2}]}\n,3]\n \n");
        assert_eq!(error, None);
        let value = |text: &str| Ok(serde_json::from_str(text).unwrap());
        let expected = [(2, value("{\"a\": \"],}[{\\\"\"}")), (4, value("{\"a\": [1, {\"b\": 2}]}")), (5, value("3"))];
        assert_eq!(array, expected);
        let (lines, error) = read(b"\n{\"a\": \"],}[{\\\"\"}\r\n\r\n{\"a\": [1, {\"b\": 2}]}\n3");
        assert_eq!((lines, error), (expected.map(|(line, value)| (line, value)).to_vec(), None));
        assert_eq!(read(b"[]"), (vec![], None));
        assert!(read(b" \n").1.unwrap().contains("empty"));
    }

    #[test]
    fn a_malformed_record_is_named_by_its_line_and_the_next_is_read() {
        let (records, error) = read(b"{\"a\": 1}\n{\"a\" 1}\n{\"a\": \n{}\n");
        assert_eq!((records.len(), error), (4, None));
        let error = records[1].1.clone().unwrap_err();
        assert!(error.contains(":2: malformed JSON at column 6: expected `:`"), "{error}");
        assert!(records[2].1.clone().unwrap_err().contains("one whole JSON object a line"));
        let (records, error) = read(b"[{\"a\": 1},\n{\n\"a\" 1},,\n{}]");
        assert_eq!((records.len(), error), (4, None));
        assert!(records[1].1.clone().unwrap_err().contains(":3: malformed JSON at column 5"), "{records:?}");
        assert!(records[2].1.clone().unwrap_err().contains(":3: a value is missing"), "{records:?}");
        assert!(records[3].1.is_ok());
    }

    #[test]
    fn a_file_that_ends_inside_its_array_or_goes_on_behind_it_is_refused() {
        for (text, part) in [
            (&b"[{\"a\": 1}"[..], ":1: the file ends inside its array"),
            (b"[{\"a\": 1},\n{\"a\": \"]", ":2: the file ends inside its array"),
            (b"[\n", "the file ends inside its array"),
            (b"[{}]\n[{}]", ":2: text follows the end of the array"),
        ] {
            let error = read(text).1.unwrap();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn deep_nesting_bad_bytes_and_nul_are_errors_of_their_record() {
        let deep = [b"{\"a\": ".to_vec(), b"[".repeat(200_000), b"]".repeat(200_000), b"}".to_vec()].concat();
        for text in [[deep.clone(), b"\n{}".to_vec()].concat(), [b"[".to_vec(), deep, b", {}]".to_vec()].concat()] {
            let (records, error) = read(&text);
            assert_eq!((records.len(), error), (2, None));
            assert!(records[0].1.clone().unwrap_err().contains("recursion limit"), "{records:?}");
        }
        let (records, _) = read(b"[\"\xff\",\n\"\0\", 1]");
        assert!(records[0].1.clone().unwrap_err().contains(":1: the byte 0xff at offset 2"), "{records:?}");
        assert!(records[1].1.clone().unwrap_err().contains(":2: NUL byte at offset 7"), "{records:?}");
        assert!(records[2].1.is_ok());
    }
}
