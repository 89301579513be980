//! Faults in a request. All faults of one request are collected and returned together.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use super::limits;

/// One fault, naming the field as the client spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub field: String,
    pub message: String,
}

/// Most faults reported at once: a request may have as many as it has items, and people don't fix more in one go.
const MOST_FAULTS: usize = 100;

/// The faults found so far in a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        if self.0.len() < MOST_FAULTS {
            self.0.push(Fault { field: field.into(), message: message.into() });
        }
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
        self.0.truncate(MOST_FAULTS);
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `Ok` with the value if there are no faults.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }

    #[must_use]
    pub fn one(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut faults = Self::default();
        faults.add(field, message);
        faults
    }

    /// A number that must be between 0 and `most`.
    pub(super) fn check_amount(&mut self, field: &str, value: Option<i64>, most: i64) {
        if let Some(value) = value
            && !(0..=most).contains(&value)
        {
            self.add(field, format!("must be between 0 and {most}, not {value}"));
        }
    }

    /// A name used in lists and indexes: not empty, no control characters, not too long.
    pub(super) fn check_name(&mut self, field: &str, value: &str) {
        if value.trim().is_empty() {
            self.add(field, "must not be empty");
        } else {
            self.check_line(field, value, limits::NAME_BYTES);
        }
    }

    /// One line of text without deceptive characters, of at most `most` bytes: no control characters, none that are
    /// invisible or change the direction, no spaces except the usual one and none at either end, and letters only in
    /// composed form. Otherwise two names could look the same and be different.
    pub(super) fn check_line(&mut self, field: &str, value: &str, most: usize) {
        if value.chars().any(char::is_control) {
            self.add(field, format!("must not hold control characters: {}", excerpt(value)));
        } else if value.trim() != value {
            self.add(field, format!("must not begin or end with white space: {}", excerpt(value)));
        } else if let Some(invisible) = find_invisible(value) {
            let code = u32::from(invisible);
            self.add(field, format!("must not hold invisible characters, such as U+{code:04X}: {}", excerpt(value)));
        } else if !unicode_normalization::is_nfc(value) {
            let composed: String = value.nfc().collect();
            self.add(field, format!("must be in Unicode's composed form (NFC), which is {}", excerpt(&composed)));
        }
        self.check_length(field, value, most);
    }

    pub(super) fn check_length(&mut self, field: &str, value: &str, most: usize) {
        if value.len() > most {
            self.add(field, format!("is {} bytes long, at most {most} are allowed", value.len()));
        }
    }

    /// Text that may span lines and that every engine and database can store: no NUL.
    pub(super) fn check_text(&mut self, field: &str, value: &str, most: usize) {
        if value.contains('\0') {
            self.add(field, "must not hold a NUL character");
        }
        self.check_length(field, value, most);
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Fault { field, message }) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}`{field}` {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// The first invisible character. A variation selector (text or emoji style) belongs to a symbol before it, and is
/// invisible after a letter.
fn find_invisible(value: &str) -> Option<char> {
    let mut before = '\0';
    value.chars().find(|&c| {
        let takes_style = before >= FIRST_SYMBOL && !is_style(before);
        before = c;
        is_invisible(c) || is_style(c) && !takes_style
    })
}

/// Symbols with both a text and an emoji style begin here, except for a few that are legible without.
const FIRST_SYMBOL: char = '\u{2000}';

/// Whether the character is a variation selector, which chooses between text and emoji style.
const fn is_style(c: char) -> bool {
    matches!(c, '\u{fe0e}' | '\u{fe0f}')
}

/// Whether a character has no width, changes the direction of others, is a space that looks like the usual one, or is
/// a blank letter.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{a0}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{1680}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}'
        | '\u{2800}' | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0d}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d159}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e01ef}')
}

/// The start of a value, quoted, short enough for an error text.
pub fn excerpt(value: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    let mut shown: String = value.chars().take(SHOWN_CHARS).collect();
    if shown.len() < value.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_told_in_one_line() {
        let mut faults = Faults::default();
        faults.check_amount("memory", Some(-1), limits::MEGABYTES);
        faults.check_name("alias", " ");
        assert_eq!(faults.to_string(), "`memory` must be between 0 and 1073741824, not -1; `alias` must not be empty");
    }

    #[test]
    fn control_characters_are_shown_escaped() {
        let mut faults = Faults::default();
        faults.check_name("alias", "a\u{7}b");
        assert_eq!(faults.to_string(), "`alias` must not hold control characters: \"a\\u{7}b\"");
    }

    #[test]
    fn names_are_what_they_look_like() {
        for (name, expected) in [
            ("caf\u{e9}", ""),
            ("日本語 – ok", ""),
            ("cafe\u{301}", "`alias` must be in Unicode's composed form (NFC), which is \"café\""),
            ("a\u{202e}b", "`alias` must not hold invisible characters, such as U+202E: \"a\\u{202e}b\""),
            ("a\u{200b}b", "`alias` must not hold invisible characters, such as U+200B: \"a\\u{200b}b\""),
            ("\u{3164}", "`alias` must not hold invisible characters, such as U+3164: \"\u{3164}\""),
            ("a \u{2800}", "`alias` must not hold invisible characters, such as U+2800: \"a \u{2800}\""),
            ("\u{2764}\u{fe0f}", ""),
            ("\u{feff}a", "`alias` must not hold invisible characters, such as U+FEFF: \"\\u{feff}a\""),
        ] {
            let mut faults = Faults::default();
            faults.check_name("alias", name);
            assert_eq!(faults.to_string(), expected, "{name:?}");
        }
    }

    #[test]
    fn of_very_many_faults_the_first_are_told() {
        let mut faults = Faults::default();
        for number in 0..100_000 {
            faults.add(format!("tags[{number}]"), "must not be empty");
        }
        let mut all = Faults::one("alias", "must not be empty");
        all.extend(faults);
        assert_eq!(all.iter().count(), MOST_FAULTS);
        assert!(all.to_string().ends_with("`tags[98]` must not be empty"), "{all}");
    }
}
