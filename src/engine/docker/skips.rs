//! Detects whether the daemon may have skipped an output file. If a daemon is read more slowly than it writes, it
//! rotates its file, rotates the next one too, and then continues with the newest: what was in between is not sent,
//! without any notice (<https://github.com/moby/moby/blob/v28.0.0/daemon/logger/loggerutils/follow.go>, "file
//! rotations were missed"). The files still exist, and an answer that does not follow reads them all.
//!
//! A skip always covers a whole file. So there was already enough output for one file, as much again was written
//! between two consecutive messages, and the first of them was waiting to be read meanwhile.

use std::time::Instant;

use bollard::models::ContainerInspectResponse;
use jiff::SignedDuration;

use super::capacity::Clock;
use super::unpack::Message;
use crate::engine::container::marker::Stamp;

/// No daemon writes faster than this: several times the measured rate.
const MOST_BYTES_PER_SEC: u64 = 320 << 20;
/// The size of a container's files if unknown: no smaller ones are requested.
const LEAST_FILE_BYTES: u64 = 32 << 20;

pub(super) struct Skips {
    file_bytes: u64,
    /// The most space that all output so far takes in the daemon's files.
    written_bytes: u64,
    last: Option<(Stamp, Instant)>,
    is_suspected: bool,
    /// The next new message comes from an answer that was requested after the message had been written.
    is_sure: bool,
}

impl Skips {
    pub(super) fn new(file_bytes: u64, stored_bytes: u64) -> Self {
        /// For lines that consist only of their newline.
        const MOST_PER_BYTE: u64 = 64;
        let written_bytes = stored_bytes.saturating_mul(MOST_PER_BYTE);
        Self { file_bytes, written_bytes, last: None, is_suspected: false, is_sure: true }
    }

    /// A new answer begins that contains everything written before.
    pub(super) fn restart(&mut self) {
        self.last = None;
        self.is_suspected = false;
        self.is_sure = true;
    }

    /// Whether the current answer can no longer be trusted.
    pub(super) const fn is_suspected(&self) -> bool {
        self.is_suspected
    }

    /// Whether output may be missing before this message.
    pub(super) fn suspects_before(&mut self, message: &Message, clock: Option<&Clock>) -> bool {
        self.is_suspected = self.may_be_before(message, clock);
        self.is_suspected
    }

    fn may_be_before(&self, message: &Message, clock: Option<&Clock>) -> bool {
        let Some((last, read_at)) = &self.last else { return false };
        if self.is_sure || self.written_bytes < self.file_bytes {
            return false;
        }
        // Most messages come within a tenth of a second of the previous one, and no file is written that fast.
        if message.stamp.is_in_same_tenth(last) {
            return false;
        }
        let (Some(last), Some(next)) = (last.as_timestamp(), message.stamp.as_timestamp()) else { return false };
        let least_gap = self.least_gap();
        // How long the previous message had waited to be read; unknown counts as long.
        let waited = clock.map(|clock| clock.at(*read_at).duration_since(last));
        next.duration_since(last) >= least_gap && waited.is_none_or(|waited| waited >= least_gap / 2)
    }

    /// Records a message that is passed on.
    pub(super) fn add(&mut self, message: &Message, is_new: bool, now: Instant) {
        self.written_bytes = self.written_bytes.saturating_add(message.bytes_in_file());
        self.last = Some((message.stamp, now));
        if is_new {
            self.is_sure = false;
        }
    }

    /// The minimum time it takes to write a file.
    fn least_gap(&self) -> SignedDuration {
        let millis = self.file_bytes.saturating_mul(1000) / MOST_BYTES_PER_SEC;
        SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

/// The size of a container's output files, as reported by the daemon, such as `32m`.
pub(super) fn file_bytes(container: &ContainerInspectResponse) -> u64 {
    let config = container.host_config.as_ref().and_then(|config| config.log_config.as_ref());
    let size = config.and_then(|config| config.config.as_ref()?.get("max-size"));
    let megabytes = size.and_then(|size| size.strip_suffix('m')?.parse::<u64>().ok());
    megabytes.map_or(LEAST_FILE_BYTES, |megabytes| (megabytes << 20).max(LEAST_FILE_BYTES))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bollard::container::LogOutput;
    use jiff::Timestamp;

    use super::*;

    fn message(millis: i64) -> Message {
        let stamp = Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap();
        Message::read(&LogOutput::StdOut { message: format!("{stamp:.9} line\n").into() }).unwrap()
    }

    /// Whether output may be missing before a message that was printed `gap_ms` after the previous one, which was
    /// read `waited_ms` after it had been printed.
    fn may_be_missing(stored_bytes: u64, gap_ms: i64, waited_ms: u64) -> bool {
        let mut skips = Skips::new(LEAST_FILE_BYTES, stored_bytes);
        let begin = Instant::now();
        let clock = Clock { time: Timestamp::from_millisecond(1_800_000_000_000).unwrap(), read_at: begin };
        skips.add(&message(0), true, begin + Duration::from_millis(waited_ms));
        skips.may_be_before(&message(gap_ms), Some(&clock))
    }

    #[test]
    fn a_file_may_be_missing_where_there_was_output_and_time_enough_and_the_reader_was_late() {
        assert!(may_be_missing(LEAST_FILE_BYTES, 1000, 1000));
        assert!(!may_be_missing(1000, 1000, 1000), "there is only one file");
        assert!(!may_be_missing(LEAST_FILE_BYTES, 90, 1000), "no file is written in this time");
        assert!(!may_be_missing(LEAST_FILE_BYTES, 1000, 5), "the reader had come to the end");
    }

    #[test]
    fn what_a_new_answer_begins_with_is_whole() {
        let mut skips = Skips::new(LEAST_FILE_BYTES, LEAST_FILE_BYTES);
        skips.add(&message(0), true, Instant::now());
        assert!(skips.may_be_before(&message(1000), None));
        skips.restart();
        skips.add(&message(0), false, Instant::now());
        assert!(!skips.may_be_before(&message(1000), None));
        skips.add(&message(1000), true, Instant::now());
        assert!(skips.may_be_before(&message(2000), None));
    }

    #[test]
    fn the_size_of_the_files_is_what_the_container_was_made_with() {
        let container = |size: &str| {
            let config = serde_json::json!({ "HostConfig": { "LogConfig": { "Config": { "max-size": size } } } });
            serde_json::from_value::<ContainerInspectResponse>(config).unwrap()
        };
        let sizes = ["200m", "1m", "20g"].map(|size| file_bytes(&container(size)));
        assert_eq!(sizes, [200 << 20, LEAST_FILE_BYTES, LEAST_FILE_BYTES]);
    }
}
