//! Positions in the output of a container, for engines whose API resumes output by time in whole seconds. A position
//! is therefore "the messages since this second, of which so many are stored". Their order in the machine's file
//! never changes, so counting leads to the exact message, even where several have the same time or two streams
//! overtook each other.
//!
//! The second lies some time back and is not the newest: a message that waited for the other stream is written after
//! one with a later time, and would be missed by requesting only the newest second. Where a machine splits a long
//! line into messages that all carry the time of the first, the second is no later than that of any line whose end
//! has not arrived yet.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::model::LogPosition;

/// The most that two streams can overtake each other. The machine stamps a message right before it writes it.
const SLACK_SECS: i64 = 5;
/// The length of the time before each message: `2006-01-02T15:04:05.000000000Z`.
pub(in crate::engine) const STAMP_BYTES: usize = 30;

/// A message's time. Fixed in length and always UTC, so that text order is time order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Stamp([u8; STAMP_BYTES]);

impl Stamp {
    /// Splits a line into its leading time and its message.
    pub(in crate::engine) fn split(line: &[u8]) -> Option<(Self, &[u8])> {
        let (stamp, rest) = line.split_first_chunk::<STAMP_BYTES>()?;
        let message = rest.strip_prefix(b" ")?;
        (stamp[10] == b'T' && stamp[STAMP_BYTES - 1] == b'Z').then_some((Self(*stamp), message))
    }

    /// Parses a time in any other form that RFC 3339 allows: in another zone, or with fewer digits.
    pub(in crate::engine) fn parse(text: &[u8]) -> Option<Self> {
        let time = std::str::from_utf8(text).ok()?.parse::<Timestamp>().ok()?;
        Some(Self(format!("{time:.9}").as_bytes().try_into().ok()?))
    }

    pub(in crate::engine) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The part up to the second.
    fn second(&self) -> &[u8] {
        &self.0[..19]
    }

    /// Whether two times fall in the same tenth of a second. Cheaper than parsing them.
    pub(in crate::engine) fn is_in_same_tenth(&self, other: &Self) -> bool {
        self.0[..21] == other.0[..21]
    }

    pub(in crate::engine) fn as_timestamp(&self) -> Option<Timestamp> {
        self.as_str().parse().ok()
    }

    pub(in crate::engine) fn as_second(&self) -> i64 {
        self.as_str().parse::<Timestamp>().map_or(0, Timestamp::as_second)
    }
}

/// The messages since a second, and how many of them are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Window {
    since_secs: i64,
    stored: u64,
}

/// A position in the output, as stored beside our log: `SECOND/COUNT/NEWEST`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::engine) struct Marker {
    pub since_secs: i64,
    /// How many of the messages since then are stored.
    pub stored: u64,
    /// The latest time of a stored message.
    pub newest: Option<Stamp>,
}

impl Marker {
    /// The marker of `position`, and how many bytes after it are stored. Without a marker, or with an unreadable one,
    /// bytes are counted from the beginning.
    pub(in crate::engine) fn of(position: &LogPosition) -> (Self, u64) {
        let marker = position.marker.as_ref().and_then(|text| text.parse().ok());
        marker.map_or_else(|| (Self::default(), position.bytes), |marker| (marker, 0))
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.since_secs, self.stored, self.newest.as_ref().map_or("", Stamp::as_str))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no place in a container's output")]
pub(in crate::engine) struct NotAMarker(String);

impl FromStr for Marker {
    type Err = NotAMarker;

    fn from_str(text: &str) -> Result<Self, NotAMarker> {
        let mut parts = text.splitn(3, '/');
        let mut read = || {
            let since_secs = parts.next()?.parse().ok()?;
            let stored = parts.next()?.parse().ok()?;
            let newest = match parts.next()? {
                "" => None,
                stamp => Some(Stamp(stamp.as_bytes().try_into().ok()?)),
            };
            Some(Self { since_secs, stored, newest })
        };
        read().ok_or_else(|| NotAMarker(text.to_owned()))
    }
}

/// What to do with a message that the daemon sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Take {
    /// It is already stored.
    Stored,
    New,
    /// It is new, and others that should have preceded it are gone.
    NewAfterGap,
}

/// Counts messages as they arrive, so that the position after each can be recorded and found again.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Counter {
    older: Window,
    newer: Window,
    newest: Option<Stamp>,
    /// The second of the last message, usually also that of the next.
    second: Option<(Stamp, i64)>,
    /// The seconds of the lines whose end has not arrived yet, of standard output and standard error.
    open_lines: [Option<i64>; 2],
    /// The position where the output resumes.
    from: Marker,
    seen: u64,
}

