//! What the JSON Schema says a config may look like, with its references resolved.
//!
//! The schema that `schemars` derives is the one source; this reads back the part of JSON Schema that it writes.

use super::document::Value;
use serde_json::Value as Json;

/// What a value may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    /// A table with these keys and no others.
    Table(Vec<Field>),
    /// A table with exactly one of these keys.
    Variants(Vec<Field>),
    /// A table with any keys, each with a value of this shape.
    Map(Box<Shape>),
    /// A value of one of these shapes, which differ in kind.
    Either(Vec<Shape>),
    /// An array with at least `min` items.
    List { items: Box<Shape>, min: u64 },
    /// A string of at least `min` characters.
    Text { min: u64 },
    /// One of these strings.
    Choice(Vec<String>),
    /// A boolean.
    Truth,
    /// An integer between these, both allowed.
    Integer { min: i128, max: i128 },
    /// A finite number; integers count.
    Number(Limits),
    /// Anything: the schema says no more.
    Any,
}

/// The range of a number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Limits {
    pub at_least: Option<f64>,
    pub above: Option<f64>,
    pub at_most: Option<f64>,
    pub below: Option<f64>,
}

/// A key of a table, or a variant.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub name: String,
    pub shape: Shape,
    pub required: bool,
    /// The default where the schema has one.
    pub default: Option<Json>,
    /// The doc comment on one line.
    pub about: String,
    /// Said when the value is not one of the choices.
    pub hint: Option<String>,
}

/// Deeper than any config; keeps a schema that refers to itself from recursing for ever.
const MAX_DEPTH: usize = 32;

impl Shape {
    /// Reads a JSON Schema as `schemars` writes it.
    pub fn from_schema(schema: &Json) -> Self {
        shape(schema, schema, 0)
    }

    /// The shape of a key of this table, or of a variant.
    pub fn child(&self, key: &str) -> Option<&Shape> {
        self.fields().iter().find(|field| field.name == key).map(|field| &field.shape)
    }

    /// The keys of a table or the variants; nothing for others.
    pub fn fields(&self) -> &[Field] {
        match self {
            Self::Table(fields) | Self::Variants(fields) => fields,
            _ => &[],
        }
    }

    /// Whether only a string can be right.
    pub fn wants_string(&self) -> bool {
        matches!(self, Self::Text { .. } | Self::Choice(_))
    }

    /// Whether it is written as a table of its own.
    pub fn is_table(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Variants(_))
    }

    /// Whether a value of this kind may be right, whatever stands in it.
    pub fn admits(&self, value: &Value) -> bool {
        match self {
            Self::Table(_) | Self::Variants(_) | Self::Map(_) => matches!(value, Value::Table(_)),
            Self::Either(shapes) => shapes.iter().any(|shape| shape.admits(value)),
            Self::List { .. } => matches!(value, Value::Array(_)),
            Self::Text { .. } | Self::Choice(_) => matches!(value, Value::String(_)),
            Self::Truth => matches!(value, Value::Boolean(_)),
            Self::Integer { .. } => matches!(value, Value::Integer(_)),
            Self::Number(_) => matches!(value, Value::Integer(_) | Value::Float(_)),
            Self::Any => true,
        }
    }

    /// What is expected, for "expected ..., found ...".
    pub fn described(&self) -> String {
        match self {
            Self::Table(_) | Self::Variants(_) | Self::Map(_) => "a table".to_owned(),
            Self::Either(shapes) => alternatives(shapes.iter().map(Shape::described).collect()),
            Self::List { items, .. } => match **items {
                Self::Text { .. } => "an array of strings".to_owned(),
                _ => "an array".to_owned(),
            },
            Self::Text { .. } => "a string".to_owned(),
            Self::Choice(names) => alternatives(names.iter().map(|name| format!("\"{name}\"")).collect()),
            Self::Truth => "true or false".to_owned(),
            Self::Integer { .. } => "an integer".to_owned(),
            Self::Number(_) => "a number".to_owned(),
            Self::Any => "a value".to_owned(),
        }
    }

    /// Some value of this shape, to stand where the file has none or a wrong one, so that the rest of the file can
    /// still be checked for what it means.
    pub fn placeholder(&self) -> toml::Value {
        match self {
            Self::Table(fields) => {
                let required = fields.iter().filter(|field| field.required);
                let table = required.map(|field| (field.name.clone(), field.shape.placeholder()));
                toml::Value::Table(table.collect())
            }
            Self::Variants(variants) => {
                let first = variants.first();
                let table = first.map(|field| (field.name.clone(), field.shape.placeholder()));
                toml::Value::Table(table.into_iter().collect())
            }
            Self::Map(_) => toml::Value::Table(toml::Table::new()),
            Self::Either(shapes) => shapes.first().map_or(toml::Value::String(String::new()), Shape::placeholder),
            Self::List { items, min } => toml::Value::Array((0..*min).map(|_| items.placeholder()).collect()),
            Self::Text { min } => toml::Value::String((0..*min).map(|_| 'x').collect()),
            Self::Any => toml::Value::String(String::new()),
            Self::Choice(names) => toml::Value::String(names.first().cloned().unwrap_or_default()),
            Self::Truth => toml::Value::Boolean(false),
            Self::Integer { min, max } => toml::Value::Integer(i64::try_from(0.clamp(*min, *max)).unwrap_or(0)),
            Self::Number(limits) => {
                let tried = [limits.at_least, limits.at_most, Some(0.5), Some(1.0)];
                let fits = tried.into_iter().flatten().find(|&x| limits.allow(x));
                toml::Value::Float(fits.unwrap_or(0.0))
            }
        }
    }
}

