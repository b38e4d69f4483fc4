//! Where a template puts messages, found with stand-ins for their contents.

use std::ops::Range;

use super::{ChatTemplate, Message};

/// Characters of Unicode's private planes, between which a stand-in has its message's place.
const OPEN: char = '\u{f0a30}';
const CLOSE: char = '\u{f0a31}';

/// White space that stands for the white space before and behind a message: trimmed where that is trimmed, and told from
/// the template's own.
const BEFORE: char = '\u{2002}';
const BEHIND: char = '\u{2003}';

/// Where messages lie in a text.
#[derive(Debug, PartialEq)]
pub(super) enum Placed {
    /// The messages that the template wrote, in the order of the text, with the bytes of their contents.
    Exactly(Vec<(usize, Range<usize>)>),
    /// In more than one way, which no rendering tells apart.
    Ambiguously,
    /// The text is not made of the messages.
    Nowhere,
}

/// Where the messages lie in `text`, which is what the template makes of them.
pub(super) fn locate(template: &ChatTemplate, messages: &[Message], text: &str) -> Placed {
    // A template may write a message without text in a way of its own, which a stand-in would hide.
    let all = |_: &Message| true;
    let filled = |message: &Message| !message.content.trim().is_empty();
    let filled_or_answer = |message: &Message| filled(message) || message.role == "assistant";
    let mut chosen: Vec<&dyn Fn(&Message) -> bool> = vec![&all];
    if !messages.iter().all(filled) {
        chosen.extend([&filled_or_answer as &dyn Fn(&Message) -> bool, &filled]);
    }
    for stands_in in &chosen {
        if let Some(found) = marked(template, messages, text, *stands_in) {
            return Placed::Exactly(found);
        }
    }
    let searched = chosen.iter().map(|stands_in| searched(template, messages, text, *stands_in));
    searched.into_iter().find(|placed| *placed != Placed::Nowhere).unwrap_or(Placed::Nowhere)
}

/// What a template makes of stand-ins.
struct Rendered {
    /// The messages, in the order in which they are written.
    order: Vec<usize>,
    /// The texts around them: one more than messages.
    between: Vec<String>,
}

/// The template's text with stand-ins for the messages that `stand_in` gives one.
fn rendered(
    template: &ChatTemplate,
    messages: &[Message],
    stand_in: impl Fn(usize, &Message) -> Option<String>,
) -> Option<Rendered> {
    let replaced = messages.iter().enumerate().map(|(place, message)| Message {
        content: stand_in(place, message).unwrap_or_else(|| message.content.clone()),
        ..message.clone()
    });
    let text = template.render(&replaced.collect::<Vec<_>>(), false).ok()?;
    let mut parts = text.split(OPEN);
    let mut between = vec![parts.next()?.to_owned()];
    let mut order = Vec::new();
    let mut written = vec![false; messages.len()];
    for part in parts {
        let (place, behind) = part.split_once(CLOSE)?;
        let place: usize = place.parse().ok()?;
        // Once each: a message that is written twice has no one place.
        if std::mem::replace(written.get_mut(place)?, true) {
            return None;
        }
        order.push(place);
        between.push(behind.to_owned());
    }
    Some(Rendered { order, between })
}

/// By stand-ins whose own white space shows what the template trims.
fn marked(
    template: &ChatTemplate,
    messages: &[Message],
    text: &str,
    stands_in: &dyn Fn(&Message) -> bool,
) -> Option<Vec<(usize, Range<usize>)>> {
    let stand_in = |place: usize, message: &Message| {
        let [before, _, behind] = parts(&message.content);
        let mark = |blank: &str, mark: char| if blank.is_empty() { String::new() } else { mark.to_string() };
        let whole = format!("{}{OPEN}{place}{CLOSE}{}", mark(before, BEFORE), mark(behind, BEHIND));
        stands_in(message).then_some(whole)
    };
    let Rendered { order, mut between } = rendered(template, messages, stand_in)?;
    let mut found = Vec::with_capacity(order.len());
    let mut at = 0;
    for (index, place) in order.into_iter().enumerate() {
        let [before, core, behind] = parts(&messages[place].content);
        let mut expected = String::new();
        if !before.is_empty() && between[index].ends_with(BEFORE) {
            between[index].pop();
            expected += before;
        }
        expected += core;
        if !behind.is_empty() && between[index + 1].starts_with(BEHIND) {
            between[index + 1].remove(0);
            expected += behind;
        }
        at = follows(text, at, &between[index])?;
        let end = follows(text, at, &expected)?;
        found.push((place, at..end));
        at = end;
    }
    let end = follows(text, at, between.last()?)?;
    (end == text.len()).then_some(found)
}

/// Where `part` ends in `text`, if it stands at `at`.
fn follows(text: &str, at: usize, part: &str) -> Option<usize> {
    text[at..].starts_with(part).then_some(at + part.len())
}

/// A content's white space before its text, its text, and the white space behind it.
fn parts(content: &str) -> [&str; 3] {
    let (before, rest) = content.split_at(content.len() - content.trim_start().len());
    let (core, behind) = rest.split_at(rest.trim_end().len());
    [before, core, behind]
}

/// A way to read the text up to the end of a message.
struct Reading {
    /// Where the text behind the message goes on.
    at: usize,
    content: Range<usize>,
    /// The reading of the messages before it.
    before: usize,
    /// Whether there is another way to come to this place.
    ambiguous: bool,
}

