//! Plain text: a file is one document, or several between separators.

/// Appends the documents of one file.
pub(super) fn documents(text: String, separator: Option<&str>, documents: &mut Vec<String>) {
    match separator {
        None => documents.push(text),
        // A separator at the end, or two in a row, makes no empty document.
        Some(separator) => documents.extend(text.split(separator).filter(|part| !part.is_empty()).map(Into::into)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read_files, text};
    use crate::error::Error;

    #[test]
    fn a_separator_divides_a_file_and_belongs_to_no_document() {
        let corpus =
            read_files(&[("a.txt", b"one\n\ntwo\nlines\n\n\n\nthree\n\n")], text(Some("\n\n")), &["a.txt"]).unwrap();
        assert_eq!(corpus.documents, ["one", "two\nlines", "three"]);
    }

    #[test]
    fn a_file_of_nothing_but_separators_is_an_error() {
        let result = read_files(&[("a.txt", b"\n\n\n\n")], text(Some("\n\n")), &["a.txt"]);
        assert!(matches!(result, Err(Error::NoDocuments { .. })));
    }

    #[test]
    fn an_empty_separator_is_refused() {
        assert!(matches!(read_files(&[("a.txt", b"a")], text(Some("")), &["a.txt"]), Err(Error::Config { .. })));
    }
}
