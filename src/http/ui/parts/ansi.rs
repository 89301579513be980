//! Terminal output as markup: colours and styles become spans with stylesheet classes; other terminal commands are
//! applied within the line where that makes sense, and dropped otherwise. Every character is escaped, so that no
//! output can become markup.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::service::{Piece, Pieces, Style, WEIGHTS};

/// One line, as markup generated here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Painted(String);

impl fmt::Display for Painted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Painted {}

/// The style bit for inverse colours.
const INVERSE: u8 = 1 << 4;

/// Renders a line that begins in this style. Invalid UTF-8 is shown as U+FFFD.
pub fn paint(line: &[u8], mut style: Style) -> Painted {
    let mut row = Row::default();
    for piece in Pieces::new(line) {
        match piece {
            Piece::Text(range) => row.write(&String::from_utf8_lossy(&line[range]), style),
            Piece::Command(range) => {
                let command = &line[range];
                style.obey(command);
                row.obey(command);
            }
        }
    }
    Painted(row.markup())
}

/// Shows invisible control characters by their Unicode control pictures.
fn visible(character: char) -> char {
    match character {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + character as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        _ => character,
    }
}

/// A line as a terminal stores it: each character overwrites the cell at the cursor.
#[derive(Debug, Default)]
struct Row {
    cells: Vec<(char, Style)>,
    column: usize,
}

impl Row {
    fn write(&mut self, text: &str, style: Style) {
        for character in text.chars() {
            match character {
                '\r' => self.column = 0,
                '\u{8}' => self.column = self.column.saturating_sub(1),
                '\u{7}' => {}
                '\t' => self.put(character, style),
                _ => self.put(visible(character), style),
            }
        }
    }

    /// Applies a command that moves the cursor or erases.
    fn obey(&mut self, command: &[u8]) {
        let [b'[', number @ .., last] = command else { return };
        let first = || std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
        match last {
            b'K' => self.erase(first()),
            b'G' => self.column = first().saturating_sub(1).min(self.cells.len()),
            b'C' => self.column = self.column.saturating_add(first().max(1)).min(self.cells.len()),
            b'D' => self.column = self.column.saturating_sub(first().max(1)),
            _ => {}
        }
    }

    fn put(&mut self, character: char, style: Style) {
        match self.cells.get_mut(self.column) {
            Some(cell) => *cell = (character, style),
            None => self.cells.push((character, style)),
        }
        self.column += 1;
    }

    /// Erases to the end (0), from the start (1), or everything.
    fn erase(&mut self, which: usize) {
        match which {
            0 => self.cells.truncate(self.column),
            1 => {
                let until = self.cells.len().min(self.column + 1);
                self.cells[..until].fill((' ', Style::default()));
            }
            // A terminal would keep the cursor's column; here it returns to the start, so that nothing is written far
            // from it.
            _ => (self.cells, self.column) = (Vec::new(), 0),
        }
    }

    fn markup(&self) -> String {
        let mut markup = String::with_capacity(self.cells.len() + 16);
        for run in self.cells.chunk_by(|(_, one), (_, other)| one == other) {
            let style = run[0].1;
            let is_plain = style == Style::default();
            if !is_plain {
                markup.push_str("<span class=\"");
                classes(style, &mut markup);
                markup.push_str("\">");
            }
            for (character, _) in run {
                match character {
                    '&' => markup.push_str("&amp;"),
                    '<' => markup.push_str("&lt;"),
                    '>' => markup.push_str("&gt;"),
                    '"' => markup.push_str("&quot;"),
                    '\'' => markup.push_str("&#39;"),
                    other => markup.push(*other),
                }
            }
            if !is_plain {
                markup.push_str("</span>");
            }
        }
        markup
    }
}

