use super::*;
use crate::config::{CharConfig, TrainedConfig, UnigramConfig};
use proptest::prelude::*;
use std::sync::LazyLock;

const TEXT: &str = "Once upon a time there was a fox.\nThe fox said: \"It's 12 o'clock!\"  It was not.\n\n\
    Then the other fox, who wasn't there, said nothing. Über größere Füchse: 狐狸跳过了懒狗。\n";

fn corpus() -> Vec<String> {
    vec![TEXT.repeat(8), "# Heading\n\n## the fox ##\n".into()]
}

fn kinds() -> [(&'static str, TokenizerConfig); 3] {
    let trained = |vocab_size| TrainedConfig { vocab_size, min_frequency: 2 };
    [
        ("bpe", TokenizerConfig::Bpe(trained(340))),
        ("wordpiece", TokenizerConfig::Wordpiece(trained(590))),
        ("unigram", TokenizerConfig::Unigram(UnigramConfig { vocab_size: 288 })),
    ]
}

/// Training once serves all tests.
static TRAINED: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
    kinds().into_iter().map(|(name, config)| (name, Tokenizer::train(&config, &corpus(), true).unwrap())).collect()
});

fn char_level(text: &str, end_of_text: bool) -> Tokenizer {
    Tokenizer::train(&TokenizerConfig::Char(CharConfig {}), &[text.to_owned()], end_of_text).unwrap()
}

#[test]
fn character_ids_are_in_code_point_order_and_the_special_token_is_last() {
    let tokenizer = char_level("hello\nwörld", true);
    assert_eq!(tokenizer.vocab_size(), 10);
    assert_eq!(tokenizer.token(0).as_deref(), Some("\n"));
    assert_eq!(tokenizer.token(8).as_deref(), Some("ö"));
    assert_eq!(tokenizer.end_of_text(), Some(9));
    assert_eq!(tokenizer.encode("dö\n").unwrap(), [1, 8, 0]);
    assert_eq!(tokenizer.decode(&[1, 9, 0]).unwrap(), "d<|endoftext|>\n");
    assert_eq!(tokenizer.decode_skipping_special(&[1, 9, 0]).unwrap(), "d\n");
    assert_eq!(char_level("ab", false).end_of_text(), None);
    assert_eq!(char_level("ab", false).vocab_size(), 2);
}

#[test]
fn an_unknown_character_is_an_error_that_names_it_and_its_place() {
    let error = char_level("abc\n", true).encode("ab\naé").unwrap_err().to_string();
    assert!(error.contains("'é' (U+00E9) at line 2, byte offset 4") && error.contains("4 characters"), "{error}");
    // The letters of the special token are unknown too, and no way to write it.
    assert!(char_level("abc\n", true).encode("<|endoftext|>").is_err());
}

#[test]
fn characters_are_encoded_as_the_library_would() {
    let tokenizer = char_level(&corpus().concat(), true);
    let expected = tokenizer.inner.encode_fast(TEXT, false).unwrap();
    assert_eq!(tokenizer.encode(TEXT).unwrap(), expected.get_ids());
    assert!(tokenizer.characters.is_some());
    assert!(TRAINED.iter().all(|(_, tokenizer)| tokenizer.characters.is_none()));
}

