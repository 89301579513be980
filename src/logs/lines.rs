//! Where the lines of a log begin: an index that is made when somebody looks at lines, and only for what is new.
//!
//! For every 64 KiB of the file it knows how many lines have ended before. So it takes 128 KiB for a log of 1 GiB,
//! whether that is one line or many million, and what stands on a line is found by reading one block. It is derived
//! from the log alone: a log that grew is indexed from there on, one that was cut back forgets what
//! was cut: what is pumped again after that is the same. The file
//! beside the log only saves reading a large one again after a restart.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use memchr::{memchr_iter, memrchr};

use super::ignore_missing;

/// How much is read to find a line.
const BLOCK: u64 = 64 * 1024;
const BLOCK_BYTES: usize = 64 * 1024;
/// How many blocks are worth a file: below 16 MiB, counting is quicker than it could be noticed.
const SAVED_BLOCKS: usize = 256;
/// How many logs people look at in turns, each known for as long as it is among the latest.
const KNOWN_LOGS: usize = 32;

/// How many lines have ended before each block, the first of them 0.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LineIndex {
    ends: Vec<u64>,
    saved: usize,
}

impl Default for LineIndex {
    fn default() -> Self {
        Self { ends: vec![0], saved: 1 }
    }
}

impl LineIndex {
    fn last_block(&self) -> u64 {
        self.ends.len() as u64 - 1
    }

    /// Counts the whole blocks of the first `length` bytes that were not counted yet.
    fn catch_up(&mut self, file: &File, length: u64) -> io::Result<()> {
        let blocks = length / BLOCK;
        // A pumped log is cut back to what is surely stored after a crash.
        self.ends.truncate(usize::try_from(blocks).unwrap_or(usize::MAX).saturating_add(1));
        self.saved = self.saved.min(self.ends.len());
        let mut block = vec![0; BLOCK_BYTES];
        while self.last_block() < blocks {
            file.read_exact_at(&mut block, self.last_block() * BLOCK)?;
            let before = self.ends.last().copied().unwrap_or_default();
            self.ends.push(before + memchr_iter(b'\n', &block).count() as u64);
        }
        Ok(())
    }

    /// The block in which the line end with this number is, and how many are before the block.
    fn block_of_end(&self, end: u64) -> (u64, u64) {
        let block = self.ends.partition_point(|before| *before < end).saturating_sub(1);
        (block as u64, self.ends[block])
    }

    /// The last known block that begins at or before this offset, and how many line ends are before it.
    fn block_of(&self, offset: u64) -> (u64, u64) {
        let block = (offset / BLOCK).min(self.last_block());
        (block, usize::try_from(block).ok().and_then(|block| self.ends.get(block)).copied().unwrap_or_default())
    }

    /// `None` where the file is missing or not as it was saved: a power loss may leave any part of it as NUL bytes.
    fn load(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let (counts, sum) = bytes.split_last_chunk::<8>()?;
        let is_intact = counts.len() % 8 == 0 && u64::from_le_bytes(*sum) == checksum(counts);
        let ends: Vec<_> =
            counts.chunks_exact(8).map(|end| u64::from_le_bytes(end.try_into().expect("there are eight"))).collect();
        (is_intact && ends.first() == Some(&0)).then_some(Self { saved: ends.len(), ends })
    }

    /// Keeps what took long to count. Where that fails, it is counted again after the next restart.
    fn save(&mut self, path: &Path) {
        if self.ends.len() < self.saved + SAVED_BLOCKS {
            return;
        }
        let new = path.with_extension("lines-new");
        let mut bytes: Vec<u8> = self.ends.iter().flat_map(|end| end.to_le_bytes()).collect();
        bytes.extend(checksum(&bytes).to_le_bytes());
        match std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path)) {
            Ok(()) => self.saved = self.ends.len(),
            Err(error) => tracing::warn!(path = %path.display(), %error, "the index of a log can't be kept"),
        }
    }
}

/// A program that computes another one counts the lines again.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Where the index of a log is kept.
pub(super) fn index_path(log_path: &Path) -> PathBuf {
    log_path.with_extension("lines")
}

