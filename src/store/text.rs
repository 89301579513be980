//! Texts as both databases store them alike. Every text that is bound to a statement passes here, and nowhere else.
//!
//! PostgreSQL stores no NUL character, where SQLite's functions take it for the end. Requests that hold one are refused
//! before; in what engines, registries and kernels say it is replaced, for a run's end must be stored whatever they say.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

/// How much is kept of what somebody else said: enough for the reason, not for a log in it.
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

    /// The beginning of what somebody else said.
    pub(super) fn words(text: &str) -> Self {
        // A little more than is kept, so that it is seen to be longer; cleaning makes nothing shorter.
        let Self(text) = Self::clean(text[..text.floor_char_boundary(WORDS_BYTES + 4)].to_owned());
        if text.len() <= WORDS_BYTES {
            return Self(text);
        }
        let kept = &text[..text.floor_char_boundary(WORDS_BYTES - CUT.len())];
        Self(format!("{kept}{CUT}"))
    }

    /// A structure as JSON. A NUL in one of its strings is escaped there, so that it comes back as one, and functions of
    /// PostgreSQL's that read JSON refuse it; it is replaced as well.
    pub(super) fn json(value: &impl Serialize) -> Self {
        let mut text = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut text, WithoutNul);
        value.serialize(&mut serializer).expect("our own structures have string keys and serialize");
        Self(String::from_utf8(text).expect("JSON is written from texts"))
    }

    /// What a column holds.
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
