//! Forms: parses the input into values, and shows it again with the errors beside each field.

//!
//! A form carries everything that it was given, however many rows that is, or is refused. Stored text that a
//! browser's fields can't represent exactly, such as a carriage return, is kept if the field was submitted as shown.

use std::collections::{BTreeMap, HashMap, HashSet};

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;

use crate::http::App;
use crate::http::error::ApiError;
use crate::http::request::RawBody;
use crate::model::{EnvVar, Fault, Faults, limits};

/// How much larger a submitted form may be than its content: a byte may be sent as `%C3`, and there are empty fields.
const ENCODING: usize = 4;
/// Maximum number of fields of a form: twice the maximum number of variables, plus the rest.
const MOST_FIELDS: usize = 2 * 2 * limits::ENV_ITEMS + 2 * limits::LIST_ITEMS;
/// The empty rows that a form without scripts starts with.
const EMPTY_ROWS: usize = 1;

/// The submitted fields of a form, in order.
pub struct Form {
    pairs: Vec<(String, String)>,
}

/// The action of the button that was pressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// The form's own purpose.
    Do,
    /// Only validate the input.
    Check,
    /// Add a row of this kind.
    AddRow(String),
    RemoveRow(String, usize),
}

impl FromRequest<App> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        // The limit applies to the form's content, as for a program that sends the same as JSON.
        let most = app.limits.body_bytes;
        let RawBody(body) = RawBody::read(request, app, most.saturating_mul(ENCODING)).await?;
        // Browsers send line breaks as CR LF.
        let pairs = form_urlencoded::parse(&body)
            .map(|(name, value)| (name.into_owned(), value.replace("\r\n", "\n")))
            .collect::<Vec<_>>();
        if pairs.len() > MOST_FIELDS {
            let message =
                format!("the form has {} fields, at most {MOST_FIELDS} are taken, so nothing was stored", pairs.len());
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        if pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > most {
            let message = format!("the form holds too much: at most {most} bytes are taken, so nothing was stored");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        if pairs.iter().any(|(_, value)| value.contains('\0')) {
            return Err(ApiError::invalid("a form must not hold a NUL character"));
        }
        Ok(Self { pairs })
    }
}

