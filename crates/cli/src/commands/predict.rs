//! `firebox predict`

use super::ensemble::Ensemble;
use super::open_device;
use crate::report::{DATA, Failure, OUTPUT, USAGE, print, print_json};
use data::config::LabelledConfig;
use inference::{TaggedWord, Text};
use model::bert::Problem;
use serde_json::{Map, Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use trainer::metrics::entities;

/// Arguments of `firebox predict`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint, a run directory (its best checkpoint), or a HuggingFace directory of a BERT.
    checkpoint: PathBuf,
    /// More classifiers with the same labels: probabilities are their mean.
    #[arg(long, value_name = "CHECKPOINT", num_args = 1..)]
    ensemble: Vec<PathBuf>,
    /// Let the models of an ensemble vote, in place of the mean of their probabilities.
    #[arg(long, requires = "ensemble")]
    vote: bool,
    /// A text; may be given several times. For a masked language model with `[MASK]` in it.
    #[arg(long = "text", value_name = "TEXT")]
    texts: Vec<String>,
    /// A file: .csv, .tsv or .jsonl with a text column, else a text a line; `-` is standard input. Answers come as they
    /// are found, one JSON value a line.
    #[arg(long, conflicts_with = "texts")]
    file: Option<PathBuf>,
    /// The column or field that holds the text.
    #[arg(long, default_value = "text")]
    field: String,
    /// The column or field of a second text.
    #[arg(long)]
    pair_field: Option<String>,
    /// How many labels, or tokens at a `[MASK]`, are shown.
    #[arg(long, default_value_t = 5)]
    top: usize,
    /// Each token's contribution to the label, by occlusion: how far its probability falls with the token masked.
    #[arg(long)]
    explain: bool,
    /// auto, wgpu, wgpu:N, ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Texts that are answered together.
const TOGETHER: usize = 256;

/// Says what one or several classifiers think of texts, or fills their masks.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.texts.is_empty() && arguments.file.is_none() {
        return Err(Failure::new(USAGE, "nothing to answer; hint: --text TEXT, or --file FILE (- is standard input)"));
    }
    let device = open_device(&arguments.device)?;
    let models = Ensemble::open(&arguments.checkpoint, &arguments.ensemble, arguments.vote, &device)?;
    if models.first().tags_words() && (arguments.explain || !arguments.ensemble.is_empty()) {
        return Err(Failure::new(USAGE, "--explain and --ensemble are for classifiers of whole texts"));
    }
    let answers = Answers { models: &models, arguments };
    let Some(file) = &arguments.file else {
        let texts: Vec<Text> = arguments.texts.iter().map(|text| (text.clone(), None)).collect();
        let found = answers.of(&texts)?;
        if arguments.json {
            return print_json(&Value::Array(found));
        }
        return print(&found.iter().map(|answer| answers.shown(answer)).collect::<String>());
    };
    let mut out = std::io::stdout().lock();
    let mut write = |texts: &[Text]| -> Result<(), Failure> {
        for answer in answers.of(texts)? {
            writeln!(out, "{answer}").map_err(|error| Failure::new(OUTPUT, format!("stdout: {error}")))?;
        }
        Ok(())
    };
    if file == Path::new("-") {
        let mut texts = Vec::new();
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Failure::new(DATA, format!("standard input: {error}")))?;
            texts.push((line, None));
            // A person at a terminal waits for each answer.
            if texts.len() >= if std::io::stdin().is_terminal() { 1 } else { TOGETHER } {
                write(&std::mem::take(&mut texts))?;
            }
        }
        return write(&texts);
    }
    let texts = read(file, arguments)?;
    // Where the answers go elsewhere, a terminal shows how far they are.
    let shows = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
    for (i, some) in texts.chunks(TOGETHER).enumerate() {
        write(some)?;
        if shows {
            eprint!("\r{} of {} texts", i * TOGETHER + some.len(), texts.len());
        }
    }
    if shows {
        eprintln!();
    }
    Ok(())
}

/// The texts of a file.
fn read(file: &Path, arguments: &Arguments) -> Result<Vec<Text>, Failure> {
    let config = LabelledConfig {
        text: arguments.field.clone(),
        text_pair: arguments.pair_field.clone(),
        ..LabelledConfig::of_file(file)
    };
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("csv" | "tsv" | "jsonl") => {
            let examples = data::source::labelled::read_files(&config, false, &config.files, &mut Vec::new())?;
            Ok(examples.into_iter().map(|example| (example.text, example.pair)).collect())
        }
        _ => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Failure::new(DATA, format!("{}: {error}", file.display())))?;
            Ok(text.lines().map(|line| (line.to_string(), None)).collect())
        }
    }
}

struct Answers<'a> {
    models: &'a Ensemble,
    arguments: &'a Arguments,
}

