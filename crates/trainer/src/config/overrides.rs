//! `--set a.b=v`: values from the command line on top of the file.

use toml::de::DeValue;

use super::document::{self, Document, Entry, Node, Origin, Value};
use super::error::{ConfigError, Place, Subject};
use super::shape::Shape;
use super::train::STOP_KEYS;

impl Document {
    /// Sets `a.b` to `v`, given `a.b=v`.
    ///
    /// `v` is read as a TOML value where it is one and the schema does not want a string, else as a bare string.
    /// Setting a variant or a stop key takes back the one that the file chose. Of a path that the schema does not
    /// know, as much is set as it takes for the check to name it.
    pub fn set(&mut self, set: &str, shape: &Shape) -> Result<(), ConfigError> {
        let origin = Origin::Set(self.sets.len());
        self.sets.push(set.to_owned());
        let malformed = |message: &str| ConfigError {
            place: Place::Set(set.to_owned()),
            message: message.to_owned(),
            hint: Some("write --set train.max_steps=100".to_owned()),
            subject: Subject::Config,
        };
        let Some((path, raw)) = set.split_once('=') else {
            return Err(malformed("no `=` in it"));
        };
        let path: Vec<&str> = path.split('.').map(str::trim).collect();
        if path.iter().any(|key| key.is_empty()) {
            return Err(malformed("a key in it is empty"));
        }
        insert(&mut self.root, shape, &path, raw.trim(), origin);
        if let ["train", key] = path[..]
            && STOP_KEYS.contains(&key)
            && let Some(train) = find_table(&mut self.root, "train")
        {
            train.retain(|entry| {
                entry.key == key
                    || !STOP_KEYS.contains(&entry.key.as_str())
                    || matches!(entry.key_origin, Origin::Set(_))
            });
        }
        Ok(())
    }
}

fn find_table<'a>(table: &'a mut [Entry], key: &str) -> Option<&'a mut Vec<Entry>> {
    let entry = table.iter_mut().find(|entry| entry.key == key)?;
    match &mut entry.node.value {
        Value::Table(inner) => Some(inner),
        _ => None,
    }
}

/// Puts a `--set` value at its path, below a table of this shape.
fn insert(table: &mut Vec<Entry>, shape: &Shape, path: &[&str], raw: &str, origin: Origin) {
    let Some((&key, rest)) = path.split_first() else {
        return;
    };
    let child = shape.child(key);
    if let (Shape::Variants(variants), Some(_)) = (shape, child) {
        table.retain(|entry| {
            entry.key == key
                || matches!(entry.key_origin, Origin::Set(_))
                || !variants.iter().any(|variant| variant.name == entry.key)
        });
    }
    let position = table.iter().position(|entry| entry.key == key);
    let entry = match position {
        Some(position) => &mut table[position],
        None => {
            table.push(Entry {
                key: key.to_owned(),
                key_origin: origin,
                node: Node { value: Value::Table(Vec::new()), origin },
            });
            let last = table.len() - 1;
            &mut table[last]
        }
    };
    match child {
        Some(child) if !rest.is_empty() => {
            if !matches!(entry.node.value, Value::Table(_)) {
                entry.key_origin = origin;
                entry.node = Node { value: Value::Table(Vec::new()), origin };
            }
            if let Value::Table(inner) = &mut entry.node.value {
                insert(inner, child, rest, raw, origin);
            }
        }
        _ => {
            entry.key_origin = origin;
            entry.node = Node {
                value: match rest {
                    [] => set_value(raw, child, origin),
                    _ => Value::Table(Vec::new()),
                },
                origin,
            };
        }
    }
}

fn set_value(raw: &str, shape: Option<&Shape>, origin: Origin) -> Value {
    let bare = || Value::String(raw.to_owned());
    let Ok(parsed) = DeValue::parse(raw) else {
        return bare();
    };
    let parsed = document::value(parsed.into_inner(), &|_| origin);
    match parsed {
        Value::String(_) => parsed,
        _ if shape.is_some_and(Shape::wants_string) => bare(),
        _ => parsed,
    }
}
