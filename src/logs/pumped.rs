//! The log of an attempt whose output is pumped from its engine.
//!
//! The order on the disk: first the log, then the position that refers to it (see `position.rs`), which is written
//! only occasionally. Data appended since is in the file and may be read, and is read from the engine again after a
//! crash.

use std::io::{self, Write};
use std::path::PathBuf;

use jiff::Timestamp;

use super::lock;
use super::position::{End, OnDisk, Record, Stored, boot_id};
use super::{CappedLog, Logs};
use crate::model::{AttemptId, LogPosition};

/// A log that is being pumped. No other writer can write to it meanwhile.
pub struct PumpedLog {
    log: CappedLog,
    path: PathBuf,
    marker: Option<String>,
    /// How much of the output the disk is known to hold.
    synced_bytes: u64,
}

/// The state of a log whose output is no longer available.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealed {
    /// There is none.
    Absent,
    /// It will not change any more. `gap` says why some of the output may be missing.
    Whole { gap: Option<String> },
}

impl Logs {
    /// How much of an attempt's output is stored: from there the engine is to be asked for more.
    pub fn stored(&self, attempt_id: AttemptId, cap_bytes: u64) -> io::Result<Stored> {
        Ok(OnDisk::read(&self.path(attempt_id))?.stored(cap_bytes, &boot_id()))
    }

    /// Opens the log as it was at the position that [`Logs::stored`] returned; what it holds beyond is cut off.
    ///
    /// # Errors
    /// [`lock::is_busy`] where another writer has the log, or had it in between.
    pub fn resume(
        &self,
        attempt_id: AttemptId,
        cap_bytes: u64,
        stored: &Stored,
        now: impl Fn() -> Timestamp + Send + 'static,
    ) -> io::Result<PumpedLog> {
        let path = self.path(attempt_id);
        let file = lock::open_for_writing(&path)?;
        let on_disk = OnDisk::read(&path)?;
        let now_stored = on_disk.stored(cap_bytes, &boot_id());
        let (Stored::UpTo { position, kept_bytes, distrust }, true) = (&now_stored, now_stored == *stored) else {
            let reason = format!("another process or task has written the log {} meanwhile", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, reason));
        };
        let cut_bytes = position.bytes.saturating_sub(*kept_bytes);
        let log = CappedLog::resume(file, &path, cap_bytes, (*kept_bytes, cut_bytes), now)?;
        if on_disk.log_bytes > *kept_bytes {
            // Lines may begin elsewhere in what comes now.
            self.indexes.forget(&path)?;
        }
        if on_disk.record.is_none() || distrust.is_some() {
            Record::new(LogPosition::default(), 0).write(&path, false)?;
        }
        Ok(PumpedLog { log, path, marker: position.marker.clone(), synced_bytes: position.bytes })
    }

    /// Ends a log whose writer is gone and whose output can't be asked for any more, for this `reason`. NUL bytes that a
    /// power loss left at its end are cut off. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`lock::is_busy`] where a writer still has the log.
    pub fn seal(&self, attempt_id: AttemptId, cap_bytes: u64, reason: &str) -> io::Result<Sealed> {
        let path = self.path(attempt_id);
        let Some(file) = lock::open_existing(&path)? else { return Ok(Sealed::Absent) };
        let on_disk = OnDisk::read(&path)?;
        let record = on_disk.record();
        let is_of_this_boot = record.as_ref().is_some_and(|record| record.boot_id.as_deref() == Some(&*boot_id()));
        let (position, kept_bytes, distrust) = match on_disk.stored(cap_bytes, &boot_id()) {
            Stored::Whole { gap } => return Ok(Sealed::Whole { gap }),
            Stored::UpTo { position, kept_bytes, distrust } => (position, kept_bytes, distrust),
        };
        let reason = distrust.map_or_else(|| reason.to_owned(), |distrust| format!("{reason}; {distrust}"));
        let nul_bytes = if is_of_this_boot { 0 } else { on_disk.nul_bytes.min(on_disk.log_bytes - kept_bytes) };
        if nul_bytes > 0 {
            file.set_len(on_disk.log_bytes - nul_bytes)?;
            self.indexes.forget(&path)?;
        }
        file.sync_all()?;
        let cut = format!("{nul_bytes} NUL bytes were cut off at its end, which is what a power loss leaves");
        // A log without a position was written in place, by somebody who read all there was.
        let gap = match (on_disk.record.is_some(), nul_bytes > 0) {
            (true, true) => Some(format!("{reason}; {cut}")),
            (true, false) => Some(reason),
            (false, true) => Some(cut),
            (false, false) => None,
        };
        let end = Some(End { gap: gap.clone() });
        Record { end, ..Record::new(position, on_disk.log_bytes - nul_bytes) }.write(&path, true)?;
        Ok(Sealed::Whole { gap })
    }
}

