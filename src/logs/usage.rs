//! What an attempt used over time: samples beside its log, which stay and go with it.
//!
//! The file holds a bounded number of records. When it is full, each two are merged: so a run of a minute has a
//! resolution of seconds, one of a week of half an hour, and a chart of either costs the same.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::Logs;
use crate::model::{AttemptId, RunId, UsageSample};

/// A time in microseconds, bytes, thousandths of a core: eight bytes each, `UNKNOWN` where one was not measured.
pub(super) const RECORD_BYTES: usize = 24;
const UNKNOWN: i64 = -1;
/// More than a chart shows, in 12 KiB.
const MOST_SAMPLES: usize = 2 * HALF;
const HALF: usize = 256;
/// From the first of a half to its last.
const HALF_STEPS: i32 = 255;

/// Where the samples of a log's attempt are.
pub(super) fn usage_path(log_path: &Path) -> PathBuf {
    log_path.with_extension("usage")
}

impl Logs {
    /// Stores a sample of an attempt's usage.
    pub fn note_usage(&self, attempt_id: AttemptId, sample: UsageSample) -> io::Result<()> {
        note_usage(&self.path(attempt_id), sample)
    }

    /// The usage of the newest attempt that has samples, oldest first.
    pub fn usage(&self, run_id: RunId, attempts: u32) -> io::Result<Vec<UsageSample>> {
        for attempt in (1..=attempts).rev() {
            let samples = read(&usage_path(&self.path(AttemptId { run_id, attempt })))?;
            if !samples.is_empty() {
                return Ok(samples);
            }
        }
        Ok(Vec::new())
    }
}

/// Keeps a sample beside the log at this path, which may not be there yet. One that is not newer than the last is left
/// out: a clock that was set back a little has to catch up first. Samples from a distant future were not measured by a
/// clock that was right, and make room.
pub fn note_usage(log_path: &Path, sample: UsageSample) -> io::Result<()> {
    let path = usage_path(log_path);
    let mut samples = read(&path)?;
    let latest = new_latest(sample.at);
    samples.truncate(samples.partition_point(|known| known.at <= latest));
    match add(&mut samples, sample) {
        Added::Nothing => Ok(()),
        Added::At(index) => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
            file.write_all_at(&encode(samples[index]), (index * RECORD_BYTES) as u64)?;
            // What a crash or another clock left behind it would come back with the next sample.
            file.set_len((samples.len() * RECORD_BYTES) as u64)
        }
        Added::AfterHalving => {
            let new = path.with_extension("usage-new");
            std::fs::write(&new, samples.into_iter().flat_map(encode).collect::<Vec<_>>())?;
            std::fs::rename(&new, &path)
        }
    }
}

/// What a sample may be later than the next one.
const CLOCK_STEP: SignedDuration = SignedDuration::from_hours(1);

fn new_latest(at: Timestamp) -> Timestamp {
    at.saturating_add(CLOCK_STEP).unwrap_or(Timestamp::MAX)
}

#[derive(Debug, PartialEq, Eq)]
enum Added {
    Nothing,
    /// Only this one is another than before.
    At(usize),
    /// All are.
    AfterHalving,
}

fn add(samples: &mut Vec<UsageSample>, new: UsageSample) -> Added {
    let count = samples.len();
    let (first, last) = match samples[..] {
        [first, .., last] => (first, last),
        [last] => (last, last),
        [] => {
            samples.push(new);
            return Added::At(0);
        }
    };
    if new.at <= last.at {
        return Added::Nothing;
    }
    if count >= MOST_SAMPLES {
        *samples = UsageSample::halve(samples);
        samples.push(new);
        return Added::AfterHalving;
    }
    // What comes after a halving comes as seldom as what it left.
    if count > HALF {
        let before = samples[count - 2].at;
        let usual = samples[HALF - 1].at.duration_since(first.at) / HALF_STEPS;
        // A little more, for no clock is that exact.
        if new.at.duration_since(before) <= usual + usual / 32 {
            samples[count - 1] = last.join(new, Some(before));
            return Added::At(count - 1);
        }
    }
    samples.push(new);
    Added::At(count)
}

fn read(path: &Path) -> io::Result<Vec<UsageSample>> {
    let mut bytes = Vec::new();
    // A longer file was not written by us.
    let most = (MOST_SAMPLES * RECORD_BYTES) as u64;
    match File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // What a crash left of the last one is no later than the one before, or not whole: it is written over.
    let mut last = None;
    let samples = bytes.chunks_exact(RECORD_BYTES).map_while(decode);
    Ok(samples.take_while(|sample| last.replace(sample.at).is_none_or(|last| last < sample.at)).collect())
}

fn encode(sample: UsageSample) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let fields =
        [sample.at.as_microsecond(), sample.memory_bytes.unwrap_or(UNKNOWN), sample.cpu_millis.unwrap_or(UNKNOWN)];
    for (place, field) in record.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_le_bytes());
    }
    record
}