/// By trying which forms of the messages give the text: for templates that trim only some white space.
fn searched(template: &ChatTemplate, messages: &[Message], text: &str, stands_in: &dyn Fn(&Message) -> bool) -> Placed {
    let stand_in = |place: usize, message: &Message| stands_in(message).then(|| format!("{OPEN}{place}{CLOSE}"));
    let Some(Rendered { order, between }) = rendered(template, messages, stand_in) else { return Placed::Nowhere };
    let Some(start) = follows(text, 0, &between[0]) else { return Placed::Nowhere };
    let begin = Reading { at: start, content: 0..0, before: 0, ambiguous: false };
    // The ways to read the text up to each message.
    let mut readings = vec![vec![begin]];
    for (place, behind) in order.iter().zip(&between[1..]) {
        let content = messages[*place].content.as_str();
        let forms = [content, content.trim(), content.trim_end(), content.trim_start()];
        let mut next: Vec<Reading> = Vec::new();
        for (before, reading) in readings.last().into_iter().flatten().enumerate() {
            for (index, form) in forms.iter().enumerate() {
                if forms[..index].contains(form) {
                    continue;
                }
                let Some(end) = follows(text, reading.at, form) else { continue };
                let Some(at) = follows(text, end, behind) else { continue };
                match next.iter_mut().find(|other| other.at == at) {
                    Some(other) => other.ambiguous = true,
                    None => {
                        let content = reading.at..end;
                        next.push(Reading { at, content, before, ambiguous: reading.ambiguous });
                    }
                }
            }
        }
        readings.push(next);
    }
    let last = readings.last().into_iter().flatten();
    let Some(mut reading) = last.into_iter().position(|reading| reading.at == text.len()) else {
        return Placed::Nowhere;
    };
    if readings.last().is_some_and(|last| last[reading].ambiguous) {
        return Placed::Ambiguously;
    }
    let mut found = Vec::with_capacity(order.len());
    for (place, of_message) in order.iter().zip(&readings[1..]).rev() {
        found.push((*place, of_message[reading].content.clone()));
        reading = of_message[reading].before;
    }
    found.reverse();
    Placed::Exactly(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(source: &str, turns: &[(&str, &str)]) -> Result<Vec<String>, Placed> {
        let message =
            |(role, content): &(&str, &str)| Message { role: (*role).into(), content: (*content).into(), weight: None };
        let messages: Vec<Message> = turns.iter().map(message).collect();
        let template = ChatTemplate::new(source, "", "").unwrap();
        let text = template.render(&messages, false).unwrap();
        match locate(&template, &messages, &text) {
            Placed::Exactly(found) => {
                Ok(found.into_iter().map(|(place, range)| format!("{place}{}", &text[range])).collect())
            }
            other => Err(other),
        }
    }

    const MIXED: &str = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content.strip() + '\n' }}{% else %}{{ m.content + '\n' }}{% endif %}{% endfor %}";

    #[test]
    fn what_is_trimmed_is_seen_even_where_the_text_could_be_read_in_two_ways() {
        // Without the stand-ins' own white space the line break could be the end of the question.
        let found = placed(MIXED, &[("user", "a\n"), ("assistant", "\nb"), ("user", " \n c \n"), ("assistant", " d ")]);
        assert_eq!(found, Ok(["0a", "1\nb", "2c", "3 d "].map(String::from).to_vec()));
    }

    #[test]
    fn a_template_that_trims_some_white_space_only_is_read_where_there_is_one_way() {
        let source = "{% for m in messages %}{{ m.content.strip('\n') + '|' }}{% endfor %}";
        assert_eq!(placed(source, &[("user", "\n\na\n"), ("user", " b")]), Ok(vec!["0a".into(), "1 b".into()]));
        let source = "{% for m in messages %}{{ '\n' + m.content.strip('\n') + '\n' }}{% endfor %}";
        assert_eq!(placed(source, &[("user", "a\n"), ("user", "b")]), Ok(vec!["0a".into(), "1b".into()]));
        // Whether the first lost its line break or the second kept its own is not to be told.
        let source = "{% for m in messages %}{% if loop.first %}{{ m.content.strip('\n') }}{% else %}{{ '\n' + m.content.rstrip('\n') + '.' }}{% endif %}{% endfor %}";
        let turns = [("user", "a\n"), ("user", "\nb\n")];
        assert_eq!(placed(source, &turns), Err(Placed::Ambiguously));
    }

    #[test]
    fn messages_without_text_lie_where_they_are_written_or_nowhere() {
        let source = "{% for m in messages %}[{{ m.content }}]{% endfor %}";
        assert_eq!(placed(source, &[("user", ""), ("user", " ")]), Ok(vec!["0".into(), "1 ".into()]));
        let source = "{% for m in messages %}{% if m.content %}[{{ m.content }}]{% else %}-{% endif %}{% endfor %}";
        assert_eq!(placed(source, &[("user", ""), ("user", "a")]), Ok(vec!["1a".into()]));
        assert_eq!(placed("{{ messages[0].content * 2 }}", &[("user", "a")]), Err(Placed::Nowhere));
        assert_eq!(placed("{{ messages[0].content[:3] }}", &[("user", "abcd")]), Err(Placed::Nowhere));
    }
}
