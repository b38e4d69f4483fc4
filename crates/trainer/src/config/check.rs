//! Checks every key and type of a document against the schema, where serde would stop at the first error.

use super::document::{Document, Entry, Node, Origin, Value};
use super::error::Subject;
use super::shape::{Field, Shape};
use super::suggest::{self, join, nearest};

/// Something wrong with what was written.
#[derive(Debug)]
pub(super) struct Finding {
    pub origin: Origin,
    pub message: String,
    pub hint: Option<String>,
    pub subject: Subject,
}

/// What the check found, and what is left for serde to read.
pub(super) struct Checked {
    pub findings: Vec<Finding>,
    /// The dotted paths of the keys that are wrong; what they were to mean is not known.
    pub tainted: Vec<String>,
    /// The dotted paths of the required keys that are missing.
    pub missing: Vec<String>,
    /// The document with every wrong or missing value replaced by some right one.
    pub table: toml::Table,
}

/// Checks a document against the shape of the whole config.
pub(super) fn check(document: &Document, root: &Shape) -> Checked {
    let mut walker = Walker { document, root, findings: Vec::new(), tainted: Vec::new(), missing: Vec::new() };
    let table = match root {
        Shape::Table(fields) => walker.table("", &document.root, Origin::Missing, root, fields),
        _ => toml::Table::new(),
    };
    Checked { findings: walker.findings, tainted: walker.tainted, missing: walker.missing, table }
}

struct Walker<'a> {
    document: &'a Document,
    root: &'a Shape,
    findings: Vec<Finding>,
    tainted: Vec<String>,
    missing: Vec<String>,
}

