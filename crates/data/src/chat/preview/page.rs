//! Training rows as a page for a browser.

use std::fmt::Write;

use super::{PreviewConversation, PreviewRow, PreviewRun, PreviewToken, TokenKind};

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1c1e21;--dim:#687076;--line:#d8dce0;--on:#bfe8c6;--end:#ffd89a;--mark:#e8ebee;--special:#8a3ffc}
@media(prefers-color-scheme:dark){:root{--bg:#16181b;--fg:#e6e8ea;--dim:#98a1a8;--line:#3a4046;--on:#1f5130;--end:#6a4a12;--mark:#272b30;--special:#c9a3ff}}
body{background:var(--bg);color:var(--fg);font:15px/1.8 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1rem;margin:2rem 0 .5rem}
section{border:1px solid var(--line);border-radius:6px;margin:.5rem 0;padding:.5rem .8rem}
.place,.legend{color:var(--dim);font-size:.85rem}
.run{white-space:pre-wrap;overflow-wrap:anywhere;font-family:ui-monospace,monospace;font-size:.9rem}
.t{border-radius:3px;box-shadow:inset 0 0 0 1px var(--line);margin:0 1px;padding:1px 0}
.template .t{color:var(--dim);background:var(--mark)}
.trained .t{background:var(--on)}.trained.end_of_turn .t{background:var(--end)}
.t.special{color:var(--special);font-weight:600;box-shadow:inset 0 0 0 1px var(--special)}
.role{color:var(--dim);font-size:.72rem;text-transform:uppercase;letter-spacing:.04em;margin-right:.4em;user-select:none}
i{color:var(--dim);font-style:normal}";

const LEGEND: &str = "\
<p class=\"legend\"><span class=\"run content trained\"><span class=\"t\">trained</span></span> \
<span class=\"run end_of_turn trained\"><span class=\"t\">trained end of a turn</span></span> \
<span class=\"run content\"><span class=\"t\">read, not trained</span></span> \
<span class=\"run template\"><span class=\"t\">written by the template</span></span> \
<span class=\"run\"><span class=\"t special\">special token</span></span> \
· every box is a token; hold the pointer over one for its id and weight; ↵ is a line break, ⇥ a tab, · a space at a \
token's end or beginning</p>";

/// A page that shows rows; it loads nothing else, and nothing in the data becomes part of the page's code.
pub fn page(title: &str, rows: &[PreviewRow]) -> String {
    let title = escaped(title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n{LEGEND}\n"
    );
    for row in rows {
        let tokens: usize = row.conversations.iter().map(tokens).sum();
        let counts = format!("{}, {}", counted(row.conversations.len(), "conversation"), counted(tokens, "token"));
        // Writing to a string cannot fail.
        let _ = writeln!(page, "<h2>Row {}: {counts}</h2>", row.row);
        row.conversations.iter().for_each(|conversation| write_conversation(&mut page, conversation));
    }
    if rows.is_empty() {
        page += "<p>There is no row: nothing of the conversations is trained, or none fits.</p>\n";
    }
    page + "</body>\n</html>\n"
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn tokens(conversation: &PreviewConversation) -> usize {
    conversation.runs.iter().map(|run| run.tokens.len()).sum()
}

fn write_conversation(page: &mut String, conversation: &PreviewConversation) {
    let (file, line) = &conversation.place;
    let place = escaped(&format!("{}:{line}", file.display()));
    let cut = if conversation.cut { ", cut to fit" } else { "" };
    let _ = writeln!(page, "<section>\n<div class=\"place\">{place}{cut}</div>");
    page.push_str("<div>");
    for run in &conversation.runs {
        write_run(page, run);
    }
    page.push_str("</div>\n</section>\n");
}

fn write_run(page: &mut String, run: &PreviewRun) {
    let kind = match run.kind {
        TokenKind::Content => "content",
        TokenKind::EndOfTurn => "end_of_turn",
        TokenKind::Template => "template",
    };
    let trained = if run.weight != 0.0 { " trained" } else { "" };
    let _ = write!(page, "<span class=\"run {kind}{trained}\">");
    if let (Some(role), TokenKind::Content) = (&run.role, run.kind) {
        let _ = write!(page, "<span class=\"role\">{}</span>", escaped(role));
    }
    for token in &run.tokens {
        write_token(page, token, run.weight);
    }
    page.push_str("</span>");
}

fn write_token(page: &mut String, token: &PreviewToken, weight: f32) {
    let special = if token.special { " special" } else { "" };
    // A direction of writing ends with its token.
    let _ = write!(page, "<bdi class=\"t{special}\" title=\"id {}, weight {weight}\">", token.id);
    let last = token.text.chars().count().saturating_sub(1);
    for (place, letter) in token.text.chars().enumerate() {
        match letter {
            '\n' => page.push_str("<i>↵</i>\n"),
            '\t' => page.push_str("<i>⇥</i>\t"),
            ' ' if place == 0 || place == last => page.push_str("<i>·</i>"),
            letter if letter.is_control() || is_unseen(letter) => {
                let _ = write!(page, "<i>U+{:04X}</i>", u32::from(letter));
            }
            letter => page.push_str(&escaped(&letter.to_string())),
        }
    }
    page.push_str("</bdi>");
}

/// Characters that show nothing, or turn what follows around.
fn is_unseen(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TALKS, rows};
    use super::*;

    /// What a browser would show of the body, without the marks of white space.
    fn shown(page: &str) -> String {
        let body = &page[page.find("<h2>").unwrap()..];
        let marks = regex::Regex::new("<i>[^<]*</i>").unwrap();
        let tags = regex::Regex::new("<[^>]*>").unwrap();
        let text = tags.replace_all(&marks.replace_all(body, ""), "").into_owned();
        text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    }

    #[test]
    fn the_page_shows_special_tokens_and_text_and_escapes_both() {
        let page = page("<b>rows</b> & more", &rows("", &TALKS));
        assert!(page.contains("<title>&lt;b&gt;rows&lt;/b&gt; &amp; more</title>"));
        assert!(page.contains("special\" title=\"id ") && page.contains("&lt;|im_end|&gt;</bdi>"));
        assert!(page.contains("f.jsonl:2") && page.contains("Row 0: 2 conversations, "));
        assert!(!page.contains("<b>") && !page.contains("<script") && !page.contains("http"));
        let shown = shown(&page);
        assert!(shown.contains("<|im_start|>user\nuserhello<b><|im_end|>"), "{shown}");
    }

    #[test]
    fn hostile_text_stays_text_and_unseen_characters_are_named() {
        let hostile = "</bdi><script>alert('x')</script>\u{202e}\u{200b}\u{7}";
        let page = page("t", &rows("", &[&[("user", hostile), ("assistant", "\"you\"")]]));
        assert!(!page.contains("<script") && page.contains("&quot;"));
        for open in ["section", "div", "span", "bdi", "i"] {
            let count = |tag: &str| page.matches(tag).count();
            let opened = count(&format!("<{open}>")) + count(&format!("<{open} "));
            assert_eq!(opened, count(&format!("</{open}>")), "{open}");
        }
        assert!(page.contains("U+0007"), "{page}");
        assert!(super::page("t", &[]).contains("There is no row"));
    }
}
