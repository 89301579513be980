//! When a log was written: beside it, pairs of a place and the time at which what follows it began to arrive, at most
//! one a second. So a line's time is known to the second, whatever wrote it, and costs nothing where nothing is written.
//!
//! What an engine kept while the server was away has the time at which the server had it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

/// A place and a time in microseconds, eight bytes each.
pub(super) const PAIR_BYTES: usize = 16;
/// What is written within this long of a pair needs none of its own.
const PRECISION: SignedDuration = SignedDuration::from_secs(1);
/// How many pairs at the end of a file a power loss may have damaged: those of an hour.
const TAIL_PAIRS: u64 = 3600;

/// Where the times of a log are.
pub(super) fn times_path(log_path: &Path) -> PathBuf {
    log_path.with_extension("times")
}

/// Records when a log is written. A log is stored even if its times can't be: those lines get the time before theirs.
pub(super) struct TimeKeeper {
    file: Option<File>,
    pairs: u64,
    last: Option<Timestamp>,
    now: Box<dyn Fn() -> Timestamp + Send>,
}

impl TimeKeeper {
    /// Goes on where the log has `length` bytes; what was noted of later ones is forgotten.
    pub(super) fn resume(log_path: &Path, length: u64, now: impl Fn() -> Timestamp + Send + 'static) -> Self {
        let (file, pairs) = match resume(log_path, length) {
            Ok((file, pairs)) => (Some(file), pairs),
            Err(error) => {
                tracing::warn!(log = %log_path.display(), %error, "the times of a log can't be noted");
                (None, 0)
            }
        };
        Self { file, pairs, last: None, now: Box::new(now) }
    }

    /// What is written from this place on is written now.
    pub(super) fn note(&mut self, offset: u64) {
        let Some(file) = &self.file else { return };
        let now = (self.now)();
        // Start over after a clock was set back.
        let is_known = self.last.is_some_and(|last| now >= last && now.duration_since(last) < PRECISION);
        if is_known {
            return;
        }
        let mut pair = [0; PAIR_BYTES];
        pair[..8].copy_from_slice(&offset.to_le_bytes());
        pair[8..].copy_from_slice(&now.as_microsecond().to_le_bytes());
        // On a full disk it is retried with the next write, in the same place.
        if file.write_all_at(&pair, self.pairs * PAIR_BYTES as u64).is_ok() {
            self.pairs += 1;
            self.last = Some(now);
        }
    }
}

/// Keeps the pairs that belong to the first `length` bytes of the log, up to the first that can't be right.
fn resume(log_path: &Path, length: u64) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(times_path(log_path))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut after = None;
    let is_right = |(offset, time): &(u64, Option<Timestamp>)| {
        time.is_some() && *offset < length && after.replace(*offset).is_none_or(|after| after < *offset)
    };
    let pairs = bytes.as_chunks().0.iter().map(decode).take_while(is_right).count() as u64;
    file.set_len(pairs * PAIR_BYTES as u64)?;
    Ok((file, pairs))
}

/// A place, and the time where it is one.
fn decode(pair: &[u8; PAIR_BYTES]) -> (u64, Option<Timestamp>) {
    let [offset, micros] = [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|i| pair[at + i])));
    // NUL bytes are what a power loss leaves, not a second of 1970.
    let time = Some(micros.cast_signed()).filter(|micros| *micros > 0);
    (offset, time.and_then(|micros| Timestamp::from_microsecond(micros).ok()))
}

/// The times of a log; none of one that was written before they were noted, or whose times can't be read: a log is shown
/// without them as well.
pub(super) struct Times {
    file: Option<File>,
    pairs: u64,
    /// The answer to the last question holds from a place to before another.
    last: Option<(u64, u64, Timestamp)>,
}

impl Times {
    pub(super) fn open(log_path: &Path) -> Self {
        let mut times = Self { file: File::open(times_path(log_path)).ok(), pairs: 0, last: None };
        times.pairs = times.count().unwrap_or_default();
        times
    }

    /// How many pairs there are, without what a power loss left at the end.
    fn count(&self) -> io::Result<u64> {
        let Some(file) = &self.file else { return Ok(0) };
        let pairs = file.metadata()?.len() / PAIR_BYTES as u64;
        let looked_at = pairs.min(TAIL_PAIRS);
        let mut tail = vec![0; usize::try_from(looked_at).unwrap_or_default() * PAIR_BYTES];
        file.read_exact_at(&mut tail, (pairs - looked_at) * PAIR_BYTES as u64)?;
        let last = tail.as_chunks().0.iter().rposition(|pair| decode(pair).1.is_some());
        Ok(last.map_or(0, |last| pairs - looked_at + last as u64 + 1))
    }

    /// When the data at this place was written.
    pub(super) fn at(&mut self, offset: u64) -> Option<Timestamp> {
        if let Some((from, until, time)) = self.last
            && (from..until).contains(&offset)
        {
            return Some(time);
        }
        // The file may be cut back while it is read.
        self.find(offset).ok().flatten()
    }

