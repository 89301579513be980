//! An index of where a log's lines begin, and in which colours: built when lines are first viewed, and only for new
//! data.
//!
//! For every 64 KiB of the file it knows how many lines have ended before, and the style there. So it takes 256 KiB for a
//! log of 1 GiB, whether that is one line or many million, and what stands on a line is found by reading one block. It is
//! derived from the log alone: a log that grew is indexed from there on, one that was cut back forgets what was cut: what
//! is pumped again after that is the same. The file beside the log only saves reading a large one again after a restart.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memchr_iter;
use parking_lot::Mutex;

use super::ignore_missing;
use super::style::Style;
use crate::escapes::COMMAND_BYTES;

/// How much is read to find a line.
const BLOCK: u64 = 64 * 1024;
const BLOCK_BYTES: usize = 64 * 1024;
/// How much of the next block says whether a command goes on in it. A block is indexed once that much follows it.
const AHEAD: u64 = COMMAND_BYTES as u64;
/// How many blocks are worth a file: below 16 MiB, counting is quicker than it could be noticed.
const SAVED_BLOCKS: usize = 256;
/// How many of the most recently viewed logs keep their index in memory.
const KNOWN_LOGS: usize = 32;
/// How the file begins; one that begins otherwise was written by an earlier version.
const MAGIC: &[u8; 8] = b"flotidx2";
/// How many bytes of the file each block has: the ends, the style, and what is skipped.
const MARK_BYTES: usize = 12;

/// The state at the beginning of a block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    /// How many lines have ended before it.
    ends: u64,
    /// The style at the first place in the block that is outside of a command, and how far into the block that is.
    style: Style,
    skipped: u16,
}

/// The marks of all blocks that are followed by enough, the first of them that of the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LineIndex {
    marks: Vec<Mark>,
    saved: usize,
}

impl Default for LineIndex {
    fn default() -> Self {
        Self { marks: vec![Mark::default()], saved: 1 }
    }
}

impl LineIndex {
    fn last_block(&self) -> u64 {
        self.marks.len() as u64 - 1
    }

    /// Reads the whole blocks of the first `length` bytes that were not read yet.
    fn catch_up(&mut self, file: &File, length: u64) -> io::Result<()> {
        let blocks = length.saturating_sub(AHEAD) / BLOCK;
        // A pumped log is cut back to what is surely stored after a crash.
        self.marks.truncate(usize::try_from(blocks).unwrap_or(usize::MAX).saturating_add(1));
        self.saved = self.saved.min(self.marks.len());
        let mut bytes = vec![0; BLOCK_BYTES + COMMAND_BYTES];
        while self.last_block() < blocks {
            file.read_exact_at(&mut bytes, self.last_block() * BLOCK)?;
            let mark = self.marks.last().copied().unwrap_or_default().after(&bytes);
            self.marks.push(mark);
        }
        Ok(())
    }

    /// The last block that begins before the line end with this number, and how many are before the block.
    fn block_of_end(&self, end: u64) -> (u64, u64) {
        let block = self.marks.partition_point(|mark| mark.ends < end).saturating_sub(1);
        (block as u64, self.marks[block].ends)
    }

    /// The last known block that begins at or before this offset, and what is known there.
    fn block_of(&self, offset: u64) -> (u64, Mark) {
        let block = (offset / BLOCK).min(self.last_block());
        (block, usize::try_from(block).ok().and_then(|block| self.marks.get(block)).copied().unwrap_or_default())
    }

    /// `None` if the file is missing or not as it was saved: a power loss may leave any part of it as NUL bytes.
    fn load(path: &Path) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let (content, sum) = bytes.split_last_chunk::<8>()?;
        let records = content.strip_prefix(MAGIC)?;
        let is_intact = records.len() % MARK_BYTES == 0 && u64::from_le_bytes(*sum) == checksum(content);
        let marks: Vec<_> = records.chunks_exact(MARK_BYTES).map(Mark::from_bytes).collect::<Option<_>>()?;
        (is_intact && marks.first() == Some(&Mark::default())).then_some(Self { saved: marks.len(), marks })
    }

    /// Saves an index that took long to build. If that fails, it is rebuilt after the next restart.
    fn save(&mut self, path: &Path) {
        if self.marks.len() < self.saved + SAVED_BLOCKS {
            return;
        }
        let new = path.with_extension("lines-new");
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.marks.iter().flat_map(|mark| mark.to_bytes()));
        bytes.extend(checksum(&bytes).to_le_bytes());
        match std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, path)) {
            Ok(()) => self.saved = self.marks.len(),
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

impl Mark {
    /// The mark of the next block, read from this one and the beginning of the next.
    fn after(self, bytes: &[u8]) -> Self {
        let ends = self.ends + memchr_iter(b'\n', &bytes[..BLOCK_BYTES]).count() as u64;
        let from = usize::from(self.skipped);
        let mut style = self.style;
        let place = from + style.pass(&bytes[from..], BLOCK_BYTES - from);
        let skipped = u16::try_from(place - BLOCK_BYTES).expect("a command is shorter than that");
        Self { ends, style, skipped }
    }

    fn to_bytes(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..8].copy_from_slice(&self.ends.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.style.pack().to_le_bytes());
        bytes[10..].copy_from_slice(&self.skipped.to_le_bytes());
        bytes
    }

    /// None where this is no mark.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (ends, rest) = bytes.split_first_chunk()?;
        let (style, rest) = rest.split_first_chunk()?;
        let (skipped, _) = rest.split_first_chunk()?;
        let skipped = u16::from_le_bytes(*skipped);
        let style = Style::unpack(u16::from_le_bytes(*style))?;
        (usize::from(skipped) <= COMMAND_BYTES).then_some(Self { ends: u64::from_le_bytes(*ends), style, skipped })
    }
}