impl Walker<'_> {
    fn report(&mut self, origin: Origin, path: &str, message: String, hint: Option<String>) {
        self.tainted.push(path.to_owned());
        self.findings.push(Finding { origin, message, hint, subject: Subject::Config });
    }

    /// Reports what is wrong with a value and returns it, or what stands in for it.
    fn value(&mut self, path: &str, node: &Node, field: &Field) -> toml::Value {
        let shape = &field.shape;
        match (shape, &node.value) {
            (Shape::Any, value) => return plain(value),
            (Shape::Table(fields), Value::Table(entries)) => {
                return toml::Value::Table(self.table(path, entries, node.origin, shape, fields));
            }
            (Shape::Variants(variants), Value::Table(entries)) => {
                return self.variants(path, entries, node.origin, shape, variants);
            }
            (Shape::Map(values), Value::Table(entries)) => {
                let of_entry = |entry: &Entry| {
                    let field = Field { name: entry.key.clone(), shape: (**values).clone(), ..field.clone() };
                    (entry.key.clone(), self.value(&join(path, &entry.key), &entry.node, &field))
                };
                return toml::Value::Table(entries.iter().map(of_entry).collect());
            }
            (Shape::Either(shapes), value) if shape.admits(value) => {
                let fitting = shapes.iter().find(|shape| shape.admits(value)).cloned().unwrap_or(Shape::Any);
                return self.value(path, node, &Field { shape: fitting, ..field.clone() });
            }
            (Shape::List { items, min }, Value::Array(nodes)) => {
                if count(nodes.len()) < *min {
                    let message = format!("`{path}` is empty");
                    self.report(node.origin, path, message, Some(format!("give at least {min}")));
                    return shape.placeholder();
                }
                let item = Field { shape: (**items).clone(), ..field.clone() };
                let item_of = |(i, node)| self.value(&format!("{path}[{i}]"), node, &item);
                return toml::Value::Array(nodes.iter().enumerate().map(item_of).collect());
            }
            (Shape::Text { min }, Value::String(text)) => {
                if count(text.chars().count()) < *min {
                    let message = format!("`{path}` is the empty string");
                    let hint = (!field.required).then(|| "leave it out".to_owned());
                    self.report(node.origin, path, message, hint);
                    return shape.placeholder();
                }
            }
            (Shape::Choice(names), Value::String(text)) => {
                if !names.contains(text) {
                    let message = format!("`{path}` is {text:?}, expected {}", shape.described());
                    let close = nearest(text, names.iter().map(String::as_str));
                    let hint = close.map(|name| format!("did you mean \"{name}\"?"));
                    self.report(node.origin, path, message, hint.or(field.hint.clone()));
                    return shape.placeholder();
                }
            }
            (Shape::Truth, Value::Boolean(_)) => {}
            (Shape::Integer { min, max }, Value::Integer(integer)) => {
                let wrong = if integer < min {
                    Some(format!("`{path}` is {integer}, expected at least {min}"))
                } else if integer > max {
                    Some(format!("`{path}` is {integer}, expected at most {max}"))
                } else {
                    None
                };
                if let Some(message) = wrong {
                    self.report(node.origin, path, message, None);
                    return shape.placeholder();
                }
            }
            (Shape::Number(limits), Value::Integer(_) | Value::Float(_)) => {
                let x = match node.value {
                    Value::Float(float) => float,
                    Value::Integer(integer) => integer as f64,
                    _ => f64::NAN,
                };
                if !limits.allow(x) {
                    let range = match limits.described() {
                        range if !x.is_finite() || range.is_empty() => "a finite number".to_owned(),
                        range => range,
                    };
                    let message = format!("`{path}` is {x}, expected {range}");
                    self.report(node.origin, path, message, None);
                    return shape.placeholder();
                }
                // An integer is as good where a float is wanted.
                return toml::Value::Float(x);
            }
            (shape, value) => {
                let message = format!("`{path}`: expected {}, found {}", shape.described(), value.described());
                let hint = rewrite(path, shape, value, node.origin);
                self.report(node.origin, path, message, hint);
                return shape.placeholder();
            }
        }
        plain(&node.value)
    }

    fn table(&mut self, path: &str, entries: &[Entry], origin: Origin, shape: &Shape, fields: &[Field]) -> toml::Table {
        let mut table = toml::Table::new();
        let mut meant = Vec::new();
        for entry in entries {
            match fields.iter().find(|field| field.name == entry.key) {
                Some(field) => {
                    let value = self.value(&join(path, &entry.key), &entry.node, field);
                    table.insert(entry.key.clone(), value);
                }
                None => meant.extend(self.unknown(path, entry, shape)),
            }
        }
        for field in fields {
            if !field.required || table.contains_key(&field.name) {
                continue;
            }
            let full = join(path, &field.name);
            // A misspelt key is not missing as well.
            if !meant.contains(&full) {
                let (message, hint) = missing(path, &full, field);
                self.findings.push(Finding { origin, message, hint, subject: Subject::Config });
                self.missing.push(full);
            }
            table.insert(field.name.clone(), field.shape.placeholder());
        }
        table
    }

    fn variants(
        &mut self,
        path: &str,
        entries: &[Entry],
        origin: Origin,
        shape: &Shape,
        variants: &[Field],
    ) -> toml::Value {
        let mut chosen: Option<(&str, toml::Value)> = None;
        let mut unknown = false;
        for entry in entries {
            let Some(field) = variants.iter().find(|field| field.name == entry.key) else {
                self.unknown(path, entry, shape);
                unknown = true;
                continue;
            };
            let value = self.value(&join(path, &entry.key), &entry.node, field);
            match &chosen {
                None => chosen = Some((&field.name, value)),
                Some((first, _)) => {
                    let second = &field.name;
                    let message = format!("[{path}.{second}] stands beside [{path}.{first}], only one can be chosen");
                    let hint = Some("remove one of them".to_owned());
                    self.report(entry.key_origin, path, message, hint);
                }
            }
        }
        let Some((name, value)) = chosen else {
            if unknown {
                self.tainted.push(path.to_owned());
            } else {
                let message = format!("[{path}] chooses nothing");
                let hint = format!("add {}", variant_tables(path, variants));
                self.report(origin, path, message, Some(hint));
            }
            return shape.placeholder();
        };
        toml::Value::Table([(name.to_owned(), value)].into_iter().collect())
    }

    /// Reports an unknown key; returns the paths of the keys that may be meant.
    fn unknown(&mut self, path: &str, entry: &Entry, shape: &Shape) -> Vec<String> {
        let suggestion = suggest::for_key(&entry.key, path, shape, self.root, self.document);
        let (hint, meant) = match suggestion {
            Some(suggestion) => (suggestion.hint, suggestion.meant),
            None => (known(path, shape), Vec::new()),
        };
        let full = join(path, &entry.key);
        let message = match (&entry.node.value, path) {
            (Value::Table(_), _) => format!("unknown table [{full}]"),
            (_, "") => format!("unknown key `{}` at the top level", entry.key),
            _ => format!("unknown key `{}` in [{path}]", entry.key),
        };
        self.report(entry.key_origin, &full, message, Some(hint));
        self.tainted.extend(meant.iter().cloned());
        meant
    }
}

