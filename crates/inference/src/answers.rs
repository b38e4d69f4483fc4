//! The answers of a chat model to many conversations at once.

use crate::chat_session::ChatError;
use crate::generator::{Limits, Row, generate};
use crate::sampling::{Sampler, SamplingSettings};
use burn::tensor::Device;
use checkpoint::Pretrained;
use data::chat::{ChatTemplate, Message};

/// The most likely answer to each conversation, whose last message waits for one: `max_new_tokens` long at most, and not
/// longer than the model's context. None where a conversation leaves no room for an answer.
///
/// # Errors
/// A conversation that the template refuses.
pub fn answers(
    opened: &Pretrained,
    template: &ChatTemplate,
    device: &Device,
    conversations: &[Vec<Message>],
    max_new_tokens: usize,
) -> Result<Vec<Option<String>>, ChatError> {
    let tokenizer = &opened.tokenizer;
    let most = opened.config.max_seq_len;
    let greedy = SamplingSettings { temperature: 0.0, ..SamplingSettings::default() };
    let (mut rows, mut fits) = (Vec::new(), Vec::with_capacity(conversations.len()));
    for messages in conversations {
        let prompt = template.prompt(messages, tokenizer)?;
        fits.push(prompt.len() < most);
        if prompt.len() < most {
            rows.push(Row { prompt, sampler: Sampler::new(greedy.clone())? });
        }
    }
    let mut room: Vec<usize> = rows.iter().map(|row| most - row.prompt.len()).collect();
    let limits = Limits { max_new_tokens, vocabulary: tokenizer.vocab_size(), stop: template.stop_tokens(tokenizer) };
    let written = generate(&opened.model, device, &mut rows, limits, |row, _| {
        room[row] -= 1;
        room[row] > 0
    });
    let mut written = written.into_iter();
    let text = |ids: Vec<u32>| Ok(tokenizer.decode_skipping_special(&ids)?.trim().to_owned());
    fits.into_iter().map(|fits| fits.then(|| written.next().map(text)).flatten().transpose()).collect()
}