impl Limits {
    /// Whether a number is in the range.
    pub fn allow(&self, x: f64) -> bool {
        x.is_finite()
            && self.at_least.is_none_or(|limit| x >= limit)
            && self.above.is_none_or(|limit| x > limit)
            && self.at_most.is_none_or(|limit| x <= limit)
            && self.below.is_none_or(|limit| x < limit)
    }

    /// The range in words, as in "at least 0 and less than 1"; empty where there is none.
    pub fn described(&self) -> String {
        let parts = [
            self.at_least.map(|limit| format!("at least {limit}")),
            self.above.map(|limit| format!("more than {limit}")),
            self.at_most.map(|limit| format!("at most {limit}")),
            self.below.map(|limit| format!("less than {limit}")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join(" and ")
    }
}

fn shape(schema: &Json, root: &Json, depth: usize) -> Shape {
    if depth > MAX_DEPTH {
        return Shape::Any;
    }
    let inner = |schema: &Json| shape(schema, root, depth + 1);
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference.strip_prefix('#').and_then(|at| root.pointer(at));
        return target.map_or(Shape::Any, inner);
    }
    if let Some(name) = schema["const"].as_str() {
        return Shape::Choice(vec![name.to_owned()]);
    }
    if let Some(names) = schema["enum"].as_array() {
        let names = names.iter().filter_map(Json::as_str);
        return Shape::Choice(names.map(str::to_owned).collect());
    }
    for union in ["oneOf", "anyOf"] {
        if let Some(branches) = schema[union].as_array() {
            return union_of(branches, &inner);
        }
    }
    match type_of(schema) {
        Some("object") if schema["additionalProperties"].is_object() => {
            Shape::Map(Box::new(inner(&schema["additionalProperties"])))
        }
        Some("object") => Shape::Table(fields_of(schema, &inner)),
        Some("array") => {
            Shape::List { items: Box::new(inner(&schema["items"])), min: schema["minItems"].as_u64().unwrap_or(0) }
        }
        Some("string") => Shape::Text { min: schema["minLength"].as_u64().unwrap_or(0) },
        Some("boolean") => Shape::Truth,
        Some("integer") => integer(schema),
        Some("number") => Shape::Number(Limits {
            at_least: schema["minimum"].as_f64(),
            above: schema["exclusiveMinimum"].as_f64(),
            at_most: schema["maximum"].as_f64(),
            below: schema["exclusiveMaximum"].as_f64(),
        }),
        _ => Shape::Any,
    }
}

/// The type, which for an optional value stands beside `null`.
fn type_of(schema: &Json) -> Option<&str> {
    match &schema["type"] {
        Json::String(name) => Some(name),
        Json::Array(names) => names.iter().filter_map(Json::as_str).find(|&name| name != "null"),
        _ => None,
    }
}

fn integer(schema: &Json) -> Shape {
    // TOML's integers end at 64 bits with a sign, the narrower ones of Rust before that.
    let (min, max) = match schema["format"].as_str() {
        Some("uint8") => (0, i128::from(u8::MAX)),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    let limit = |key: &str| schema[key].as_i64().map(i128::from);
    let lower = limit("minimum").or(limit("exclusiveMinimum").map(|x| x + 1));
    let upper = limit("maximum").or(limit("exclusiveMaximum").map(|x| x - 1));
    Shape::Integer { min: lower.unwrap_or(min), max: upper.unwrap_or(max) }
}

fn fields_of(schema: &Json, inner: &dyn Fn(&Json) -> Shape) -> Vec<Field> {
    let required: Vec<&str> = match schema["required"].as_array() {
        Some(names) => names.iter().filter_map(Json::as_str).collect(),
        None => Vec::new(),
    };
    let properties = schema["properties"].as_object();
    let field = |(name, schema): (&String, &Json)| Field {
        name: name.clone(),
        shape: inner(schema),
        required: required.contains(&name.as_str()),
        default: schema.get("default").cloned(),
        about: about(schema),
        hint: schema["x-hint"].as_str().map(str::to_owned),
    };
    properties.into_iter().flatten().map(field).collect()
}

/// An enum: strings, or tables with one key each (variants with settings), or something optional.
fn union_of(branches: &[Json], inner: &dyn Fn(&Json) -> Shape) -> Shape {
    let present: Vec<&Json> = branches.iter().filter(|branch| branch["type"] != "null").collect();
    if let [only] = present[..] {
        return inner(only);
    }
    // An untagged enum: values of different kinds.
    if present.iter().any(|branch| {
        type_of(branch) != Some("object") && branch.get("const").is_none() && branch.get("enum").is_none()
    }) {
        return Shape::Either(present.into_iter().map(inner).collect());
    }
    let mut names = Vec::new();
    let mut variants = Vec::new();
    for branch in present {
        match inner(branch) {
            Shape::Choice(more) => names.extend(more),
            Shape::Table(fields) if fields.len() == 1 => {
                variants.extend(fields.into_iter().map(|field| Field { about: about(branch), ..field }));
            }
            _ => return Shape::Any,
        }
    }
    match (names.is_empty(), variants.is_empty()) {
        (false, true) => Shape::Choice(names),
        (true, false) => Shape::Variants(variants),
        _ => Shape::Any,
    }
}

fn about(schema: &Json) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// "a, b or c".
pub fn alternatives(mut names: Vec<String>) -> String {
    let last = names.pop().unwrap_or_default();
    if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_options_and_ranges_are_read() {
        let shape = Shape::from_schema(&json!({
            "type": "object",
            "properties": {
                "a": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}], "description": "An\n a."},
                "b": {"type": ["integer", "null"], "format": "uint32", "minimum": 0},
            },
            "required": ["b"],
            "$defs": {"A": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}},
        }));
        let limits = Limits { above: Some(0.0), at_most: Some(1.0), ..Limits::default() };
        assert_eq!(shape.child("a"), Some(&Shape::Number(limits)));
        assert_eq!(shape.child("b"), Some(&Shape::Integer { min: 0, max: i128::from(u32::MAX) }));
        assert_eq!(shape.fields()[0].about, "An a.");
        assert!(shape.fields()[1].required);
        assert!(limits.allow(1.0) && !limits.allow(0.0) && !limits.allow(f64::NAN));
        assert_eq!(limits.described(), "more than 0 and at most 1");
    }

    #[test]
    fn any_keys_and_values_of_several_kinds_are_read() {
        let weights = Shape::from_schema(&json!({"type": "object", "additionalProperties": {"type": "number"}}));
        assert_eq!(weights, Shape::Map(Box::new(Shape::Number(Limits::default()))));
        let file = Shape::from_schema(&json!({"anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
        ]}));
        assert_eq!(file.described(), "a string or a table");
        assert!(file.admits(&Value::String("a".into())) && file.admits(&Value::Table(Vec::new())));
        assert!(!file.admits(&Value::Boolean(true)));
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}});
        assert_eq!(Shape::from_schema(&schema), Shape::Any);
    }

    #[test]
    fn a_placeholder_fits_its_shape() {
        let limits = Limits { above: Some(0.0), below: Some(1.0), ..Limits::default() };
        let Some(x) = Shape::Number(limits).placeholder().as_float() else {
            panic!("not a number");
        };
        assert!(limits.allow(x));
        let least_three = Shape::Integer { min: 3, max: 9 };
        assert_eq!(least_three.placeholder().as_integer(), Some(3));
    }
}
