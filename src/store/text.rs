//! Texts in a form that both databases store identically. Every text bound to a statement passes through here, and
//! nowhere else.
//!
//! PostgreSQL does not store NUL characters, and SQLite's functions treat one as the end of the text. Requests that
//! contain one are refused earlier; in texts from engines, registries and kernels it is replaced, because a run's end
//! must be stored whatever they say.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

/// How much text from outside is kept: enough for the reason, not for a log within it.
const WORDS_BYTES: usize = crate::model::limits::TEXT_BYTES;
const CUT: &str = "…";

/// A text that both databases store as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn clean(text: String) -> Self {
        match text.contains('\0') {
            true => Self(text.replace('\0', "\u{fffd}")),
            false => Self(text),
        }
    }

    /// The beginning of a text from outside.
    pub(super) fn words(text: &str) -> Self {
        // Takes a little more than is kept, to detect that the text is longer; cleaning makes nothing shorter.
        let Self(text) = Self::clean(text[..text.floor_char_boundary(WORDS_BYTES + 4)].to_owned());
        if text.len() <= WORDS_BYTES {
            return Self(text);
        }
        let kept = &text[..text.floor_char_boundary(WORDS_BYTES - CUT.len())];
        Self(format!("{kept}{CUT}"))
    }

    /// A structure as JSON. A NUL in one of its strings would be escaped in JSON and come back as a NUL, and
    /// PostgreSQL's functions that read JSON refuse it; it is replaced too.
    pub(super) fn json(value: &impl Serialize) -> Self {
        let mut text = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut text, WithoutNul);
        value.serialize(&mut serializer).expect("our own structures have string keys and serialize");
        Self(String::from_utf8(text).expect("JSON is written from texts"))
    }

    /// A text as a column holds it.
    pub(super) const fn stored(text: String) -> Self {
        Self(text)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

struct WithoutNul;

impl Formatter for WithoutNul {
    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::AsciiControl(0) => writer.write_all("\u{fffd}".as_bytes()),
            escape => CompactFormatter.write_char_escape(writer, escape),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_replaced_and_all_else_stays() {
        let text = "a\u{1}\n\t\\u0000 \u{202e}💥";
        assert_eq!(Text::clean(text.to_owned()).as_str(), text);
        assert_eq!(Text::clean("a\0b\0".to_owned()).as_str(), "a\u{fffd}b\u{fffd}");
        assert_eq!(Text::words("a\0b").as_str(), "a\u{fffd}b");
    }

    #[test]
    fn json_is_written_as_ever_but_for_a_nul() {
        let value = serde_json::json!({"a": "\0 \u{1} \\u0000 \" é", "b\0": [1, null, "x\0y"]});
        assert_eq!(
            Text::json(&value).as_str(),
            value.to_string().replace("\\u0000", "\u{fffd}").replace("\\\u{fffd}", "\\\\u0000")
        );
        let back: serde_json::Value = serde_json::from_str(Text::json(&value).as_str()).unwrap();
        assert_eq!(back, serde_json::json!({"a": "\u{fffd} \u{1} \\u0000 \" é", "b\u{fffd}": [1, null, "x\u{fffd}y"]}));
    }

    #[test]
    fn of_what_others_say_the_beginning_is_kept() {
        let long = "é".repeat(WORDS_BYTES);
        let kept = Text::words(&long).into_string();
        assert!(kept.len() <= WORDS_BYTES && kept.len() > WORDS_BYTES - 8 && kept.ends_with("é…"), "{}", kept.len());
        assert_eq!(Text::words(&"x".repeat(WORDS_BYTES)).as_str().len(), WORDS_BYTES);
    }
}