#[test]
fn a_special_token_written_in_a_text_stays_text() {
    let text = "a <|endoftext|> b";
    let char_level = char_level(text, true);
    for tokenizer in TRAINED.iter().map(|(_, tokenizer)| tokenizer).chain([&char_level]) {
        let ids = tokenizer.encode(text).unwrap();
        assert!(!ids.contains(&tokenizer.end_of_text().unwrap()));
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn training_twice_gives_the_same_bytes() {
    for (name, config) in kinds() {
        let again = Tokenizer::train(&config, &corpus(), true).unwrap();
        let (_, first) = TRAINED.iter().find(|(other, _)| *other == name).unwrap();
        assert_eq!(again.to_json(), first.to_json(), "{name}");
        assert_eq!(again.hash(), first.hash());
    }
}

#[test]
fn trained_vocabularies_have_the_size_asked_for_and_hold_words() {
    let asked = [340, 590, 288];
    for ((name, tokenizer), asked) in TRAINED.iter().zip(asked) {
        assert_eq!(tokenizer.vocab_size(), asked, "{name}");
        assert_eq!(tokenizer.end_of_text(), Some(asked as u32 - 1), "{name}");
        let ids = tokenizer.encode("Once upon a time there was a fox.").unwrap();
        assert!(ids.len() < 20, "{name} learned no words: {} tokens", ids.len());
    }
}

#[test]
fn training_on_nothing_and_on_the_special_words_of_the_library_works() {
    for documents in [vec![], vec!["".to_owned()], vec!["<UNK> [UNK] <unk> ".repeat(30)], vec!["a".repeat(5000)]] {
        for (name, config) in kinds() {
            let tokenizer = Tokenizer::train(&config, &documents, true).unwrap();
            let text = "any <UNK> [UNK] té\0xt\n";
            assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text, "{name}");
        }
    }
}

#[test]
fn a_vocabulary_too_small_for_the_bytes_is_refused() {
    let trained = |vocab_size| TrainedConfig { vocab_size, min_frequency: 2 };
    for config in [
        TokenizerConfig::Bpe(trained(256)),
        TokenizerConfig::Wordpiece(trained(512)),
        TokenizerConfig::Unigram(UnigramConfig { vocab_size: 256 }),
    ] {
        let error = Tokenizer::train(&config, &corpus(), true).unwrap_err().to_string();
        assert!(error.contains("vocab_size`") && error.contains("at least"), "{error}");
    }
    let smallest =
        Tokenizer::train(&TokenizerConfig::Unigram(UnigramConfig { vocab_size: 257 }), &corpus(), true).unwrap();
    assert_eq!(smallest.vocab_size(), 257);
}

#[test]
fn long_texts_give_the_same_ids_whole_and_in_chunks() {
    let text = format!("{TEXT} \n\n \r\nx\r\n\ty \n z\u{a0}\n").repeat(1200);
    assert!(chunks::chunks(&text).len() > 2 && chunks::chunks(&text).concat() == text);
    for (name, tokenizer) in TRAINED.iter() {
        assert!(tokenizer.cuttable, "{name}");
        let whole = tokenizer.inner.encode_fast(text.as_str(), false).unwrap();
        assert!(tokenizer.encode(&text).unwrap() == whole.get_ids(), "{name}");
    }
}

#[test]
fn what_is_saved_opens_as_the_same_tokenizer() {
    for (name, tokenizer) in TRAINED.iter() {
        let directory = tempfile::tempdir().unwrap();
        for (file, bytes) in tokenizer.files(64) {
            std::fs::write(directory.path().join(file), bytes).unwrap();
        }
        let file = Tokenizer::from_file(&directory.path().join("tokenizer.json")).unwrap();
        let opened = Tokenizer::from_file(directory.path()).unwrap();
        for other in [&file, &opened] {
            assert_eq!(other.encode(TEXT).unwrap(), tokenizer.encode(TEXT).unwrap(), "{name}");
            assert_eq!(other.end_of_text(), tokenizer.end_of_text());
            assert_eq!(other.hash(), tokenizer.hash());
        }
        assert_eq!(opened.files(64), tokenizer.files(64), "{name}");
    }
}

#[test]
fn a_huggingface_directory_keeps_its_other_keys_and_its_end_token() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tokenizer.json"), char_level("abé", true).to_json()).unwrap();
    let config = json!({"eos_token": {"content": "é"}, "pad_token": "a", "auto_map": {}, "tokenizer_class": "X"});
    std::fs::write(directory.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let tokenizer = Tokenizer::from_file(directory.path()).unwrap();
    assert_eq!(tokenizer.end_of_text(), Some(2));
    let config: Value = serde_json::from_slice(&tokenizer.files(32)["tokenizer_config.json"]).unwrap();
    let expected = json!({
        "eos_token": {"content": "é"}, "pad_token": "a", "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 32, "clean_up_tokenization_spaces": false,
    });
    assert_eq!(config, expected);
}

#[test]
fn files_that_are_no_tokenizer_are_errors_that_name_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokenizer.json");
    let message = |path: &Path| Tokenizer::from_file(path).unwrap_err().to_string();
    assert!(message(&file).contains("tokenizer.json"));
    assert!(message(directory.path()).contains("has no tokenizer.json"));
    for text in ["", "{", "{\"model\": {}}", "[]", "{\"version\": \"1.0\"}"] {
        std::fs::write(&file, text).unwrap();
        assert!(message(&file).contains("not a usable tokenizer"), "{text}");
    }
}

proptest! {
    #[test]
    fn every_string_survives_a_byte_level_tokenizer(text in "\\PC{0,40}|[ \\n\\r\\t#a-z'‿<|>]{0,40}|(?s).{0,20}") {
        for (name, tokenizer) in TRAINED.iter() {
            let ids = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(&tokenizer.decode(&ids).unwrap(), &text, "{}", name);
        }
    }

    #[test]
    fn every_string_survives_the_character_tokenizer_of_its_alphabet(text in "(?s).{1,60}") {
        let tokenizer = char_level(&text, true);
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert_eq!(ids.len(), text.chars().count());
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}