impl Counter {
    /// Counts the messages that the daemon sends when asked for those since `from`'s second.
    pub(in crate::engine) fn from(from: Marker) -> Self {
        let window = Window { since_secs: from.since_secs, stored: 0 };
        Self { older: window, newer: window, newest: None, second: None, open_lines: [None; 2], from, seen: 0 }
    }

    pub(in crate::engine) fn marker(&self) -> Marker {
        // Until it has caught up with `from`, the position remains `from`.
        if self.seen < self.from.stored {
            return self.from;
        }
        Marker {
            since_secs: self.older.since_secs,
            stored: self.older.stored,
            newest: self.newest.max(self.from.newest),
        }
    }

    /// Takes a message of one of two streams; `goes_on` if further parts of its line follow with the same time.
    pub(in crate::engine) fn take_part(&mut self, stream: usize, stamp: Stamp, goes_on: bool) -> Take {
        let was_behind = self.seen < self.from.stored;
        // A message later than everything stored can't be stored: the daemon has discarded the missing ones.
        let is_gap = was_behind && self.from.newest.is_some_and(|newest| stamp > newest);
        let second = self.count(stamp);
        self.open_lines[stream] = goes_on.then_some(second);
        self.seen += 1;
        if is_gap {
            self.from.stored = 0;
            return Take::NewAfterGap;
        }
        if was_behind { Take::Stored } else { Take::New }
    }