/// The indexes of the logs that were looked at last.
#[derive(Default)]
pub(super) struct Indexes(Mutex<Known>);

#[derive(Default)]
struct Known {
    logs: HashMap<PathBuf, (u64, Arc<Mutex<LineIndex>>)>,
    uses: u64,
}

impl Indexes {
    /// The lines of this log as it is now, or `None` where there is none.
    pub(super) fn lines(&self, path: &Path) -> io::Result<Option<FileLines>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let index = self.index(path);
        {
            // Who comes second waits and finds it done.
            let mut index = index.lock().unwrap_or_else(PoisonError::into_inner);
            index.catch_up(&file, length)?;
            index.save(&index_path(path));
        }
        let mut lines = FileLines { file, length, index, ends: 0, is_last_ended: true };
        lines.ends = lines.ends_before(length)?;
        if length > 0 {
            lines.is_last_ended = lines.read(length - 1, 1)? == b"\n";
        }
        Ok(Some(lines))
    }

    /// Drops what is known of a log that was cut back: what is written there now may have its lines elsewhere.
    pub(super) fn forget(&self, path: &Path) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).logs.remove(path);
        ignore_missing(std::fs::remove_file(index_path(path)))
    }

    fn index(&self, path: &Path) -> Arc<Mutex<LineIndex>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.uses += 1;
        let now = known.uses;
        if let Some((used, index)) = known.logs.get_mut(path) {
            *used = now;
            return Arc::clone(index);
        }
        if known.logs.len() >= KNOWN_LOGS {
            let oldest = known.logs.iter().min_by_key(|(_, (used, _))| *used).map(|(path, _)| path.clone());
            oldest.and_then(|path| known.logs.remove(&path));
        }
        let index = Arc::new(Mutex::new(LineIndex::load(&index_path(path)).unwrap_or_default()));
        known.logs.insert(path.to_owned(), (now, Arc::clone(&index)));
        index
    }
}

/// The lines of one file, up to where it reached when it was looked at. They are counted from 0 here.
pub(super) struct FileLines {
    file: File,
    pub(super) length: u64,
    index: Arc<Mutex<LineIndex>>,
    ends: u64,
    is_last_ended: bool,
}

impl FileLines {
    /// How many lines there are, one without its end yet among them.
    pub(super) const fn count(&self) -> u64 {
        self.ends + !self.is_last_ended as u64
    }

    /// Where a line begins; the end of the file for those that are not there.
    pub(super) fn start_of(&self, line: u64) -> io::Result<u64> {
        if line == 0 {
            return Ok(0);
        }
        if line > self.ends {
            return Ok(self.length);
        }
        let (block, before) = self.index().block_of_end(line);
        let start = block * BLOCK;
        let bytes = self.read(start, BLOCK_BYTES)?;
        let nth = usize::try_from(line - before - 1).unwrap_or(usize::MAX);
        Ok(memchr_iter(b'\n', &bytes).nth(nth).map_or(self.length, |end| start + end as u64 + 1))
    }

    /// How many lines have ended before this offset: the number of the line that it is on.
    pub(super) fn ends_before(&self, offset: u64) -> io::Result<u64> {
        let offset = offset.min(self.length);
        let (block, before) = self.index().block_of(offset);
        let start = block * BLOCK;
        let bytes = self.read(start, usize::try_from(offset - start).unwrap_or(usize::MAX))?;
        Ok(before + memchr_iter(b'\n', &bytes).count() as u64)
    }

    /// At most `most` bytes from this offset on.
    pub(super) fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; there.min(most)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// At most `most` bytes before this offset, beginning with a line where there is an end of one among them.
    pub(super) fn read_before(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let start = offset.saturating_sub(most as u64);
        let mut bytes = self.read(start, usize::try_from(offset - start).unwrap_or(most))?;
        if start > 0 {
            let first_end = memchr::memchr(b'\n', &bytes);
            bytes.drain(..first_end.map_or(bytes.len(), |end| end + 1));
        }
        debug_assert!(offset == 0 || bytes.is_empty() || memrchr(b'\n', &bytes) == Some(bytes.len() - 1));
        Ok(bytes)
    }

