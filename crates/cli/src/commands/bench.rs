//! `firebox bench`

mod decode;

use super::{Weights, open_device};
use crate::report::{DEVICE, Failure, USAGE, print, print_json};
use burn::tensor::{Device, Tensor, TensorData};
use clap::ValueEnum;
use model::{BertConfig, BertHead, GptConfig, OpenDevice, Precision, Support};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use trainer::bench::{AttentionSteps, LinearSteps, TrainingSteps};
use trainer::forward::StepOptions;

/// What to time.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Task {
    /// Whole training steps: batch, forward, backward, clipping, update.
    Train,
    /// Attention alone, forward and backward.
    Attention,
    /// A matrix product as large as the feed-forward layer's.
    Matmul,
    /// Generating tokens one after another, with the cache, for `--batch` rows at once.
    Decode,
}

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Architecture {
    Gpt,
    Bert,
}

/// A number format.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Format {
    F32,
    Bf16,
    F16,
}

impl From<Format> for Precision {
    fn from(format: Format) -> Self {
        match format {
            Format::F32 => Self::F32,
            Format::Bf16 => Self::Bf16,
            Format::F16 => Self::F16,
        }
    }
}

/// Arguments of `firebox bench`.
#[derive(clap::Args)]
pub struct Arguments {
    /// What to time.
    #[arg(long, value_enum, default_value = "train")]
    task: Task,
    /// The family that --task train trains: a GPT on text, or a BERT on masked tokens.
    #[arg(long, value_enum, default_value = "gpt")]
    arch: Architecture,
    /// Share of padding in each row of a BERT.
    #[arg(long, default_value_t = 0.0)]
    padding: f64,
    /// Blocks.
    #[arg(long, default_value_t = 4)]
    n_layer: usize,
    /// Attention heads.
    #[arg(long, default_value_t = 4)]
    n_head: usize,
    /// Width.
    #[arg(long, default_value_t = 128)]
    d_model: usize,
    /// Context, in tokens; for decode the tokens that are generated.
    #[arg(long, default_value_t = 64)]
    seq: usize,
    /// Rows of a batch.
    #[arg(long, default_value_t = 12)]
    batch: usize,
    /// Ids of the vocabulary.
    #[arg(long, default_value_t = 65)]
    vocab: usize,
    /// Dropout.
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
    /// Number format of matrix products and attention.
    #[arg(long, value_enum, default_value = "f32")]
    precision: Format,
    /// What the weights of --task decode are stored in.
    #[arg(long, value_enum, default_value = "f32")]
    weights: Weights,
    /// Go on where the device has no instructions for the precision, by rounding.
    #[arg(long)]
    emulate_precision: bool,
    /// Compute each block again in the backward pass instead of keeping its inside.
    #[arg(long)]
    gradient_checkpointing: bool,
    /// Timed repetitions, after a tenth as many (at least two) that are not.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// auto, wgpu, wgpu:N, ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: String,
    /// Print one JSON value.
    #[arg(long)]
    json: bool,
}

/// What was timed.
struct Timed {
    times: Vec<Duration>,
    /// Tokens of one repetition.
    tokens: f64,
    /// Floating-point operations of one repetition, those of matrix products.
    flops: f64,
    loss: Option<f64>,
    /// What only decoding reads.
    decoded: Option<decode::Reading>,
}

