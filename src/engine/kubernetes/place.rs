//! A position in a pod's output, so that an interrupted stream continues without a byte dropped or repeated.
//!
//! The API resumes output by time, in whole seconds. A position is therefore "the lines since this second, of which
//! so many were begun, and so many bytes of the last one are stored". The second lies some time back and is not the
//! newest: a line that waited for the other stream is written after one with a later time.
//!
//! A node serves only the newest file of a container. After it has started another one, the count is useless: the
//! first line that arrives is no longer the one that was first before, and the position is found by the time of the
//! last stored line. If that line is gone, output may be missing, which is noted.

use std::fmt;
use std::str::FromStr;

use crate::engine::container::marker::Stamp;
use crate::model::LogPosition;

/// The most that two streams can overtake each other. The runtime stamps a line right before it writes it.
const SLACK_SECS: i64 = 5;
/// A line of this size may be stored in several parts, of which only the first has a time that is sent.
const LONG_LINE_BYTES: u64 = 16 * 1024;

/// As stored beside our log: `SECOND/COUNT/NEWEST/FIRST/LAST/BYTES`, or only its first three parts if written by an
/// older server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub since_secs: i64,
    /// How many of the lines since then were begun.
    begun: u64,
    /// The latest time of these lines, and the times of the first and the last of them.
    pub newest: Option<Stamp>,
    first: Option<Stamp>,
    last: Option<Stamp>,
    /// How many bytes of the last line are stored; `None` for all of it.
    bytes: Option<u64>,
}

impl Place {
    /// The place that `position` names, and how many bytes after it are stored. Without a marker, or with an
    /// unreadable one, bytes are counted from the beginning.
    pub(super) fn of(position: &LogPosition) -> (Self, u64) {
        let place = position.marker.as_ref().and_then(|text| text.parse().ok());
        place.map_or_else(|| (Self::default(), position.bytes), |place| (place, 0))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |stamp: &Option<Stamp>| stamp.as_ref().map_or_else(String::new, |stamp| stamp.as_str().to_owned());
        let [newest, first, last] = [&self.newest, &self.first, &self.last].map(text);
        let bytes = self.bytes.map_or_else(String::new, |bytes| bytes.to_string());
        write!(f, "{}/{}/{newest}/{first}/{last}/{bytes}", self.since_secs, self.begun)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no place in a pod's output")]
pub(super) struct NotAPlace(String);

impl FromStr for Place {
    type Err = NotAPlace;

    fn from_str(text: &str) -> Result<Self, NotAPlace> {
        let mut parts = text.split('/');
        let mut read = || {
            let since_secs = parts.next()?.parse().ok()?;
            let begun = parts.next()?.parse().ok()?;
            let stamp = |text: &str| {
                (!text.is_empty()).then(|| Stamp::parse(text.as_bytes())).map_or(Some(None), |stamp| stamp.map(Some))
            };
            let newest = stamp(parts.next()?)?;
            let first = stamp(parts.next().unwrap_or_default())?;
            let last = stamp(parts.next().unwrap_or_default())?;
            let bytes = match parts.next().unwrap_or_default() {
                "" => None,
                bytes => Some(bytes.parse().ok()?),
            };
            parts.next().is_none().then_some(Self { since_secs, begun, newest, first, last, bytes })
        };
        read().ok_or_else(|| NotAPlace(text.to_owned()))
    }
}

/// The lines since a second: how many were begun, and the time of the first.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    since_secs: i64,
    begun: u64,
    first: Option<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Counting lines that are stored.
    Counting,
    /// The file is another one: searching for the last stored line.
    Searching,
    /// In the last stored line, with this many bytes still to skip; `None` for all of it.
    Resuming(Option<u64>),
    /// Everything that arrives is new.
    Live,
}

/// Follows a stream of lines, so that the position after each byte can be recorded and found again.
#[derive(Debug, Clone)]
pub(super) struct Tracker {
    from: Place,
    mode: Mode,
    /// Nothing can have come between the last stream's end and this one's beginning.
    is_continuous: bool,
    seen: u64,
    older: Window,
    newer: Window,
    newest: Option<Stamp>,
    last: Option<Stamp>,
    latest_second: i64,
    bytes: u64,
}

impl Tracker {
    /// Follows what the API sends when asked for the lines since `from`'s second.
    pub(super) fn from(from: Place, is_continuous: bool) -> Self {
        let window = Window { since_secs: from.since_secs, ..Window::default() };
        let mode = if from.begun == 0 { Mode::Live } else { Mode::Counting };
        Self {
            from,
            mode,
            is_continuous,
            seen: 0,
            older: window,
            newer: window,
            newest: None,
            last: None,
            latest_second: i64::MIN,
            bytes: 0,
        }
    }

