//! CoNLL: one word a line, its columns between tabs or else spaces, a blank line between sentences.

use std::collections::BTreeMap;
use std::path::Path;

use super::tagged::TaggedSentence;
use super::{lines, tag_scheme, text_of};
use crate::config::TaggedConfig;
use crate::error::Error;

/// Stands alone between two documents of CoNLL-2003.
const DOCUMENT: &str = "-DOCSTART-";

/// White space that parts columns. Others, such as the ideographic space, are words of Chinese texts.
const SPACE: [char; 3] = [' ', '\t', '\r'];

/// The columns of a line: what stands between its tabs, or where it has none between its spaces.
fn columns(line: &str) -> Vec<&str> {
    let line = line.trim_end_matches('\r');
    if line.contains('\t') {
        line.split('\t').map(|column| column.trim_matches(SPACE)).collect()
    } else {
        line.split(' ').filter(|column| !column.is_empty()).collect()
    }
}

fn is_border(line: &str) -> bool {
    let line = line.trim_matches(SPACE);
    line.is_empty() || line.starts_with(DOCUMENT)
}

/// How many columns most lines have.
fn usual_width(bytes: &[u8]) -> usize {
    let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
    for (_, line) in lines(bytes) {
        if let Ok(line) = std::str::from_utf8(line)
            && !is_border(line)
            && !line.starts_with('#')
        {
            *counts.entry(columns(line).len()).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(width, count)| (*count, *width)).map_or(0, |(width, _)| width)
}

/// Calls `each` with every sentence, or with what is wrong with its first bad line.
pub(super) fn sentences(
    path: &Path,
    bytes: &[u8],
    config: &TaggedConfig,
    mut each: impl FnMut(Result<TaggedSentence, Error>) -> Result<(), Error>,
) -> Result<(), Error> {
    let width = usual_width(bytes);
    let empty = || TaggedSentence { words: vec![], tags: vec![], place: (path.into(), 0) };
    let mut sentence: Result<TaggedSentence, Error> = Ok(empty());
    // A border at the end closes the last sentence.
    for (number, line) in lines(bytes).chain([(0, &b""[..])]) {
        let line = match text_of(path, number, line) {
            Ok(line) => line,
            Err(error) => {
                sentence = sentence.and(Err(error));
                continue;
            }
        };
        if is_border(line) {
            match std::mem::replace(&mut sentence, Ok(empty())) {
                Ok(sentence) if sentence.words.is_empty() => {}
                read => each(read)?,
            }
            continue;
        }
        let Ok(open) = &mut sentence else { continue };
        let columns = columns(line);
        let column = |index: usize| columns.get(index).copied().unwrap_or_default();
        let tag = column(config.tag_column.unwrap_or(columns.len()).saturating_sub(1));
        let odd = columns.len() != width;
        // A sentence may begin with a word such as `#`, but not with a line that could not stand in it.
        let setting = columns.len() > 3 && columns[0] == "#" && columns[2] == "=";
        let foreign = odd || setting || !tag_scheme::knows(config.scheme, tag);
        if open.words.is_empty() && line.starts_with('#') && foreign {
            continue;
        }
        let word = column(config.token_column - 1);
        let least = config.token_column.max(config.tag_column.unwrap_or(config.token_column + 1));
        let problem = if odd {
            Some((format!("the line has {} columns, most have {width}", columns.len()), "check the line"))
        } else if width < least {
            let hint = "a line is a word, a space or a tab, and its tag; `token_column` and `tag_column` name others";
            Some((format!("the line has {width} columns, {least} are needed"), hint))
        } else if word.is_empty() || tag.is_empty() {
            let what = if word.is_empty() { "word" } else { "tag" };
            Some((format!("the {what} is empty"), "a tab too many, or a word that was white space"))
        } else {
            None
        };
        match problem {
            None => {
                if open.words.is_empty() {
                    open.place.1 = number;
                }
                open.words.push(word.into());
                open.tags.push(tag.into());
            }
            Some((message, hint)) => {
                let hint = format!("{hint}, or set `on_bad_row` = \"skip\"");
                sentence = Err(Error::Record { path: path.into(), line: number, message, hint });
            }
        }
    }
    Ok(())
}
