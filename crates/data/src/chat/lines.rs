//! The lines of a file, one at a time in bounded memory.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The longest record that is read, in bytes: 16 MiB, far above any conversation that a model could be trained on. A
/// longer line is refused without being held in memory.
pub const MAX_RECORD: usize = 16 << 20;

/// A record's line, from 1, and the record or what is wrong with it.
pub(crate) type Record<T> = (u64, Result<T, Error>);

/// Reads a text file line by line.
pub(crate) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    limit: usize,
    buffer: Vec<u8>,
    /// Lines and bytes before the next line.
    number: u64,
    offset: u64,
}

impl Lines {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be opened, is empty, or begins like UTF-16.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        Self::with_limit(path, MAX_RECORD)
    }

    fn with_limit(path: &Path, limit: usize) -> Result<Self, Error> {
        let (reader, offset) = open(path)?;
        Ok(Self { path: path.into(), reader, limit, buffer: Vec::new(), number: 0, offset })
    }

    /// The next line's number, from 1, and its text with its line end; or what is wrong with the line. Reading can go on
    /// behind a bad line.
    ///
    /// # Errors
    /// The file cannot be read any further.
    pub(crate) fn next(&mut self) -> Result<Option<Record<&str>>, Error> {
        self.buffer.clear();
        let mut length = 0_u64;
        loop {
            let chunk = self.reader.fill_buf().map_err(Error::io(&self.path))?;
            if chunk.is_empty() {
                break;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            length += taken as u64;
            if length <= self.limit as u64 {
                self.buffer.extend_from_slice(&chunk[..taken]);
            }
            self.reader.consume(taken);
            if end.is_some() {
                break;
            }
        }
        if length == 0 {
            return Ok(None);
        }
        self.number += 1;
        let start = self.offset;
        self.offset += length;
        if length > self.limit as u64 {
            return Ok(Some((self.number, Err(too_long(&self.path, self.number, length, self.limit)))));
        }
        Ok(Some((self.number, text(&self.path, self.number, start, &self.buffer))))
    }
}

/// Opens a text file behind its byte-order mark, whose length comes with it.
pub(super) fn open(path: &Path) -> Result<(BufReader<File>, u64), Error> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::io(path))?);
    let start = reader.fill_buf().map_err(Error::io(path))?;
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Err(Error::NotUtf8 {
            path: path.into(),
            line: 1,
            offset: 0,
            byte: start[0],
            hint: "the file begins like UTF-16; convert it: iconv -f UTF-16 -t UTF-8".into(),
        });
    }
    let mark = if start.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    if start.len() == mark {
        return Err(Error::EmptyFile { path: path.into() });
    }
    reader.consume(mark);
    Ok((reader, mark as u64))
}

/// The bytes as text; they begin at a line and an offset of the file.
pub(super) fn text<'a>(path: &Path, line: u64, offset: u64, bytes: &'a [u8]) -> Result<&'a str, Error> {
    let line_of = |at: usize| line + bytes[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let hint = "text holds no NUL byte; point at another file or convert this one".into();
        return Err(Error::Binary { path: path.into(), line: line_of(at), offset: offset + at as u64, hint });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Error::NotUtf8 {
            path: path.into(),
            line: line_of(at),
            offset: offset + at as u64,
            byte: bytes[at],
            hint: "convert the file, for example: iconv -f LATIN1 -t UTF-8".into(),
        }
    })
}

pub(super) fn too_long(path: &Path, line: u64, length: u64, limit: usize) -> Error {
    Error::Record {
        path: path.into(),
        line,
        message: format!("the record has {length} bytes, at most {limit} are read"),
        hint: "one line is one conversation; is a whole file on this line?".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    fn lines(bytes: &[u8], limit: usize) -> Vec<(u64, Result<String, String>)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut lines = Lines::with_limit(file.path(), limit).unwrap();
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            all.push((number, line.map(Into::into).map_err(|error| error.to_string())));
        }
        all
    }

    #[test]
    fn lines_keep_their_ends_and_a_byte_order_mark_goes() {
        let expected = [(1, Ok("a\r\n".into())), (2, Ok("\n".into())), (3, Ok("é".into()))];
        assert_eq!(lines("\u{feff}a\r\n\né".as_bytes(), 100), expected);
    }

    #[test]
    fn a_bad_line_is_an_error_of_its_own_and_the_next_is_read() {
        let found = lines(b"\xef\xbb\xbfok\nb\xe9d\nN\0L\nlong long\nend", 8);
        assert_eq!(found.len(), 5);
        let error = |index: usize| found[index].1.clone().unwrap_err();
        assert!(error(1).contains(":2: the byte 0xe9 at offset 7 is not UTF-8"), "{}", error(1));
        assert!(error(2).contains(":3: NUL byte at offset 11"), "{}", error(2));
        assert!(error(3).contains(":4: the record has 10 bytes, at most 8"), "{}", error(3));
        assert_eq!(found[4], (5, Ok("end".into())));
    }

    #[test]
    fn a_line_far_above_the_limit_is_refused_without_being_held() {
        let file = tempfile::NamedTempFile::new().unwrap();
        // A hole of 100 MB between a quote and a line end.
        let mut handle = file.as_file();
        handle.write_all(b"\"").unwrap();
        handle.seek(SeekFrom::Start(100_000_000)).unwrap();
        handle.write_all(b"\nnext\n").unwrap();
        let mut lines = Lines::open(file.path()).unwrap();
        let (number, line) = lines.next().unwrap().unwrap();
        assert!(number == 1 && line.unwrap_err().to_string().contains("100000001 bytes"));
        assert!(lines.buffer.capacity() <= 2 * MAX_RECORD);
        assert_eq!(lines.next().unwrap().unwrap().1.unwrap(), "next\n");
    }

    #[test]
    fn empty_and_utf_16_files_are_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bytes, part) in [(&b""[..], "empty"), (b"\xef\xbb\xbf", "empty"), (b"\xff\xfea\0", "UTF-16")] {
            std::fs::write(file.path(), bytes).unwrap();
            let error = Lines::open(file.path()).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(matches!(Lines::open(Path::new("no/such/file")), Err(Error::Io { .. })));
    }
}
