//! Determines an attempt's state from its folder, from its supervisor if the folder is damaged or gone, and from its
//! log.

use std::cell::LazyCell;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::unistd::Pid;

use super::folder::{Folder, says_nothing};
use super::record::{End, Record, Spec, Start};
use super::{living, processes};
use crate::logs;
use crate::model::{Instance, Observation, StartFault, Started, Usage};

/// One pass over attempts, one after the other.
pub(super) struct Look<'a> {
    boot_id: &'a str,
    /// Searched once, and only if a folder's lock does not already show that its supervisor is alive.
    living: LazyCell<Vec<(PathBuf, Pid)>>,
}

/// The boot in which an attempt was launched, compared with this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    This,
    Another,
    Unknown,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
struct Facts {
    has_folder: bool,
    is_supervised: bool,
    start: Option<Start>,
    end: Option<End>,
    /// The spec was not taken.
    is_untaken: bool,
    has_log: bool,
    boot: Boot,
    last_seen_at: Option<Timestamp>,
    complaint: Option<String>,
}

impl<'a> Look<'a> {
    pub fn new(boot_id: &'a str) -> Self {
        Self { boot_id, living: LazyCell::new(living::all) }
    }

    /// `None` if nothing is known of the attempt: it was never launched, or everything of it was removed.
    /// `launched_in` is the boot that its handle names, `log` the path of its log. An error allows no conclusion.
    pub fn observe(
        &self,
        folder: &Folder,
        launched_in: Option<&str>,
        log: Option<&Path>,
    ) -> io::Result<Option<Observation>> {
        // Checked first: what is written after this was written by a supervisor seen alive.
        let has_lock = known(folder.is_supervised())?.unwrap_or(false);
        let mut end = folder.end()?.known();
        let mut start = folder.start()?.known();
        let supervisor = if has_lock || end.is_some() { None } else { self.supervisor_of(folder) };
        if !has_lock && supervisor.is_none() && end.is_none() {
            // A supervisor without its folder's lock may have ended since.
            end = folder.end()?.known();
        }
        if let Some(supervisor) = supervisor {
            start = start.or_else(|| Some(start_of(supervisor)));
        }
        let is_supervised = has_lock || supervisor.is_some();
        if is_supervised || end.is_some() {
            let facts = Facts { is_supervised, start, end, ..Facts::of_a_lost_one() };
            return Ok(judge(facts));
        }
        let spec = folder.spec()?;
        let log = match &spec {
            Record::Is(spec) => Some(spec.log_path.as_path()),
            Record::Missing | Record::Damaged => log,
        };
        let boot = self.boot(&spec, launched_in);
        let has_folder = known(folder.exists())?.unwrap_or(true);
        let facts = Facts {
            has_folder,
            is_supervised,
            is_untaken: !known(folder.is_taken())?.unwrap_or(true) && known(folder.has_spec())?.unwrap_or(false),
            has_log: log.is_some_and(Path::exists),
            start,
            end,
            boot,
            last_seen_at: log.and_then(logs::last_written),
            complaint: folder.complaint(),
        };
        let observation = judge(facts);
        // A missing folder may have been removed after the end was known: then the log is complete.
        let lost_power = has_folder && boot != Boot::This;
        if let (Some(Observation::Lost { .. }), Some(log)) = (&observation, log)
            && lost_power
        {
            logs::mend_after_power_loss(log)?;
        }
        Ok(observation)
    }

    fn supervisor_of(&self, folder: &Folder) -> Option<Pid> {
        self.living.iter().find(|(known, _)| living::is_same_attempt(known, folder.path())).map(|(_, pid)| *pid)
    }

    fn boot(&self, spec: &Record<Spec>, launched_in: Option<&str>) -> Boot {
        let boot_id = match spec {
            Record::Is(spec) => Some(spec.boot_id.as_str()),
            Record::Missing | Record::Damaged => launched_in,
        };
        match boot_id {
            None => Boot::Unknown,
            Some(boot_id) if boot_id == self.boot_id => Boot::This,
            Some(_) => Boot::Another,
        }
    }
}

impl Facts {
    fn of_a_lost_one() -> Self {
        Self {
            has_folder: true,
            is_supervised: false,
            start: None,
            end: None,
            is_untaken: false,
            has_log: false,
            boot: Boot::This,
            last_seen_at: None,
            complaint: None,
        }
    }
}

/// The start as a live supervisor's process shows it, if the folder no longer does.
fn start_of(supervisor: Pid) -> Start {
    let instance = Instance { instance_id: format!("pid-{supervisor}"), ..Instance::default() };
    let process = processes::find(supervisor);
    Start {
        supervisor_pid: supervisor.as_raw(),
        pid: supervisor.as_raw(),
        since_ticks: process.map_or(0, |process| process.start_ticks),
        started: Started {
            at: process.map_or(Timestamp::UNIX_EPOCH, |process| processes::started_at(&process)),
            instance,
            usage: Usage::default(),
            image_digest: None,
            notes: vec![],
        },
    }
}