impl Form {
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.pairs.iter().filter(|(given, _)| given == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The last value of a field, as typed.
    pub fn text(&self, name: &str) -> &str {
        self.all(name).last().copied().unwrap_or_default()
    }

    /// The same, trimmed; `None` if nothing was typed.
    pub fn line(&self, name: &str) -> Option<String> {
        Some(self.text(name).trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// The same, but the stored value if the field was submitted as shown.
    pub fn line_or_kept(&self, name: &str, stored: Option<&str>) -> Option<String> {
        match stored.filter(|stored| !stored.is_empty()) {
            Some(stored) if self.text(name) == in_line(stored) => Some(stored.to_owned()),
            _ => self.line(name),
        }
    }

    /// The text of a multi-line field, or the stored value if the field was submitted as shown.
    pub fn area_or_kept(&self, name: &str, stored: Option<&str>) -> String {
        let typed = self.text(name);
        stored.filter(|stored| in_area(stored) == typed).unwrap_or(typed).to_owned()
    }

    pub fn number(&self, name: &str, faults: &mut Faults) -> Option<i64> {
        let text = self.line(name)?;
        let number = text.parse().ok();
        if number.is_none() {
            faults.add(name, format!("must be a whole number, not {text:?}"));
        }
        number
    }

    /// Seconds, optionally in another unit: `90`, `90s`, `15m`, `2h`, `1d`.
    pub fn seconds(&self, name: &str, faults: &mut Faults) -> Option<i64> {
        let text = self.line(name)?;
        let seconds = read_seconds(&text);
        if seconds.is_none() {
            faults.add(name, format!("must be a whole number, alone or with s, m, h or d after it, not {text:?}"));
        }
        seconds
    }

    pub fn act(&self) -> Act {
        let action = self.text("action");
        match action.split_once(':') {
            Some(("add", kind)) => Act::AddRow(kind.to_owned()),
            Some((kind, place)) => match place.parse() {
                Ok(place) => Act::RemoveRow(kind.to_owned(), place),
                Err(_) => Act::Check,
            },
            None if action == "check" => Act::Check,
            None => Act::Do,
        }
    }

    /// These fields, to be shown again.
    pub fn fields(&self, names: &[&'static str]) -> Fields {
        let mut fields = Fields::default();
        for name in names {
            fields.set(name, self.text(name));
        }
        fields
    }
}

/// The plain fields of a form as shown: their values and their errors.
#[derive(Debug, Clone, Default)]
pub struct Fields {
    values: BTreeMap<&'static str, String>,
    faults: Vec<Fault>,
}

impl Fields {
    #[expect(clippy::needless_pass_by_value, reason = "callers give what they have")]
    pub fn set(&mut self, name: &'static str, value: impl ToString) {
        self.values.insert(name, value.to_string());
    }

    pub fn set_some(&mut self, name: &'static str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    pub fn value(&self, name: &str) -> &str {
        self.values.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The errors of a field or of its items, as sentences; empty if there are none.
    pub fn error(&self, name: &str) -> String {
        let is_about = |fault: &&Fault| {
            fault.field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['[', '.']))
        };
        sentences(self.faults.iter().filter(is_about))
    }

    /// The errors of a list as a whole.
    pub fn own_error(&self, name: &str) -> String {
        sentences(self.faults.iter().filter(|fault| fault.field == name))
    }

    pub const fn is_faulty(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Records these faults: those of rows beside their rows, the rest beside the fields.
    pub fn show(&mut self, faults: Faults, env: &mut [EnvRow], tags: &mut [TextRow]) {
        let shown_env: Vec<usize> = (0..env.len()).filter(|i| !env[*i].is_empty()).collect();
        let shown_tags: Vec<usize> = (0..tags.len()).filter(|i| !tags[*i].text.trim().is_empty()).collect();
        for fault in faults {
            let sentence = sentences([&fault].into_iter());
            if let Some(row) = item(&fault.field, "env").and_then(|i| shown_env.get(i)) {
                push_sentence(&mut env[*row].error, &sentence);
            } else if let Some(row) = item(&fault.field, "tags").and_then(|i| shown_tags.get(i)) {
                push_sentence(&mut tags[*row].error, &sentence);
            }
            self.faults.push(fault);
        }
    }
}

/// One variable as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvRow {
    pub name: String,
    pub value: String,
    pub error: String,
    /// The name comes from the definition, and a launch can't remove it.
    pub is_fixed: bool,
    /// The definition's value, if it differs.
    pub differs_from: Option<String>,
}

impl EnvRow {
    const fn is_empty(&self) -> bool {
        self.name.is_empty() && self.value.is_empty()
    }
}

/// One item of a list of words, as typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextRow {
    pub text: String,
    pub error: String,
}

/// Rows for these variables, and an empty one to add another.
pub fn env_rows(env: &[EnvVar]) -> Vec<EnvRow> {
    let rows = env.iter().map(|var| EnvRow { name: var.name.clone(), value: var.value.clone(), ..EnvRow::default() });
    with_empty(rows.collect())
}

pub fn read_env_rows(form: &Form, act: &Act) -> Vec<EnvRow> {
    let (names, values) = (form.all("env_name"), form.all("env_value"));
    let rows = names.into_iter().zip(values);
    let rows =
        rows.map(|(name, value)| EnvRow { name: name.into(), value: value.into(), ..EnvRow::default() }).collect();
    with_act("env", rows, act)
}

pub fn text_rows(texts: &[String]) -> Vec<TextRow> {
    let rows = texts.iter().map(|text| TextRow { text: text.clone(), ..TextRow::default() });
    with_empty(rows.collect())
}

pub fn read_text_rows(form: &Form, name: &str, act: &Act) -> Vec<TextRow> {
    let texts = form.all(name).into_iter();
    with_act(name, texts.map(|text| TextRow { text: text.into(), ..TextRow::default() }).collect(), act)
}

/// The variables of the non-empty rows. A name or value that was submitted as shown is taken unchanged from `known`.
pub fn env_of(rows: &[EnvRow], known: &[EnvVar]) -> Vec<EnvVar> {
    let mut shown: HashMap<String, Vec<&EnvVar>> = HashMap::new();
    for var in known {
        shown.entry(in_line(&var.name)).or_default().push(var);
    }
    let mut read = |row: &EnvRow| {
        let known = shown.get_mut(&row.name).filter(|known| !known.is_empty());
        let Some(known) = known else { return EnvVar::new(row.name.trim(), &row.value) };
        match known.iter().position(|var| in_area(&var.value) == row.value) {
            Some(place) => known.remove(place).clone(),
            None => EnvVar::new(&known.remove(0).name, &row.value),
        }
    };
    rows.iter().filter(|row| !row.is_empty()).map(&mut read).collect()
}

/// A text as a browser's single-line field represents it.
pub fn in_line(text: &str) -> String {
    text.replace(['\r', '\n'], "")
}

/// A text as a browser's multi-line field represents it.
pub fn in_area(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// Faults for names that an earlier row already uses. Only one of them could count, and the user would not know
/// which.
pub fn repeats_in(env: &[EnvVar]) -> Faults {
    let (mut seen, mut faults) = (HashSet::new(), Faults::default());
    for (i, var) in env.iter().enumerate() {
        if !var.name.is_empty() && !seen.insert(&var.name) {
            faults.add(format!("env[{i}].name"), "is given twice");
        }
    }
    faults
}

pub fn texts_of(rows: &[TextRow]) -> Vec<String> {
    rows.iter().map(|row| row.text.trim().to_owned()).filter(|text| !text.is_empty()).collect()
}

fn with_empty<T: Default>(mut rows: Vec<T>) -> Vec<T> {
    rows.extend((0..EMPTY_ROWS).map(|_| T::default()));
    rows
}

/// The rows of one kind after one of their buttons was pressed.
fn with_act<T: Default>(kind: &str, mut rows: Vec<T>, act: &Act) -> Vec<T> {
    match act {
        Act::AddRow(added) if added == kind => rows.push(T::default()),
        Act::RemoveRow(removed, place) if removed == kind && *place < rows.len() => drop(rows.remove(*place)),
        _ => {}
    }
    rows
}

fn read_seconds(text: &str) -> Option<i64> {
    const UNITS: [(char, i64); 4] = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600)];
    let given = UNITS.into_iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)));
    let (number, unit_seconds) = given.unwrap_or((text, 1));
    number.trim_end().parse::<i64>().ok()?.checked_mul(unit_seconds)
}

