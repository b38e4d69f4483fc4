//! `firebox generate`

use super::{open_device, open_model, prompt_ids};
use crate::report::{Failure, USAGE, print, print_json};
use inference::{Generation, Sampler, SamplingSettings, generate};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `firebox generate`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint, a run directory (its best checkpoint), or any HuggingFace directory of a supported family.
    checkpoint: PathBuf,
    /// What the text starts with.
    #[arg(long, default_value = "")]
    prompt: String,
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
    /// Seed of the choice.
    #[arg(long, default_value_t = 1337)]
    seed: u64,
    /// auto, wgpu, wgpu:N, ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// Continues a prompt, printing as it goes.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = SamplingSettings {
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        seed: arguments.seed,
    };
    let mut sampler = Sampler::new(settings).map_err(|error| Failure::new(USAGE, error))?;
    let device = open_device(&arguments.device)?;
    let opened = open_model(&arguments.checkpoint, &device)?;
    let tokenizer = &opened.tokenizer;
    let prompt = prompt_ids(tokenizer, &arguments.prompt)?;
    let request = Generation {
        prompt: &prompt,
        max_new_tokens: arguments.max_new_tokens,
        vocabulary: tokenizer.vocab_size(),
        stop: tokenizer.end_of_text(),
    };
    if arguments.json {
        let new = generate(&opened.model, &device.device, &request, &mut sampler, |_| true);
        let ids: Vec<u32> = prompt.iter().chain(&new).copied().collect();
        let text = tokenizer.decode_skipping_special(&ids)?;
        return print_json(&json!({ "prompt_ids": prompt, "ids": ids, "text": text }));
    }
    let mut ids = prompt.clone();
    let mut stream = Stream::default();
    let mut failure = stream.show(&tokenizer.decode_skipping_special(&ids)?).err();
    generate(&opened.model, &device.device, &request, &mut sampler, |id| {
        ids.push(id);
        let shown = tokenizer.decode_skipping_special(&ids).map_err(Failure::from).and_then(|text| stream.show(&text));
        failure = failure.take().or(shown.err());
        failure.is_none()
    });
    match failure {
        Some(failure) => Err(failure),
        None => print("\n"),
    }
}

/// Prints what of a growing text is new, and holds back a character whose bytes are not all there yet.
#[derive(Default)]
struct Stream {
    printed: usize,
}

impl Stream {
    fn show(&mut self, text: &str) -> Result<(), Failure> {
        let whole = text.trim_end_matches('\u{fffd}');
        if let Some(new) = whole.get(self.printed..) {
            print(new)?;
            self.printed = whole.len();
        }
        Ok(())
    }
}
