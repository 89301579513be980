//! What is left of an attempt, removed: also the processes of one whose supervisor was killed.

use std::io;
use std::time::Duration;

use nix::unistd::Pid;

use super::cgroup::Groups;
use super::folder::Folder;
use super::processes;
use super::record::Start;

/// How often processes are killed before we give up, and the pause between.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(10);

/// Removes the folder of an attempt that has no supervisor, its control groups and what runs of it.
pub(super) fn remove(folder: &Folder) -> io::Result<()> {
    // One that can't be read is of no use and in the way.
    if let Some(spec) = folder.spec().unwrap_or_default() {
        let groups = Groups::find(&spec.places, &spec.attempt_id.to_string());
        if folder.end().unwrap_or_default().is_none() {
            kill_the_rest(folder, &groups, folder.start().unwrap_or_default().as_ref())?;
        }
        groups.remove()?;
    }
    folder.remove()
}

fn kill_the_rest(folder: &Folder, groups: &Groups, start: Option<&Start>) -> io::Result<()> {
    let home = format!("HOME={}", folder.work().display());
    for _ in 0..TRIES {
        let rest = rest(groups, start, home.as_bytes());
        if rest.is_empty() {
            return Ok(());
        }
        groups.kill();
        processes::kill_all(&rest);
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::other("its processes can't be killed"))
}

/// With the supervisor the tree of descendants is lost. What is left are the groups, the session, and the HOME which
/// only this attempt's processes had from their start.
fn rest(groups: &Groups, start: Option<&Start>, home: &[u8]) -> Vec<Pid> {
    let all = processes::all();
    let mut rest = groups.pids();
    if let Some(start) = start {
        rest.extend(processes::session_members(&all, Pid::from_raw(start.pid), start.since_ticks));
    }
    rest.extend(processes::with_variable(&all, home));
    rest.sort_unstable();
    rest.dedup();
    // A zombie is dead; whoever inherited it reaps it.
    rest.retain(|pid| !all.iter().any(|process| process.pid == *pid && process.is_zombie));
    rest
}
