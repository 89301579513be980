//! Values as people read them.

use jiff::{SignedDuration, Timestamp, Unit};

pub use crate::words::duration;

use crate::wire::Run;

/// How long it has been, in one unit: `now`, `5s`, `3m`, `2h`, `4d`.
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs();
    match seconds {
        ..1 => "now".to_owned(),
        1..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// `2026-01-31 12:00:03.250 UTC`
pub fn time(time: Timestamp) -> String {
    let time = time.round(Unit::Millisecond).unwrap_or(time);
    time.strftime("%Y-%m-%d %H:%M:%S.%3f UTC").to_string()
}

/// The same without its day.
pub fn time_of_day(time: Timestamp) -> String {
    let time = time.round(Unit::Millisecond).unwrap_or(time);
    time.strftime("%H:%M:%S.%3f").to_string()
}

/// How long the command has been running, or ran.
pub fn run_time(run: &Run, now: Timestamp) -> Option<SignedDuration> {
    let started_at = run.started_at?;
    Some(run.finished_at.unwrap_or(now).duration_since(started_at))
}

/// How a run ended: its outcome, with its exit code where that says more, and why.
pub fn end(run: &Run) -> String {
    let outcome = outcome(run);
    match (&run.exit_reason, run.exit_code) {
        // "stopped on request" says that it was stopped.
        (Some(reason), _) if reason.starts_with(&outcome) => plain(reason),
        (Some(reason), _) => format!("{outcome}: {}", plain(reason)),
        (None, Some(0)) => outcome,
        (None, Some(code)) => format!("{outcome} with exit code {code}"),
        (None, None) => format!("{outcome} without an exit code"),
    }
}

/// The outcome in words, or that there is none.
pub fn outcome(run: &Run) -> String {
    run.outcome.as_deref().map_or_else(|| "ended".to_owned(), |outcome| plain(outcome).replace('_', " "))
}

/// Text of others on a line of ours: nothing in it moves the cursor or breaks the line.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() || turns_direction(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// Whether a character makes what follows, which may be ours, be shown in another order; or ends the line.
const fn turns_direction(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same for text of several lines.
pub fn plain_lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(|line| plain(&line.replace('\t', "    ")).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (seconds, words) in [(-1, "now"), (0, "now"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")] {
            assert_eq!(age(at(1000), at(1000 + seconds)), words);
        }
    }

    #[test]
    fn a_time_is_told_in_utc_with_its_milliseconds() {
        let at: Timestamp = "2026-01-31T12:00:03.2504Z".parse().unwrap();
        assert_eq!(time(at), "2026-01-31 12:00:03.250 UTC");
        assert_eq!(time_of_day(at), "12:00:03.250");
    }

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a\u{fffd}[2Jb c");
        assert_eq!(plain("a\u{9b}2J\u{202e}b\u{2066}c\u{2028}d"), "a\u{fffd}2J\u{fffd}b\u{fffd}c\u{fffd}d");
        assert_eq!(plain_lines("a\n\tb\r\n").collect::<Vec<_>>(), ["a", "    b"]);
    }
}
