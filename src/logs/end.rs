//! The end of a log, for who wants to see what was written last.

use std::io::{self, Read, Seek, SeekFrom};

use super::Logs;
use crate::model::AttemptId;

impl Logs {
    /// The last lines of an attempt's log, at most so many bytes; empty where there is none.
    pub fn last_lines(&self, attempt_id: AttemptId, most: u64) -> io::Result<Vec<u8>> {
        let Some(mut file) = self.file(attempt_id)? else { return Ok(Vec::new()) };
        let length = file.metadata()?.len();
        let from = length.saturating_sub(most);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        // The line that begins before is left out, unless it is all there is.
        let first_line =
            if from > 0 { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1) } else { 0 };
        Ok(bytes.split_off(if first_line < bytes.len() { first_line } else { 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    #[test]
    fn the_last_whole_lines_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::open(folder.path()).unwrap();
        let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 1 };
        assert!(logs.last_lines(attempt_id, 10).unwrap().is_empty(), "there is no log yet");
        let path = logs.path(attempt_id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "first\nsecond\nthird\n").unwrap();
        assert_eq!(logs.last_lines(attempt_id, 100).unwrap(), b"first\nsecond\nthird\n");
        assert_eq!(logs.last_lines(attempt_id, 9).unwrap(), b"third\n");
        assert_eq!(logs.last_lines(attempt_id, 3).unwrap(), b"rd\n", "a part of a long line is more than nothing");
    }
}
