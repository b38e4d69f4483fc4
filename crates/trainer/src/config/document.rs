//! A TOML file as a tree in which everything knows where it was written.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place, Subject};

/// Where a key or a value was written. Ordered as errors are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Nowhere: it is missing.
    Missing,
    /// In the file, at this byte.
    File(usize),
    /// In the `--set` of this index.
    Set(usize),
}

/// A value and where it was written; for a table, where its name was.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub value: Value,
    pub origin: Origin,
}

/// A TOML value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// In the order in which the keys were written.
    Table(Vec<Entry>),
    Array(Vec<Node>),
    String(String),
    /// Wider than TOML's integers, so that one that does not fit can be reported as any other out of range.
    Integer(i128),
    Float(f64),
    Boolean(bool),
    Datetime(String),
}

/// A key of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub key_origin: Origin,
    pub node: Node,
}

/// A config file and the `--set`s on top of it.
#[derive(Debug, Clone)]
pub(super) struct Document {
    name: String,
    text: String,
    /// Each `--set` on top of the file, as it was given.
    pub sets: Vec<String>,
    pub root: Vec<Entry>,
}

impl Document {
    /// Parses TOML; `name` is what errors call the file. Fails with the first syntax error of each line.
    pub fn parse(name: &str, text: &str) -> Result<Self, Vec<ConfigError>> {
        let (table, mut syntax) = DeTable::parse_recoverable(text);
        let mut document = Self { name: name.to_owned(), text: text.to_owned(), sets: Vec::new(), root: Vec::new() };
        if syntax.is_empty() {
            document.root = entries(table.into_inner(), &|offset| Origin::File(offset));
            return Ok(document);
        }
        let offset = |error: &toml::de::Error| error.span().map_or(0, |span| span.start);
        syntax.sort_by_key(offset);
        let mut errors: Vec<ConfigError> = Vec::new();
        for error in syntax {
            let place = document.place(Origin::File(offset(&error)));
            let same_line = |other: &ConfigError| line_of(&other.place) == line_of(&place);
            // What follows a syntax error on its line is mostly its consequence.
            if !errors.last().is_some_and(same_line) {
                errors.push(ConfigError {
                    place,
                    message: format!("not TOML: {}", error.message()),
                    hint: None,
                    subject: Subject::Config,
                });
            }
        }
        Err(errors)
    }

    /// Where the key at this dotted path stands; `None` if it was not written.
    pub fn find(&self, path: &str) -> Option<Origin> {
        let mut table = &self.root;
        let mut found = None;
        let mut keys = path.split('.').peekable();
        while let Some(key) = keys.next() {
            let (key, index) = indexed(key);
            let entry = table.iter().find(|entry| entry.key == key)?;
            let node = match (&entry.node.value, index) {
                (Value::Array(items), Some(index)) => items.get(index)?,
                _ => &entry.node,
            };
            found = Some(node.origin);
            match &node.value {
                Value::Table(inner) => table = inner,
                _ if keys.peek().is_some() => return None,
                _ => {}
            }
        }
        found
    }

    /// Where the key at this dotted path stands, or else the innermost table around it that was written.
    pub fn find_or_around(&self, path: &str) -> Origin {
        let mut path = path;
        loop {
            if let Some(origin) = self.find(path) {
                return origin;
            }
            match path.rsplit_once('.') {
                Some((around, _)) => path = around,
                None => return Origin::Missing,
            }
        }
    }

    /// The place that an origin names.
    pub fn place(&self, origin: Origin) -> Place {
        match origin {
            Origin::Missing => Place::File(self.name.clone()),
            Origin::File(offset) => place_in(&self.name, self.text.as_bytes(), offset),
            Origin::Set(index) => Place::Set(self.sets[index].clone()),
        }
    }
}

/// A key and the index behind it: `remove[1]`.
fn indexed(key: &str) -> (&str, Option<usize>) {
    let of_item = || {
        let (name, index) = key.strip_suffix(']')?.split_once('[')?;
        Some((name, Some(index.parse().ok()?)))
    };
    of_item().unwrap_or((key, None))
}

/// The place of a byte of a file, which need not be UTF-8 from there on.
pub(super) fn place_in(file: &str, text: &[u8], offset: usize) -> Place {
    let before = &text[..offset.min(text.len())];
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = String::from_utf8_lossy(&before[line_start..])
        .chars()
        .filter(|&c| c != '\u{feff}') // a byte order mark is no column
        .count()
        + 1;
    Place::At { file: file.to_owned(), line, column }
}

fn line_of(place: &Place) -> Option<usize> {
    match place {
        Place::At { line, .. } => Some(*line),
        _ => None,
    }
}

fn entries(table: DeTable<'_>, origin: &dyn Fn(usize) -> Origin) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, node)| {
            let key_origin = origin(key.span().start);
            let mut node = self::node(node, origin);
            if matches!(node.value, Value::Table(_)) {
                node.origin = key_origin;
            }
            Entry { key: key.into_inner().into_owned(), key_origin, node }
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_origin);
    entries
}

fn node(node: Spanned<DeValue<'_>>, origin: &dyn Fn(usize) -> Origin) -> Node {
    let at = origin(node.span().start);
    Node { value: value(node.into_inner(), origin), origin: at }
}

