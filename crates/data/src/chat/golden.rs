//! Templates, ids and masks against what `transformers` makes of the same conversations; `scripts/make_chat_golden.py`
//! made the fixtures.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::render::{encode, render};
use super::{ChatTemplate, Conversation, Message};
use crate::config::{ChatTrainingConfig, TemplateName};
use crate::tokenizer::Tokenizer;

#[derive(Deserialize)]
struct Golden {
    conversations: Vec<Vec<(String, String)>>,
    templates: BTreeMap<TemplateName, Case>,
}

#[derive(Deserialize)]
struct Case {
    bos: String,
    trained: usize,
    whole: Vec<Whole>,
    /// Of each conversation the hashes of its text, ids and mask.
    hashes: Vec<String>,
}

#[derive(Deserialize)]
struct Whole {
    text: String,
    ids: Vec<u32>,
    mask: String,
}

/// FNV-1a, 64 bits.
fn hash(bytes: &[u8]) -> String {
    let step = |value: u64, byte: &u8| (value ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

#[test]
fn texts_ids_and_masks_of_500_conversations_are_those_of_transformers() {
    let golden: Golden = serde_json::from_str(include_str!("golden/chats.json")).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/chat/golden");
    let parser = Tokenizer::from_file(&directory.join("tokenizer.json")).unwrap().parser();
    assert_eq!((golden.conversations.len(), golden.templates.len()), (500, 4));
    for (name, case) in &golden.templates {
        let (source, _) = name.built_in().unwrap();
        let template = ChatTemplate::new(source, &case.bos, "</s>").unwrap();
        let mut trained = 0;
        for (place, (turns, hashes)) in golden.conversations.iter().zip(&case.hashes).enumerate() {
            let message = |(role, content): &(String, String)| Message {
                role: role.clone(),
                content: content.clone(),
                weight: None,
            };
            let messages = turns.iter().map(message).collect();
            let conversation = Conversation { messages, place: ("golden".into(), place as u64) };
            let (text, _) = render(&template, &conversation, parser.special_tokens()).unwrap();
            let encoded = encode(&template, &parser, &ChatTrainingConfig::default(), &conversation).unwrap();
            let mask: Vec<u8> = encoded.weights.iter().map(|weight| u8::from(*weight > 0.0)).collect();
            if let Some(whole) = case.whole.get(place) {
                let digits: String = mask.iter().map(u8::to_string).collect();
                assert_eq!((&text, &encoded.ids, &digits), (&whole.text, &whole.ids, &whole.mask), "{name:?} {place}");
            }
            let ids: Vec<u8> = encoded.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            let ours = [text.as_bytes(), &ids, &mask].map(hash);
            let theirs: Vec<&str> = hashes.split(' ').collect();
            for (index, what) in ["text", "ids", "mask"].into_iter().enumerate() {
                let of =
                    || format!("{name:?}: the {what} of conversation {place}\n{text:?}\n{:?}\n{mask:?}", encoded.ids);
                assert_eq!(ours[index], theirs[index], "{}", of());
            }
            trained += mask.iter().filter(|trained| **trained == 1).count();
        }
        assert_eq!(trained, case.trained, "{name:?}");
    }
}