/// Where the index of a log is kept.
pub(super) fn index_path(log_path: &Path) -> PathBuf {
    log_path.with_extension("lines")
}

/// The indexes of the most recently viewed logs.
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
            let mut index = index.lock();
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

    /// Drops the index of a log that was cut back: what is written there now may have its lines elsewhere.
    pub(super) fn forget(&self, path: &Path) -> io::Result<()> {
        self.0.lock().logs.remove(path);
        ignore_missing(std::fs::remove_file(index_path(path)))
    }

    fn index(&self, path: &Path) -> Arc<Mutex<LineIndex>> {
        let mut known = self.0.lock();
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

/// The lines of one file, up to its length when opened. They are counted from 0 here.
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
        // The last line ends are in what is not indexed yet.
        let bytes = self.read(start, 2 * BLOCK_BYTES)?;
        let nth = usize::try_from(line - before - 1).unwrap_or(usize::MAX);
        Ok(memchr_iter(b'\n', &bytes).nth(nth).map_or(self.length, |end| start + end as u64 + 1))
    }

    /// How many lines have ended before this offset: the number of the line that it is on.
    pub(super) fn ends_before(&self, offset: u64) -> io::Result<u64> {
        let offset = offset.min(self.length);
        let (block, mark) = self.index().block_of(offset);
        let start = block * BLOCK;
        let bytes = self.read(start, usize::try_from(offset - start).unwrap_or(usize::MAX))?;
        Ok(mark.ends + memchr_iter(b'\n', &bytes).count() as u64)
    }

    /// The style at the first place at or after this offset that is outside of a command, and that place.
    pub(super) fn style_at(&self, offset: u64) -> io::Result<(Style, u64)> {
        let offset = offset.min(self.length);
        let (block, mark) = self.index().block_of(offset);
        let start = block * BLOCK + u64::from(mark.skipped);
        let Some(wanted) = offset.checked_sub(start) else { return Ok((mark.style, start)) };
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let bytes = self.read(start, wanted.saturating_add(COMMAND_BYTES))?;
        let mut style = mark.style;
        let place = style.pass(&bytes, wanted);
        Ok((style, start + place as u64))
    }

    /// At most `most` bytes from this offset on.
    pub(super) fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let there = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; there.min(most)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn index(&self) -> parking_lot::MutexGuard<'_, LineIndex> {
        self.index.lock()
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
        assert_eq!(kept.marks, first.index().marks);
        assert_eq!(kept.last_block(), SAVED_BLOCKS as u64 + 2, "the last one is not followed by enough");
        let saved = std::fs::read(index_path(&path)).unwrap();
        let nuls = vec![0; saved.len()];
        let mut half = saved.clone();
        half[saved.len() / 2..].fill(0);
        let short = saved[..saved.len() - 8].to_vec();
        let summed = |content: Vec<u8>| [&content[..], &checksum(&content).to_le_bytes()[..]].concat();
        let marks = |marks: &[[u8; MARK_BYTES]]| summed([&MAGIC[..], &marks.concat()].concat());
        let of_an_earlier_version = summed([0u64, 8192].map(u64::to_le_bytes).concat());
        let impossible = [marks(&[]), marks(&[[1; MARK_BYTES]]), marks(&[[0; MARK_BYTES], [255; MARK_BYTES]])];
        let broken = [b"x".to_vec(), vec![], of_an_earlier_version, nuls, half, short].into_iter().chain(impossible);
        for broken in broken {
            std::fs::write(index_path(&path), &broken).unwrap();
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
        assert_eq!(indexes.0.lock().logs.len(), KNOWN_LOGS);
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
