//! `firebox predict`

use super::ensemble::Ensemble;
use super::text_lines::Lines;
use super::trained::{Columns, labelled, trained_on};
use super::{checkpoint_dir, open_device};
use crate::report::{DATA, Failure, USAGE, print, print_if_read, print_json, say};
use data::config::LabelledConfig;
use inference::{TaggedWord, Text};
use model::bert::Problem;
use serde_json::{Map, Value, json};
use std::io::{IsTerminal, Write};
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
    /// Let the models of an ensemble vote, in place of the mean of their probabilities: `probs` are then the shares of
    /// votes, the mean counting as one vote more where a text has one label; of numbers it is the median.
    #[arg(long, requires = "ensemble")]
    vote: bool,
    /// A text; may be given several times. For a masked language model with `[MASK]` in it.
    #[arg(long = "text", value_name = "TEXT")]
    texts: Vec<String>,
    /// The second text of a --text, for a classifier of pairs.
    #[arg(long = "pair", value_name = "TEXT", requires = "texts")]
    pairs: Vec<String>,
    /// A file: .csv, .tsv or .jsonl with a text column, else a text a line; `-` is standard input. Answers come as they
    /// are found, one JSON value a line.
    #[arg(long, conflicts_with = "texts")]
    file: Option<PathBuf>,
    #[command(flatten)]
    columns: Columns,
    /// How many labels a person is shown, or how many tokens a `[MASK]` gets.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    top: u64,
    /// Each token's contribution to the most probable label, by occlusion: how far its probability falls with the token
    /// masked.
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
    let classifies = models.first().problem().is_some();
    let pairs = !arguments.pairs.is_empty() || arguments.columns.pair_field.is_some();
    if !classifies && (arguments.explain || pairs) {
        return Err(Failure::new(USAGE, "--explain, --pair and --pair-field are for classifiers of whole texts"));
    }
    let source = trained_on(&checkpoint_dir(&arguments.checkpoint)?);
    let mut trained = labelled(source.as_ref()).cloned();
    if let Some(trained) = trained.as_mut().filter(|_| !classifies) {
        trained.text_pair = None;
    }
    let answers = Answers { models: &models, arguments };
    match &arguments.file {
        None => answers.print(&texts(arguments, trained.as_ref())?),
        Some(file) => answers.stream(groups(file, arguments, trained.as_ref())?),
    }
}

/// Texts that are answered together, one group after the other.
type Groups = Box<dyn Iterator<Item = Result<Vec<Text>, Failure>>>;

/// The texts of the command line. Of a model that was `trained` on labelled texts it is known whether it reads pairs.
fn texts(arguments: &Arguments, trained: Option<&LabelledConfig>) -> Result<Vec<Text>, Failure> {
    let (texts, pairs) = (&arguments.texts, &arguments.pairs);
    let wrong = match trained.map(|trained| trained.text_pair.is_some()) {
        Some(true) if pairs.is_empty() => PAIRS_WANTED.into(),
        Some(false) if !pairs.is_empty() => "--pair: the model was trained on single texts; hint: leave it out".into(),
        _ if !pairs.is_empty() && pairs.len() != texts.len() => {
            format!("{} --pair for {} --text; hint: one for each", pairs.len(), texts.len())
        }
        _ => {
            let mut pairs = pairs.iter().cloned();
            return Ok(texts.iter().map(|text| (text.clone(), pairs.next())).collect());
        }
    };
    Err(Failure::new(USAGE, wrong))
}

const PAIRS_WANTED: &str =
    "the model was trained on pairs of texts; hint: a --pair for each --text, or a .csv, .tsv or .jsonl --file";

/// The texts of a file, or of standard input.
fn groups(file: &Path, arguments: &Arguments, trained: Option<&LabelledConfig>) -> Result<Groups, Failure> {
    if let Some("csv" | "tsv" | "jsonl") = data::source::extension(file).as_deref() {
        let config = arguments.columns.labelled(file, trained)?;
        let mut notes = Vec::new();
        let examples = data::source::labelled::read_files(&config, false, &config.files, &mut notes)?;
        notes.iter().for_each(say);
        let mut texts = examples.into_iter().map(|example| (example.text, example.pair));
        let mut group = move || -> Vec<Text> { texts.by_ref().take(TOGETHER).collect() };
        return Ok(Box::new(std::iter::from_fn(move || Some(group()).filter(|group| !group.is_empty()).map(Ok))));
    }
    if trained.is_some_and(|trained| trained.text_pair.is_some()) {
        return Err(Failure::new(USAGE, PAIRS_WANTED));
    }
    let lines = if file == Path::new("-") {
        Lines::of(std::io::stdin(), "standard input".into(), TOGETHER)
    } else {
        let name = file.display().to_string();
        let opened = std::fs::File::open(file).map_err(|error| Failure::new(DATA, format!("{name}: {error}")))?;
        Lines::of(opened, name, TOGETHER)
    };
    Ok(Box::new(lines.map(|group| Ok(group?.into_iter().map(|line| (line, None)).collect()))))
}

struct Answers<'a> {
    models: &'a Ensemble,
    arguments: &'a Arguments,
}

impl Answers<'_> {
    /// Answers the texts of the command line.
    fn print(&self, texts: &[Text]) -> Result<(), Failure> {
        let found = self.of(texts)?;
        let unmasked = |answer: &&Value| answer["masks"].as_array().is_some_and(Vec::is_empty);
        if let Some(answer) = found.iter().find(unmasked) {
            let most = self.models.first().max_seq_len();
            let message =
                format!("{} has no [MASK] within {most} tokens; hint: where one is to be guessed", answer["text"]);
            return Err(Failure::new(DATA, message));
        }
        if self.arguments.json {
            return print_json(&Value::Array(found));
        }
        print(&found.iter().map(|answer| self.shown(answer)).collect::<String>())
    }

    /// Answers texts as they come, a line of JSON each, until nobody reads on.
    fn stream(&self, groups: Groups) -> Result<(), Failure> {
        // Where the answers go elsewhere, a terminal shows how far they are.
        let shows = std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        let mut answered = 0;
        for texts in groups {
            let texts = texts?;
            let lines: String = self.of(&texts)?.iter().map(|answer| format!("{answer}\n")).collect();
            if !print_if_read(&lines)? {
                break;
            }
            answered += texts.len();
            if shows {
                let _ = write!(std::io::stderr(), "\r{answered} texts");
            }
        }
        if shows {
            say("");
        }
        Ok(())
    }

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
                let tokens = self.models.explain(text, best)?;
                let tokens = tokens.iter().map(|of| json!({"token": of.token, "contribution": of.contribution}));
                let tokens: Vec<Value> = tokens.collect();
                answer["explanation"] = json!({"method": "occlusion", "label": labels[best], "tokens": tokens});
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
        let masks = self.models.first().fill_mask(text, self.arguments.top as usize)?;
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
                let top = mask["top"].as_array().into_iter().flatten();
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
            let unread = answer["words"].as_array().into_iter().flatten().filter(|word| word["p"].is_null()).count();
            if unread > 0 {
                text += &format!("  the last {unread} words do not fit in the model's context\n");
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
        for (label, p) in probs.iter().take(self.arguments.top as usize) {
            text += &format!("  {p:.3}  {label}{}\n", if given(label) { "  *" } else { "" });
        }
        if let Some(tokens) = answer["explanation"]["tokens"].as_array() {
            let label = answer["explanation"]["label"].as_str().unwrap_or_default();
            text += &format!("  occlusion, {label}:");
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