    fn find(&mut self, offset: u64) -> io::Result<Option<Timestamp>> {
        let next = self.first_at_or_after(offset.saturating_add(1))?;
        let Some(index) = next.checked_sub(1) else { return Ok(None) };
        let (from, time) = self.pair(index)?;
        let until = if next < self.pairs { self.pair(next)?.0 } else { u64::MAX };
        self.last = time.map(|time| (from, until, time));
        Ok(time)
    }

    /// The number of the first pair whose place is not before this one.
    fn first_at_or_after(&self, offset: u64) -> io::Result<u64> {
        let (mut low, mut high) = (0, self.pairs);
        while low < high {
            let middle = low.midpoint(high);
            if self.pair(middle)?.0 < offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    fn pair(&self, index: u64) -> io::Result<(u64, Option<Timestamp>)> {
        let mut bytes = [0; PAIR_BYTES];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut bytes, index * PAIR_BYTES as u64)?;
        }
        Ok(decode(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn clock() -> (Arc<AtomicI64>, impl Fn() -> Timestamp + Send + 'static) {
        let millis = Arc::new(AtomicI64::new(0));
        let read = Arc::clone(&millis);
        (millis, move || at(read.load(Ordering::Relaxed)))
    }

    #[test]
    fn a_place_has_the_time_of_the_last_pair_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        assert_eq!(Times::open(&log).at(5), None);
        let (millis, now) = clock();
        let mut keeper = TimeKeeper::resume(&log, 0, now);
        for (time, offset) in [(1000, 10), (1999, 20), (2000, 30), (2500, 40), (100, 50)] {
            millis.store(time, Ordering::Relaxed);
            keeper.note(offset);
        }
        let mut times = Times::open(&log);
        assert_eq!(times.pairs, 3);
        for (offset, expected) in [
            (9, None),
            (10, Some(1000)),
            (29, Some(1000)),
            (30, Some(2000)),
            (49, Some(2000)),
            (50, Some(100)),
            (10, Some(1000)),
        ] {
            assert_eq!(times.at(offset), expected.map(at), "{offset}");
        }
    }

    #[test]
    fn what_was_noted_of_a_part_that_was_cut_off_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("x.log");
        for (length, time) in [(0, 1000), (10, 2000), (20, 3000), (15, 4000)] {
            let mut keeper = TimeKeeper::resume(&log, length, move || at(time));
            keeper.note(length);
            // The writer died within a pair.
            let end = keeper.pairs * PAIR_BYTES as u64;
            keeper.file.unwrap().write_all_at(b"half", end).unwrap();
        }
        let mut times = Times::open(&log);
        let found: Vec<_> = [0, 10, 14, 15, 20].into_iter().map(|offset| times.at(offset).unwrap()).collect();
        assert_eq!(found, [1000, 2000, 2000, 4000, 4000].map(at));
    }

    #[test]
    fn times_survive_a_file_that_is_missing_short_or_full_of_garbage() {
        let known = |at_0: Option<i64>, at_20: Option<i64>| (at_0.map(at), at_20.map(at));
        for (damage, expected) in [
            ("missing", known(None, None)),
            ("empty", known(None, None)),
            ("short", known(Some(1000), Some(1000))),
            ("NUL", known(None, None)),
            ("NUL tail", known(Some(1000), Some(2000))),
            ("garbage", known(None, None)),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let log = folder.path().join("x.log");
            let (millis, now) = clock();
            let mut keeper = TimeKeeper::resume(&log, 0, now);
            for (time, offset) in [(1000, 0), (2000, 20)] {
                millis.store(time, Ordering::Relaxed);
                keeper.note(offset);
            }
            drop(keeper);
            let path = times_path(&log);
            let whole = std::fs::read(&path).unwrap();
            match damage {
                "missing" => std::fs::remove_file(&path),
                "empty" => std::fs::write(&path, ""),
                "short" => std::fs::write(&path, &whole[..PAIR_BYTES + 3]),
                "NUL" => std::fs::write(&path, vec![0; 100 * PAIR_BYTES]),
                "NUL tail" => std::fs::write(&path, [whole.as_slice(), &[0; 5 * PAIR_BYTES]].concat()),
                _ => std::fs::write(&path, vec![0xee; 100]),
            }
            .unwrap();
            let mut times = Times::open(&log);
            assert_eq!((times.at(0), times.at(25)), expected, "{damage}");
            // The writer goes on, and what it notes is found.
            let mut keeper = TimeKeeper::resume(&log, 30, || at(9000));
            keeper.note(30);
            let mut times = Times::open(&log);
            assert_eq!((times.at(0), times.at(25), times.at(31)), (expected.0, expected.1, Some(at(9000))), "{damage}");
        }
    }
}
