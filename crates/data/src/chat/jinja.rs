//! Jinja as `transformers` sets it up for chat templates: its functions, its `tojson`, and bounds on what a template may
//! cost.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind};
use serde_json::Value as Json;

/// Steps a template may take, beside one for each byte that it is given: many times what any needs. A step is an
/// operation, or 64 bytes of text, so that this bounds the time as well as the memory.
const STEPS: u64 = 2_000_000;

/// What a template that is given so many bytes runs in. Templates reach no file and no other template.
///
/// # Errors
/// A program that is no Jinja, in its own words.
pub(super) fn environment(program: &str, given: usize) -> Result<Environment<'_>, String> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(STEPS + given as u64));
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.map_err(|error| told(&error))?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| strftime(*STARTED, &format));
    environment.add_filter("tojson", to_json);
    environment.add_template("chat", program).map_err(|error| told(&error))?;
    Ok(environment)
}

/// Runs the program of an environment.
///
/// # Errors
/// What the template refuses, in its own words; one that does not come to an end.
pub(super) fn run(environment: &Environment<'_>, context: Value) -> Result<String, String> {
    let program = environment.get_template("chat").map_err(|error| told(&error))?;
    program.render(context).map_err(|error| told(&error))
}

/// What Jinja says is wrong.
fn told(error: &Error) -> String {
    if error.kind() == ErrorKind::OutOfFuel {
        return format!("the template does not come to an end within {STEPS} steps");
    }
    let line = error.line().map_or(String::new(), |line| format!(" (line {line} of the template)"));
    format!("{}{line}", error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
}

/// The second the program began, counted from 1970: the same for every text, so that no conversation's rendering changes
/// while it is looked at.
static STARTED: LazyLock<u64> =
    LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A time, in seconds from 1970, as Python's `strftime` writes it in the C locale; UTC.
fn strftime(time: u64, format: &str) -> Result<String, Error> {
    let (days, second) = (time / 86400, time % 86400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let hour_of_12 = (hour + 11) % 12 + 1;
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[(days as usize + 4) % 7]);
    let mut text = String::new();
    let mut rest = format.chars();
    while let Some(letter) = rest.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        let mut code = rest.next();
        // C's `-` leaves out what would fill up.
        let bare = code == Some('-');
        if bare {
            code = rest.next();
        }
        let two = |number: u64| if bare { number.to_string() } else { format!("{number:02}") };
        text += &match code {
            Some('Y') => year.to_string(),
            Some('y') => two(year % 100),
            Some('m') => two(month),
            Some('d') => two(day),
            Some('e') => {
                if bare {
                    day.to_string()
                } else {
                    format!("{day:2}")
                }
            }
            Some('H') => two(hour),
            Some('I') => two(hour_of_12),
            Some('M') => two(minute),
            Some('S') => two(second),
            Some('j') => {
                let of_year = days - days_before(year) + 1;
                if bare { of_year.to_string() } else { format!("{of_year:03}") }
            }
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('B') => month_name.into(),
            Some('b' | 'h') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('D') => format!("{month:02}/{day:02}/{:02}", year % 100),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('R') => format!("{hour:02}:{minute:02}"),
            Some('%') => "%".into(),
            Some(other) => return Err(bad_date(format!("strftime_now does not know `%{other}`"))),
            None => return Err(bad_date("strftime_now: the format ends in `%`".into())),
        };
    }
    Ok(text)
}