    fn index(&self) -> std::sync::MutexGuard<'_, LineIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn append(path: &Path, bytes: &[u8]) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    /// What the index says, against counting by hand.
    fn check(lines: &FileLines, bytes: &[u8]) {
        let expected: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(lines.count(), expected.len() as u64);
        let mut start = 0;
        for (number, line) in expected.iter().enumerate() {
            assert_eq!(lines.start_of(number as u64).unwrap(), start, "line {number}");
            assert_eq!(lines.ends_before(start).unwrap(), number as u64, "offset {start}");
            start += line.len() as u64;
        }
        for beyond in [0, 1, 1000] {
            assert_eq!(lines.start_of(lines.count() + beyond).unwrap(), lines.length);
        }
    }

    #[test]
    fn lines_are_found_in_a_log_that_grows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let indexes = Indexes::default();
        assert!(indexes.lines(&path).unwrap().is_none());
        let mut whole = Vec::new();
        for length in [0, 10, BLOCK_BYTES, 3, 3 * BLOCK_BYTES + 7, 1] {
            let part: Vec<u8> = (0..length).map(|i| if i % 997 == 3 { b'\n' } else { b'x' }).collect();
            append(&path, &part);
            whole.extend(part);
            check(&indexes.lines(&path).unwrap().unwrap(), &whole);
            check(&Indexes::default().lines(&path).unwrap().unwrap(), &whole);
        }
    }

    #[test]
    fn a_log_that_was_cut_back_is_counted_anew_from_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let indexes = Indexes::default();
        append(&path, &b"0123456\n".repeat(3 * BLOCK_BYTES / 8));
        indexes.lines(&path).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(BLOCK + 4).unwrap();
        check(&indexes.lines(&path).unwrap().unwrap(), &std::fs::read(&path).unwrap());
        append(&path, &b"x".repeat(2 * BLOCK_BYTES));
        check(&indexes.lines(&path).unwrap().unwrap(), &std::fs::read(&path).unwrap());
    }

    #[test]
    fn an_index_of_a_large_log_is_kept_and_one_that_does_not_fit_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let whole = b"0123456\n".repeat((SAVED_BLOCKS + 3) * BLOCK_BYTES / 8);
        append(&path, &whole);
        let first = Indexes::default().lines(&path).unwrap().unwrap();
        let kept = LineIndex::load(&index_path(&path)).unwrap();
        assert_eq!(kept.ends, first.index().ends);
        assert_eq!(kept.last_block(), SAVED_BLOCKS as u64 + 3);
        let saved = std::fs::read(index_path(&path)).unwrap();
        let nuls = vec![0; saved.len()];
        let mut half = saved.clone();
        half[saved.len() / 2..].fill(0);
        let short = &saved[..saved.len() - 8];
        for broken in [&b"x"[..], &[0; 7], &1u64.to_le_bytes(), &[[0; 8], [255; 8]].concat(), b"", &nuls, &half, short]
        {
            std::fs::write(index_path(&path), broken).unwrap();
            assert_eq!(Indexes::default().lines(&path).unwrap().unwrap().count(), first.count(), "{broken:?}");
        }
    }

    #[test]
    fn many_logs_are_looked_at_with_few_indexes_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let indexes = Indexes::default();
        for i in 0..3 * KNOWN_LOGS {
            let path = folder.path().join(format!("{i}.log"));
            append(&path, b"one\ntwo\n");
            assert_eq!(indexes.lines(&path).unwrap().unwrap().count(), 2);
        }
        assert_eq!(indexes.0.lock().unwrap().logs.len(), KNOWN_LOGS);
    }

    proptest! {
        #[test]
        fn any_bytes_have_the_lines_that_they_have(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.log");
            append(&path, &bytes);
            check(&Indexes::default().lines(&path).unwrap().unwrap(), &bytes);
        }
    }
}
