//! Nothing that a file or a `--set` holds makes loading panic.

use proptest::prelude::*;

use super::*;

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("{} = 1", vec!["a"; 100_000].join(".")),
        format!("[{}]", vec!["a"; 100_000].join(".")),
    ] {
        assert!(parse(&text, &[]).is_err());
    }
    let deep = format!("{}=1", vec!["a"; 100_000].join("."));
    assert!(good_with(&[&deep]).is_err());
    let deep = format!("train.seed.{}=1", vec!["a"; 100_000].join("."));
    assert!(good_with(&[&deep]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = parse(&text, &[&text]);
    }

    #[test]
    fn no_toml_like_text_makes_it_panic(text in r#"([\[\]{}=.,"'\n# a-z0-9_é-]|\[train\]|max_steps|optimizer|adamw|data|text|files){0,60}"#) {
        let _ = parse(&text, &[]);
    }

    #[test]
    fn no_change_of_the_good_config_makes_it_panic_or_pass_unseen(
        cut in 0..GOOD.len(), length in 0..12_usize, put in r#"[a-z0-9_.="\[\]{}\n -]{0,8}"#,
    ) {
        let end = (cut + length).min(GOOD.len());
        let text = format!("{}{put}{}", &GOOD[..cut], &GOOD[end..]);
        match parse(&text, &[]) {
            Ok(config) => prop_assert_eq!(parse(&config.to_toml(), &[]), Ok(config)),
            Err(said) => {
                prop_assert!(!said.is_empty());
                for line in said.lines() {
                    prop_assert!(line.starts_with("x.toml") && line.contains(": error: "), "{}", line);
                }
            }
        }
    }

    #[test]
    fn no_value_of_any_key_makes_it_panic(
        key in prop::sample::select(keys()),
        value in prop::sample::select(vec![
            "", "0", "-1", "1", "1e308", "nan", "-inf", "true", "[]", "[1]", "{}", "{a=1}", "''", "'x'", "x", "1979-05-27",
            "9223372036854775807", "-99999999999999999999999999999999999999999999", "[[[]]]", "\u{0}", "auto", "{text={}}",
        ]),
    ) {
        let set = format!("{key}={value}");
        match good_with(&[&set]) {
            Ok(config) => prop_assert_eq!(parse(&config.to_toml(), &[]), Ok(config)),
            Err(said) => prop_assert!(!said.is_empty()),
        }
    }
}

/// The dotted path of every key and table of a config.
fn keys() -> Vec<String> {
    fn collect(shape: &Shape, path: &str, keys: &mut Vec<String>) {
        for field in shape.fields() {
            let full = suggest::join(path, &field.name);
            collect(&field.shape, &full, keys);
            keys.push(full);
        }
    }
    let mut keys = Vec::new();
    collect(&Shape::from_schema(&schema()), "", &mut keys);
    keys
}
