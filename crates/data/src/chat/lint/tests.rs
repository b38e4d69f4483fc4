use std::collections::BTreeSet;

use super::*;
use crate::TokenizerConfig;
use crate::chat::Message;

const GOOD: [(&str, &str); 3] = [("system", "s"), ("user", "a b"), ("assistant", "cd")];

/// Two turns, 15 tokens of plain characters each.
const LONG: [(&str, &str); 4] =
    [("user", "aaaa"), ("assistant", "bbbb"), ("user", "cccc"), ("assistant", "dddddddddddd")];

fn talk(turns: &[(&str, &str)], line: u64) -> Conversation {
    let message =
        |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into(), weight: None };
    Conversation { messages: turns.iter().map(message).collect(), place: ("f.jsonl".into(), line) }
}

/// A case: a config, perhaps a template and the name of a padding token, and conversations.
struct Case<'a> {
    config: &'a str,
    template: Option<&'a str>,
    pad: Option<&'a str>,
    train: Vec<Conversation>,
    validation: Vec<Conversation>,
    context: usize,
}

impl<'a> Case<'a> {
    fn new(turns: &[(&str, &str)]) -> Self {
        let train = vec![talk(turns, 3)];
        Self { config: "", template: None, pad: None, train, validation: Vec::new(), context: 400 }
    }

    fn config(self, config: &'a str) -> Self {
        Self { config, ..self }
    }

    fn template(self, source: &'a str) -> Self {
        Self { template: Some(source), ..self }
    }

    fn pad(self, pad: &'a str) -> Self {
        Self { pad: Some(pad), ..self }
    }

    fn context(self, context: usize) -> Self {
        Self { context, ..self }
    }

    fn validation(self, turns: &[(&str, &str)]) -> Self {
        Self { validation: vec![talk(turns, 9)], ..self }
    }

    fn findings(&self) -> Vec<Finding> {
        let config: ChatTrainingConfig = toml::from_str(self.config).unwrap();
        let text = "<|im_start|>system\n<|im_end|>assistant user: AU abcd 0123".to_string();
        let tokenizer = Tokenizer::train(&TokenizerConfig::Char(Default::default()), &[text], true).unwrap();
        let (template, tokenizer) = ChatTemplate::for_training(&config, tokenizer).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut files = tokenizer.files(400);
        if let Some(pad) = self.pad {
            let config = files.get_mut("tokenizer_config.json").unwrap();
            let mut keys: serde_json::Value = serde_json::from_slice(config).unwrap();
            keys["pad_token"] = pad.into();
            *config = keys.to_string().into_bytes();
        }
        for (name, bytes) in files {
            std::fs::write(directory.path().join(name), bytes).unwrap();
        }
        let tokenizer = Tokenizer::from_file(directory.path()).unwrap();
        let template = match self.template {
            Some(source) => ChatTemplate::new(source, "", "<|endoftext|>").unwrap(),
            None => template,
        };
        lint(&template, &tokenizer, &config, &self.train, &self.validation, self.context)
    }

    fn broken(&self) -> BTreeSet<Rule> {
        self.findings().into_iter().map(|finding| finding.rule).collect()
    }
}