/// The stylesheet classes for a style.
fn classes(style: Style, markup: &mut String) {
    let Style { mut text, mut back, mut weights } = style;
    // Explicit colours are swapped; only without any does the class swap the default text and background colours.
    if weights & INVERSE != 0 && (text, back) != (None, None) {
        (text, back) = (back, text);
        weights &= !INVERSE;
    }
    let mut classes: Vec<String> = Vec::new();
    classes.extend(text.map(|colour| format!("f{colour}")));
    classes.extend(back.map(|colour| format!("b{colour}")));
    let weights = WEIGHTS.iter().enumerate().filter(|(at, _)| weights & (1 << at) != 0);
    classes.extend(weights.map(|(_, (class, _))| (*class).to_owned()));
    markup.push_str(&classes.join(" "));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paint(line: &str) -> String {
        super::paint(line.as_bytes(), Style::default()).0
    }

    #[test]
    fn colours_and_styles_become_classes() {
        for (line, expected) in [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m.", "<span class=\"f1\">red</span>."),
            ("\x1b[1;4;92;44mx\x1b[mx", "<span class=\"f10 b4 bold underline\">x</span>x"),
            ("\x1b[1mb\x1b[22mn", "<span class=\"bold\">b</span>n"),
            ("\x1b[2;3;9mx\x1b[23;29my", "<span class=\"dim italic strike\">x</span><span class=\"dim\">y</span>"),
            ("\x1b[7mx\x1b[27my", "<span class=\"inverse\">x</span>y"),
            ("\x1b[7;31mx", "<span class=\"b1\">x</span>"),
            ("\x1b[38;5;9mx\x1b[39my", "<span class=\"f9\">x</span>y"),
            ("\x1b[38;5;196mx", "<span class=\"f9\">x</span>"),
            ("\x1b[48;5;240mx", "<span class=\"b8\">x</span>"),
            ("\x1b[38;2;0;128;0mx", "<span class=\"f2\">x</span>"),
            ("\x1b[38:2::0:0:255mx", "<span class=\"f12\">x</span>"),
            ("\x1b[38:5:3mx", "<span class=\"f3\">x</span>"),
            ("\x1b[38;5;999mx\x1b[38mx\x1b[99999;m", "xx"),
        ] {
            assert_eq!(paint(line), expected, "{line:?}");
        }
    }

    #[test]
    fn what_a_terminal_would_write_over_is_written_over() {
        for (line, expected) in [
            ("10%\r20%\r100%", "100%"),
            ("a long line\rshort", "shortg line"),
            ("a long line\r\x1b[Kshort", "short"),
            ("windows\r", "windows"),
            ("|\x08/\x08-", "-"),
            ("\x08\x08x", "x"),
            ("spin\x1b[2K\x1b[1Gdone", "done"),
            ("abc\x1b[2Dx", "axc"),
            ("abc\r\x1b[1Cx", "axc"),
            ("abc\x1b[99999999999999999999Gx", "xbc"),
            ("abc\r\x1b[1Kx", "xbc"),
        ] {
            assert_eq!(paint(line), expected, "{line:?}");
        }
    }

    #[test]
    fn other_commands_are_left_out_and_hide_nothing() {
        for (line, expected) in [
            ("\x1b]0;title\x07text", "text"),
            ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
            ("\x1b]0;no end", "0;no end"),
            ("\x1bPx\x1b\\y", "y"),
            ("\x1b[?25lx\x1b[2Jy\x1b[10;10Hz", "xyz"),
            ("\x1b(Bx\x1b=y", "xy"),
            ("x\x1b", "x"),
            ("x\x1b[", "x"),
            ("x\x1b[31", "x"),
            ("x\x1b[31\u{e9}", "x\u{e9}"),
            ("x\x1b[1\x1b[31my", "x<span class=\"f1\">y</span>"),
            ("a\0b\x7fc\u{85}d\x07", "a\u{2400}b\u{2421}c\u{fffd}d"),
            ("a\tb", "a\tb"),
        ] {
            assert_eq!(paint(line), expected, "{line:?}");
        }
        assert_eq!(super::paint(b"a\xffb", Style::default()).0, "a\u{fffd}b");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(paint("<b a='\"'>&amp;"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;amp;");
        assert_eq!(paint("\x1b[3<1m<\x1b[31m<"), "&lt;<span class=\"f1\">&lt;</span>");
    }

    #[test]
    fn a_line_begins_in_the_colours_of_those_before_it() {
        let green = Style { text: Some(2), ..Style::default() };
        assert_eq!(super::paint(b"still\x1b[0m not", green).0, "<span class=\"f2\">still</span> not");
    }

    /// The stylesheet's tokens from here on; later ones override earlier ones of the same name.
    fn tokens(css: &str) -> std::collections::HashMap<&str, [f64; 3]> {
        let declarations = css.lines().filter_map(|line| line.trim().strip_prefix("--")?.split_once(": #"));
        let part = |hex: &str, at| f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
        declarations.map(|(name, hex)| (name, [part(hex, 0), part(hex, 2), part(hex, 4)])).collect()
    }

    /// <https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio>
    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
        let luminance =
            |[red, green, blue]: [f64; 3]| 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn each_colour_can_be_read_on_each_ground_in_light_and_dark() {
        let css = include_str!("../../../../assets/app.css");
        let dark = css.find("prefers-color-scheme: dark").unwrap();
        for (scheme, tokens) in [("light", tokens(&css[..dark])), ("dark", tokens(&css[dark..]))] {
            let grounds: Vec<_> = tokens.keys().filter(|name| name.starts_with("ground-")).collect();
            assert_eq!(grounds.len(), 7, "{scheme}");
            for ground in grounds.into_iter().chain([&"surface"]) {
                for text in ["text", "muted", "bad", "ok", "warn", "busy", "violet", "accent"] {
                    let contrast = contrast(tokens[text], tokens[ground]);
                    assert!(contrast >= 4.5, "{scheme}: {text} on {ground} has {contrast:.2}");
                }
            }
        }
    }

    /// What a browser would show, or `None` if the markup contains anything other than our own.
    fn shown(markup: &str) -> Option<String> {
        let mut shown = String::new();
        let mut rest = markup;
        let mut is_open = false;
        while let Some(at) = rest.find(['<', '>', '"', '\'']) {
            shown.push_str(&rest[..at]);
            rest = &rest[at..];
            let tag = rest.split_inclusive('>').next()?;
            let is_ours = if is_open {
                tag == "</span>"
            } else {
                let classes = tag.strip_prefix("<span class=\"")?.strip_suffix("\">")?;
                !classes.is_empty() && classes.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ')
            };
            if !is_ours {
                return None;
            }
            is_open = !is_open;
            rest = &rest[tag.len()..];
        }
        shown.push_str(rest);
        let unescaped = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
        (!is_open).then(|| unescaped.iter().fold(shown, |text, (from, to)| text.replace(from, to)))
    }

    proptest! {
        #[test]
        fn text_without_commands_is_shown_as_it_is(text in "[^\\x00-\\x08\\x0a-\\x1f\\x7f-\\u{9f}]{0,80}") {
            prop_assert_eq!(shown(&paint(&text)), Some(text));
        }

        #[test]
        fn no_bytes_become_markup(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let painted = super::paint(&bytes, Style::default());
            prop_assert!(shown(&painted.0).is_some(), "{}", painted);
        }

        #[test]
        fn no_commands_become_markup(line in "(\\x1b(\\[[0-9;:<?]{0,8}[a-zA-Z]?|\\]|P|.)|[<>&'\"a\\r\\x08]){0,40}") {
            let painted = paint(&line);
            prop_assert!(shown(&painted).is_some(), "{}", painted);
        }
    }
}