impl PumpedLog {
    /// Appends output, with the engine's position after it.
    pub fn append(&mut self, bytes: &[u8], marker: Option<String>) -> io::Result<()> {
        self.log.write_all(bytes)?;
        self.marker = marker;
        Ok(())
    }

    /// Output since its beginning, with what was dropped at the cap.
    #[must_use]
    pub const fn output_bytes(&self) -> u64 {
        self.log.output_bytes()
    }

    /// Whether there is output that a power loss would lose.
    #[must_use]
    pub const fn is_ahead_of_disk(&self) -> bool {
        self.log.output_bytes() > self.synced_bytes
    }

    /// Repairs a file that was changed meanwhile: one that was removed or replaced is recreated.
    ///
    /// # Errors
    /// If the file was truncated: from then on [`Logs::stored`] relies on nothing in it.
    pub fn tend(&mut self) -> io::Result<()> {
        let missing_bytes = self.log.put_back()?;
        if missing_bytes == 0 {
            return Ok(());
        }
        let reason = format!("{missing_bytes} bytes of it were cut off from outside");
        let nothing = Record::new(LogPosition::default(), 0);
        Record { distrust: Some(reason.clone()), ..nothing }.write(&self.path, true)?;
        Err(io::Error::other(reason))
    }

    /// Puts the log on the disk, and then the position up to which it is there. [Tends](Self::tend) the log before.
    pub fn sync(&mut self) -> io::Result<()> {
        self.tend()?;
        self.log.sync()?;
        self.record().write(&self.path, true)?;
        self.synced_bytes = self.log.output_bytes();
        Ok(())
    }

    /// The output has come to its end: puts the whole log on the disk, so that the engine's copy may go. From now on
    /// [`Logs::stored`] says so, and nobody writes to the log again. [Tends](Self::tend) the log before.
    pub fn finish(mut self) -> io::Result<()> {
        self.tend()?;
        let record = self.record();
        self.log.end()?;
        // A power loss that takes this record leaves the engine's copy: that goes after the database knows of the end.
        Record { end: Some(End::default()), ..record }.write(&self.path, false)
    }