/// What a file system result says about the file; `Err` if it concerns this process only.
fn known<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if says_nothing(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

fn judge(facts: Facts) -> Option<Observation> {
    let Facts { has_folder, is_supervised, start, end, is_untaken, has_log, boot, last_seen_at, complaint } = facts;
    let complaint = complaint.map(|text| format!(": {text}")).unwrap_or_default();
    if let Some(end) = end {
        return Some(end.into());
    }
    if is_supervised {
        return Some(start.map_or(Observation::Starting, |start| Observation::Running(start.started)));
    }
    // Before the command starts, the supervisor syncs to disk that it took the spec, and begins the log.
    let never_ran = !has_log && start.is_none() && (is_untaken || (!has_folder && boot == Boot::Another));
    if never_ran {
        let reason = match boot {
            Boot::This => format!("its supervisor ended before it started the command{complaint}"),
            Boot::Another | Boot::Unknown => "the machine was restarted before the command started".to_owned(),
        };
        return Some(Observation::NeverRan { reason, fault: StartFault::Machine });
    }
    if !has_folder && !has_log {
        return None;
    }
    let reason = match (boot, &start) {
        _ if !has_folder => "its folder and all of its processes are gone".to_owned(),
        (Boot::Another, _) => "the machine was restarted while it ran".to_owned(),
        (Boot::Unknown, _) => "its folder can't be read any more, as after a loss of power".to_owned(),
        (Boot::This, Some(start)) => format!("its supervisor (pid {}) was killed{complaint}", start.supervisor_pid),
        (Boot::This, None) => format!("its supervisor was killed in the moment it started the command{complaint}"),
    };
    Some(Observation::Lost { reason, started: start.map(|start| start.started), last_seen_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts::of_a_lost_one()
    }

    fn start() -> Start {
        let started = Started {
            at: Timestamp::UNIX_EPOCH,
            instance: Instance::default(),
            usage: Usage::default(),
            image_digest: None,
            notes: vec![],
        };
        Start { supervisor_pid: 7, pid: 8, since_ticks: 9, started }
    }

    #[test]
    fn each_state_of_a_folder_has_its_meaning() {
        let lost = |reason: &str, start: Option<Start>| {
            let started = start.map(|start| start.started);
            Some(Observation::Lost { reason: reason.into(), started, last_seen_at: None })
        };
        let never_ran =
            |reason: &str| Some(Observation::NeverRan { reason: reason.into(), fault: StartFault::Machine });
        let end = End::NeverRan { reason: "no shell".into(), retry: true };
        let untaken = || Facts { is_untaken: true, ..facts() };
        let absent = || Facts { has_folder: false, ..facts() };
        let rebooted = "the machine was restarted while it ran";
        let early = "the machine was restarted before the command started";
        let table = [
            (Facts { is_supervised: true, ..untaken() }, Some(Observation::Starting)),
            (Facts { is_supervised: true, ..facts() }, Some(Observation::Starting)),
            (
                Facts { is_supervised: true, start: Some(start()), ..absent() },
                Some(Observation::Running(start().started)),
            ),
            (Facts { end: Some(end), ..facts() }, never_ran("no shell")),
            (untaken(), never_ran("its supervisor ended before it started the command")),
            (
                Facts { complaint: Some("no memory".into()), ..untaken() },
                never_ran("its supervisor ended before it started the command: no memory"),
            ),
            (Facts { boot: Boot::Another, ..untaken() }, never_ran(early)),
            (Facts { boot: Boot::Unknown, ..untaken() }, never_ran(early)),
            (Facts { boot: Boot::Another, has_log: true, ..untaken() }, lost(rebooted, None)),
            (facts(), lost("its supervisor was killed in the moment it started the command", None)),
            (Facts { start: Some(start()), ..facts() }, lost("its supervisor (pid 7) was killed", Some(start()))),
            (Facts { start: Some(start()), boot: Boot::Another, ..facts() }, lost(rebooted, Some(start()))),
            (
                Facts { boot: Boot::Unknown, ..facts() },
                lost("its folder can't be read any more, as after a loss of power", None),
            ),
            (absent(), None),
            (Facts { boot: Boot::Unknown, ..absent() }, None),
            (Facts { boot: Boot::Another, ..absent() }, never_ran(early)),
            (
                Facts { boot: Boot::Another, has_log: true, ..absent() },
                lost("its folder and all of its processes are gone", None),
            ),
        ];
        for (facts, expected) in table {
            let text = format!("{facts:?}");
            assert_eq!(judge(facts), expected, "{text}");
        }
    }
}
