//! Terminal output as markup: colours and styles become spans with classes of the stylesheet; what else a terminal would
//! be told to do is carried out within the line where that makes sense, and left out where it does not. Everything that
//! is a character is escaped, so that no output can become markup.
//!
//! A terminal's 256 and 16 million colours are drawn for a dark screen; here each becomes the nearest of the sixteen
//! that the stylesheet makes readable in light and dark, which is the one with the same name.

use std::fmt;

use askama::filters::HtmlSafe;

use crate::service::command_length;

/// One line, as markup that was written here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Painted(String);

impl fmt::Display for Painted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Painted {}

/// Paints lines that follow one another: a colour holds until it is taken back, also over the end of a line.
#[derive(Debug, Default)]
pub(super) struct Painter {
    style: Style,
}

/// How characters look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    /// Of sixteen.
    text: Option<u8>,
    back: Option<u8>,
    /// One bit for each of [`WEIGHTS`].
    weights: u8,
}

/// The styles beside colours, by their bit: their class, and the code that sets them.
const WEIGHTS: [(&str, u16); 6] =
    [("bold", 1), ("dim", 2), ("italic", 3), ("underline", 4), ("inverse", 7), ("strike", 9)];
const INVERSE: u8 = 1 << 4;

/// A command of so many numbers is no command.
const MOST_NUMBERS: usize = 64;

impl Painter {
    /// A painter that has seen these lines before.
    pub(super) fn after(lines: &[u8]) -> Self {
        let mut painter = Self::default();
        for line in lines.split(|byte| *byte == b'\n') {
            painter.pass(line);
        }
        painter
    }

    /// Paints a line. What is no character is shown as U+FFFD.
    pub(super) fn paint(&mut self, line: &[u8]) -> Painted {
        let text = String::from_utf8_lossy(line);
        let mut row = Row::default();
        let mut rest = text.as_ref();
        while let Some(character) = rest.chars().next() {
            rest = &rest[character.len_utf8()..];
            match character {
                '\u{1b}' => rest = self.obey(rest, &mut row),
                '\r' => row.column = 0,
                '\u{8}' => row.column = row.column.saturating_sub(1),
                '\u{7}' => {}
                '\t' => row.put(character, self.style),
                _ => row.put(visible(character), self.style),
            }
        }
        Painted(row.markup())
    }

    /// Only what a line does to those after it.
    pub(super) fn pass(&mut self, line: &[u8]) {
        self.paint(line);
    }

    /// Carries out the command after an escape character, and gives what follows it.
    fn obey<'a>(&mut self, text: &'a str, row: &mut Row) -> &'a str {
        let (command, rest) = text.split_at(command_length(text.as_bytes()));
        if let [b'[', numbers @ .., last @ b'@'..=b'~'] = command.as_bytes()
            && numbers.iter().all(|byte| (b'0'..=b'?').contains(byte))
        {
            self.control(&command[1..command.len() - 1], *last, row);
        }
        rest
    }

    fn control(&mut self, numbers: &str, command: u8, row: &mut Row) {
        let first = || numbers.parse::<usize>().unwrap_or_default();
        match command {
            b'm' => self.style.change(numbers),
            b'K' => row.erase(first()),
            b'G' => row.column = first().saturating_sub(1).min(row.cells.len()),
            b'C' => row.column = row.column.saturating_add(first().max(1)).min(row.cells.len()),
            b'D' => row.column = row.column.saturating_sub(first().max(1)),
            _ => {}
        }
    }
}