fn bad_date(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Days from 1970 to the first day of a year.
fn days_before(year: u64) -> u64 {
    (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum()
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The year, month and day that so many days after 1970 began.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let mut year = 1970;
    while days >= if leap(year) { 366 } else { 365 } {
        days -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// How `tojson` writes.
struct Style {
    ensure_ascii: bool,
    indent: Option<usize>,
    between: String,
    colon: String,
    sort_keys: bool,
}

/// `tojson` as `transformers` has it: Python's `json.dumps`, by default without escaping what is not ASCII.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let [between, colon] = match separators {
        None => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
        Some(pair) => <[String; 2]>::try_from(pair)
            .map_err(|_| Error::new(ErrorKind::InvalidOperation, "tojson: `separators` are two texts"))?,
    };
    let style = Style {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        indent,
        between,
        colon,
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    style.write(&value, 0)
}

impl Style {
    fn write(&self, value: &Value, depth: usize) -> Result<String, Error> {
        let (parts, ends) = match value.kind() {
            ValueKind::None => return Ok("null".into()),
            ValueKind::Bool => return Ok(value.is_true().to_string()),
            ValueKind::Number => return Ok(value.to_string()),
            ValueKind::String => return Ok(self.string(value.as_str().unwrap_or_default())),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                let field = |key: &Value| -> Result<String, Error> {
                    let name = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                    let written = self.write(&value.get_item(key)?, depth + 1)?;
                    Ok(format!("{}{}{written}", self.string(&name), self.colon))
                };
                (keys.iter().map(field).collect::<Result<Vec<String>, Error>>()?, ["{", "}"])
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.map(|item| self.write(&item, depth + 1));
                (items.collect::<Result<_, _>>()?, ["[", "]"])
            }
            kind => {
                let message = format!("tojson: a value of kind {kind} is no JSON");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        };
        let [open, close] = ends;
        Ok(match self.indent.filter(|_| !parts.is_empty()) {
            None => format!("{open}{}{close}", parts.join(&self.between)),
            Some(width) => {
                let [inner, outer] = [depth + 1, depth].map(|depth| " ".repeat(width.min(64) * depth));
                format!("{open}\n{inner}{}\n{outer}{close}", parts.join(&format!("{}\n{inner}", self.between)))
            }
        })
    }

    fn string(&self, text: &str) -> String {
        let quoted = Json::from(text).to_string();
        if !self.ensure_ascii {
            return quoted;
        }
        let mut units = [0; 2];
        let escaped = |letter: char| match letter.is_ascii() {
            true => letter.to_string(),
            false => letter.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        };
        quoted.chars().map(escaped).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(program: &str) -> Result<String, String> {
        run(&environment(program, 0)?, minijinja::context! {})
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        for (program, expected) in [
            ("{{ {'b': [1, 'é\\n'], 'a': none} | tojson }}", "{\"b\": [1, \"é\\n\"], \"a\": null}"),
            ("{{ {'b': 1, 'a': true} | tojson(sort_keys=true) }}", "{\"a\": true, \"b\": 1}"),
            ("{{ ['é😀'] | tojson(ensure_ascii=true) }}", "[\"\\u00e9\\ud83d\\ude00\"]"),
            ("{{ [1, 2.0] | tojson(separators=(',', ':')) }}", "[1,2.0]"),
            ("{{ {'a': [1, 2], 'b': {}} | tojson(indent=2) }}", "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"b\": {}\n}"),
        ] {
            assert_eq!(rendered(program).as_deref(), Ok(expected), "{program}");
        }
        assert!(rendered("{{ missing | tojson }}").unwrap_err().contains("tojson"));
        assert!(rendered("{{ [1] | tojson(separators=',') }}").is_err());
    }

    #[test]
    fn dates_are_written_as_python_writes_them() {
        // 29 February 2024, 15:04:05, a Thursday; and the first second of 1970.
        let leap_day = 1_709_219_045;
        for (format, expected) in [
            ("%d %b %Y", "29 Feb 2024"),
            ("%A, %B %-d, %Y at %I:%M %p", "Thursday, February 29, 2024 at 03:04 PM"),
            ("%F %T %j %a %y%%", "2024-02-29 15:04:05 060 Thu 24%"),
        ] {
            assert_eq!(strftime(leap_day, format).unwrap(), expected);
        }
        assert_eq!(strftime(0, "%a %e %b %Y %H:%M").unwrap(), "Thu  1 Jan 1970 00:00");
        assert_eq!(strftime(951_782_400 + 86400, "%F").unwrap(), "2000-03-01");
        assert!(strftime(0, "%Q").unwrap_err().to_string().contains("%Q") && strftime(0, "a%").is_err());
        assert_eq!(rendered("{{ strftime_now('%Y') | length }}").unwrap(), "4");
    }

    #[test]
    fn what_a_template_costs_is_bounded() {
        let endless = "{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}";
        assert!(rendered(endless).unwrap_err().contains("does not come to an end"));
        let growing = "{% set n = namespace(s='x') %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}";
        assert!(rendered(growing).unwrap_err().contains("does not come to an end"));
        assert!(rendered("{% for a in range(900) %}{{ 'x' * 1000000 }}{% endfor %}").is_err());
        let deep = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
        assert!(rendered(deep).unwrap_err().contains("recursion"), "{:?}", rendered(deep));
        assert!(rendered("{% include '/etc/passwd' %}").is_err());
    }
}
