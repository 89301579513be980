//! Counts repeated warnings instead of writing each: a failing loop leaves the log readable and small.
//!
//! The first of its kind is written at once. Identical warnings within a minute are counted, and the number is
//! written at its end, minute by minute while they continue. Warnings that differ only in their fields are written up
//! to a limit, and then counted too.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Identical warnings within this time count as one.
const WINDOW: Duration = Duration::from_mins(1);
/// How many warnings from one place in the code are written in that time.
const MOST_OF_ONE_PLACE: u64 = 30;
/// How many kinds are remembered.
const MOST_KINDS: usize = 1000;
/// How much of a warning is repeated with its number.
const SHOWN_CHARACTERS: usize = 300;
/// How often the counts are checked.
const PERIOD: Duration = Duration::from_secs(10);

/// Passes an event on, or counts it. Copies share the counts.
#[derive(Clone, Default)]
pub(super) struct Repeats(Arc<Mutex<Counts>>);

impl Repeats {
    /// Writes the counts periodically, on a thread of its own, for as long as the process lives.
    pub(super) fn start(&self) {
        let repeats = self.clone();
        let thread = std::thread::Builder::new().name("telemetry".to_owned());
        let started = thread.spawn(move || {
            loop {
                std::thread::sleep(PERIOD);
                repeats.write_due(Instant::now());
            }
        });
        if let Err(error) = started {
            tracing::debug!(%error, "repeated warnings are counted, but their numbers are not written");
        }
    }

    fn write_due(&self, now: Instant) {
        // The lock is not held while they are written, because writing re-enters this code.
        let due = self.counts().take_due(now);
        for Repeated { warning, times } in due {
            tracing::warn!(times, within_secs = WINDOW.as_secs(), warning, "a warning came again");
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock()
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
            return true;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let mut place = DefaultHasher::new();
        metadata.callsite().hash(&mut place);
        self.counts().note(place.finish(), &words.0, Instant::now())
    }
}

/// An event's message and fields, as one text.
#[derive(Default)]
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let gap = if self.0.is_empty() { "" } else { " " };
        let written = match field.name() {
            "message" => write!(self.0, "{gap}{value:?}"),
            name => write!(self.0, "{gap}{name}={value:?}"),
        };
        written.expect("writing to a string works");
    }
}

#[derive(Default)]
struct Counts(HashMap<u64, Seen>);

struct Seen {
    since: Instant,
    /// How many were written, and how many only counted, since then.
    written: u64,
    counted: u64,
    warning: String,
}

/// How often a warning came that was not written.
#[derive(Debug, PartialEq, Eq)]
struct Repeated {
    warning: String,
    times: u64,
}

impl Counts {
    /// Whether a warning is to be written.
    fn note(&mut self, place: u64, words: &str, now: Instant) -> bool {
        let mut hasher = DefaultHasher::new();
        (place, words).hash(&mut hasher);
        self.is_below(hasher.finish(), words, 1, now) && self.is_below(place, words, MOST_OF_ONE_PLACE, now)
    }

    fn is_below(&mut self, kind: u64, words: &str, most: u64, now: Instant) -> bool {
        if self.0.len() >= MOST_KINDS && !self.0.contains_key(&kind) {
            // Its place is remembered, or has had room.
            return true;
        }
        let seen = self.0.entry(kind).or_insert_with(|| Seen {
            since: now,
            written: 0,
            counted: 0,
            warning: words.chars().take(SHOWN_CHARACTERS).collect(),
        });
        if seen.written < most {
            seen.written += 1;
            return true;
        }
        seen.counted += 1;
        false
    }

    /// The counts that are due. Warnings that were not repeated are forgotten.
    fn take_due(&mut self, now: Instant) -> Vec<Repeated> {
        let mut due = Vec::new();
        self.0.retain(|_, seen| {
            if now.duration_since(seen.since) < WINDOW {
                return true;
            }
            let times = std::mem::take(&mut seen.counted);
            if times == 0 {
                return false;
            }
            due.push(Repeated { warning: seen.warning.clone(), times });
            seen.since = now;
            true
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_that_repeats_is_written_once_and_then_counted_each_minute() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        assert!(counts.note(1, "it fails", start));
        for _ in 0..4000 {
            assert!(!counts.note(1, "it fails", start));
        }
        assert!(counts.note(2, "it fails", start), "said elsewhere");
        assert_eq!(counts.take_due(start + WINDOW / 2), []);
        assert_eq!(counts.take_due(start + WINDOW), [Repeated { warning: "it fails".to_owned(), times: 4000 }]);
        assert!(!counts.note(1, "it fails", start + WINDOW), "it goes on, and is not written again");
        assert_eq!(counts.take_due(start + WINDOW * 2), [Repeated { warning: "it fails".to_owned(), times: 1 }]);
        assert_eq!(counts.take_due(start + WINDOW * 3), []);
        assert!(counts.note(1, "it fails", start + WINDOW * 3), "it comes again after it was gone");
    }

    #[test]
    fn what_differs_only_in_its_fields_is_counted_from_some_number_on() {
        let (mut counts, start) = (Counts::default(), Instant::now());
        let written = (0..1000).filter(|number| counts.note(1, &format!("run {number} fails"), start)).count();
        assert_eq!(written, usize::try_from(MOST_OF_ONE_PLACE).unwrap());
        let due = counts.take_due(start + WINDOW);
        let expected = [Repeated { warning: "run 0 fails".to_owned(), times: 1000 - MOST_OF_ONE_PLACE }];
        assert_eq!(due, expected);
    }

    #[test]
    fn only_warnings_and_errors_are_counted_and_their_number_is_written() {
        use std::io;
        use tracing_subscriber::layer::SubscriberExt;

        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);

        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().write(bytes)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let (lines, repeats) = (Lines::default(), Repeats::default());
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber.with(repeats.clone()), || {
            for _ in 0..5 {
                tracing::info!("told each time");
                tracing::warn!(reason = "the disk", "can't go on");
            }
            repeats.write_due(Instant::now() + WINDOW);
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        assert_eq!(text.matches("told each time").count(), 5, "{text}");
        assert_eq!(text.matches("can't go on reason=\"the disk\"\n").count(), 1, "{text}");
        let number = "a warning came again times=4 within_secs=60 warning=\"can't go on reason=\\\"the disk\\\"\"";
        assert!(text.contains(number), "{text}");
    }
}
