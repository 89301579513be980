//! The writing end of one attempt's log: appends up to a cap, reports in the log itself what was cut, and records
//! beside it when it was written.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::lock;
use super::times::TimeKeeper;

/// An append-only log file of at most `cap_bytes` of output, plus two lines that report the cut.
/// What comes after the cap is counted and dropped, so that the writer never blocks on a full log.
/// No other writer can write to the file meanwhile.
pub struct CappedLog {
    file: File,
    path: PathBuf,
    cap_bytes: u64,
    written_bytes: u64,
    cut_bytes: u64,
    times: TimeKeeper,
}

impl CappedLog {
    /// Opens the file at its end, making it and its folder where they are missing.
    ///
    /// # Errors
    /// [`lock::is_busy`] where another writer has the log.
    pub fn append(path: &Path, cap_bytes: u64, now: impl Fn() -> Timestamp + Send + 'static) -> io::Result<Self> {
        let file = lock::open_for_writing(path)?;
        let written_bytes = file.metadata()?.len();
        let times = TimeKeeper::resume(path, written_bytes, now);
        Ok(Self { file, path: path.to_owned(), cap_bytes, written_bytes, cut_bytes: 0, times })
    }

    /// Continues in an open file as it was after `kept_bytes` of output in it and `cut_bytes` that were dropped;
    /// anything beyond is cut off.
    pub(super) fn resume(
        file: File,
        path: &Path,
        cap_bytes: u64,
        (kept_bytes, cut_bytes): (u64, u64),
        now: impl Fn() -> Timestamp + Send + 'static,
    ) -> io::Result<Self> {
        file.set_len(kept_bytes)?;
        let times = TimeKeeper::resume(path, kept_bytes, now);
        // A log that was cut stays so, even if the cap is larger by now.
        let cap_bytes = if cut_bytes > 0 { kept_bytes } else { cap_bytes };
        let mut log = Self { file, path: path.to_owned(), cap_bytes, written_bytes: kept_bytes, cut_bytes: 0, times };
        log.cut(cut_bytes)?;
        Ok(log)
    }

    /// Output seen so far, kept and cut.
    pub(super) const fn output_bytes(&self) -> u64 {
        self.written_bytes + self.cut_bytes
    }

    /// How much of the output is in the file.
    pub(super) const fn kept_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Syncs written data to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Repairs a file that was changed while being written: a removed or replaced file is recreated with its full
    /// content, and a truncated one gets a note that output is missing.
    pub fn tend(&mut self) -> io::Result<()> {
        if let missing @ 1.. = self.put_back()? {
            let line =
                format!("\n[flotilla: the log was cut from outside: {missing} bytes of output are missing here]\n");
            self.file.write_all(line.as_bytes())?;
            self.written_bytes -= missing;
        }
        Ok(())
    }

    /// Recreates a removed or replaced file with its full content. Returns how many bytes of the output are missing
    /// because the file was truncated.
    pub(super) fn put_back(&mut self) -> io::Result<u64> {
        let own = self.file.metadata()?;
        let is_in_place =
            std::fs::metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
        if !is_in_place {
            self.make_again()?;
        }
        Ok(self.written_bytes.saturating_sub(self.file.metadata()?.len()))
    }

    fn make_again(&mut self) -> io::Result<()> {
        let unfinished = self.path.with_extension("again");
        // The bytes of a removed file stay readable through an open descriptor.
        let mut old = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))?;
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut new = File::create(&unfinished)?;
        io::copy(&mut old, &mut new)?;
        std::fs::rename(&unfinished, &self.path)?;
        self.file = lock::open_for_writing(&self.path)?;
        Ok(())
    }

    /// Says how much was cut, if anything was, and flushes everything to the disk.
    pub fn finish(mut self) -> io::Result<()> {
        self.end()
    }

    pub(super) fn end(&mut self) -> io::Result<()> {
        if self.cut_bytes > 0 {
            writeln!(self.file, "[flotilla: {} bytes of output were not kept]", self.cut_bytes)?;
        }
        self.file.sync_all()?;
        // The file itself has to be found after a power loss.
        match self.path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > 0 && self.cut_bytes == 0 {
            let cap = self.cap_bytes;
            let line = format!("\n[flotilla: the log reached its cap of {cap} bytes; what follows is not kept]\n");
            self.file.write_all(line.as_bytes())?;
        }
        self.cut_bytes += bytes;
        Ok(())
    }
}

impl Write for CappedLog {
    /// Takes all of `bytes`, kept or cut.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.cap_bytes.saturating_sub(self.written_bytes);
        let kept = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        if kept > 0 {
            self.times.note(self.written_bytes);
        }
        self.file.write_all(&bytes[..kept])?;
        self.written_bytes += kept as u64;
        self.cut((bytes.len() - kept) as u64)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_beyond_the_cap_is_cut_and_the_log_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/log");
        let mut log = CappedLog::append(&path, 10, || Timestamp::UNIX_EPOCH).unwrap();
        for _ in 0..3 {
            log.write_all(b"12345678").unwrap();
        }
        log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "1234567812\n[flotilla: the log reached its cap of 10 bytes; what follows is not kept]\n\
             [flotilla: 14 bytes of output were not kept]\n"
        );
    }

    #[test]
    fn a_log_that_is_removed_or_replaced_or_cut_while_it_is_written_is_whole_or_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/log");
        let mut log = CappedLog::append(&path, 100, || Timestamp::UNIX_EPOCH).unwrap();
        let mut write_and_tend = |text: &str| {
            log.write_all(text.as_bytes()).unwrap();
            log.tend().unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        assert_eq!(write_and_tend("one\n"), "one\n");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(write_and_tend("two\n"), "one\ntwo\n");
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert_eq!(write_and_tend("three\n"), "one\ntwo\nthree\n");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "of somebody else").unwrap();
        assert_eq!(write_and_tend("four\n"), "one\ntwo\nthree\nfour\n");
        File::options().write(true).open(&path).unwrap().set_len(4).unwrap();
        let cut = "one\nfive\n\n[flotilla: the log was cut from outside: 15 bytes of output are missing here]\n";
        assert_eq!(write_and_tend("five\n"), cut);
        assert_eq!(write_and_tend("six\n"), format!("{cut}six\n"));
    }

    #[test]
    fn a_reopened_log_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for part in ["one ", "two"] {
            let mut log = CappedLog::append(&path, 100, || Timestamp::UNIX_EPOCH).unwrap();
            log.write_all(part.as_bytes()).unwrap();
            log.finish().unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one two");
    }

    #[test]
    fn a_second_writer_is_refused_while_the_first_one_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = CappedLog::append(&path, 100, || Timestamp::UNIX_EPOCH).unwrap();
        let refused = CappedLog::append(&path, 100, || Timestamp::UNIX_EPOCH).err().unwrap();
        assert!(lock::is_busy(&refused), "{refused}");
        log.finish().unwrap();
        CappedLog::append(&path, 100, || Timestamp::UNIX_EPOCH).unwrap();
    }
}
