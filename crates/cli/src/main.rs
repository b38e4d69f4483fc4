//! The `firebox` binary: parses the command line, calls the libraries, renders what they say.

// Both panic where nobody reads what they print; `report` has what does not.
#![deny(clippy::print_stderr, clippy::print_stdout)]
#![recursion_limit = "256"]

mod commands;
mod report;

use clap::{Parser, Subcommand};
use commands::{
    bench, chat, config, cv, data, devices, eval, export, generate, merge, predict, sweep, tokenizer, train,
};
use std::process::ExitCode;

/// Trains transformers from one config file, on any GPU or the CPU, into directories that HuggingFace opens.
#[derive(Parser)]
#[command(name = "firebox", version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model as a config file says.
    Train(train::Arguments),
    /// Train a config with many settings, and compare them by their evaluations.
    Sweep(sweep::Arguments),
    /// Train a classifier on every fold of its data, or on bags of it, and say how much its figures vary.
    Cv(cv::Arguments),
    /// Measure a checkpoint's loss, perplexity and accuracy on a text.
    Eval(eval::Arguments),
    /// Classify texts, or fill their masks.
    Predict(predict::Arguments),
    /// Talk with a chat model.
    Chat(chat::Arguments),
    /// Continue a prompt.
    Generate(generate::Arguments),
    /// Write a checkpoint for use elsewhere, without its training state.
    Export(export::Arguments),
    /// Write the model that a LoRA adapter makes of the one that it adapts.
    Merge(merge::Arguments),
    /// Train or look at tokenizers.
    #[command(subcommand)]
    Tokenizer(tokenizer::Command),
    /// Convert and redact data.
    #[command(subcommand)]
    Data(data::Command),
    /// Show a config as it resolves, or what a config may hold.
    #[command(subcommand)]
    Config(config::Command),
    /// Time training, attention, a matrix product or generating.
    Bench(bench::Arguments),
    /// List the devices a model can run on, and whether each computes right.
    Devices(devices::Arguments),
}

fn main() -> ExitCode {
    model::keep_freed_memory();
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Train(arguments) => train::run(arguments),
        Command::Sweep(arguments) => sweep::run(arguments),
        Command::Cv(arguments) => cv::run(arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Predict(arguments) => predict::run(&arguments),
        Command::Chat(arguments) => chat::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::Tokenizer(command) => tokenizer::run(command),
        Command::Data(command) => data::run(command),
        Command::Config(command) => config::run(&command),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