    /// Counts a message, and returns its second.
    fn count(&mut self, stamp: Stamp) -> i64 {
        let second = match self.second {
            Some((last, second)) if last.second() == stamp.second() => second,
            _ => stamp.as_second(),
        };
        self.second = Some((stamp, second));
        // With a later window, the remaining parts of an open line would not be sent.
        let holds_open_lines = self.open_lines.iter().flatten().all(|second| *second >= self.newer.since_secs);
        // A window must begin with the first message of its second, or it would not count those before.
        let is_first = self.newest.is_none_or(|newest| newest.second() < stamp.second());
        if holds_open_lines && is_first && second >= self.newer.since_secs.saturating_add(SLACK_SECS) {
            self.older = self.newer;
            self.newer = Window { since_secs: second, stored: 0 };
        }
        for window in [&mut self.older, &mut self.newer] {
            if second >= window.since_secs {
                window.stored += 1;
            }
        }
        self.newest = self.newest.max(Some(stamp));
        second
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(millis: i64) -> Stamp {
        let time = Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap();
        let text = format!("{time:.9}");
        Stamp(text.as_bytes().try_into().unwrap())
    }

    /// What the daemon sends: the messages of its file that are not before the second.
    fn sent(file: &[i64], marker: Marker) -> Vec<(usize, Stamp)> {
        let stamps = file.iter().map(|millis| stamp(*millis)).enumerate();
        stamps.filter(|(_, stamp)| stamp.as_second() >= marker.since_secs).collect()
    }

    #[test]
    fn bytes_are_counted_where_the_marker_is_missing_or_can_not_be_read() {
        let of = |marker: Option<&str>| Marker::of(&LogPosition { bytes: 7, marker: marker.map(str::to_owned) });
        let marker = Marker { since_secs: 5, stored: 2, newest: Some(stamp(0)) };
        assert_eq!(of(Some(&marker.to_string())), (marker, 0));
        for unreadable in [None, Some(""), Some("5"), Some("5/2"), Some("5/2/yesterday"), Some("\0\0\0")] {
            assert_eq!(of(unreadable), (Marker::default(), 7), "{unreadable:?}");
        }
    }

    #[test]
    fn a_message_is_split_from_its_time() {
        let line = b"2026-11-22T14:38:52.447913935Z hello\n";
        let (stamp, message) = Stamp::split(line).unwrap();
        assert_eq!((stamp.as_str(), message), ("2026-11-22T14:38:52.447913935Z", &b"hello\n"[..]));
        assert!(Stamp::split(b"hello").is_none());
        assert!(Stamp::split(&[b'x'; 40]).is_none());
    }

    #[test]
    fn a_marker_reads_back() {
        let markers = [Marker::default(), Marker { since_secs: 7, stored: 8, newest: Some(stamp(9)) }];
        for marker in markers {
            assert_eq!(marker.to_string().parse::<Marker>().unwrap(), marker);
        }
        for text in ["", "1", "1/2", "x/2/", "1/2/short"] {
            assert!(text.parse::<Marker>().is_err(), "{text}");
        }
    }

    proptest! {
        /// Wherever the output is interrupted, and although streams overtake each other, each message arrives once
        /// and in order.
        #[test]
        fn output_torn_anywhere_comes_without_gap_or_repeat(
            steps in prop::collection::vec((0_i64..3000, 0_i64..2000), 1..200),
            mut tears in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let mut time = 0;
            // Each message is appended to those before it, with a time up to two seconds in the past.
            let file: Vec<i64> = steps.iter().map(|(step, late)| { time += step; time - late }).collect();
            tears.sort_unstable();
            tears.push(usize::MAX);
            let (mut got, mut marker) = (Vec::new(), Marker::default());
            for tear in tears {
                let mut counter = Counter::from(marker);
                for (i, stamp) in sent(&file, marker) {
                    if i >= tear { break; }
                    match counter.take_part(0, stamp, false) {
                        Take::Stored => {}
                        Take::New => got.push(i),
                        Take::NewAfterGap => prop_assert!(false, "there is no gap"),
                    }
                }
                marker = counter.marker().to_string().parse().unwrap();
            }
            prop_assert_eq!(got, (0..file.len()).collect::<Vec<_>>());
        }
    }

    proptest! {
        /// The same for two streams, where the parts of a long line carry the time of the first and are written as
        /// the line continues, possibly much later.
        #[test]
        fn the_parts_of_a_long_line_come_without_gap_or_repeat_wherever_the_output_is_torn(
            steps in prop::collection::vec((0_i64..9000, 0_usize..2, any::<bool>()), 1..200),
            mut tears in prop::collection::vec(0_usize..200, 0..6),
        ) {
            let (mut time, mut open) = (0, [None; 2]);
            let file: Vec<(usize, i64, bool)> = steps.iter().map(|&(step, stream, goes_on)| {
                time += step;
                let stamp = open[stream].unwrap_or(time);
                open[stream] = goes_on.then_some(stamp);
                (stream, stamp, goes_on)
            }).collect();
            let stamps: Vec<_> = file.iter().map(|part| part.1).collect();
            tears.sort_unstable();
            tears.push(usize::MAX);
            let (mut got, mut marker) = (Vec::new(), Marker::default());
            for tear in tears {
                let mut counter = Counter::from(marker);
                for (i, stamp) in sent(&stamps, marker) {
                    if i >= tear { break; }
                    match counter.take_part(file[i].0, stamp, file[i].2) {
                        Take::Stored => {}
                        Take::New => got.push(i),
                        Take::NewAfterGap => prop_assert!(false, "there is no gap"),
                    }
                }
                marker = counter.marker().to_string().parse().unwrap();
            }
            prop_assert_eq!(got, (0..file.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_place_moves_on_once_a_long_line_has_ended() {
        let mut counter = Counter::from(Marker::default());
        counter.take_part(1, stamp(0), true);
        for second in 1..100 {
            counter.take_part(0, stamp(second * 1000), false);
        }
        let begin = stamp(0).as_second();
        assert!(counter.marker().since_secs <= begin);
        counter.take_part(1, stamp(0), false);
        for second in 100..120 {
            counter.take_part(0, stamp(second * 1000), false);
        }
        assert!(counter.marker().since_secs >= begin + 100);
    }

    #[test]
    fn what_the_daemon_threw_away_is_noticed() {
        let mut counter = Counter::from(Marker::default());
        for millis in [0, 100, 200] {
            assert_eq!(counter.take_part(0, stamp(millis), false), Take::New);
        }
        let mut counter = Counter::from(counter.marker());
        assert_eq!(counter.take_part(0, stamp(200), false), Take::Stored);
        assert_eq!(counter.take_part(0, stamp(90_000), false), Take::NewAfterGap);
        assert_eq!(counter.take_part(0, stamp(90_001), false), Take::New);
        let mut counter = Counter::from(counter.marker());
        assert_eq!(counter.take_part(0, stamp(200), false), Take::Stored);
        assert_eq!(counter.take_part(0, stamp(90_000), false), Take::Stored);
        assert_eq!(counter.take_part(0, stamp(90_001), false), Take::Stored);
        assert_eq!(counter.take_part(0, stamp(90_002), false), Take::New);
    }
}