    fn record(&self) -> Record {
        let position = LogPosition { bytes: self.log.output_bytes(), marker: self.marker.clone() };
        Record::new(position, self.log.kept_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::super::position::position_path;
    use super::super::tests::logs;
    use super::*;
    use crate::model::RunId;

    struct World {
        _folder: tempfile::TempDir,
        logs: Logs,
        attempt_id: AttemptId,
        cap_bytes: u64,
    }

    impl World {
        fn new() -> Self {
            let (folder, logs, _) = logs();
            Self {
                _folder: folder,
                logs,
                attempt_id: AttemptId { run_id: RunId::generate(), attempt: 1 },
                cap_bytes: 1000,
            }
        }

        fn path(&self) -> PathBuf {
            self.logs.path(self.attempt_id)
        }

        fn stored(&self) -> Stored {
            self.logs.stored(self.attempt_id, self.cap_bytes).unwrap()
        }

        fn resume(&self) -> PumpedLog {
            let now = || Timestamp::UNIX_EPOCH;
            self.logs.resume(self.attempt_id, self.cap_bytes, &self.stored(), now).unwrap()
        }

        fn append_unseen(&self, bytes: &[u8]) {
            OpenOptions::new().append(true).open(self.path()).unwrap().write_all(bytes).unwrap();
        }

        /// In place of what the file holds.
        fn write_whole(&self, bytes: &[u8]) {
            std::fs::write(self.path(), bytes).unwrap();
        }

        fn log(&self) -> String {
            String::from_utf8(std::fs::read(self.path()).unwrap()).unwrap()
        }

        fn set_record(&self, change: impl FnOnce(&mut Record)) {
            let path = position_path(&self.path());
            let mut record: Record = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            change(&mut record);
            record.write(&self.path(), false).unwrap();
        }

        fn seal(&self) -> Sealed {
            self.logs.seal(self.attempt_id, self.cap_bytes, "it is gone").unwrap()
        }
    }

    fn up_to(bytes: u64, marker: Option<&str>) -> Stored {
        let position = LogPosition { bytes, marker: marker.map(str::to_owned) };
        Stored::UpTo { position, kept_bytes: bytes, distrust: None }
    }

    #[test]
    fn a_resumed_log_has_no_gap_and_no_repeat() {
        let world = World::new();
        assert_eq!(world.stored(), up_to(0, None));
        let mut log = world.resume();
        assert_eq!(world.stored(), up_to(0, None), "a crash before the first output");
        log.append(b"first ", Some("m1".into())).unwrap();
        assert!(log.is_ahead_of_disk());
        assert_eq!(world.stored(), up_to(0, None), "the position does not refer to what may not be on the disk");
        log.sync().unwrap();
        assert!(!log.is_ahead_of_disk());
        log.append(b"second", Some("m2".into())).unwrap();
        drop(log);

        assert_eq!(world.stored(), up_to(6, Some("m1")));
        let mut log = world.resume();
        assert_eq!(world.log(), "first ");
        log.append(b"second", Some("m2".into())).unwrap();
        log.finish().unwrap();
        assert_eq!(world.log(), "first second");
        assert_eq!(world.stored(), Stored::Whole { gap: None });
    }

    #[test]
    fn a_log_that_was_cut_stays_cut_when_it_is_resumed() {
        let mut world = World { cap_bytes: 4, ..World::new() };
        let mut log = world.resume();
        log.append(b"123456", None).unwrap();
        log.sync().unwrap();
        drop(log);
        // Also where more would be kept by now.
        world.cap_bytes = 100;
        let mut log = world.resume();
        assert_eq!(log.output_bytes(), 6);
        log.append(b"789", None).unwrap();
        log.finish().unwrap();
        let text = world.log();
        assert!(
            text.starts_with("1234\n[flotilla: the log reached its cap of 4 bytes")
                && text.ends_with("5 bytes of output were not kept]\n"),
            "{text}"
        );
    }

    #[test]
    fn a_log_is_begun_anew_where_what_is_noted_of_it_can_not_be_believed() {
        for damage in ["missing", "empty", "NUL", "garbage", "newer", "short log", "no log"] {
            let world = World::new();
            let mut log = world.resume();
            log.append(b"first\nsecond", Some("m".into())).unwrap();
            log.sync().unwrap();
            drop(log);
            let position = position_path(&world.path());
            match damage {
                "missing" => std::fs::remove_file(position).unwrap(),
                "empty" => std::fs::write(position, "").unwrap(),
                "NUL" => std::fs::write(position, [0; 100]).unwrap(),
                "garbage" => std::fs::write(position, b"\xff{\"bytes\":3}").unwrap(),
                "newer" => world.set_record(|record| record.version += 1),
                "short log" => OpenOptions::new().write(true).open(world.path()).unwrap().set_len(3).unwrap(),
                _ => std::fs::remove_file(world.path()).unwrap(),
            }
            let stored = world.stored();
            let Stored::UpTo { position, kept_bytes: 0, distrust: Some(_) } = &stored else {
                panic!("{damage}: {stored:?}")
            };
            assert_eq!(*position, LogPosition::default());
            let mut log = world.resume();
            assert_eq!(world.stored(), up_to(0, None), "{damage}: it is said once");
            log.append(b"first\nsecond\n", Some("n".into())).unwrap();
            log.finish().unwrap();
            assert_eq!(world.log(), "first\nsecond\n", "{damage}");
        }
    }

    #[test]
    fn a_log_that_is_removed_or_replaced_while_it_is_written_is_made_again() {
        for damage in ["removed", "replaced", "folder"] {
            let world = World::new();
            let mut log = world.resume();
            log.append(b"first ", Some("m1".into())).unwrap();
            log.sync().unwrap();
            log.append(b"second ", Some("m2".into())).unwrap();
            match damage {
                "removed" => std::fs::remove_file(world.path()).unwrap(),
                "replaced" => {
                    std::fs::remove_file(world.path()).unwrap();
                    world.write_whole(b"of somebody else, and longer than ours");
                }
                _ => std::fs::remove_dir_all(world.path().parent().unwrap()).unwrap(),
            }
            log.tend().unwrap();
            assert_eq!(world.log(), "first second ", "{damage}");
            std::fs::remove_file(world.path()).unwrap();
            log.append(b"third", Some("m3".into())).unwrap();
            log.finish().unwrap();
            assert_eq!(world.log(), "first second third", "{damage}");
            assert_eq!(world.stored(), Stored::Whole { gap: None }, "{damage}");
        }
    }

    #[test]
    fn a_log_that_is_cut_while_it_is_written_is_begun_anew_however_long_it_is_by_then() {
        let ways: [fn(PumpedLog) -> io::Result<()>; 3] =
            [|mut log| log.tend(), |mut log| log.sync(), PumpedLog::finish];
        for (way, left_bytes) in ways.into_iter().flat_map(|way| [(way, 0), (way, 5)]) {
            let world = World::new();
            let mut log = world.resume();
            log.append(b"first ", Some("m1".into())).unwrap();
            log.sync().unwrap();
            log.append(b"second ", Some("m2".into())).unwrap();
            OpenOptions::new().write(true).open(world.path()).unwrap().set_len(left_bytes).unwrap();
            log.append(b"third and more", Some("m3".into())).unwrap();
            let error = way(log).unwrap_err();
            assert!(error.to_string().contains(&format!("{} bytes", 13 - left_bytes)), "{error}");
            let Stored::UpTo { position, kept_bytes: 0, distrust: Some(reason) } = world.stored() else {
                panic!("{:?}", world.stored())
            };
            assert_eq!(position, LogPosition::default());
            // Where the engine has nothing any more.
            let left = world.log();
            let Sealed::Whole { gap: Some(gap) } = world.seal() else { panic!("something is missing") };
            assert_eq!((gap, world.log()), (format!("it is gone; {reason}"), left));
        }
    }

    #[test]
    fn a_log_that_was_cut_is_whole_once_it_was_read_again() {
        let world = World::new();
        let mut log = world.resume();
        log.append(b"first ", Some("m1".into())).unwrap();
        log.sync().unwrap();
        world.write_whole(b"");
        log.append(b"second and more", Some("m2".into())).unwrap();
        log.sync().unwrap_err();
        drop(log);
        let mut log = world.resume();
        assert_eq!(world.stored(), up_to(0, None), "it is said once");
        log.append(b"first second and more", Some("m2".into())).unwrap();
        log.finish().unwrap();
        assert_eq!((world.log().as_str(), world.stored()), ("first second and more", Stored::Whole { gap: None }));
    }

    #[test]
    fn the_nul_bytes_of_a_power_loss_are_replaced_by_the_output() {
        let world = World::new();
        let mut log = world.resume();
        log.append(b"first ", Some("m1".into())).unwrap();
        log.sync().unwrap();
        drop(log);
        world.append_unseen(&[0; 500]);
        world.set_record(|record| record.boot_id = Some("the boot before".into()));
        let mut log = world.resume();
        log.append(b"second", Some("m2".into())).unwrap();
        log.finish().unwrap();
        assert_eq!(world.log(), "first second");
    }

    #[test]
    fn a_log_whose_output_is_gone_is_sealed_once_and_without_the_nul_bytes_of_a_power_loss() {
        let world = World::new();
        assert_eq!(world.seal(), Sealed::Absent);
        let mut log = world.resume();
        log.append(b"first ", Some("m1".into())).unwrap();
        log.sync().unwrap();
        drop(log);
        world.append_unseen(b"second\0\0\0");
        world.set_record(|record| record.boot_id = Some("the boot before".into()));
        let Sealed::Whole { gap: Some(gap) } = world.seal() else { panic!("something may be missing") };
        assert_eq!(gap, "it is gone; 3 NUL bytes were cut off at its end, which is what a power loss leaves");
        assert_eq!(world.log(), "first second");
        assert_eq!(world.seal(), Sealed::Whole { gap: Some(gap) });
    }

    #[test]
    fn a_log_that_was_written_in_place_is_sealed_without_a_gap_unless_power_was_lost() {
        let world = World::new();
        let mut log = CappedLog::append(&world.path(), 100, || Timestamp::UNIX_EPOCH).unwrap();
        log.write_all(b"all of it").unwrap();
        let busy = world.logs.seal(world.attempt_id, 100, "it is gone").unwrap_err();
        assert!(lock::is_busy(&busy), "its supervisor still writes");
        drop(log);
        assert_eq!(world.seal(), Sealed::Whole { gap: None });
        std::fs::remove_file(position_path(&world.path())).unwrap();
        world.append_unseen(&vec![0; 200_000]);
        let Sealed::Whole { gap: Some(gap) } = world.seal() else { panic!("something is missing") };
        assert!(gap.starts_with("200000 NUL bytes"), "{gap}");
        assert_eq!(world.log(), "all of it");
    }

    #[test]
    fn a_log_that_somebody_else_wrote_meanwhile_is_not_resumed() {
        let world = World::new();
        let stored = world.stored();
        let now = || Timestamp::UNIX_EPOCH;
        let mut log = world.resume();
        let busy = |stored: &Stored| world.logs.resume(world.attempt_id, 1000, stored, now).err().unwrap();
        assert!(lock::is_busy(&busy(&stored)), "another writes");
        log.append(b"first", None).unwrap();
        log.sync().unwrap();
        drop(log);
        assert!(lock::is_busy(&busy(&stored)), "another has written");
        assert_eq!(world.log(), "first");
    }
}
