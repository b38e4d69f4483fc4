//! `firebox eval` of a chat model on conversations

use super::{Arguments, Part, chosen, run_config};
use crate::commands::{checkpoint_dir, open_device, open_model};
use crate::report::{CHECKPOINT, DATA, Failure, OUTPUT, USAGE, print, print_json};
use checkpoint::Pretrained;
use data::EvaluationRows;
use data::chat::{ChatExamples, ChatTemplate, Conversation, Message, with_system};
use data::config::{ChatConfig, ChatTrainingConfig, SourceConfig};
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
    let config = run_config(&dir).ok();
    // What counts in training counts here; a directory from elsewhere says nothing about it.
    let chat = config.as_ref().map_or_else(ChatTrainingConfig::default, |(config, _)| config.chat.clone());
    let hash = config.as_ref().map(|(_, state)| state.data_hash.clone());
    let conversations = match &arguments.data {
        Some(path) => of_file(path)?,
        None => {
            let (config, _) = run_config(&dir)?;
            of_run(&config, arguments.split.unwrap_or(Part::Test), hash.as_deref())?
        }
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
        Some(file) => Some(answers(arguments, &opened, &template, &device, &chat, &conversations, file.as_deref())?),
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

fn of_file(path: &Path) -> Result<Vec<Conversation>, Failure> {
    let mut conversations = Vec::new();
    data::chat::read_file(path, &ChatConfig::of_file(path), &mut Vec::new(), |conversation| {
        conversations.push(conversation);
        Ok(())
    })?;
    Ok(conversations)
}

/// A part of the conversations that a run was made from.
fn of_run(config: &RunConfig, part: Part, hash: Option<&str>) -> Result<Vec<Conversation>, Failure> {
    let SourceConfig::Chat(source) = &config.data else {
        return Err(Failure::new(USAGE, "the run was not made from conversations or labels; hint: --data FILE"));
    };
    let splits = data::chat::read(source, &config.split, &config.clean, &config.redact)?;
    chosen(part, &splits.hash, hash, splits.validation, splits.test)
}

/// Answers the last message before each conversation's last answer, and compares with that answer.
fn answers(
    arguments: &Arguments,
    opened: &Pretrained,
    template: &ChatTemplate,
    device: &OpenDevice,
    chat: &ChatTrainingConfig,
    conversations: &[Conversation],
    file: Option<&Path>,
) -> Result<AnswerReport, Failure> {
    let asked = conversations.iter().filter_map(|conversation| {
        let mut messages = with_system(chat, conversation).messages;
        let last = messages.iter().rposition(|message| message.role == "assistant")?;
        let right = messages.swap_remove(last).content;
        messages.truncate(last);
        (!messages.is_empty()).then_some((messages, right.trim().to_owned()))
    });
    let (prompts, right): (Vec<Vec<Message>>, Vec<String>) = asked.unzip();
    let given = inference::answers(opened, template, &device.device, &prompts, arguments.max_new_tokens)?;
    let unanswered = given.iter().filter(|answer| answer.is_none()).count();
    if unanswered > 0 {
        eprintln!("{unanswered} conversations leave no room for an answer and are left out");
    }
    let answered: Vec<(&Vec<Message>, String, String)> = prompts
        .iter()
        .zip(right)
        .zip(given)
        .filter_map(|((prompt, right), given)| Some((prompt, right, given?)))
        .collect();
    if let Some(path) = file {
        let failed = |error: std::io::Error| Failure::new(OUTPUT, format!("{}: {error}", path.display()));
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        for (prompt, right, given) in &answered {
            let messages = prompt.iter().map(|message| json!({"role": message.role, "content": message.content}));
            let line = json!({"messages": messages.collect::<Vec<_>>(), "right": right, "answer": given});
            writeln!(out, "{line}").map_err(failed)?;
        }
        out.flush().map_err(failed)?;
    }
    let (right, given): (Vec<&str>, Vec<&str>) =
        answered.iter().map(|(_, right, given)| (right.as_str(), given.as_str())).unzip();
    AnswerReport::new(&right, &given).map_err(|error| Failure::new(DATA, error))
}
