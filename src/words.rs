//! Values as people read them, the same on the command line and on the pages.

use jiff::SignedDuration;

/// `340 ms`, `1.2 s`, `2 min 3 s`, `1 h 2 min`, `3 d 4 h`; a second unit of zero is omitted.
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

/// `512 MB`, `2 GB`, `1.5 GB`.
#[must_use]
pub fn megabytes(megabytes: i64) -> String {
    match megabytes {
        ..1024 => format!("{megabytes} MB"),
        _ if megabytes % 1024 == 0 => format!("{} GB", megabytes / 1024),
        _ => format!("{}.{} GB", megabytes / 1024, megabytes % 1024 * 10 / 1024),
    }
}

/// `12 bytes`, `3.4 MB`: in steps of a thousand, as disks are sold.
#[must_use]
pub fn bytes(number: u64) -> String {
    let mut unit = "bytes";
    let mut tenths = u128::from(number) * 10;
    for larger in ["kB", "MB", "GB", "TB"] {
        if tenths < 10_000 {
            break;
        }
        (tenths, unit) = (tenths / 1000, larger);
    }
    if unit == "bytes" || tenths >= 1000 {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// `1 run`, `1,234 runs`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

/// `1,234`
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The beginning of a text's first line, with `…` if anything is omitted.
#[must_use]
pub fn first_line(text: &str, most_chars: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut shown: String = line.chars().take(most_chars).collect();
    if shown.len() < text.trim_end().len() {
        shown.push('…');
    }
    shown
}

/// The known name that was probably meant: at most a third of its letters differ.
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

    #[test]
    fn amounts_are_told_in_the_unit_that_matters() {
        assert_eq!([64, 2048, 1536].map(megabytes), ["64 MB", "2 GB", "1.5 GB"]);
    }

    #[test]
    fn sizes_have_as_many_digits_as_are_read() {
        for (number, expected) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (16_384, "16.3 kB"),
            (999_999, "999 kB"),
            (1_200_000_000, "1.2 GB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
    }

    #[test]
    fn numbers_are_grouped_and_nouns_agree_with_them() {
        assert_eq!(count(1, "run"), "1 run");
        assert_eq!(count(0, "run"), "0 runs");
        assert_eq!(count(1_234_567, "run"), "1,234,567 runs");
        assert_eq!(count(100, "run"), "100 runs");
    }
}