/// Times a task and reports the median.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let sizes =
        [arguments.n_layer, arguments.n_head, arguments.d_model, arguments.seq, arguments.batch, arguments.vocab];
    if sizes.contains(&0)
        || !arguments.d_model.is_multiple_of(arguments.n_head)
        || !(0.0..1.0).contains(&arguments.dropout)
    {
        return Err(Failure::new(
            USAGE,
            "sizes must be at least 1, --n-head must divide --d-model, and --dropout lie in [0, 1); hint: --d-model 128 --n-head 4",
        ));
    }
    let is_bert = arguments.arch == Architecture::Bert;
    if !(0.0..1.0).contains(&arguments.padding) || (arguments.padding > 0.0 && !is_bert) {
        return Err(Failure::new(USAGE, "--padding is a share below 1 of the rows of --arch bert"));
    }
    if is_bert && arguments.task != Task::Train {
        return Err(Failure::new(USAGE, "--arch bert is for --task train; hint: leave it out"));
    }
    let opened = open_device(&arguments.device)?;
    let device = &opened.device;
    check_precision(arguments, &opened)?;
    let mut timed = match arguments.task {
        Task::Train => train(arguments, device)?,
        Task::Attention => attend(arguments, device),
        Task::Matmul => matmul(arguments, device),
        Task::Decode => decode::time_decoding(arguments, device)?,
    };
    timed.times.sort();
    let median = timed.times[timed.times.len() / 2].as_secs_f64();
    let ceiling = product_ceiling(device);
    let mfu = timed.flops / median / ceiling;
    let tokens_per_second = timed.tokens / median;
    let peak = trainer::memory::peak_bytes();
    let decoded = timed.decoded.map(|reading| reading.figures(median, device));
    if arguments.json {
        let mut value = json!({
            "device": opened.reason,
            "ms_per_step": 1e3 * median,
            "tokens_per_second": tokens_per_second,
            "mfu": mfu,
            "matmul_ceiling_flops": ceiling,
            "peak_memory_bytes": peak,
            "loss": timed.loss,
        });
        if let (Some(Value::Object(more)), Some(value)) = (decoded, value.as_object_mut()) {
            value.extend(more);
        }
        return print_json(&value);
    }
    if let Some(figures) = decoded {
        print(&decode::described(&figures))?;
    }
    let memory = peak.map_or("unknown".to_string(), checkpoint::human_bytes);
    print(&format!(
        "device            {}\ntime a step       {:.2} ms (median of {})\ntokens a second   {tokens_per_second:.0}\n\
         matrix products   {:.1}% of the {:.0} GFLOP/s a large product reaches here\npeak memory       {memory}\n",
        opened.reason,
        1e3 * median,
        timed.times.len(),
        100.0 * mfu,
        ceiling / 1e9,
    ))
}

/// Refuses a precision that would be computed in another way than asked, or not at all.
fn check_precision(arguments: &Arguments, opened: &OpenDevice) -> Result<(), Failure> {
    arguments.weights.check(opened)?;
    if arguments.weights != Weights::F32 && arguments.task != Task::Decode {
        return Err(Failure::new(USAGE, "--weights is for --task decode; hint: leave it out"));
    }
    let wanted = arguments.precision != Format::F32;
    if wanted && arguments.task == Task::Decode {
        return Err(Failure::new(USAGE, "--precision is not for --task decode; hint: leave it out"));
    }
    if arguments.emulate_precision || model::support(&opened.device, arguments.precision.into()) == Support::Native {
        return Ok(());
    }
    let name = arguments.precision.to_possible_value().map_or_else(String::new, |value| value.get_name().to_string());
    Err(Failure::new(
        DEVICE,
        format!(
            "{} has no instructions for --precision {name}; hint: --emulate-precision rounds to it and computes in f32",
            opened.reason
        ),
    ))
}

/// Runs `step` for a while unobserved, then `steps` times timed. `step` waits for the device itself.
fn time<E>(steps: u64, mut step: impl FnMut() -> Result<(), E>) -> Result<Vec<Duration>, E> {
    for _ in 0..(steps / 10).max(2) {
        step()?;
    }
    (0..steps)
        .map(|_| {
            let clock = Instant::now();
            step()?;
            Ok(clock.elapsed())
        })
        .collect()
}

/// Cannot fail; for the closures of [`time`].
type Never = std::convert::Infallible;

fn config(arguments: &Arguments, max_seq_len: usize) -> GptConfig {
    GptConfig {
        n_layer: arguments.n_layer,
        n_head: arguments.n_head,
        d_model: arguments.d_model,
        d_ff: 4 * arguments.d_model,
        max_seq_len,
        vocab_size: arguments.vocab,
        embd_dropout: arguments.dropout,
        attn_dropout: arguments.dropout,
        resid_dropout: arguments.dropout,
        ..GptConfig::default()
    }
}

/// Operations of a forward pass over one token that sees `seen` positions: twice the weights of every product, and
/// the two products of the attention (Kaplan et al. 2020, section 2.1).
fn forward_flops(config: &GptConfig, seen: f64) -> f64 {
    let d = config.d_model as f64;
    let weights = config.n_layer as f64 * (4.0 * d * d + 2.0 * d * config.d_ff as f64) + d * config.vocab_size as f64;
    2.0 * weights + 4.0 * config.n_layer as f64 * d * seen
}

