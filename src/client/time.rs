//! The server's current time: taken from its answers, and advanced by this machine's steady clock. So a duration is
//! right even if the two clocks differ.

use std::sync::Arc;
use std::time::Instant;

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use reqwest::header::{DATE, HeaderMap};

use crate::wire::SERVER_TIME;

/// An older server reports only whole seconds. Within this tolerance a clock may be right.
const COARSE: SignedDuration = SignedDuration::from_secs(2);

/// The time of one server; copies share it.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerTime(Arc<Mutex<Option<Heard>>>);

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Timestamp,
    precision: SignedDuration,
    since: Instant,
}

impl ServerTime {
    /// Records the time in an answer that has just arrived.
    pub(super) fn note(&self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let exact = text(SERVER_TIME).and_then(|time| time.parse().ok()).map(|at| (at, SignedDuration::ZERO));
        let coarse = || Some((rfc2822::parse(text(DATE.as_str())?).ok()?.timestamp(), COARSE));
        if let Some((at, precision)) = exact.or_else(coarse) {
            *self.heard() = Some(Heard { at, precision, since: Instant::now() });
        }
    }

    pub(super) fn now(&self, local: Timestamp) -> Timestamp {
        let Some(Heard { at, precision, since }) = *self.heard() else { return local };
        let elapsed = SignedDuration::try_from(since.elapsed()).unwrap_or(SignedDuration::MAX);
        let server = at.saturating_add(elapsed).unwrap_or(at);
        if local.duration_since(server).abs() <= precision { local } else { server }
    }

    fn heard(&self) -> parking_lot::MutexGuard<'_, Option<Heard>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_time_is_the_servers_wherever_this_machines_clock_stands() {
        let time = ServerTime::default();
        let local = at("2026-01-31T12:00:00Z");
        assert_eq!(time.now(local), local, "nothing was heard yet");
        let header =
            |name: &'static str, value: &str| HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())]);
        let is_about = |found: Timestamp, expected: &str| {
            let late = found.duration_since(at(expected));
            assert!(late >= SignedDuration::ZERO && late < SignedDuration::from_secs(60), "{found}, not {expected}");
        };
        for exact in ["2026-01-31T13:00:00.250Z", "2026-01-31T11:00:00.250Z"] {
            time.note(&header(SERVER_TIME, exact));
            is_about(time.now(local), exact);
        }
        time.note(&header("date", "Sat, 31 Jan 2026 13:00:00 GMT"));
        is_about(time.now(local), "2026-01-31T13:00:00Z");
        let close = at("2026-01-31T13:00:00.9Z");
        assert_eq!(time.now(close), close, "as far as is known it is right");
        // Answers without a time change nothing.
        time.note(&header("date", "yesterday"));
        is_about(time.now(local), "2026-01-31T13:00:00Z");
    }
}
