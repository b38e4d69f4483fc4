//! Errors as a person and a script see them: one message on stderr, one exit code a kind.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use trainer::config::Subject;

/// How a command fails.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    /// Nothing, where the command has already said what happened.
    message: Option<String>,
}

/// Wrong usage or config.
pub const USAGE: u8 = 2;
/// Data that cannot be used.
pub const DATA: u8 = 3;
/// A checkpoint that cannot be used.
pub const CHECKPOINT: u8 = 4;
/// A device that is missing or fails.
pub const DEVICE: u8 = 5;
/// Training diverged.
pub const DIVERGED: u8 = 6;
/// Output that cannot be written.
pub const OUTPUT: u8 = 7;

impl Failure {
    /// A failure of one of the kinds above.
    pub fn new(code: u8, message: impl Display) -> Self {
        Self { code, message: Some(message.to_string()) }
    }

    /// The run was stopped by this signal, after saving.
    pub fn signal(signal: usize) -> Self {
        Self { code: 128 + signal as u8, message: None }
    }

    /// Says it on stderr and gives the exit code.
    pub fn report(self) -> ExitCode {
        if let Some(message) = self.message {
            // Config errors are whole lines with their own `file:line: error:`.
            let message = if message.contains(": error: ") { message } else { format!("error: {message}") };
            say(message);
        }
        ExitCode::from(self.code)
    }
}

impl From<trainer::config::ConfigErrors> for Failure {
    fn from(errors: trainer::config::ConfigErrors) -> Self {
        let code = match errors.subject() {
            Subject::Config => USAGE,
            Subject::Data => DATA,
            Subject::Checkpoint => CHECKPOINT,
            Subject::Output => OUTPUT,
        };
        Self::new(code, errors)
    }
}

impl From<data::Error> for Failure {
    fn from(error: data::Error) -> Self {
        let code = if matches!(error, data::Error::Output { .. }) { OUTPUT } else { DATA };
        Self::new(code, error)
    }
}

impl From<checkpoint::Error> for Failure {
    fn from(error: checkpoint::Error) -> Self {
        let code = match error.kind() {
            checkpoint::Kind::Checkpoint => CHECKPOINT,
            checkpoint::Kind::Output => OUTPUT,
        };
        Self::new(code, error)
    }
}

impl From<model::device::DeviceError> for Failure {
    fn from(error: model::device::DeviceError) -> Self {
        Self::new(DEVICE, error)
    }
}

impl From<inference::ChatError> for Failure {
    fn from(error: inference::ChatError) -> Self {
        match error {
            // A model that cannot chat.
            inference::ChatError::Data(error) => Self::new(CHECKPOINT, error),
            other => Self::new(USAGE, other),
        }
    }
}

impl From<trainer::Error> for Failure {
    fn from(error: trainer::Error) -> Self {
        match error {
            trainer::Error::Config(message) => Self::new(USAGE, message),
            trainer::Error::Data(error) => error.into(),
            trainer::Error::Checkpoint(error) => error.into(),
            trainer::Error::Device(message) => Self::new(DEVICE, message),
            diverged @ trainer::Error::Diverged { .. } => Self::new(DIVERGED, diverged),
        }
    }
}

/// Says something to a person, a line on stderr. That nobody listens any more is no reason to stop.
pub fn say(message: impl Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Prints one JSON value, the only thing a command with `--json` writes to stdout.
pub fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Prints to stdout. A reader that went away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    print_if_read(text).map(|_| ())
}

/// Prints to stdout; whether anybody still reads it.
pub fn print_if_read(text: &str) -> Result<bool, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(OUTPUT, format!("stdout: {error}"))),
    }
}
