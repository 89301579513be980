//! Values as people read them, the same on the command line and on the pages.

use jiff::SignedDuration;

/// `340 ms`, `1.2 s`, `2 min 3 s`, `1 h 2 min`, `3 d 4 h`; a second unit of which there is none is left out.
#[must_use]
pub fn duration(duration: SignedDuration) -> String {
    let milliseconds = duration.as_millis().max(0);
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        60..3600 => two((seconds / 60, "min"), (seconds % 60, "s")),
        3600..86_400 => two((seconds / 3600, "h"), (seconds % 3600 / 60, "min")),
        _ => two((seconds / 86_400, "d"), (seconds % 86_400 / 3600, "h")),
    }
}

/// The beginning of a text's first line, with `…` where that leaves anything out.
#[must_use]
pub fn first_line(text: &str, most_chars: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(most_chars).collect();
    if shown.len() < text.trim_end().len() {
        shown.push('…');
    }
    shown
}

/// The known name that was probably meant: one that is at most a third of its letters away.
#[must_use]
pub fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let with_distance = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), *known));
    with_distance.min().filter(|(distance, near)| *distance <= (near.len() / 3).max(1)).map(|(_, near)| near)
}

fn two((large, unit): (i128, &str), (small, smaller_unit): (i128, &str)) -> String {
    match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller_unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_in_the_unit_that_matters() {
        for (milliseconds, words) in [
            (-5, "0 ms"),
            (340, "340 ms"),
            (1_250, "1.2 s"),
            (59_999, "59.9 s"),
            (60_999, "1 min"),
            (123_000, "2 min 3 s"),
            (3_720_000, "1 h 2 min"),
            (273_600_000, "3 d 4 h"),
            (259_300_000, "3 d"),
        ] {
            assert_eq!(duration(SignedDuration::from_millis(milliseconds)), words);
        }
    }
}