    pub(super) fn place(&self) -> Place {
        // Until it has caught up with `from`, the position remains `from`.
        if !matches!(self.mode, Mode::Live | Mode::Resuming(Some(0))) {
            return self.from;
        }
        Place {
            since_secs: self.older.since_secs,
            begun: self.older.begun,
            newest: self.newest.max(self.from.newest),
            first: self.older.first,
            last: self.last,
            bytes: Some(self.bytes),
        }
    }

    /// Begins a line. Returns whether lines before it are missing that were never stored.
    pub(super) fn begin(&mut self, stamp: Stamp) -> bool {
        let second = stamp.as_second();
        // Output kept from its beginning has lines that were not requested.
        if second < self.from.since_secs {
            self.bytes = 0;
            return false;
        }
        self.count(stamp, second);
        self.seen += 1;
        if self.mode == Mode::Counting && self.seen == 1 && self.from.first.is_some_and(|first| first != stamp) {
            self.mode = Mode::Searching;
        }
        let is_beyond = self.from.newest.is_some_and(|newest| stamp > newest);
        let is_last = match self.mode {
            Mode::Counting => self.seen == self.from.begun && !is_beyond,
            Mode::Searching => self.from.last == Some(stamp),
            Mode::Resuming(_) => {
                self.mode = Mode::Live;
                return false;
            }
            Mode::Live => return false,
        };
        if is_last {
            self.mode = Mode::Resuming(self.from.bytes);
        } else if is_beyond {
            self.mode = Mode::Live;
            return !self.is_continuous;
        }
        false
    }

    /// Takes some text of the line, and returns how many of its first bytes are already stored.
    pub(super) fn text(&mut self, length: usize) -> usize {
        let length_bytes = length as u64;
        self.bytes += length_bytes;
        match &mut self.mode {
            Mode::Live => 0,
            Mode::Counting | Mode::Searching | Mode::Resuming(None) => length,
            Mode::Resuming(Some(left)) => {
                let skipped = length_bytes.min(*left);
                *left -= skipped;
                usize::try_from(skipped).unwrap_or(length)
            }
        }
    }