fn decode(record: &[u8]) -> Option<UsageSample> {
    let field = |place: usize| {
        let bytes = record[place * 8..][..8].try_into().expect("a record has three fields of eight bytes");
        Some(i64::from_le_bytes(bytes)).filter(|value| *value >= 0)
    };
    let at = field(0).filter(|micros| *micros > 0)?;
    Some(UsageSample { at: Timestamp::from_microsecond(at).ok()?, memory_bytes: field(1), cpu_millis: field(2) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: i64, memory_bytes: i64) -> UsageSample {
        let at = Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_millis(millis);
        UsageSample { at, memory_bytes: Some(memory_bytes), cpu_millis: None }
    }

    fn attempt() -> (tempfile::TempDir, Logs, AttemptId) {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        (folder, logs, AttemptId { run_id: RunId::generate(), attempt: 2 })
    }

    #[test]
    fn samples_are_read_as_they_were_noted() {
        let (_folder, logs, attempt_id) = attempt();
        assert!(logs.usage(attempt_id.run_id, 3).unwrap().is_empty());
        let noted = [sample(0, 5), UsageSample { memory_bytes: None, cpu_millis: Some(250), ..sample(900, 0) }];
        for sample in noted {
            logs.note_usage(attempt_id, sample).unwrap();
        }
        // A clock that was set back.
        logs.note_usage(attempt_id, sample(300, 7)).unwrap();
        assert_eq!(logs.usage(attempt_id.run_id, 3).unwrap(), noted);
        assert!(logs.usage(attempt_id.run_id, 1).unwrap().is_empty());
    }

    #[test]
    fn what_a_crash_left_half_written_is_written_over() {
        let (_folder, logs, attempt_id) = attempt();
        let path = usage_path(&logs.path(attempt_id));
        logs.note_usage(attempt_id, sample(0, 5)).unwrap();
        for rest in [&[1_u8; 10][..], &[0; RECORD_BYTES], &[0; RECORD_BYTES + 5]] {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes.truncate(RECORD_BYTES);
            bytes.extend(rest);
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(logs.usage(attempt_id.run_id, 2).unwrap(), [sample(0, 5)]);
        }
        logs.note_usage(attempt_id, sample(1000, 6)).unwrap();
        assert_eq!(logs.usage(attempt_id.run_id, 2).unwrap(), [sample(0, 5), sample(1000, 6)]);
    }

    #[test]
    fn samples_survive_a_file_that_is_missing_short_or_full_of_garbage() {
        for damage in ["missing", "empty", "short", "NUL", "garbage", "future", "long"] {
            let (_folder, logs, attempt_id) = attempt();
            let path = usage_path(&logs.path(attempt_id));
            logs.note_usage(attempt_id, sample(0, 5)).unwrap();
            logs.note_usage(attempt_id, sample(1000, 6)).unwrap();
            let kept: &[_] = match damage {
                "missing" => std::fs::remove_file(&path).map(|()| &[][..]),
                "empty" => std::fs::write(&path, "").map(|()| &[][..]),
                "short" => std::fs::write(&path, &std::fs::read(&path).unwrap()[..RECORD_BYTES + 7]).map(|()| &[5][..]),
                "NUL" => std::fs::write(&path, [0; 5 * RECORD_BYTES]).map(|()| &[][..]),
                "garbage" => std::fs::write(&path, [0xab; 3 * RECORD_BYTES]).map(|()| &[][..]),
                "future" => std::fs::write(&path, [0x01; RECORD_BYTES]).map(|()| &[][..]),
                _ => std::fs::write(&path, vec![0xff; 1 << 20]).map(|()| &[][..]),
            }
            .unwrap();
            for at in [2000, 3000] {
                logs.note_usage(attempt_id, sample(at, 7)).unwrap();
            }
            let found = logs.usage(attempt_id.run_id, 2).unwrap();
            let found: Vec<_> = found.iter().filter_map(|sample| sample.memory_bytes).collect();
            assert_eq!(found, [kept, &[7, 7]].concat(), "{damage}");
        }
    }

    #[test]
    fn a_run_of_any_length_keeps_few_samples_evenly_spread() {
        let mut samples = Vec::new();
        let mut most = 0;
        for second in 0..100_000 {
            add(&mut samples, sample(second * 1000, second));
            most = most.max(samples.len());
        }
        assert_eq!(most, MOST_SAMPLES);
        assert!(samples.len() >= HALF);
        assert_eq!(samples.last().unwrap().at, sample(99_999_000, 0).at);
        let gaps: Vec<_> = samples.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at).as_secs()).collect();
        let (longest, usual) = (gaps.iter().max().unwrap(), gaps[gaps.len() / 2]);
        assert!(*longest <= 2 * usual, "{gaps:?}");
        // What was used at most is never lost.
        assert_eq!(samples.iter().filter_map(|sample| sample.memory_bytes).max(), Some(99_999));
    }

    #[test]
    fn what_was_halved_is_read_back_and_goes_on() {
        let (_folder, logs, attempt_id) = attempt();
        let mut expected = Vec::new();
        for i in 0..MOST_SAMPLES + 3 {
            let sample = sample(i64::try_from(i).unwrap() * 1000, 1);
            logs.note_usage(attempt_id, sample).unwrap();
            add(&mut expected, sample);
        }
        assert!(expected.len() < MOST_SAMPLES);
        assert_eq!(logs.usage(attempt_id.run_id, 2).unwrap(), expected);
    }
}
