//! `firebox eval` of a chat model on conversations

use super::{Arguments, Part, chosen};
use crate::commands::data::refuse_in_place;
use crate::commands::trained::run_config;
use crate::commands::{checkpoint_dir, open_device, open_model};
use crate::report::{CHECKPOINT, DATA, Failure, OUTPUT, USAGE, print, print_json, say};
use checkpoint::{Pretrained, TrainState};
use data::chat::{ChatExamples, ChatTemplate, Conversation, Message, Redactor, with_system};
use data::config::{ChatConfig, ChatTrainingConfig, SourceConfig};
use data::{EvaluationRows, TextCleaner};
use model::OpenDevice;
use serde_json::json;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use trainer::config::RunConfig;
use trainer::metrics::AnswerReport;

/// Measures a chat model: its loss on the tokens that a training would train, and its answers if they are asked for.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let dir = checkpoint_dir(&arguments.checkpoint)?;
    // What counts in training counts here; a directory from elsewhere says nothing about it.
    let of_run = match TrainState::read(&dir) {
        Err(checkpoint::Error::NoTrainState { .. }) if arguments.data.is_some() => None,
        _ => Some(run_config(&dir)?),
    };
    let chat = of_run.as_ref().map_or_else(ChatTrainingConfig::default, |(config, _)| config.chat.clone());
    let conversations = match (&arguments.data, &of_run) {
        (Some(path), of_run) => of_file(path, of_run.as_ref().map(|(config, _)| config))?,
        (None, Some((config, state))) => part(config, arguments.split.unwrap_or(Part::Test), &state.data_hash)?,
        (None, None) => unreachable!("without a file there is a run, or there was an error"),
    };
    let mut answers_file = match (&arguments.answers, &arguments.data) {
        (Some(Some(path)), data) => {
            data.as_ref().map_or(Ok(()), |data| refuse_in_place(data, path))?;
            Some((path.as_path(), BufWriter::new(File::create(path).map_err(failed(path))?)))
        }
        _ => None,
    };
    let device = open_device(&arguments.device)?;
    arguments.weights.check(&device)?;
    let mut opened = open_model(&arguments.checkpoint, &device)?;
    opened.model = arguments.weights.of(opened.model);
    let template = ChatTemplate::of_tokenizer(&opened.tokenizer)?.ok_or_else(|| {
        let message = "the model's tokenizer has no chat template; hint: train it on [data.chat]";
        Failure::new(CHECKPOINT, message)
    })?;
    let seq_len = opened.config.max_seq_len;
    let examples = ChatExamples::new(&template, &opened.tokenizer, &chat, &conversations, seq_len, 0)?;
    let (kept, left_out) = (examples.conversations().len(), conversations.len() - examples.conversations().len());
    if examples.is_empty() {
        let message = format!("none of {left_out} conversations fits and has an answer that counts");
        return Err(Failure::new(DATA, message));
    }
    let rows = EvaluationRows::chat(examples, seq_len, usize::MAX);
    let batches = rows.batches(arguments.batch_size as usize);
    let result = model::in_thread_pool(&device.device, || {
        trainer::evaluate(&opened.model, batches, model::Precision::F32, &device.device)
    });
    let report = match &arguments.answers {
        Some(_) => {
            let answered = answers(arguments, &opened, &template, &device, &chat, &conversations)?;
            if let Some((path, out)) = &mut answers_file {
                answered.write(out).map_err(failed(path))?;
            }
            Some(answered.report()?)
        }
        None => None,
    };
    let (loss, perplexity, accuracy, tokens) = (result.loss, result.perplexity(), result.accuracy, result.tokens);
    if arguments.json {
        let mut value = json!({
            "loss": loss, "perplexity": perplexity, "accuracy": accuracy, "trained_tokens": tokens,
            "conversations": kept, "left_out": left_out,
        });
        if let Some(report) = report {
            value["answers"] = json!(report);
        }
        return print_json(&value);
    }
    let left_out = if left_out > 0 { format!(" ({left_out} left out)") } else { String::new() };
    print(&format!(
        "loss            {loss:.4}\nperplexity      {perplexity:.3}\ntoken accuracy  {:.2}%\ntrained tokens  {tokens}\n\
         conversations   {kept}{left_out}\n",
        100.0 * accuracy
    ))?;
    report.map_or(Ok(()), |report| print(&report.table()))
}

/// The conversations of a file, cleaned and redacted as those of the run were.
fn of_file(path: &Path, run: Option<&RunConfig>) -> Result<Vec<Conversation>, Failure> {
    let mut conversations = Vec::new();
    data::chat::read_file(path, &ChatConfig::of_file(path), &mut Vec::new(), |conversation| {
        conversations.push(conversation);
        Ok(())
    })?;
    if let Some(run) = run {
        data::chat::clean_messages(&mut conversations, &TextCleaner::new(&run.clean)?);
        Redactor::new(&run.redact)?.redact_conversations(&mut conversations);
    }
    Ok(conversations)
}

/// A part of the conversations that a run was made from.
fn part(config: &RunConfig, part: Part, hash: &str) -> Result<Vec<Conversation>, Failure> {
    let SourceConfig::Chat(source) = &config.data else {
        return Err(Failure::new(USAGE, "the run was not made from conversations or labels; hint: --data FILE"));
    };
    let splits = data::chat::read(source, &config.split, &config.clean, &config.redact)?;
    chosen(part, &splits.hash, Some(hash), splits.validation, splits.test)
}

/// What writing to a file fails with.
fn failed(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::new(OUTPUT, format!("{}: {error}", path.display()))
}

/// What a model answered.
struct Answered {
    /// The messages before each answer, the answer that stands there, and the model's.
    rows: Vec<(Vec<Message>, String, String)>,
}

impl Answered {
    fn report(&self) -> Result<AnswerReport, Failure> {
        let (right, given): (Vec<&str>, Vec<&str>) =
            self.rows.iter().map(|(_, right, given)| (right.as_str(), given.as_str())).unzip();
        AnswerReport::new(&right, &given).map_err(|error| Failure::new(DATA, error))
    }

    /// A line of JSON for each.
    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        for (prompt, right, given) in &self.rows {
            let messages = prompt.iter().map(|message| json!({"role": message.role, "content": message.content}));
            let line = json!({"messages": messages.collect::<Vec<_>>(), "right": right, "answer": given});
            writeln!(out, "{line}")?;
        }
        out.flush()
    }
}

/// The model's answers to what stands before each conversation's last answer.
fn answers(
    arguments: &Arguments,
    opened: &Pretrained,
    template: &ChatTemplate,
    device: &OpenDevice,
    chat: &ChatTrainingConfig,
    conversations: &[Conversation],
) -> Result<Answered, Failure> {
    let asked = conversations.iter().filter_map(|conversation| {
        let mut messages = with_system(chat, conversation).messages;
        let last = messages.iter().rposition(|message| message.role == "assistant")?;
        let right = messages.swap_remove(last).content;
        messages.truncate(last);
        (!messages.is_empty()).then_some((messages, right.trim().to_owned()))
    });
    let (prompts, right): (Vec<Vec<Message>>, Vec<String>) = asked.unzip();
    let given = inference::answers(opened, template, &device.device, &prompts, arguments.max_new_tokens as usize)?;
    let unanswered = given.iter().filter(|answer| answer.is_none()).count();
    if unanswered > 0 {
        say(format!("{unanswered} conversations leave no room for an answer and are left out"));
    }
    let rows = prompts.into_iter().zip(right).zip(given);
    Ok(Answered { rows: rows.filter_map(|((prompt, right), given)| Some((prompt, right, given?))).collect() })
}
