//! Texts from standard input or a file, a line each, answered as they come.

use crate::report::{DATA, Failure};
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// Lines that wait to be answered, at most so many together.
pub struct Lines {
    lines: Receiver<Result<String, Failure>>,
    together: usize,
    /// What ended the lines, once those before it were given.
    failure: Option<Failure>,
}

impl Lines {
    /// The lines of `input`, which errors call by this name.
    pub fn of(input: impl Read + Send + 'static, name: String, together: usize) -> Self {
        let (send, lines) = sync_channel(together);
        // Reading waits for whoever writes; what has come is answered meanwhile. The thread ends with the process.
        thread::spawn(move || {
            for (number, line) in (1..).zip(BufReader::new(input).split(b'\n')) {
                let line = line
                    .map_err(|error| Failure::new(DATA, format!("{name}: {error}")))
                    .and_then(|line| text(line, number, &name));
                let failed = line.is_err();
                if send.send(line).is_err() || failed {
                    return;
                }
            }
        });
        Self { lines, together, failure: None }
    }
}

impl Iterator for Lines {
    type Item = Result<Vec<String>, Failure>;

    /// The next line once it is there, and those that wait behind it.
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(failure) = self.failure.take() {
            return Some(Err(failure));
        }
        let mut found = vec![match self.lines.recv().ok()? {
            Ok(line) => line,
            Err(failure) => return Some(Err(failure)),
        }];
        while found.len() < self.together
            && let Ok(line) = self.lines.try_recv()
        {
            match line {
                Ok(line) => found.push(line),
                Err(failure) => {
                    self.failure = Some(failure);
                    break;
                }
            }
        }
        Some(Ok(found))
    }
}

/// A line without its end; the first one also without a byte-order mark.
fn text(mut line: Vec<u8>, number: u64, name: &str) -> Result<String, Failure> {
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    let text = String::from_utf8(line).map_err(|error| {
        let byte = error.as_bytes()[error.utf8_error().valid_up_to()];
        let hint = "convert it, for example: iconv -f LATIN1 -t UTF-8";
        Failure::new(DATA, format!("{name}:{number}: the byte 0x{byte:02x} is not UTF-8; hint: {hint}"))
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) if number == 1 => rest.into(),
        _ => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn lines_lose_their_ends_and_the_first_its_mark() {
        let input = Cursor::new("\u{feff}one\r\n\ntwo\u{feff}");
        let found: Vec<String> = Lines::of(input, "x".into(), 2).flat_map(|lines| lines.expect("text")).collect();
        assert_eq!(found, ["one", "", "two\u{feff}"]);
    }

    #[test]
    fn what_stands_before_a_bad_line_is_given_before_its_error() {
        let mut lines = Lines::of(Cursor::new(b"one\ntwo\n\xff\nthree\n"), "x".into(), 9);
        let mut found = Vec::new();
        let failure = loop {
            match lines.next().expect("an error at last") {
                Ok(more) => found.extend(more),
                Err(failure) => break failure,
            }
        };
        assert_eq!(found, ["one", "two"]);
        assert!(format!("{failure:?}").contains("x:3: the byte 0xff"), "{failure:?}");
        assert!(lines.next().is_none());
    }

    #[test]
    fn a_line_is_given_before_the_next_one_is_written() {
        let (read, mut write) = std::io::pipe().expect("a pipe");
        let mut lines = Lines::of(read, "x".into(), 9);
        for word in ["one", "two"] {
            std::io::Write::write_all(&mut write, format!("{word}\n").as_bytes()).expect("open");
            assert_eq!(lines.next().expect("it came").expect("text"), [word]);
        }
    }
}
