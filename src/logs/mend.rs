//! After a power loss: what a log lost at its end, and when its attempt last wrote.
//!
//! A file system may keep a file's length and lose its last pages, which then read as NULs; or it may lose the length
//! too, and nothing shows. So the NULs go, and the log says in place that output may be missing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;

use super::ignore_missing;
use super::lines::index_path;
use super::times::{self, times_path};
use super::usage::{self, usage_path};

/// The end of the note about a loss, which identifies an existing note.
const NOTE_END: &str = "output from just before the loss of power may be missing here]\n";
/// How much of a log is read at once, from its end backwards.
const PIECE_BYTES: u64 = 64 * 1024;

/// Cuts off the NULs that a loss of power left at the end of this log, and says there that output may be missing. What
/// lies beside the log is shortened with it. Repeating it changes nothing.
pub fn mend_after_power_loss(log_path: &Path) -> io::Result<()> {
    if let Some(folder) = log_path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut log = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(log_path)?;
    let modified = log.metadata()?.modified()?;
    let length = log.metadata()?.len();
    let kept = length_without_nuls(&log, length)?;
    if kept == length && ends_with(&log, length, NOTE_END)? {
        return Ok(());
    }
    log.set_len(kept)?;
    log.seek(SeekFrom::Start(kept))?;
    let line_end = if kept == 0 || ends_with(&log, kept, "\n")? { "" } else { "\n" };
    let cut = match length - kept {
        0 => String::new(),
        bytes => format!("{bytes} NUL bytes were cut off, and "),
    };
    write!(log, "{line_end}[flotilla: the machine was restarted while the command ran: {cut}{NOTE_END}")?;
    log.sync_all()?;
    // When the attempt last wrote, for later checks.
    log.set_modified(modified)?;
    keep_increasing::<{ times::PAIR_BYTES }>(&times_path(log_path), -1)?;
    keep_increasing::<{ usage::RECORD_BYTES }>(&usage_path(log_path), 0)?;
    ignore_missing(fs::remove_file(index_path(log_path)))
}

/// When the log, or what lies beside it, was last written.
#[must_use]
pub fn last_written(log_path: &Path) -> Option<Timestamp> {
    let modified = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let last = modified(log_path).max(modified(&usage_path(log_path)))?;
    let last = Timestamp::try_from(last).ok()?;
    Timestamp::from_microsecond(last.as_microsecond()).ok()
}

fn length_without_nuls(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let from = end.saturating_sub(PIECE_BYTES);
        let mut piece = vec![0; usize::try_from(end - from).unwrap_or_default()];
        file.read_exact_at(&mut piece, from)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
            return Ok(from + last as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}

fn ends_with(file: &File, length: u64, text: &str) -> io::Result<bool> {
    let Some(from) = length.checked_sub(text.len() as u64) else { return Ok(false) };
    let mut end = vec![0; text.len()];
    file.read_exact_at(&mut end, from)?;
    Ok(end == text.as_bytes())
}

/// Cuts a file of records of this size before the first whose key, a number at its beginning, is not greater than the one
/// before.
fn keep_increasing<const BYTES: usize>(path: &Path, mut last: i64) -> io::Result<()> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let modified = file.metadata()?.modified()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let mut kept = 0;
    for record in bytes.chunks_exact(BYTES) {
        let key = record.first_chunk().map_or(0, |key| i64::from_le_bytes(*key));
        if key <= last {
            break;
        }
        (last, kept) = (key, kept + BYTES as u64);
    }
    if kept < bytes.len() as u64 {
        file.set_len(kept)?;
        file.set_modified(modified)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::CappedLog;
    use super::*;

    fn log_of(bytes: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/run.log");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn nuls_at_the_end_of_a_log_are_cut_off_and_the_log_says_what_may_be_missing() {
        const NOTE: &str = "[flotilla: the machine was restarted while the command ran: ";
        let many = [b"one\0two".as_slice(), &vec![0; 100_000]].concat();
        let table: [(&[u8], String); 5] = [
            (b"one\n\0\0\0", format!("one\n{NOTE}3 NUL bytes were cut off, and {NOTE_END}")),
            (b"half a li", format!("half a li\n{NOTE}{NOTE_END}")),
            (b"", format!("{NOTE}{NOTE_END}")),
            (b"\0\0", format!("{NOTE}2 NUL bytes were cut off, and {NOTE_END}")),
            (&many, format!("one\0two\n{NOTE}100000 NUL bytes were cut off, and {NOTE_END}")),
        ];
        for (bytes, expected) in table {
            let (_folder, path) = log_of(bytes);
            let before = last_written(&path);
            for _ in 0..2 {
                mend_after_power_loss(&path).unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), expected);
                assert_eq!(last_written(&path), before, "mending is not hearing of it");
            }
        }
    }

    #[test]
    fn a_log_that_was_lost_as_a_whole_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b/run.log");
        mend_after_power_loss(&path).unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with(NOTE_END));
    }

    #[test]
    fn what_lies_beside_a_log_is_kept_as_far_as_it_is_whole() {
        let (_folder, path) = log_of(b"one\n");
        drop(CappedLog::append(&path, 100, || Timestamp::UNIX_EPOCH).unwrap());
        let records = |keys: &[i64], bytes: usize| -> Vec<u8> {
            keys.iter().flat_map(|key| [key.to_le_bytes().to_vec(), vec![7; bytes - 8]].concat()).collect()
        };
        fs::write(times_path(&path), records(&[0, 5, 9, 0, 0], 16)).unwrap();
        fs::write(usage_path(&path), records(&[100, 200, 0, 300], 24)).unwrap();
        fs::write(index_path(&path), b"of a longer log").unwrap();
        mend_after_power_loss(&path).unwrap();
        assert_eq!(fs::metadata(times_path(&path)).unwrap().len(), 3 * 16);
        assert_eq!(fs::metadata(usage_path(&path)).unwrap().len(), 2 * 24);
        assert!(!index_path(&path).exists());
    }
}