    fn count(&mut self, stamp: Stamp, second: i64) {
        // An earlier line may have this second. So may a further part of a long line, whose time is not sent.
        let is_clear = self.bytes < LONG_LINE_BYTES && self.latest_second < second;
        if is_clear && second >= self.newer.since_secs.saturating_add(SLACK_SECS) {
            self.older = self.newer;
            self.newer = Window { since_secs: second, ..Window::default() };
        }
        for window in [&mut self.older, &mut self.newer] {
            if second >= window.since_secs {
                window.begun += 1;
                window.first.get_or_insert(stamp);
            }
        }
        self.newest = self.newest.max(Some(stamp));
        self.last = Some(stamp);
        self.latest_second = self.latest_second.max(second);
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn stamp(millis: i64) -> Stamp {
        let time = Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap();
        Stamp::parse(format!("{time:.9}").as_bytes()).unwrap()
    }

    /// A line of a file: its time and its text.
    type FileLine = (i64, Vec<u8>);

    /// Stores what arrives of a file, up to `most` bytes of what the API sends; `None` for the place of a first
    /// stream.
    fn store(file: &[FileLine], log: &mut Vec<u8>, place: &mut Place, most: usize, is_continuous: bool) -> bool {
        let mut tracker = Tracker::from(*place, is_continuous);
        let (mut sent, mut had_gap) = (0, false);
        for (time, text) in file.iter().filter(|(time, _)| stamp(*time).as_second() >= place.since_secs) {
            if sent >= most {
                break;
            }
            had_gap |= tracker.begin(stamp(*time));
            // In pieces, interrupted within one.
            for piece in text.chunks(997) {
                let piece = &piece[..piece.len().min(most - sent)];
                sent += piece.len();
                let stored = tracker.text(piece.len());
                log.extend_from_slice(&piece[stored..]);
                if sent >= most {
                    break;
                }
            }
        }
        *place = tracker.place().to_string().parse().unwrap();
        had_gap
    }

    fn line(i: usize, length: usize) -> Vec<u8> {
        let mut text = format!("line {i} ").into_bytes();
        text.resize(text.len() + length, b'x');
        text.push(b'\n');
        text
    }

    #[test]
    fn a_place_reads_back_and_so_does_that_of_an_older_server() {
        let mut place = Place::default();
        store(&[(0, line(0, 3)), (1, line(1, 3))], &mut Vec::new(), &mut place, 12, false);
        assert_eq!(place.to_string().parse::<Place>().unwrap(), place);
        assert_eq!(Place::default().to_string().parse::<Place>().unwrap(), Place::default());
        let old: Place = format!("7/8/{}", stamp(9).as_str()).parse().unwrap();
        assert_eq!((old.since_secs, old.begun, old.newest, old.bytes), (7, 8, Some(stamp(9)), None));
        for text in ["", "1", "1/2", "x/2/", "1/2/short", "1/2////x", "1/2/////7"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Wherever the output is interrupted, even within (long) lines, and although streams overtake each other,
        /// each byte arrives once and in order.
        #[test]
        fn output_torn_anywhere_comes_without_gap_or_repeat(
            steps in prop::collection::vec((0_i64..3000, 0_i64..2000, prop_oneof![9 => 0_usize..40, 1 => 16_300_usize..17_000]), 1..60),
            tears in prop::collection::vec(0_usize..60_000, 0..6),
        ) {
            let mut time = 0;
            let file: Vec<FileLine> = steps.iter().enumerate()
                .map(|(i, (step, late, length))| { time += step + 1; (time - late, line(i, *length)) }).collect();
            let (mut log, mut place) = (Vec::new(), Place::default());
            for tear in tears {
                prop_assert!(!store(&file, &mut log, &mut place, tear, false), "there is no gap");
            }
            store(&file, &mut log, &mut place, usize::MAX, false);
            prop_assert_eq!(log, file.into_iter().flat_map(|(_, text)| text).collect::<Vec<_>>());
        }

        /// A rotated file: its remainder continues after what is stored, wherever that stopped.
        #[test]
        fn a_file_that_was_turned_over_goes_on_where_it_was(kept_from in 0_usize..40, tear in 0_usize..1200) {
            let file: Vec<FileLine> = (0..40).map(|i| (i64::try_from(i).unwrap() * 10, line(i, 20))).collect();
            let (mut log, mut place) = (Vec::new(), Place::default());
            store(&file, &mut log, &mut place, tear, false);
            let stored = log.len();
            let had_gap = store(&file[kept_from..], &mut log, &mut place, usize::MAX, false);
            let whole: Vec<u8> = file.iter().flat_map(|(_, text)| text.clone()).collect();
            let lost_at: usize = file[..kept_from].iter().map(|(_, text)| text.len()).sum();
            if stored == 0 {
                prop_assert!(!had_gap);
            } else if lost_at < stored {
                // The last stored line is still there, or the next one follows it.
                prop_assert!(!had_gap, "nothing is missing");
                prop_assert_eq!(log, whole);
            } else {
                prop_assert!(had_gap);
            }
        }
    }

    #[test]
    fn a_gap_is_said_only_where_lines_may_be_missing() {
        let file: Vec<FileLine> = (0..10).map(|i| (i64::try_from(i).unwrap() * 100, line(i, 3))).collect();
        let newer: Vec<FileLine> = (10..20).map(|i| (i64::try_from(i).unwrap() * 100, line(i, 3))).collect();
        for (is_continuous, expected) in [(false, true), (true, false)] {
            let (mut log, mut place) = (Vec::new(), Place::default());
            store(&file, &mut log, &mut place, usize::MAX, false);
            assert_eq!(store(&newer, &mut log, &mut place, usize::MAX, is_continuous), expected);
            let whole: Vec<u8> = file.iter().chain(&newer).flat_map(|(_, text)| text.clone()).collect();
            assert_eq!(log, whole);
            // From there on, it continues as usual.
            assert!(!store(&newer, &mut log, &mut place, usize::MAX, false));
            assert_eq!(log, whole);
        }
    }
}
