//! `firebox chat`

use super::{Weights, open_device, open_model};
use crate::report::{DATA, Failure, OUTPUT, USAGE, print, say};
use inference::{ChatError, ChatSession, Reply, SamplingSettings};
use rustyline::error::ReadlineError;
use serde_json::json;
use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};

/// Arguments of `firebox chat`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A checkpoint, a run directory (its best checkpoint), or a HuggingFace directory of a GPT-2 with a chat template.
    checkpoint: PathBuf,
    /// The system message.
    #[arg(long)]
    system: Option<String>,
    /// Divides the logits; 0 takes the most likely token.
    #[arg(long, default_value_t = 0.7)]
    temperature: f64,
    /// Choose among this many of the most likely tokens.
    #[arg(long)]
    top_k: Option<usize>,
    /// Choose among the fewest tokens whose probabilities reach this sum.
    #[arg(long)]
    top_p: Option<f64>,
    /// Seed of the choice.
    #[arg(long, default_value_t = 1337)]
    seed: u64,
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// What weights are stored in: int8 reads a quarter of the memory, on the CPU.
    #[arg(long, value_enum, default_value = "f32")]
    weights: Weights,
    /// auto, wgpu, wgpu:N, ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: String,
}

const HELP: &str = "\
/reset            forget what was said
/system TEXT      begin anew with this system message; without TEXT with none
/regenerate       answer the last message again
/params           show the settings; `/params temperature=0.5 top_k=40` changes them
/save FILE        write the conversation as messages, a line of JSON
/exit             end; as Ctrl-D does
";

/// Talks with a model until the input ends.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let device = open_device(&arguments.device)?;
    arguments.weights.check(&device)?;
    let mut opened = open_model(&arguments.checkpoint, &device)?;
    opened.model = arguments.weights.of(opened.model);
    let Arguments { temperature, top_k, top_p, seed, .. } = *arguments;
    let sampling = SamplingSettings { temperature, top_k, top_p, seed };
    inference::Sampler::new(sampling.clone()).map_err(|error| Failure::new(USAGE, error))?;
    let mut session = ChatSession::new(opened, device.device.clone(), sampling, arguments.max_new_tokens)?;
    session.set_system(arguments.system.clone());
    if !std::io::stdin().is_terminal() {
        for line in std::io::stdin().lock().lines() {
            let line = line.map_err(|error| Failure::new(DATA, format!("standard input: {error}")))?;
            if !take(&mut session, &line)? {
                break;
            }
        }
        return Ok(());
    }
    say(format!("device: {}; /help shows the commands", device.reason));
    let failed = |error: ReadlineError| Failure::new(DATA, format!("the terminal: {error}"));
    let mut editor = rustyline::DefaultEditor::new().map_err(failed)?;
    loop {
        match editor.readline("> ") {
            Ok(line) => {
                // A history that takes no line is no reason to end.
                let _ = editor.add_history_entry(&line);
                match take(&mut session, &line) {
                    Ok(true) => {}
                    Ok(false) => return Ok(()),
                    // A file that cannot be written is no reason to lose the conversation.
                    Err(failure) => {
                        failure.report();
                    }
                }
            }
            Err(ReadlineError::Interrupted) => say("Ctrl-D ends the conversation"),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
}

/// Does what a line says; false to end.
fn take(session: &mut ChatSession, line: &str) -> Result<bool, Failure> {
    let line = line.trim();
    let (command, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    match command {
        "" => {}
        "/exit" | "/quit" => return Ok(false),
        "/help" => print(HELP)?,
        "/reset" => session.reset(),
        "/system" => session.set_system(Some(rest.trim().to_owned()).filter(|system| !system.is_empty())),
        "/params" => params(session, rest)?,
        "/save" => save(session, Path::new(rest.trim()))?,
        "/regenerate" => answer(|on_text| session.regenerate(on_text))?,
        _ if command.starts_with('/') => say(format!("`{command}` is no command; /help shows them")),
        _ => answer(|on_text| session.reply(line, on_text))?,
    }
    Ok(true)
}

/// Prints an answer as it comes. What cannot be answered is said, and the conversation goes on.
fn answer(ask: impl FnOnce(&mut (dyn FnMut(&str) -> bool + Send)) -> Result<Reply, ChatError>) -> Result<(), Failure> {
    let mut failure = None;
    let mut show = |piece: &str| {
        failure = failure.take().or(print(piece).err());
        failure.is_none()
    };
    let answered = ask(&mut show);
    if let Some(failure) = failure {
        return Err(failure);
    }
    match answered {
        Ok(reply) => {
            print("\n")?;
            if reply.forgotten > 0 {
                say(format!("({} oldest turns no longer fit and are forgotten)", reply.forgotten));
            }
            if !reply.ended {
                say("(cut at the most new tokens; hint: /params max_new_tokens=512)");
            }
        }
        Err(error) => say(error),
    }
    Ok(())
}

/// Changes settings, and shows them.
fn params(session: &mut ChatSession, changes: &str) -> Result<(), Failure> {
    let mut sampling = session.sampling.clone();
    for change in changes.split_whitespace() {
        let Some((key, value)) = change.split_once('=') else {
            say(format!("`{change}`: expected KEY=VALUE, as temperature=0.5"));
            return Ok(());
        };
        let is_off = value == "off" && matches!(key, "top_k" | "top_p");
        let number = value.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        let Some(number) = number.or(is_off.then_some(0.0)) else {
            say(format!("`{change}`: `{value}` is not a number"));
            return Ok(());
        };
        let optional = (!is_off).then_some(number);
        match key {
            "temperature" => sampling.temperature = number,
            "top_k" => sampling.top_k = optional.map(|number| number as usize),
            "top_p" => sampling.top_p = optional,
            "seed" => sampling.seed = number as u64,
            "max_new_tokens" => session.max_new_tokens = (number as usize).max(1),
            _ => {
                say(format!("`{key}`: there are temperature, top_k, top_p, seed and max_new_tokens"));
                return Ok(());
            }
        }
    }
    if let Err(error) = inference::Sampler::new(sampling.clone()) {
        say(error);
        return Ok(());
    }
    session.sampling = sampling;
    let SamplingSettings { temperature, top_k, top_p, seed } = &session.sampling;
    let shown = |value: Option<String>| value.unwrap_or_else(|| "off".into());
    let (top_k, top_p) = (shown(top_k.map(|k| k.to_string())), shown(top_p.map(|p| p.to_string())));
    let most = session.max_new_tokens;
    print(&format!("temperature={temperature} top_k={top_k} top_p={top_p} seed={seed} max_new_tokens={most}\n"))
}

/// Appends the conversation to a file of messages.
fn save(session: &ChatSession, path: &Path) -> Result<(), Failure> {
    if path.as_os_str().is_empty() {
        say("/save FILE");
        return Ok(());
    }
    let messages: Vec<_> =
        session.messages().iter().map(|message| json!({"role": message.role, "content": message.content})).collect();
    let count = messages.len();
    let line = format!("{}\n", json!({ "messages": messages }));
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes()));
    written.map_err(|error| Failure::new(OUTPUT, format!("{}: {error}", path.display())))?;
    say(format!("{count} messages in {}", path.display()));
    Ok(())
}