/// Control characters that no terminal shows are shown by their pictures.
fn visible(character: char) -> char {
    match character {
        '\0'..='\u{1f}' => char::from_u32(0x2400 + character as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\u{7f}' => '\u{2421}',
        '\u{80}'..='\u{9f}' => char::REPLACEMENT_CHARACTER,
        _ => character,
    }
}

/// A line as a terminal has it: written over from wherever the next character goes.
#[derive(Debug, Default)]
struct Row {
    cells: Vec<(char, Style)>,
    column: usize,
}

impl Row {
    fn put(&mut self, character: char, style: Style) {
        match self.cells.get_mut(self.column) {
            Some(cell) => *cell = (character, style),
            None => self.cells.push((character, style)),
        }
        self.column += 1;
    }

    /// To the end, from the beginning, or all.
    fn erase(&mut self, which: usize) {
        match which {
            0 => self.cells.truncate(self.column),
            1 => {
                let until = self.cells.len().min(self.column + 1);
                self.cells[..until].fill((' ', Style::default()));
            }
            // The cursor stays where it is, but nothing is written far from the beginning.
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
                style.classes(&mut markup);
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

impl Style {
    /// Carries out `ESC [ … m`.
    fn change(&mut self, numbers: &str) {
        let mut codes = numbers.split(';').take(MOST_NUMBERS);
        while let Some(code) = codes.next() {
            // Newer programs write the parts of one colour with colons.
            let mut parts = code.split(':');
            let number = number(parts.next());
            match number {
                0 => *self = Self::default(),
                22 => self.weights &= !0b11,
                21 => self.set("underline", true),
                23..=25 | 27 | 29 => {
                    for (class, set_by) in WEIGHTS {
                        if set_by + 20 == number {
                            self.set(class, false);
                        }
                    }
                }
                30..=37 => self.text = palette(number - 30),
                90..=97 => self.text = palette(number - 90 + 8),
                39 => self.text = None,
                40..=47 => self.back = palette(number - 40),
                100..=107 => self.back = palette(number - 100 + 8),
                49 => self.back = None,
                38 | 48 => {
                    let colour = if code.contains(':') { colour_of_parts(parts) } else { colour(&mut codes) };
                    *(if number == 38 { &mut self.text } else { &mut self.back }) = colour;
                }
                _ => {
                    for (class, set_by) in WEIGHTS {
                        if set_by == number {
                            self.set(class, true);
                        }
                    }
                }
            }
        }
    }

    fn set(&mut self, class: &str, is_on: bool) {
        let bit = WEIGHTS.iter().position(|(known, _)| *known == class).map_or(0, |at| 1 << at);
        if is_on { self.weights |= bit } else { self.weights &= !bit }
    }

    fn classes(self, markup: &mut String) {
        let (mut text, mut back, mut weights) = (self.text, self.back, self.weights);
        // Exchanged colours are colours; only without any the text's own and the ground's are exchanged.
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
}

fn number(text: Option<&str>) -> u16 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn palette(number: u16) -> Option<u8> {
    u8::try_from(number).ok().filter(|number| *number < 16)
}

/// `5;N` or `2;R;G;B`
fn colour<'a>(codes: &mut impl Iterator<Item = &'a str>) -> Option<u8> {
    match number(codes.next()) {
        5 => of_256(number(codes.next())),
        2 => Some(nearest([number(codes.next()), number(codes.next()), number(codes.next())])),
        _ => None,
    }
}

/// `5:N`, `2:R:G:B`, or `2:SPACE:R:G:B`
fn colour_of_parts<'a>(parts: impl Iterator<Item = &'a str>) -> Option<u8> {
    let numbers: Vec<_> = parts.map(|part| number(Some(part))).collect();
    match numbers.as_slice() {
        [5, index, ..] => of_256(*index),
        [2, red, green, blue] | [2, _, red, green, blue, ..] => Some(nearest([*red, *green, *blue])),
        _ => None,
    }
}

/// Sixteen, a cube of 6 × 6 × 6, and 24 greys, as xterm has them.
fn of_256(index: u16) -> Option<u8> {
    let level = |step: u16| if step == 0 { 0 } else { 55 + 40 * step };
    match index {
        0..16 => palette(index),
        16..232 => Some(nearest([level((index - 16) / 36), level((index - 16) / 6 % 6), level((index - 16) % 6)])),
        232..256 => Some(nearest([8 + 10 * (index - 232); 3])),
        _ => None,
    }
}

/// Where each hue ends, in degrees, and what it is called among the eight. Orange is the yellow that the stylesheet has,
/// and what lies between green and blue belongs to whichever of them people would name it by.
const HUES: [(i32, u8); 7] = [(20, 1), (70, 3), (165, 2), (200, 6), (255, 4), (345, 5), (360, 1)];

/// The one of sixteen that people would call by the same name: by its hue, and where it has next to none, as a grey.
fn nearest(rgb: [u16; 3]) -> u8 {
    let [red, green, blue] = rgb.map(|part| i32::from(part.min(255)));
    let (least, most) = (red.min(green).min(blue), red.max(green).max(blue));
    let span = most - least;
    // Less than a quarter of its strength is colour, or it is too dark to tell.
    if span < 32 || span * 4 < most {
        return match most {
            0..64 => 0,
            64..160 => 8,
            160..224 => 7,
            _ => 15,
        };
    }
    let hue = if most == red {
        60 * (green - blue) / span
    } else if most == green {
        120 + 60 * (blue - red) / span
    } else {
        240 + 60 * (red - green) / span
    };
    let hue = hue.rem_euclid(360);
    let name = HUES.iter().find(|(end, _)| hue < *end).map_or(1, |(_, name)| *name);
    if most > 220 { name + 8 } else { name }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paint(line: &str) -> String {
        Painter::default().paint(line.as_bytes()).0
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
    fn other_colours_become_those_that_people_would_call_by_the_same_name() {
        for (names, colours) in [
            ([0, 8], &[[0, 0, 0], [20, 0, 0], [118, 118, 118], [88, 110, 117]][..]),
            ([7, 15], &[[192, 192, 192], [255, 255, 255], [235, 219, 178], [248, 248, 242]]),
            ([1, 9], &[[255, 0, 0], [205, 49, 49], [220, 20, 60], [250, 128, 114], [255, 69, 0], [255, 182, 193]]),
            ([3, 11], &[[255, 255, 0], [255, 135, 0], [255, 165, 0], [128, 128, 0], [210, 105, 30], [255, 215, 175]]),
            ([2, 10], &[[10, 200, 120], [0, 128, 0], [80, 250, 123], [127, 255, 0], [46, 139, 87], [0, 40, 0]]),
            ([6, 14], &[[0, 255, 255], [0, 139, 139], [64, 224, 208], [139, 233, 253]]),
            ([4, 12], &[[0, 0, 255], [30, 144, 255], [65, 105, 225], [98, 114, 164], [135, 175, 255], [106, 90, 205]]),
            ([5, 13], &[[255, 0, 255], [128, 0, 128], [147, 112, 219], [255, 105, 180], [102, 51, 153]]),
        ] {
            for colour in colours {
                assert!(names.contains(&nearest(*colour)), "{colour:?} becomes {}, not {names:?}", nearest(*colour));
            }
        }
        assert_eq!(nearest([u16::MAX, 0, 0]), 9);
        for (index, name) in [(9, 9), (21, 12), (22, 2), (208, 11), (202, 11), (196, 9), (99, 13), (51, 14), (240, 8)] {
            assert_eq!(of_256(index), Some(name), "{index}");
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
        assert_eq!(Painter::default().paint(b"a\xffb").0, "a\u{fffd}b");
    }

    #[test]
    fn markup_is_text() {
        assert_eq!(paint("<b a='\"'>&amp;"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;amp;");
        assert_eq!(paint("\x1b[3<1m<\x1b[31m<"), "&lt;<span class=\"f1\">&lt;</span>");
    }

    #[test]
    fn a_colour_holds_over_the_end_of_a_line() {
        let mut painter = Painter::default();
        painter.pass(b"\x1b[32mgreen");
        assert_eq!(painter.paint(b"still\x1b[0m not").0, "<span class=\"f2\">still</span> not");
        assert_eq!(painter.paint(b"plain").0, "plain");
    }

    /// The tokens of the stylesheet from here on, of which a later one of the same name counts.
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
        let css = include_str!("../../../assets/app.css");
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

    /// What a browser would show, if the markup is such as may be written here.
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
            let painted = Painter::default().paint(&bytes);
            prop_assert!(shown(&painted.0).is_some(), "{}", painted);
        }

        #[test]
        fn no_commands_become_markup(line in "(\\x1b(\\[[0-9;:<?]{0,8}[a-zA-Z]?|\\]|P|.)|[<>&'\"a\\r\\x08]){0,40}") {
            let painted = paint(&line);
            prop_assert!(shown(&painted).is_some(), "{}", painted);
        }
    }
}