/// The index in `env[3].name`, for the list `env`.
fn item(field: &str, list: &str) -> Option<usize> {
    field.strip_prefix(list)?.strip_prefix('[')?.split(']').next()?.parse().ok()
}

fn sentences<'a>(faults: impl Iterator<Item = &'a Fault>) -> String {
    faults.fold(String::new(), |mut text, fault| {
        push_sentence(&mut text, &sentence(&fault.message));
        text
    })
}

fn push_sentence(text: &mut String, sentence: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(sentence);
}

/// Turns a message into a sentence: messages begin in lower case and end without a full stop.
pub fn sentence(message: &str) -> String {
    let mut characters = message.chars();
    match characters.next() {
        None => String::new(),
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Form {
        Form { pairs: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect() }
    }

    #[test]
    fn buttons_say_what_they_want() {
        for (action, expected) in [
            ("save", Act::Do),
            ("", Act::Do),
            ("check", Act::Check),
            ("add:env", Act::AddRow("env".into())),
            ("env:2", Act::RemoveRow("env".into(), 2)),
            ("env:x", Act::Check),
        ] {
            assert_eq!(form(&[("action", action)]).act(), expected, "{action}");
        }
    }

    #[test]
    fn a_time_may_be_given_in_the_unit_that_people_think_in() {
        for (text, expected) in [
            ("90", Some(90)),
            (" 90s ", Some(90)),
            ("15m", Some(900)),
            ("2 h", Some(7200)),
            ("1d", Some(86_400)),
            ("-4", Some(-4)),
            ("1.5h", None),
            ("h", None),
            ("2w", None),
            ("1h30m", None),
            ("9223372036854775807d", None),
        ] {
            let mut faults = Faults::default();
            assert_eq!(form(&[("deadline", text)]).seconds("deadline", &mut faults), expected, "{text}");
            assert_eq!(faults.is_empty(), expected.is_some(), "{text}");
        }
        assert_eq!(form(&[("deadline", " ")]).seconds("deadline", &mut Faults::default()), None);
    }

    #[test]
    fn rows_are_added_and_removed_where_the_button_was() {
        let form = form(&[("env_name", "A"), ("env_value", "1"), ("env_name", "B"), ("env_value", " 2\n")]);
        let names = |act: Act| read_env_rows(&form, &act).into_iter().map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names(Act::Do), ["A", "B"]);
        assert_eq!(names(Act::AddRow("env".into())), ["A", "B", ""]);
        assert_eq!(names(Act::AddRow("tags".into())), ["A", "B"]);
        assert_eq!(names(Act::RemoveRow("env".into(), 0)), ["B"]);
        assert_eq!(names(Act::RemoveRow("env".into(), 7)), ["A", "B"]);
        assert_eq!(env_of(&read_env_rows(&form, &Act::Do), &[])[1], EnvVar::new("B", " 2\n"), "a value stays as it is");
    }

    #[test]
    fn what_was_left_as_it_was_shown_is_what_is_stored() {
        let stored = [("A", "1\r\n2\r3"), (" B\n", " "), ("D", "x\r"), ("D", "y"), ("E", "\r")];
        let stored = stored.map(|(name, value)| EnvVar::new(name, value));
        let rows = |rows: &[(&str, &str)]| {
            let row = |(name, value): &(&str, &str)| EnvRow {
                name: (*name).into(),
                value: (*value).into(),
                ..EnvRow::default()
            };
            env_of(&rows.iter().map(row).collect::<Vec<_>>(), &stored)
        };
        let shown = [("A", "1\n2\n3"), (" B", " "), ("D", "x\n"), ("D", "y"), ("E", "\n"), ("", "")];
        assert_eq!(rows(&shown), stored);
        // Changed, moved, removed and new rows.
        assert_eq!(
            rows(&[("F ", "\n"), (" B", "b"), ("D", "y"), ("A", "1\n2")]),
            [("F", "\n"), (" B\n", "b"), ("D", "y"), ("A", "1\n2")].map(|(name, value)| EnvVar::new(name, value))
        );
        let form = form(&[("user", " ada "), ("note", "a b"), ("command", "x\ny\n"), ("new", " n ")]);
        assert_eq!(form.line_or_kept("user", Some(" ada ")).as_deref(), Some(" ada "));
        assert_eq!(form.line_or_kept("note", Some("a\r\n b")).as_deref(), Some("a\r\n b"));
        assert_eq!(form.line_or_kept("new", Some("other")).as_deref(), Some("n"));
        assert_eq!(form.line_or_kept("none", Some("")), None);
        assert_eq!(form.area_or_kept("command", Some("x\r\ny\r")), "x\r\ny\r");
        assert_eq!(form.area_or_kept("command", Some("x\r\nz")), "x\ny\n");
    }

    #[test]
    fn a_fault_is_shown_beside_its_row_though_empty_rows_were_left_out() {
        let mut env = vec![EnvRow::default(), EnvRow { value: "x".into(), ..EnvRow::default() }];
        let mut tags = text_rows(&[]);
        let mut fields = Fields::default();
        let mut faults = Faults::one("env[0].name", "must not be empty");
        faults.add("memory", "must be smaller");
        fields.show(faults, &mut env, &mut tags);
        assert_eq!((env[0].error.as_str(), env[1].error.as_str()), ("", "Must not be empty."));
        assert_eq!((fields.error("memory").as_str(), fields.error("mem").as_str()), ("Must be smaller.", ""));
    }

    #[test]
    fn a_name_that_an_earlier_row_has_is_a_fault_of_the_later_one() {
        let env = ["A", "B", "A", "", "", "A"].map(|name| EnvVar::new(name, "x"));
        assert_eq!(repeats_in(&env).to_string(), "`env[2].name` is given twice; `env[5].name` is given twice");
    }
}
