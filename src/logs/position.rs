//! The position of a pumped log: a small file beside it that records up to where the output is stored.
//!
//! It is written only after the log it refers to is on the disk, and replaced as a whole. So after a crash or a power
//! loss the log holds at least what the position says; the rest is cut off and read from the engine again. A position
//! that contradicts its log is not trusted: then the output is read again from its beginning.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ignore_missing;
use crate::model::LogPosition;

/// Version 1 had neither a version nor a boot id, and was not synced.
const VERSION: u32 = 2;
/// How much of a log is read at once in search of its last byte that is no NUL.
const BLOCK_BYTES: u64 = 64 * 1024;

/// How much of an attempt's output is stored, as far as it is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// All that there will be. `gap` says why some of it may be missing.
    Whole { gap: Option<String> },
    /// Up to this position; from there the engine is asked for more.
    UpTo {
        position: LogPosition,
        /// How many bytes of the log file are output up to there: less than the position says where the log is capped.
        kept_bytes: u64,
        /// Why the stored output can't be relied on, if that is the reason to start over.
        distrust: Option<String>,
    },
}

impl Stored {
    fn nothing(distrust: Option<&str>) -> Self {
        let distrust = distrust.map(str::to_owned);
        Self::UpTo { position: LogPosition::default(), kept_bytes: 0, distrust }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(default)]
    pub version: u32,
    #[serde(flatten)]
    pub position: LogPosition,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_bytes: Option<u64>,
    /// The boot of the machine in which this was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// Why the log can't be relied on, although it may be as long as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distrust: Option<String>,
    /// There will be no more output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<End>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub gap: Option<String>,
}

impl Record {
    pub fn new(position: LogPosition, kept_bytes: u64) -> Self {
        let boot_id = Some(boot_id()).filter(|id| !id.is_empty());
        Self { version: VERSION, position, kept_bytes: Some(kept_bytes), boot_id, distrust: None, end: None }
    }

    /// Replaces what is recorded for this log. `is_synced` puts it on the disk before it takes the place of the old one.
    pub fn write(&self, log_path: &Path, is_synced: bool) -> io::Result<()> {
        let path = position_path(log_path);
        let new = log_path.with_extension("position-new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        if is_synced {
            file.sync_all()?;
        }
        std::fs::rename(&new, &path)
    }
}

/// What lies on the disk of one log.
#[derive(Debug, Clone, Default)]
pub(super) struct OnDisk {
    pub record: Option<Vec<u8>>,
    pub log_bytes: u64,
    /// How many NUL bytes the log ends with: what a power loss leaves of a file whose length was stored before its bytes.
    pub nul_bytes: u64,
}

impl OnDisk {
    pub fn read(log_path: &Path) -> io::Result<Self> {
        let record = match std::fs::read(position_path(log_path)) {
            Ok(bytes) => Some(bytes),
            Err(error) => ignore_missing(Err(error)).map(|()| None)?,
        };
        match File::open(log_path) {
            Ok(log) => {
                let log_bytes = log.metadata()?.len();
                Ok(Self { record, log_bytes, nul_bytes: nul_bytes(&log, log_bytes)? })
            }
            Err(error) => ignore_missing(Err(error)).map(|()| Self { record, ..Self::default() }),
        }
    }

    pub fn record(&self) -> Option<Record> {
        serde_json::from_slice(self.record.as_deref()?).ok()
    }

    /// The part of the output that is certain. `cap_bytes` is the cap of logs whose record is of version 1.
    pub fn stored(&self, cap_bytes: u64, boot_id: &str) -> Stored {
        if self.record.is_none() {
            let distrust = (self.log_bytes > 0).then_some("there is no record of how much of it is stored");
            return Stored::nothing(distrust);
        }
        let Some(record) = self.record() else {
            return Stored::nothing(Some("the record of how much of it is stored is damaged"));
        };
        if record.version > VERSION {
            return Stored::nothing(Some("the record of how much of it is stored is of another version"));
        }
        if let Some(reason) = &record.distrust {
            return Stored::nothing(Some(reason));
        }
        let kept_bytes = record.kept_bytes.unwrap_or_else(|| record.position.bytes.min(cap_bytes));
        if self.log_bytes < kept_bytes {
            return Stored::nothing(Some("less of it is stored than was recorded"));
        }
        let is_of_this_boot = record.boot_id.as_deref() == Some(boot_id);
        if !is_of_this_boot && self.nul_bytes > self.log_bytes - kept_bytes {
            return Stored::nothing(Some("it ends in NUL bytes, which is what a power loss leaves"));
        }
        match record.end {
            Some(End { gap }) => Stored::Whole { gap },
            None => Stored::UpTo { position: record.position, kept_bytes, distrust: None },
        }
    }
}

