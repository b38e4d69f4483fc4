//! The JSON Schema of a config, and the reference that the README prints from it.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::RunConfig;
use super::shape::{Field, Shape, alternatives};
use super::suggest::join;

/// The JSON Schema of a config file, with every key's documentation, default and range.
pub fn schema() -> Json {
    let mut schema = schemars::schema_for!(RunConfig).to_value();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("title".to_owned(), json!("Firebox run config"));
    }
    schema
}

/// The config reference in Markdown: a section for each table, with a row for each key. Ends with a newline.
pub fn reference() -> String {
    let mut sections = Vec::new();
    for field in Shape::from_schema(&schema()).fields() {
        section(field, &field.name, &mut sections);
    }
    sections.join("\n")
}

fn section(field: &Field, path: &str, sections: &mut Vec<String>) {
    let mut text = format!("### `[{path}]`\n\n{}\n", field.about);
    match &field.shape {
        Shape::Variants(variants) => {
            let tables = variants.iter().map(|variant| {
                let full = join(path, &variant.name);
                format!("`[{full}]`{}", if is_default(field, variant) { " (the default)" } else { "" })
            });
            let tables: Vec<String> = tables.collect();
            let _ = write!(text, "\nExactly one of {}.\n", tables.join(", "));
        }
        Shape::Table(fields) => {
            let keys: Vec<&Field> = fields.iter().filter(|key| !key.shape.is_table()).collect();
            if !keys.is_empty() {
                text.push_str("\n| key | type | default | what it is |\n|---|---|---|---|\n");
            }
            for key in keys {
                text.push_str(&row(key));
            }
        }
        _ => {}
    }
    sections.push(text);
    for inner in field.shape.fields() {
        if inner.shape.is_table() {
            section(inner, &join(path, &inner.name), sections);
        }
    }
}

fn is_default(field: &Field, variant: &Field) -> bool {
    let default = field.default.as_ref();
    default.is_some_and(|default| default.get(&variant.name).is_some())
}

fn row(key: &Field) -> String {
    let (about, said) = split_default(&key.about);
    let default = match (&key.default, said) {
        _ if key.required => "required".to_owned(),
        (Some(Json::Null) | None, Some(said)) => said.to_owned(),
        (Some(Json::Null) | None, None) => "none".to_owned(),
        (Some(default), _) => format!("`{default}`"),
    };
    let cells = [format!("`{}`", key.name), type_of(&key.shape), default, about];
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// A doc comment without its "Default: ...", and what that says.
fn split_default(about: &str) -> (String, Option<&str>) {
    const MARK: &str = "Default: ";
    let Some(start) = about.find(MARK) else {
        return (about.to_owned(), None);
    };
    let rest = &about[start + MARK.len()..];
    let (said, after) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
    let about = format!("{}{after}", &about[..start]);
    (about.trim_end().to_owned(), Some(said))
}

fn type_of(shape: &Shape) -> String {
    match shape {
        Shape::Integer { min, max } => match (*min > i128::from(i64::MIN), *max < i128::from(i64::MAX)) {
            (true, true) => format!("integer, {min} to {max}"),
            (true, false) => format!("integer, at least {min}"),
            (false, true) => format!("integer, at most {max}"),
            (false, false) => "integer".to_owned(),
        },
        Shape::Number(limits) => match limits.described() {
            range if range.is_empty() => "number".to_owned(),
            range => format!("number, {range}"),
        },
        Shape::Text { .. } => "string".to_owned(),
        Shape::Choice(names) => alternatives(names.iter().map(|name| format!("`\"{name}\"`")).collect()),
        Shape::Map(values) => format!("table of a {}", type_of(values)),
        Shape::Either(shapes) => alternatives(shapes.iter().map(type_of).collect()),
        Shape::List { items, .. } if matches!(**items, Shape::Either(_)) => format!("array of {}", type_of(items)),
        Shape::List { items, .. } if items.wants_string() => "array of strings".to_owned(),
        Shape::List { .. } => "array".to_owned(),
        Shape::Truth => "`true` or `false`".to_owned(),
        Shape::Table(_) | Shape::Variants(_) => "table".to_owned(),
        Shape::Any => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_has_a_row_for_every_key_of_every_table() {
        let reference = reference();
        for row in [
            "### `[optimizer]`\n\nHow gradients become updates.\n\nExactly one of `[optimizer.adamw]` (the default), `[optimizer.sgd]`.\n",
            "| `lr` | number, more than 0 | `0.0003` | Peak learning rate, which the schedule scales. |\n",
            "| `beta1` | number, at least 0 and less than 1 | `0.9` |",
            "| `output_dir` | string | required |",
            "| `d_ff` | integer, at least 1 | `4 * d_model` | Width of the feed-forward part's hidden layer. |\n",
            "| `precision` | `\"f32\"`, `\"bf16\"` or `\"f16\"` | `\"f32\"` |",
            "| `files` | array of strings | required |",
            "| `max_steps` | integer, at least 1 | none |",
            "### `[tokenizer.char]`\n",
        ] {
            assert!(reference.contains(row), "{row:?} is not in\n{reference}");
        }
    }

    #[test]
    fn nothing_of_the_config_is_undocumented() {
        fn walk(shape: &Shape, path: &str) {
            assert!(!matches!(shape, Shape::Any), "`{path}` is not checked");
            for field in shape.fields() {
                let path = join(path, &field.name);
                assert!(!field.about.is_empty(), "`{path}` has no documentation");
                walk(&field.shape, &path);
            }
        }
        walk(&Shape::from_schema(&schema()), "");
    }

    #[test]
    fn the_documented_defaults_of_the_model_are_the_true_ones() {
        let shape = Shape::from_schema(&schema());
        let gpt = shape.child("model").and_then(|model| model.child("gpt")).unwrap();
        let defaults = serde_json::to_value(model::GptSettings::default().with_defaults()).unwrap();
        let mut compared = 0;
        for key in gpt.fields() {
            let said = split_default(&key.about).1.unwrap();
            let said = said.trim_matches('`').parse::<f64>().ok();
            if let (Some(said), Some(real)) = (said, defaults[&key.name].as_f64()) {
                assert_eq!(said, real, "{}", key.name);
                compared += 1;
            }
        }
        assert!(compared >= 5, "{compared}");
    }
}