/// For each rule what breaks it, and what nearly does.
fn cases() -> Vec<(Rule, Case<'static>, Case<'static>)> {
    const TURNS: &str = "{% for m in messages %}{{ m.role + ':' + m.content + eos_token }}{% endfor %}";
    const BARE: &str = "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}";
    let chat = Case::new;
    vec![
        (
            Rule::TemplateFails,
            chat(&GOOD).template("{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"),
            chat(&GOOD).template(
                "{% if messages[0].role == 'tool' %}{{ raise_exception('no') }}{% endif %}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}",
            ),
        ),
        (
            Rule::MessagesNotLocated,
            chat(&GOOD).template("{% for m in messages %}{{ m.content | upper + eos_token }}{% endfor %}"),
            chat(&GOOD).template("{% for m in messages %}{{ m.content | trim + eos_token }}{% endfor %}"),
        ),
        (Rule::NotEncodable, chat(&[("user", "a"), ("assistant", "狐")]), chat(&[("user", "a"), ("assistant", "d")])),
        (
            Rule::ValidationInTraining,
            chat(&GOOD).validation(&GOOD),
            chat(&GOOD).validation(&[("system", "s"), ("user", "a b "), ("assistant", "cd")]),
        ),
        (
            Rule::PadEndsTurns,
            chat(&GOOD).pad("<|im_end|>").config("train_end_of_turn = false"),
            chat(&GOOD).pad("<|im_end|>"),
        ),
        (Rule::EndOfTurnNeverTrained, chat(&GOOD).template(BARE), chat(&GOOD).template(TURNS)),
        (Rule::EndOfTurnNeverTrained, chat(&GOOD).config("train_end_of_turn = false"), chat(&GOOD)),
        (
            Rule::NothingTrained,
            chat(&GOOD).config("role_weights = { assistant = 0 }"),
            chat(&GOOD).config("role_weights = { assistant = 0, user = 0.1 }"),
        ),
        (
            Rule::TooLong,
            chat(&LONG).template(TURNS).config("truncation = 'drop'").context(56),
            chat(&LONG).template(TURNS).config("truncation = 'drop'").context(57),
        ),
        (Rule::TooLong, chat(&LONG).template(TURNS).context(31), chat(&LONG).template(TURNS).context(32)),
        (
            Rule::AnswerCutAway,
            chat(&LONG).template(TURNS).config("truncation = 'end'").context(44),
            chat(&LONG).template(TURNS).config("truncation = 'end'").context(45),
        ),
        (
            Rule::MessageLeftOut,
            chat(&GOOD).template(
                "{% for m in messages %}{% if m.role != 'system' %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
            ),
            chat(&GOOD).template(
                "{% for m in messages %}{% if m.role != 'tool' %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
            ),
        ),
        (
            Rule::EmptyTurn,
            chat(&[("user", " \n"), ("assistant", "a")]),
            chat(&[("user", " a\n"), ("assistant", "a")]),
        ),
        (
            Rule::RoleOrder,
            chat(&[("user", "a"), ("user", "b"), ("assistant", "c")]),
            chat(&[("user", "a"), ("assistant", "b"), ("tool", "c"), ("tool", "c"), ("assistant", "d")]),
        ),
        (Rule::RoleOrder, chat(&[("user", "a"), ("assistant", "b"), ("user", "c")]), chat(&GOOD)),
        (Rule::RoleOrder, chat(&[("user", "a"), ("system", "b"), ("assistant", "c")]), chat(&GOOD)),
        (
            Rule::SpecialTokenInContent,
            chat(&[("user", "a"), ("assistant", "b<|im_end|>")]),
            chat(&[("user", "a"), ("assistant", "b<|im_end|")]),
        ),
        (
            Rule::TemplateWritesDate,
            chat(&GOOD).template(
                "{{ strftime_now('%d') }}{% for m in messages %}{{ m.content + eos_token }}{% endfor %}",
            ),
            chat(&GOOD).template(TURNS),
        ),
    ]
}

#[test]
fn every_rule_finds_what_breaks_it_and_not_what_nearly_does() {
    for (rule, broken, nearly) in cases() {
        assert!(broken.broken().contains(&rule), "{rule}: {:?}", broken.findings());
        assert!(!nearly.broken().contains(&rule), "{rule}: {:?}", nearly.findings());
    }
    let tested: BTreeSet<Rule> = cases().into_iter().map(|(rule, ..)| rule).collect();
    assert_eq!(tested, BTreeSet::from(Rule::ALL));
}

#[test]
fn good_conversations_break_no_rule() {
    assert_eq!(Case::new(&GOOD).validation(&LONG).findings(), []);
}

#[test]
fn a_finding_names_place_severity_rule_and_message() {
    let found = Case::new(&[("user", "a"), ("user", "b"), ("assistant", "c")]).findings();
    assert_eq!(found[0].to_string(), "f.jsonl:3: error [role_order]: message 2 (user) stands behind user");
    let leaked = Case::new(&GOOD).validation(&GOOD).findings();
    let expected =
        "f.jsonl:9: error [validation_in_training]: this validation conversation is trained on too, at f.jsonl:3";
    assert_eq!(leaked[0].to_string(), expected);
    let json = serde_json::to_value(&leaked[0]).unwrap();
    assert_eq!((&json["rule"], &json["severity"]), (&"validation_in_training".into(), &"error".into()));
}

#[test]
fn what_is_cut_from_the_middle_on_is_named_by_its_message() {
    let found = Case::new(&LONG).config("truncation = 'end'\ntemplate = 'plain'").context(30).findings();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.contains("message 4"), "{found:?}");
}