/// A parsed value as a tree; `origin` says where what stands at a byte was written.
pub(super) fn value(value: DeValue<'_>, origin: &dyn Fn(usize) -> Origin) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(integer) => Value::Integer(wide_integer(integer.as_str(), integer.radix())),
        // Too large a number parses as infinity, which the check refuses.
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(truth) => Value::Boolean(truth),
        DeValue::Datetime(time) => Value::Datetime(time.to_string()),
        DeValue::Array(items) => Value::Array(items.into_iter().map(|item| node(item, origin)).collect()),
        DeValue::Table(table) => Value::Table(entries(table, origin)),
    }
}

/// An integer of any length; what does not even fit 128 bits becomes the nearest that does.
fn wide_integer(digits: &str, radix: u32) -> i128 {
    match i128::from_str_radix(digits, radix) {
        Ok(integer) => integer,
        Err(_) if digits.starts_with('-') => i128::MIN,
        Err(_) => i128::MAX,
    }
}

impl Value {
    /// What it is, for "expected ..., found ...".
    pub fn described(&self) -> String {
        match self {
            Self::Table(_) => "a table".to_owned(),
            Self::Array(_) => "an array".to_owned(),
            Self::String(text) if text.chars().count() > 60 => {
                let start: String = text.chars().take(60).collect();
                format!("the string {start:?}...")
            }
            Self::String(text) => format!("the string {text:?}"),
            Self::Integer(integer) => format!("the integer {integer}"),
            Self::Float(float) => format!("the number {float:?}"),
            Self::Boolean(truth) => format!("{truth}"),
            Self::Datetime(time) => format!("the date {time}"),
        }
    }
}

/// A TOML text with each float in its shortest form: `1e-8` where the serializer writes `0.00000001`.
pub(super) fn with_short_floats(mut text: String) -> String {
    let mut floats = Vec::new();
    if let Ok(table) = DeTable::parse(&text) {
        collect_floats(table.get_ref().values(), &mut floats);
    }
    floats.sort_by_key(|(span, _): &(Range<usize>, f64)| span.start);
    for (span, x) in floats.into_iter().rev() {
        text.replace_range(span, &format!("{x:?}"));
    }
    text
}

fn collect_floats<'a, 'i: 'a>(
    nodes: impl Iterator<Item = &'a Spanned<DeValue<'i>>>,
    floats: &mut Vec<(Range<usize>, f64)>,
) {
    for node in nodes {
        match node.get_ref() {
            DeValue::Float(float) => {
                if let Ok(x) = float.as_str().parse() {
                    floats.push((node.span(), x));
                }
            }
            DeValue::Table(table) => {
                let nodes: &mut dyn Iterator<Item = _> = &mut table.values();
                collect_floats(nodes, floats);
            }
            _ => {} // no array of a config holds floats
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse("x.toml", text).unwrap()
    }

    #[test]
    fn keys_are_found_where_they_were_written() {
        let document = document("# é\n[a.b]\nc = 1\nd = { e = \"x\" }\n");
        let at = |path: &str| document.place(document.find_or_around(path)).to_string();
        assert_eq!(at("a"), "x.toml:2:2");
        assert_eq!(at("a.b"), "x.toml:2:4");
        assert_eq!(at("a.b.c"), "x.toml:3:5");
        assert_eq!(at("a.b.d.e"), "x.toml:4:11");
        assert_eq!(at("a.b.missing"), "x.toml:2:4");
        assert_eq!(at("a.b.c.below_a_leaf"), "x.toml:3:5");
        assert_eq!(at("missing.too"), "x.toml");
    }

    #[test]
    fn columns_count_characters() {
        let document = document("\u{feff}\"é\" = [\"ü\", 3]\r\nz = 1\r\n");
        let Value::Array(items) = &document.root[0].node.value else {
            panic!("not an array");
        };
        assert_eq!(document.place(items[1].origin).to_string(), "x.toml:1:13");
        assert_eq!(document.place(document.find("z").unwrap()).to_string(), "x.toml:2:5");
    }

    #[test]
    fn each_line_with_a_syntax_error_is_reported_once() {
        let errors = Document::parse("x.toml", "a =\nb = = 2\nc = 3\nc = 4\n").unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "x.toml:1:4: error: not TOML: string values must be quoted, expected literal string",
                "x.toml:2:5: error: not TOML: extra `=`, expected nothing",
                "x.toml:4:1: error: not TOML: duplicate key",
            ]
        );
    }

    #[test]
    fn integers_of_any_length_are_read() {
        assert_eq!(wide_integer("-99", 10), -99);
        assert_eq!(wide_integer(&"9".repeat(100), 10), i128::MAX);
        assert_eq!(wide_integer(&format!("-{}", "9".repeat(100)), 10), i128::MIN);
    }

    #[test]
    fn floats_are_shortened_and_strings_left_alone() {
        let text = "a = 0.00000001\n[b]\nc = 0.5\nd = \"\"\"\nx = 0.00000001\n\"\"\"\n";
        let short = with_short_floats(text.to_owned());
        assert_eq!(short, "a = 1e-8\n[b]\nc = 0.5\nd = \"\"\"\nx = 0.00000001\n\"\"\"\n");
    }
}
