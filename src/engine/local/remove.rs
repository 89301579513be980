//! Removes what is left of an attempt, including the processes of one whose supervisor was killed or whose folder is
//! gone.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use nix::unistd::Pid;

use super::cgroup::{Groups, Places};
use super::folder::Folder;
use super::leftovers::Leftovers;
use super::record::Start;
use super::{living, processes};
use crate::model::{AttemptId, RUN_ID_VARIABLE};

/// How often processes are killed before giving up, and the pause in between.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Ends the processes of an attempt without a supervisor, and removes its control groups and its folder. Files that
/// can't be deleted do not block this: they are set aside.
pub(super) fn remove(folder: &Folder, attempt_id: AttemptId, places: &Places, leftovers: &Leftovers) -> io::Result<()> {
    if !leftovers.is_due(folder.path()) {
        return Ok(());
    }
    // If the spec can't be read any more, its groups are assumed to be where groups are made now.
    let spec = folder.spec()?.known();
    let places = spec.as_ref().map_or(places, |spec| &spec.places);
    let groups = Groups::find(places, &attempt_id.to_string());
    if folder.end()?.known().is_none() {
        kill_the_rest(folder, attempt_id, &groups, folder.start()?.known().as_ref())?;
    }
    groups.remove()?;
    match folder.set_aside() {
        Ok(Some(aside)) => leftovers.delete(&aside, Some(attempt_id)),
        Ok(None) => {}
        // A mount point, or immutable: nothing runs, and the folder only takes up disk space.
        Err(error) => leftovers.note(folder.path(), Some(attempt_id), &error.to_string()),
    }
    Ok(())
}

fn kill_the_rest(folder: &Folder, attempt_id: AttemptId, groups: &Groups, start: Option<&Start>) -> io::Result<()> {
    let home = format!("HOME={}", folder.work().display());
    let variables = [home, format!("{RUN_ID_VARIABLE}={}", attempt_id.run_id)];
    for _ in 0..TRIES {
        let rest = rest(groups, start, &variables);
        if rest.is_empty() {
            return Ok(());
        }
        groups.kill();
        processes::kill_all(&rest);
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::other("its processes can't be killed"))
}

/// The tree of descendants is lost with the supervisor. What remains are the groups, the session, and variables that
/// only this run's processes had from their start.
fn rest(groups: &Groups, start: Option<&Start>, variables: &[String]) -> Vec<Pid> {
    let all = processes::all();
    let mut rest = groups.pids();
    if let Some(start) = start {
        rest.extend(processes::session_members(&all, Pid::from_raw(start.pid), start.since_ticks));
    }
    rest.extend(processes::with_a_variable(&all, variables));
    // A later attempt of the same run has the same variable, and a live supervisor.
    let others = living::all().into_iter().flat_map(|(_, supervisor)| processes::descendants(&all, supervisor));
    let others: BTreeSet<Pid> = others.collect();
    rest.retain(|pid| !others.contains(pid));
    rest.sort_unstable();
    rest.dedup();
    // A zombie is dead; its new parent reaps it.
    rest.retain(|pid| !all.iter().any(|process| process.pid == *pid && process.is_zombie));
    rest
}
