//! What is wrong with a config, and where.

use std::fmt;

/// Where in the config a problem stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole, as for a missing table.
    File(String),
    /// A character of the file; line and column count from 1, the column in characters.
    At {
        /// The file as it was named.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// A `--set`, as it was given.
    Set(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => f.write_str(file),
            Self::At { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Self::Set(set) => write!(f, "--set {set}"),
        }
    }
}

/// What has to be mended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Subject {
    /// The config.
    #[default]
    Config,
    /// The text files that `[data]` names: one is missing, empty or cannot be opened.
    Data,
    /// The directory that `model.init_from` names.
    Checkpoint,
    /// The directory that `train.output_dir` names.
    Output,
}

/// One problem of a config. Displays as one line: place, what is wrong, hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_line(&format!("{place}: error: {message}{}", hint_suffix(hint.as_deref()))))]
pub struct ConfigError {
    /// Where it stands.
    pub place: Place,
    /// What is wrong, naming the key.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
    /// What has to be mended.
    pub subject: Subject,
}

fn hint_suffix(hint: Option<&str>) -> String {
    hint.map(|hint| format!("; hint: {hint}")).unwrap_or_default()
}

/// File names, keys and values come from outside; none of them may break a line in two or move the cursor.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Every problem of a config: those of the file in the file's order, then those of each `--set`.
///
/// Displays as one line each, without a newline at the end. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// What has to be mended: what all of the errors say, or else the config.
    pub fn subject(&self) -> Subject {
        let first = self.0.first().map(|error| error.subject).unwrap_or_default();
        if self.0.iter().all(|error| error.subject == first) { first } else { Subject::Config }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_it_quotes() {
        let error = ConfigError {
            place: Place::Set("a=\u{1b}[31m".to_owned()),
            message: "unknown key `x\ny`".to_owned(),
            hint: Some("none".to_owned()),
            subject: Subject::Config,
        };
        assert_eq!(error.to_string(), "--set a=\\u{1b}[31m: error: unknown key `x\\ny`; hint: none");
    }
}
