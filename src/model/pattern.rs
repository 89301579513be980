//! What the checks of texts accept, as regular expressions for the API's description, so that a client knows before
//! it sends. They correspond to the checks, and tests verify that they agree.
//!
//! They use only syntax that all regular expression dialects share. What they can't express (the number of bytes,
//! Unicode's composed form) is left to the checks.

/// Control and invisible characters, as part of a character class.
macro_rules! unseen {
    () => {
        concat!(
            r"\u0000-\u001f\u007f-\u009f",
            r"\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f",
            r"\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb",
            "\u{1bca0}-\u{1bca3}\u{1d159}\u{1d173}-\u{1d17a}\u{e0000}-\u{e01ef}"
        )
    };
}

/// Any text without a NUL, which neither a process nor a database can carry.
pub const TEXT: &str = r"^[^\u0000]*$";
/// The same, but not blank.
pub const TEXT_WITH_CONTENT: &str = r"^[^\u0000]*[^\s\u0000][^\u0000]*$";
/// One line of visible text without the characters `$but` that neither begins nor ends with white space, and is not
/// empty.
macro_rules! name {
    ($but:literal) => {
        concat!(first!($but), "((", any!($but), ")*", first!($but), ")?")
    };
}

/// A character of such a name: a symbol may be followed by a variation selector, which chooses text or emoji style.
macro_rules! any {
    ($but:literal) => {
        concat!("[^", $but, unseen!(), "]|", symbol!($but))
    };
}

/// A character at either end of such a name.
macro_rules! first {
    ($but:literal) => {
        concat!(r"([^\s", $but, unseen!(), "]|", symbol!($but), ")")
    };
}

macro_rules! symbol {
    ($but:literal) => {
        concat!(r"[^\s\u0000-\u1fff", $but, unseen!(), r"][\ufe0e\ufe0f]")
    };
}

pub const NAME: &str = concat!("^", name!(""), "$");
/// The same, or empty.
pub const LINE: &str = concat!("^(", name!(""), ")?$");
/// A group's name, which becomes part of its definitions' ids.
pub const GROUP: &str = concat!("^", name!("/"), "$");
/// The name of an environment variable.
pub const VARIABLE: &str = concat!("^", name!("="), "$");

/// An image reference: see [`ImageReference`](super::ImageReference).
#[must_use]
pub fn image() -> String {
    const LABEL: &str = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?";
    const PORT: &str = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])";
    const PART: &str = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*";
    // A first part with a dot before a slash is a host, though it may look like part of a path.
    const PLAIN: &str = "[a-z0-9]+((_|__|-+)[a-z0-9]+)*";
    const TAG: &str = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}";
    const DIGEST: &str = "(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})";
    let host = format!(r"({LABEL}(\.{LABEL})*|\[{}\])", ip_v6());
    format!("^({PART}|({host}(:{PORT})?|{PLAIN})(/{PART})+)(:{TAG})?(@{DIGEST})?$")
}

fn ip_v6() -> String {
    const GROUP: &str = "[0-9a-fA-F]{1,4}";
    let whole = format!("({GROUP}:){{7}}{GROUP}");
    // `::` stands for at least one group: `before` groups precede it, and at most the rest follow it.
    let shortened = (0..=7_usize).map(|before| {
        let first = if before == 0 { String::new() } else { format!("{GROUP}(:{GROUP}){{{}}}", before - 1) };
        match 7 - before {
            0 => format!("{first}::"),
            after => format!("{first}::({GROUP}(:{GROUP}){{0,{}}})?", after - 1),
        }
    });
    let all: Vec<_> = std::iter::once(whole).chain(shortened).collect();
    format!("({})", all.join("|"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;
    use regex::Regex;

    use super::super::definition::check_image;
    use super::super::env::check_env;
    use super::super::{EnvVar, Faults};
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Regex::new(pattern).unwrap().is_match(text)
    }

    /// The check's faults, without those that no pattern can express.
    fn faults(check: impl Fn(&mut Faults)) -> Vec<String> {
        let mut faults = Faults::default();
        check(&mut faults);
        let messages = faults.into_iter().map(|fault| fault.message);
        messages.filter(|message| !message.contains("bytes long") && !message.contains("(NFC)")).collect()
    }

    fn any_text() -> impl Strategy<Value = String> {
        // The characters that matter occur often.
        let special = prop::sample::select(vec![
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1f}',
            ' ',
            '/',
            '=',
            '|',
            '\u{7f}',
            '\u{85}',
            '\u{a0}',
            '\u{ad}',
            '\u{115f}',
            '\u{1680}',
            '\u{180b}',
            '\u{fe0f}',
            '\u{3000}',
            '\u{e0100}',
            '\u{200a}',
            '\u{200b}',
            '\u{2028}',
            '\u{202f}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{feff}',
            '\u{fff9}',
            '\u{1d173}',
            '\u{e0041}',
        ]);
        prop::collection::vec(prop_oneof![special, any::<char>(), prop::char::range('a', 'z')], 0..6)
            .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn names_and_lines_match_where_the_checks_accept_them(text in any_text()) {
            let name = faults(|faults| faults.check_name("alias", &text));
            prop_assert_eq!(matches(NAME, &text), name.is_empty(), "{:?}: {:?}", text, name);
            prop_assert_eq!(matches(GROUP, &text), name.is_empty() && !text.contains('/'));
            let line = faults(|faults| faults.check_line("user", &text, 1000));
            prop_assert_eq!(matches(LINE, &text), line.is_empty(), "{:?}: {:?}", text, line);
            let is_text = faults(|faults| faults.check_text("command", &text, 1000)).is_empty();
            prop_assert_eq!(matches(TEXT, &text), is_text);
            prop_assert_eq!(matches(TEXT_WITH_CONTENT, &text), is_text && !text.trim().is_empty(), "{:?}", text);
            let variable = faults(|faults| check_env(faults, &[EnvVar::new(&text, "")]));
            prop_assert_eq!(matches(VARIABLE, &text), variable.is_empty(), "{:?}", variable);
        }

        #[test]
        fn whatever_matches_is_an_image(text in string_regex(&image().replace(['^', '$'], "")).unwrap()) {
            prop_assert_eq!(faults(|faults| check_image(faults, &text)), Vec::<String>::new());
        }

        #[test]
        fn no_other_text_is_an_image(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,12}") {
            let told = faults(|faults| check_image(faults, &text));
            prop_assert_eq!(matches(&image(), &text), told.is_empty(), "{}: {:?}", text, told);
        }
    }

    #[test]
    fn every_form_of_an_image_matches() {
        let hex = "0123456789abcdef".repeat(4);
        for text in [
            "busybox",
            "a.b_c",
            "a_b/c.d_e",
            "team/busybox:1.36-musl_2",
            "localhost:5000/a/b",
            "Registry.Example.com/a__b/c.d/e--f:2",
            "[::1]:5000/a",
            "[2001:db8::1]/a",
            "[1:2:3:4:5:6:7:8]/a",
            "[1:2:3:4:5:6:7::]/a",
            "[::]/a",
            "h:65535/a",
            &format!("sha256:{hex}"),
            &format!("h:1/a/b:tag@sha256:{hex}"),
            &format!("a@sha512:{hex}{hex}"),
        ] {
            assert!(matches(&image(), text), "{text}");
        }
    }
}
