//! `firebox generate`

use super::{Weights, open_device, open_model, prompt_ids};
use crate::report::{Failure, USAGE, print, print_json};
use checkpoint::Pretrained;
use inference::{Limits, Row, Sampler, SamplingSettings, TextStream, generate};
use model::OpenDevice;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `firebox generate`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint, a run directory (its best checkpoint), or any HuggingFace directory of a supported family.
    checkpoint: PathBuf,
    /// What the text starts with; given several times, several texts are generated together.
    #[arg(long = "prompt", value_name = "PROMPT", default_value = "")]
    prompts: Vec<String>,
    /// Texts for each prompt.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    num_samples: u64,
    /// Tokens to add at most; the end-of-text token ends it earlier.
    #[arg(long, default_value_t = 200)]
    max_new_tokens: usize,
    /// Divides the logits; 0 is greedy.
    #[arg(long, default_value_t = 0.8)]
    temperature: f64,
    /// Keep only the K most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Keep the fewest tokens whose probabilities reach P.
    #[arg(long)]
    top_p: Option<f64>,
    /// Seed of the choice. The second sample of a prompt is what the next seed gives alone, and so on.
    #[arg(long, default_value_t = 1337)]
    seed: u64,
    /// What weights are stored in: int8 reads a quarter of the memory, on the CPU.
    #[arg(long, value_enum, default_value = "f32")]
    weights: Weights,
    /// auto, wgpu, wgpu:N, ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print one JSON value: an object, or for several texts a list of them, prompt after prompt.
    #[arg(long)]
    json: bool,
}

/// Continues prompts; a single one is printed as it grows.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sampler = |sample: u64| {
        Sampler::new(SamplingSettings {
            temperature: arguments.temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p,
            seed: arguments.seed.wrapping_add(sample),
        })
        .map_err(|error| Failure::new(USAGE, error))
    };
    sampler(0)?;
    let device = open_device(&arguments.device)?;
    arguments.weights.check(&device)?;
    let mut opened = open_model(&arguments.checkpoint, &device)?;
    opened.model = arguments.weights.of(opened.model);
    let tokenizer = &opened.tokenizer;
    let mut rows = Vec::new();
    for prompt in &arguments.prompts {
        let prompt = prompt_ids(tokenizer, prompt)?;
        for sample in 0..arguments.num_samples {
            rows.push(Row { prompt: prompt.clone(), sampler: sampler(sample)? });
        }
    }
    let limits = Limits {
        max_new_tokens: arguments.max_new_tokens,
        vocabulary: tokenizer.vocab_size(),
        stop: tokenizer.end_of_text().into_iter().collect(),
    };
    if rows.len() == 1 && !arguments.json {
        return stream(&opened, &device, &mut rows, limits);
    }
    let new = generate(&opened.model, &device.device, &mut rows, limits, |_, _| true);
    let mut texts = Vec::new();
    for (row, new) in rows.iter().zip(new) {
        let ids = [&row.prompt[..], &new[..]].concat();
        let text = tokenizer.decode_skipping_special(&ids)?;
        texts.push((json!({ "prompt_ids": row.prompt, "ids": ids, "text": text }), text));
    }
    if arguments.json {
        let mut values: Vec<Value> = texts.into_iter().map(|(value, _)| value).collect();
        return print_json(&if values.len() == 1 { values.remove(0) } else { Value::Array(values) });
    }
    let count = texts.len();
    texts.iter().enumerate().try_for_each(|(i, (_, text))| print(&format!("[{} of {count}]\n{text}\n", i + 1)))
}

/// Prints one text as it grows.
fn stream(opened: &Pretrained, device: &OpenDevice, rows: &mut [Row], limits: Limits) -> Result<(), Failure> {
    let tokenizer = &opened.tokenizer;
    let mut stream = TextStream::default();
    let mut failure: Option<Failure> = None;
    for id in rows.iter().flat_map(|row| row.prompt.clone()) {
        print(&stream.push(tokenizer, id)?)?;
    }
    generate(&opened.model, &device.device, rows, limits, |_, id| {
        let shown = stream.push(tokenizer, id).map_err(Failure::from).and_then(|text| print(&text));
        failure = failure.take().or(shown.err());
        failure.is_none()
    });
    match failure {
        Some(failure) => Err(failure),
        None => print(&(stream.rest(tokenizer)? + "\n")),
    }
}
