//! The log as written by a supervisor: a full disk loses output, but never stops the task.

use std::io::{self, Write};

use super::stderr::complain;

/// The log, and what could not be written to it.
pub(super) struct Sink<L> {
    log: L,
    /// How many bytes are missing at the log's end without a note about it yet.
    gap_bytes: usize,
    lost: Option<Lost>,
    is_complaining: bool,
}

/// The maximum that could not be written: a failed write may have been partial.
struct Lost {
    bytes: usize,
    error: io::Error,
}

impl<L: Write> Sink<L> {
    pub(super) fn new(log: L) -> Self {
        Self { log, gap_bytes: 0, lost: None, is_complaining: false }
    }

    /// Never fails, because a full disk must not stop a task: lost bytes are counted, and the log notes where.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if let Err(error) = self.tell_gap().and_then(|()| self.log.write_all(bytes)) {
            self.gap_bytes += bytes.len();
            self.lost.get_or_insert(Lost { bytes: 0, error }).bytes += bytes.len();
        }
    }

    fn tell_gap(&mut self) -> io::Result<()> {
        if let (1.., Some(Lost { error, .. })) = (self.gap_bytes, &self.lost) {
            let bytes = self.gap_bytes;
            let line = format!("\n[flotilla: up to {bytes} bytes of output are missing here: {error}]\n");
            self.log.write_all(line.as_bytes())?;
            self.gap_bytes = 0;
        }
        Ok(())
    }

    /// The log file may have been removed or truncated externally.
    pub(super) fn tend(&mut self, tend: impl FnOnce(&mut L) -> io::Result<()>) {
        // A failed repair is retried; meanwhile nothing more is lost than before.
        if let Err(error) = tend(&mut self.log)
            && !self.is_complaining
        {
            self.is_complaining = true;
            complain(format_args!("can't mend the log: {error}"));
        }
    }

    /// What to report about the output besides the log's own notes.
    pub(super) fn finish(mut self, finish: impl FnOnce(L) -> io::Result<()>) -> Option<String> {
        if let Err(error) = self.tell_gap().and_then(|()| finish(self.log)) {
            complain(format_args!("can't finish the log: {error}"));
        }
        let Lost { bytes, error } = self.lost?;
        Some(format!("up to {bytes} bytes of output could not be written to the log: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A log on a disk that is full at times.
    #[derive(Default)]
    struct Disk {
        text: RefCell<String>,
        is_full: Cell<bool>,
    }

    impl Write for &Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.is_full.get() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text.borrow_mut().push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_told_where_it_is_missing_and_in_all() {
        let disk = Disk::default();
        let mut sink = Sink::new(&disk);
        for (is_full, line) in [(false, "a\n"), (true, "bb\n"), (true, "c\n"), (false, "d\n"), (true, "e\n")] {
            disk.is_full.set(is_full);
            sink.write(line.as_bytes());
        }
        let told = sink.finish(|_| Ok(()));
        assert_eq!(told.as_deref(), Some("up to 7 bytes of output could not be written to the log: no storage space"));
        assert_eq!(
            *disk.text.borrow(),
            "a\n\n[flotilla: up to 5 bytes of output are missing here: no storage space]\nd\n"
        );
        assert_eq!(Sink::new(&disk).finish(|_| Ok(())), None);
    }
}