fn train(arguments: &Arguments, device: &Device) -> Result<Timed, Failure> {
    let config = config(arguments, arguments.seq);
    let options = StepOptions {
        precision: arguments.precision.into(),
        gradient_checkpointing: arguments.gradient_checkpointing,
        ..StepOptions::default()
    };
    let tokens = arguments.batch as f64 * arguments.seq as f64 * (1.0 - arguments.padding);
    let (mut steps, flops) = match arguments.arch {
        Architecture::Gpt => {
            let steps = TrainingSteps::new(&config, arguments.batch, options, device)?;
            // A causal row sees half of the context on average.
            (steps, tokens * forward_flops(&config, arguments.seq as f64 / 2.0))
        }
        Architecture::Bert => {
            let bert = BertConfig {
                n_layer: config.n_layer,
                n_head: config.n_head,
                d_model: config.d_model,
                d_ff: config.d_ff,
                max_seq_len: config.max_seq_len,
                vocab_size: config.vocab_size,
                hidden_dropout: arguments.dropout,
                attn_dropout: arguments.dropout,
                head: BertHead::MaskedLm,
                ..BertConfig::default()
            };
            let body = GptConfig { vocab_size: 0, ..config };
            // One token in seven has a head.
            let (width, vocabulary) = (bert.d_model as f64, bert.vocab_size as f64);
            let head = 2.0 * width * (width + vocabulary) / 7.0;
            let flops = tokens * (forward_flops(&body, arguments.seq as f64 * (1.0 - arguments.padding)) + head);
            (TrainingSteps::masked(&bert, arguments.batch, arguments.padding, options, device), flops)
        }
    };
    let mut loss = f64::NAN;
    let times = time(arguments.steps, || -> Result<(), Failure> {
        loss = steps.step()?;
        Ok(())
    })?;
    // Forward and twice as much backward.
    Ok(Timed { times, tokens, flops: 3.0 * flops, loss: Some(loss), decoded: None })
}

fn attend(arguments: &Arguments, device: &Device) -> Timed {
    let shape = [arguments.batch, arguments.seq, arguments.d_model];
    let steps = AttentionSteps::new(shape, arguments.n_head, arguments.dropout, arguments.precision.into(), device);
    let times = time(arguments.steps, || -> Result<(), Never> {
        steps.step();
        Ok(())
    })
    .unwrap_or_else(|never| match never {});
    let tokens = (arguments.batch * arguments.seq) as f64;
    // Two products forward and five backward, over half of the context on average.
    let flops = 7.0 * tokens * 2.0 * arguments.d_model as f64 * arguments.seq as f64 / 2.0;
    Timed { times, tokens, flops, loss: None, decoded: None }
}

fn matmul(arguments: &Arguments, device: &Device) -> Timed {
    let (rows, width) = (arguments.batch * arguments.seq, arguments.d_model);
    let steps = LinearSteps::new(rows, width, arguments.precision.into(), device);
    let times = time(arguments.steps, || -> Result<(), Never> {
        steps.step();
        Ok(())
    })
    .unwrap_or_else(|never| match never {});
    Timed { times, tokens: rows as f64, flops: 8.0 * rows as f64 * (width * width) as f64, loss: None, decoded: None }
}

/// Operations a second of the best of several large matrix products: on the CPU those of flex, which are the faster.
fn product_ceiling(device: &Device) -> f64 {
    const SIDE: usize = 1024;
    let on_cpu = !matches!(device.as_dispatch(), burn::backend::DispatchDevice::Cube(_));
    let device = if on_cpu { Device::flex() } else { device.clone() };
    let values: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 13) as f32 / 13.0).collect();
    let matrix = Tensor::<2>::from_data(TensorData::new(values, [SIDE, SIDE]), &device);
    let best = (0..8)
        .map(|_| {
            let clock = Instant::now();
            let product = matrix.clone().matmul(matrix.clone());
            let _: f32 = product.slice([0..1, 0..1]).into_scalar();
            clock.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);
    2.0 * (SIDE as f64).powi(3) / best
}