/// The keys that a table has, for an unknown one that resembles none of them.
fn known(path: &str, shape: &Shape) -> String {
    let fields = shape.fields();
    let tables = path.is_empty() || matches!(shape, Shape::Variants(_));
    let name = |field: &Field| match tables {
        true => format!("[{}]", join(path, &field.name)),
        false => format!("`{}`", field.name),
    };
    match fields {
        [] => format!("[{path}] has no keys"),
        [one] => format!("[{path}] has only {}", name(one)),
        _ => {
            let names: Vec<String> = fields.iter().map(name).collect();
            format!("there are {}", names.join(", "))
        }
    }
}

fn missing(path: &str, full: &str, field: &Field) -> (String, Option<String>) {
    match &field.shape {
        Shape::Variants(variants) => {
            (format!("[{full}] is missing"), Some(format!("add {}", variant_tables(full, variants))))
        }
        Shape::Table(fields) => {
            let required = fields.iter().find(|field| field.required);
            let tables = fields.iter().filter(|field| field.shape.is_table());
            let tables: Vec<String> = tables.map(|table| format!("[{full}.{}]", table.name)).collect();
            let hint = match required {
                Some(key) => format!("add it with `{}`", key.name),
                None if tables.is_empty() => "add it".to_owned(),
                None => format!("add {}", tables.join(" or ")),
            };
            (format!("[{full}] is missing"), Some(hint))
        }
        _ => (
            format!("`{}` is missing in [{path}]", field.name),
            Some(format!("add `{}` ({})", field.name, first_sentence(&field.about))),
        ),
    }
}

/// The start of a doc comment: what the key is.
fn first_sentence(about: &str) -> &str {
    let end = about.find(". ").unwrap_or(about.len());
    about[..end].trim_end_matches('.')
}

fn variant_tables(path: &str, variants: &[Field]) -> String {
    let tables: Vec<String> = variants.iter().map(|variant| format!("[{}]", join(path, &variant.name))).collect();
    match tables.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// How to write a value of the wrong type, where it is clear what was meant.
fn rewrite(path: &str, shape: &Shape, value: &Value, origin: Origin) -> Option<String> {
    let in_set = matches!(origin, Origin::Set(_));
    match (shape, value) {
        (Shape::Integer { .. }, Value::String(text)) if text.trim().parse::<i64>().is_ok() => {
            Some(format!("write {} without quotes", text.trim()))
        }
        (Shape::Number(_), Value::String(text)) if text.trim().parse::<f64>().is_ok() => {
            Some(format!("write {} without quotes", text.trim()))
        }
        (Shape::Truth, Value::String(text)) if text == "true" || text == "false" => {
            Some(format!("write {text} without quotes"))
        }
        (Shape::Integer { .. }, Value::Float(x)) if x.fract() == 0.0 && x.abs() < 1e15 => Some(format!("write {x}")),
        (Shape::Text { .. } | Shape::Choice(_), Value::Integer(x)) => Some(format!("write \"{x}\"")),
        (Shape::Text { .. } | Shape::Choice(_), Value::Float(x)) => Some(format!("write \"{x}\"")),
        (Shape::List { .. }, Value::String(text)) => Some(format!("write [{text:?}]")),
        (Shape::Variants(variants), Value::String(text)) => {
            let known = nearest(text, variants.iter().map(|variant| &*variant.name));
            match known {
                Some(name) if in_set => Some(format!("write --set {path}.{name}={{}}")),
                Some(name) => Some(format!("write [{path}.{name}]")),
                None => Some(format!("add {}", variant_tables(path, variants))),
            }
        }
        (Shape::Table(_) | Shape::Variants(_), Value::Array(_)) if !in_set => {
            Some(format!("write [{path}] with single brackets"))
        }
        _ => None,
    }
}

/// A value as it is, for serde.
fn plain(value: &Value) -> toml::Value {
    match value {
        Value::Table(entries) => {
            let table = entries.iter().map(|entry| (entry.key.clone(), plain(&entry.node.value)));
            toml::Value::Table(table.collect())
        }
        Value::Array(nodes) => toml::Value::Array(nodes.iter().map(|node| plain(&node.value)).collect()),
        Value::String(text) => toml::Value::String(text.clone()),
        // Only where the schema allows anything can it be out of range here.
        Value::Integer(integer) => {
            i64::try_from(*integer).map_or(toml::Value::Float(*integer as f64), toml::Value::Integer)
        }
        Value::Float(float) => toml::Value::Float(*float),
        Value::Boolean(truth) => toml::Value::Boolean(*truth),
        Value::Datetime(time) => toml::Value::String(time.clone()),
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