impl Answers<'_> {
    /// One JSON value a text.
    fn of(&self, texts: &[Text]) -> Result<Vec<Value>, Failure> {
        let labels = self.models.labels();
        let Some(problem) = self.models.first().problem() else {
            if self.models.first().tags_words() {
                return texts.iter().map(|(text, _)| self.tagged(text)).collect();
            }
            return texts.iter().map(|(text, _)| self.filled(text)).collect();
        };
        let mut answers = Vec::with_capacity(texts.len());
        for (text, scores) in texts.iter().zip(self.models.answer(texts)?) {
            let best = (0..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
            let probs: Map<String, Value> =
                labels.iter().zip(&scores).map(|(label, p)| (label.clone(), json!(p))).collect();
            let mut answer = match problem {
                Problem::SingleLabel => json!({"text": text.0, "label": labels[best], "probs": probs}),
                Problem::MultiLabel { .. } => {
                    let given = labels.iter().zip(&scores).filter(|(_, p)| **p >= self.models.threshold());
                    let given: Vec<&String> = given.map(|(label, _)| label).collect();
                    json!({"text": text.0, "labels": given, "probs": probs})
                }
                Problem::Regression => json!({"text": text.0, "value": scores[0]}),
            };
            if let Some(pair) = &text.1 {
                answer["pair"] = json!(pair);
            }
            if self.arguments.explain {
                let tokens = self.models.first().explain(text, best)?;
                let tokens = tokens.iter().map(|of| json!({"token": of.token, "contribution": of.contribution}));
                answer["explanation"] = json!({"method": "occlusion", "tokens": tokens.collect::<Vec<_>>()});
            }
            answers.push(answer);
        }
        Ok(answers)
    }

    /// Words with their tags, and what the tags say together.
    fn tagged(&self, text: &str) -> Result<Value, Failure> {
        let (first, labels) = (self.models.first(), self.models.labels());
        let words = first.tag(text)?;
        let best = |word: &TaggedWord| {
            let probabilities = word.probabilities.as_ref()?;
            (0..probabilities.len()).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]))
        };
        let tags: Vec<&str> = words.iter().map(|word| best(word).map_or("O", |id| labels[id].as_str())).collect();
        let of_words = words.iter().zip(&tags).map(|(word, tag)| {
            let p = best(word).and_then(|id| word.probabilities.as_ref().map(|probabilities| probabilities[id]));
            json!({"word": word.word, "start": word.start, "tag": tag, "p": p})
        });
        let entities = entities(&tags).into_iter().map(|entity| {
            let (start, last) = (words[entity.first].start, &words[entity.last]);
            let end = last.start + last.word.len();
            json!({"type": entity.kind, "text": text[start..end], "start": start, "end": end})
        });
        let (of_words, entities): (Vec<Value>, Vec<Value>) = (of_words.collect(), entities.collect());
        Ok(json!({"text": text, "words": of_words, "entities": entities}))
    }

    fn filled(&self, text: &str) -> Result<Value, Failure> {
        let masks = self.models.first().fill_mask(text, self.arguments.top.max(5))?;
        let masks = masks.iter().map(|(position, guesses)| {
            let top = guesses.iter().map(|guess| json!({"id": guess.id, "token": guess.token, "p": guess.probability}));
            json!({"position": position, "top": top.collect::<Vec<_>>()})
        });
        Ok(json!({"text": text, "masks": masks.collect::<Vec<_>>()}))
    }

    /// An answer for a person.
    fn shown(&self, answer: &Value) -> String {
        let mut text = format!("{}\n", answer["text"].as_str().unwrap_or_default());
        if let Some(masks) = answer["masks"].as_array() {
            for mask in masks {
                let top = mask["top"].as_array().into_iter().flatten().take(self.arguments.top);
                let guesses: Vec<String> = top
                    .map(|guess| {
                        format!(
                            "{} {:.3}",
                            guess["token"].as_str().unwrap_or_default(),
                            guess["p"].as_f64().unwrap_or(0.0)
                        )
                    })
                    .collect();
                text += &format!("  token {}: {}\n", mask["position"], guesses.join("  "));
            }
            return text;
        }
        if let Some(entities) = answer["entities"].as_array() {
            for entity in entities {
                let [kind, what] = ["type", "text"].map(|key| entity[key].as_str().unwrap_or_default());
                text += &format!("  {kind:<8} {what}\n");
            }
            return text;
        }
        if let Some(value) = answer["value"].as_f64() {
            text += &format!("  {value:.4}\n");
        }
        let given = |label: &String| answer["labels"].as_array().is_some_and(|given| given.contains(&json!(label)));
        let mut probs: Vec<(&String, f64)> = answer["probs"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(label, p)| (label, p.as_f64().unwrap_or(0.0)))
            .collect();
        probs.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (label, p) in probs.iter().take(self.arguments.top) {
            text += &format!("  {p:.3}  {label}{}\n", if given(label) { "  *" } else { "" });
        }
        if let Some(tokens) = answer["explanation"]["tokens"].as_array() {
            text += "  ";
            for token in tokens {
                text += &coloured(
                    token["token"].as_str().unwrap_or_default(),
                    token["contribution"].as_f64().unwrap_or(0.0),
                );
            }
            text += "\n";
        }
        text
    }
}

/// A token on green where it speaks for the label, on red where it speaks against it; plain where nobody sees colours.
fn coloured(token: &str, contribution: f64) -> String {
    let word = token.strip_prefix("##").map_or_else(|| format!(" {token}"), str::to_string);
    if !std::io::IsTerminal::is_terminal(&std::io::stdout()) || std::env::var_os("NO_COLOR").is_some() {
        return format!("{word}({contribution:+.2})");
    }
    let strength = (contribution.abs().min(0.5) * 400.0) as u8;
    let (red, green) = if contribution < 0.0 { (55 + strength, 40) } else { (40, 55 + strength) };
    if contribution.abs() < 0.01 { word } else { format!("\x1b[48;2;{red};{green};40m\x1b[97m{word}\x1b[0m") }
}
