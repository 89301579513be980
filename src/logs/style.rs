//! The style of a log's text at a place in it: set by the preceding commands for colours and weights (ECMA-48,
//! "select graphic rendition", as xterm extends it).
//!
//! A terminal's 256 and 16 million colours are drawn for a dark screen; here each becomes the nearest of the sixteen that
//! a stylesheet can make readable in light and dark, which is the one with the same name.

use crate::escapes::{Piece, Pieces};

/// How characters look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Style {
    /// Of sixteen.
    pub text: Option<u8>,
    pub back: Option<u8>,
    /// One bit for each of [`WEIGHTS`].
    pub weights: u8,
}

/// The styles beside colours, by their bit: their name, and the code that sets them.
pub const WEIGHTS: [(&str, u16); 6] =
    [("bold", 1), ("dim", 2), ("italic", 3), ("underline", 4), ("inverse", 7), ("strike", 9)];

/// A command of so many numbers is no command.
const MOST_NUMBERS: usize = 64;

/// How many bits of a packed style a colour takes.
const COLOUR_BITS: u32 = 5;
const COLOUR_MASK: u16 = (1 << COLOUR_BITS) - 1;

impl Style {
    /// Applies a command, given without its escape character. Commands about something else change nothing.
    pub fn obey(&mut self, command: &[u8]) {
        match command {
            [b'[', numbers @ .., b'm'] if numbers.iter().all(|byte| matches!(byte, b'0'..=b';')) => {
                self.change(std::str::from_utf8(numbers).unwrap_or_default());
            }
            // A terminal is reset.
            b"c" | b"[!p" => *self = Self::default(),
            _ => {}
        }
    }

    /// Reads bytes that begin outside of a command, up to the first place at or after `until` that is outside of one;
    /// gives that place.
    pub(super) fn pass(&mut self, bytes: &[u8], until: usize) -> usize {
        if until == 0 {
            return 0;
        }
        for piece in Pieces::new(bytes) {
            match piece {
                Piece::Text(range) if range.end >= until => return until,
                Piece::Text(_) => {}
                Piece::Command(range) => {
                    self.obey(&bytes[range.clone()]);
                    if range.end >= until {
                        return range.end;
                    }
                }
            }
        }
        bytes.len()
    }

    /// As a number that [`Self::unpack`] reads.
    pub(super) fn pack(self) -> u16 {
        let colour = |colour: Option<u8>| colour.map_or(0, |colour| u16::from(colour) + 1);
        colour(self.text) | colour(self.back) << COLOUR_BITS | u16::from(self.weights) << (2 * COLOUR_BITS)
    }

    /// None where the number is no style.
    pub(super) fn unpack(packed: u16) -> Option<Self> {
        let colour = |bits: u16| match bits & COLOUR_MASK {
            0 => Some(None),
            bits @ 1..=16 => u8::try_from(bits - 1).ok().map(Some),
            _ => None,
        };
        let weights = u8::try_from(packed >> (2 * COLOUR_BITS)).ok()?;
        Some(Self { text: colour(packed)?, back: colour(packed >> COLOUR_BITS)?, weights })
    }

    /// Carries out `ESC [ … m`.
    fn change(&mut self, numbers: &str) {
        let mut codes = numbers.split(';').take(MOST_NUMBERS);
        while let Some(code) = codes.next() {
            // Newer programs write the parts of one colour or line with colons.
            let mut parts = code.split(':');
            let number = number(parts.next());
            match number {
                0 => *self = Self::default(),
                22 => self.weights &= !0b11,
                4 => self.set("underline", parts.next() != Some("0")),
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
                // The last one is the colour of the underline, which is not shown.
                38 | 48 | 58 => {
                    let colour = if code.contains(':') { colour_of_parts(parts) } else { colour(&mut codes) };
                    match number {
                        38 => self.text = colour,
                        48 => self.back = colour,
                        _ => {}
                    }
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

    fn after(text: &str) -> Style {
        let mut style = Style::default();
        assert_eq!(style.pass(text.as_bytes(), text.len()), text.len());
        style
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
    fn what_is_no_colour_changes_none() {
        let red = after("\x1b[31m");
        assert_eq!(red, Style { text: Some(1), ..Style::default() });
        for other in [
            "\x1b[?0m",
            "\x1b[>4;2m",
            "\x1b[0 m",
            "\x1b[0K",
            "\x1b[58;2;0;1;7m",
            "\x1b[58:5:1m",
            "\x1b]0;\x1b[0m\x07",
            "\x1b[0",
        ] {
            assert_eq!(after(&format!("\x1b[31m{other}")), red, "{other:?}");
        }
        for reset in ["\x1b[m", "\x1b[0m", "\x1b[;m", "\x1bc", "\x1b[!p"] {
            assert_eq!(after(&format!("\x1b[31;1m{reset}")), Style::default(), "{reset:?}");
        }
        assert_eq!(after("\x1b[4m\x1b[4:0m"), Style::default());
        assert_ne!(after("\x1b[4:3m"), Style::default());
    }

    #[test]
    fn a_command_across_the_place_is_read_to_its_end() {
        let text = b"ab\x1b[31mcd";
        for (until, expected) in [(0, 0), (1, 1), (2, 2), (3, 7), (6, 7), (7, 7), (8, 8), (99, 9)] {
            let mut style = Style::default();
            assert_eq!(style.pass(text, until), expected, "{until}");
            assert_eq!(style.text, (expected > 2).then_some(1), "{until}");
        }
    }

    proptest! {
        #[test]
        fn a_packed_style_is_the_same(packed: u16) {
            if let Some(style) = Style::unpack(packed) {
                prop_assert_eq!(style.pack(), packed);
            }
        }
    }
}