/// Where the position of a log is recorded.
pub(super) fn position_path(log_path: &Path) -> PathBuf {
    log_path.with_extension("position")
}

/// Changes with every start of the machine; empty where the system has none.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// How many NUL bytes the first `length` bytes of a file end with.
fn nul_bytes(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(&mut block, start)?;
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            return Ok(length - (start + last as u64 + 1));
        }
        end = start;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "this boot";

    fn on_disk(record: &Record, log_bytes: u64, nul_bytes: u64) -> OnDisk {
        OnDisk { record: Some(serde_json::to_vec(record).unwrap()), log_bytes, nul_bytes }
    }

    fn record(bytes: u64, boot_id: &str) -> Record {
        let position = LogPosition { bytes, marker: Some("m".to_owned()) };
        let boot_id = Some(boot_id.to_owned());
        Record { version: VERSION, position, kept_bytes: Some(bytes), boot_id, distrust: None, end: None }
    }

    fn up_to(bytes: u64) -> Stored {
        let position = LogPosition { bytes, marker: Some("m".to_owned()) };
        Stored::UpTo { position, kept_bytes: bytes, distrust: None }
    }

    fn is_begun_anew(on_disk: &OnDisk) -> bool {
        matches!(on_disk.stored(100, BOOT), Stored::UpTo { position, kept_bytes: 0, distrust: Some(_) } if position == LogPosition::default())
    }

    #[test]
    fn a_position_that_its_log_bears_out_is_believed() {
        for (log_bytes, nul_bytes) in [(10, 0), (15, 0), (15, 5), (4096, 4086)] {
            assert_eq!(on_disk(&record(10, "another"), log_bytes, nul_bytes).stored(100, BOOT), up_to(10));
        }
        // NUL bytes that were printed, and no power was lost since.
        assert_eq!(on_disk(&record(10, BOOT), 12, 9).stored(100, BOOT), up_to(10));
        let nothing = Stored::UpTo { position: LogPosition::default(), kept_bytes: 0, distrust: None };
        assert_eq!(OnDisk::default().stored(100, BOOT), nothing);
    }

    #[test]
    fn a_position_that_contradicts_its_log_is_not_believed() {
        for found in [
            on_disk(&record(10, BOOT), 9, 0),
            on_disk(&record(10, BOOT), 0, 0),
            on_disk(&record(10, "another"), 10, 1),
            on_disk(&record(10, "another"), 15, 6),
            on_disk(&Record { version: VERSION + 1, ..record(10, BOOT) }, 10, 0),
            on_disk(&Record { distrust: Some("it was cut".to_owned()), ..record(10, BOOT) }, 10, 0),
        ] {
            assert!(is_begun_anew(&found), "{found:?}");
        }
        for damaged in [&b""[..], &[0; 60], b"{", b"{}", b"[]", b"{\"bytes\":-1}", b"{\"bytes\":1}{", b"\xff"] {
            let found = OnDisk { record: Some(damaged.to_vec()), log_bytes: 10, nul_bytes: 0 };
            assert!(is_begun_anew(&found), "{damaged:?}");
        }
        assert!(is_begun_anew(&OnDisk { record: None, log_bytes: 10, nul_bytes: 0 }));
    }

    #[test]
    fn a_position_of_the_first_version_is_believed_unless_its_log_is_short_or_ends_in_nuls() {
        let found = |log_bytes, nul_bytes| OnDisk {
            record: Some(br#"{"bytes":150,"marker":"m"}"#.to_vec()),
            log_bytes,
            nul_bytes,
        };
        let position = LogPosition { bytes: 150, marker: Some("m".to_owned()) };
        let expected = Stored::UpTo { position, kept_bytes: 100, distrust: None };
        assert_eq!(found(170, 0).stored(100, BOOT), expected);
        assert!(is_begun_anew(&found(99, 0)));
        assert!(is_begun_anew(&found(170, 71)));
    }

    #[test]
    fn the_nul_bytes_at_the_end_of_a_log_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let block = usize::try_from(BLOCK_BYTES).unwrap();
        for (text, nuls) in
            [("", 0), ("a\0b", 0), ("ab", 1), ("", 5), ("ab", block), ("ab", 2 * block - 2), ("", 3 * block)]
        {
            std::fs::write(&path, [text.as_bytes(), &vec![0; nuls]].concat()).unwrap();
            assert_eq!(OnDisk::read(&path).unwrap().nul_bytes, nuls as u64, "{text:?} {nuls}");
        }
    }
}
