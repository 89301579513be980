//! Checks shared by several settings. A check converts a value, or returns what the value must be.

use std::ops::RangeInclusive;
use std::path::PathBuf;

/// A whole number within a range, both ends included.
pub fn within<T: TryFrom<i128>>(range: RangeInclusive<i128>) -> impl Fn(i128) -> Result<T, String> {
    move |number| {
        let fitting = Some(number).filter(|number| range.contains(number)).and_then(|number| T::try_from(number).ok());
        fitting.ok_or_else(|| format!("must be between {} and {}, not {number}", range.start(), range.end()))
    }
}

pub fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err(format!("must be a path, not {text:?}"));
    }
    Ok(text.into())
}

pub fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("must be one word, not {text:?}"));
    }
    Ok(text.to_owned())
}

/// A program and its arguments.
pub fn program(words: Vec<String>) -> Result<Vec<String>, String> {
    match words.first() {
        Some(first) if !first.is_empty() && !words.iter().any(|word| word.contains('\0')) => Ok(words),
        _ => Err(format!("must be a program and its arguments, not {words:?}")),
    }
}

/// Turns the check of a value into that of an optional setting.
pub fn optional<T>(check: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| check(text).map(Some)
}

/// The text of a default.
pub fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).into()
}
