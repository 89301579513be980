//! The log of an attempt whose output is pumped from its engine, and the place up to which it is stored.
//!
//! The place is a small file beside the log, replaced after each append. After a crash the log may hold more than the
//! place says: the rest is cut off and asked for again, so that nothing is missing and nothing is there twice.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{CappedLog, ignore_missing};
use crate::model::LogPosition;

pub struct PumpedLog {
    log: CappedLog,
    position_path: PathBuf,
}

impl PumpedLog {
    /// Up to where the output is stored: from there the engine is to be asked for more.
    pub fn position(path: &Path) -> io::Result<LogPosition> {
        match std::fs::read(position_path(path)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LogPosition::default()),
            Err(error) => Err(error),
        }
    }

    /// Opens the log as it was at this position.
    pub fn resume(
        path: &Path,
        cap_bytes: u64,
        position: &LogPosition,
        now: impl Fn() -> Timestamp + Send + 'static,
    ) -> io::Result<Self> {
        let log = CappedLog::resume(path, cap_bytes, position.bytes, now)?;
        Ok(Self { log, position_path: position_path(path) })
    }

    /// Appends output, and remembers the engine's word for the place behind it.
    pub fn append(&mut self, bytes: &[u8], marker: Option<String>) -> io::Result<()> {
        self.log.write_all(bytes)?;
        let position = LogPosition { bytes: self.log.output_bytes(), marker };
        let new = self.position_path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&position)?)?;
        std::fs::rename(&new, &self.position_path)
    }

    /// Flushes the log to the disk: the engine's copy may go. The place is no longer needed.
    pub fn finish(self) -> io::Result<()> {
        self.log.finish()?;
        ignore_missing(std::fs::remove_file(&self.position_path))
    }
}

pub(super) fn position_path(log_path: &Path) -> PathBuf {
    log_path.with_extension("position")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_log_has_no_gap_and_no_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let start = PumpedLog::position(&path).unwrap();
        assert_eq!(start, LogPosition::default());
        let mut log = PumpedLog::resume(&path, 1000, &start, || Timestamp::UNIX_EPOCH).unwrap();
        log.append(b"first ", Some("m1".into())).unwrap();
        // The crash comes between the append and the place.
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"second").unwrap();
        drop(log);

        let place = PumpedLog::position(&path).unwrap();
        assert_eq!(place, LogPosition { bytes: 6, marker: Some("m1".into()) });
        let mut log = PumpedLog::resume(&path, 1000, &place, || Timestamp::UNIX_EPOCH).unwrap();
        log.append(b"second", Some("m2".into())).unwrap();
        log.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "first second");
    }

    #[test]
    fn a_log_that_was_cut_stays_cut_when_it_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = PumpedLog::resume(&path, 4, &LogPosition::default(), || Timestamp::UNIX_EPOCH).unwrap();
        log.append(b"123456", None).unwrap();
        drop(log);
        let place = PumpedLog::position(&path).unwrap();
        assert_eq!(place.bytes, 6);
        let mut log = PumpedLog::resume(&path, 4, &place, || Timestamp::UNIX_EPOCH).unwrap();
        log.append(b"789", None).unwrap();
        log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("1234\n[flotilla: the log reached")
                && text.ends_with("5 bytes of output were not kept]\n"),
            "{text}"
        );
    }
}
