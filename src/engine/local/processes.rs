//! Processes as listed in `/proc`: their descendants, and how they are ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::run_clock;
use crate::clock::Clock;

/// The fields of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub pid: Pid,
    pub parent: Pid,
    pub session: Pid,
    /// It has ended and only waits to be reaped.
    pub is_zombie: bool,
    /// Clock ticks from the boot to its start.
    pub start_ticks: u64,
}

/// Every process of the machine that is visible to us.
pub(super) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| find(Pid::from_raw(pid))).collect()
}

pub(super) fn find(pid: Pid) -> Option<Process> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Usage of this process's live descendants: memory in bytes, where shared pages count for each process, and CPU
/// time, including that of their own ended children.
pub(super) fn usage_of_descendants() -> (u64, Duration) {
    let (mut bytes, mut ticks) = (0, 0);
    let mut waiting = children(Pid::this());
    while let Some(pid) = waiting.pop() {
        waiting.extend(children(pid));
        bytes += resident_bytes(pid).unwrap_or(0);
        ticks += fs::read_to_string(format!("/proc/{pid}/stat")).ok().and_then(|stat| cpu_ticks(&stat)).unwrap_or(0);
    }
    (bytes, Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second()))
}

/// Without scanning every process of the machine (`proc_tid_children(5)`).
fn children(pid: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .map(Pid::from_raw)
        .collect()
}

/// See `proc_pid_statm(5)`: the second field counts resident pages.
fn resident_bytes(pid: Pid) -> Option<u64> {
    let pages: u64 = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse().ok()?;
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page_bytes).ok()?)
}

/// See `proc_pid_stat(5)`: fields 14 to 17, for the process itself and the children it waited for.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<u64> = rest.split_whitespace().skip(11).take(4).map_while(|field| field.parse().ok()).collect();
    (fields.len() == 4).then(|| fields.iter().sum())
}

/// When a process started, by the current wall clock.
pub(super) fn started_at(process: &Process) -> Timestamp {
    let since_boot = Duration::from_millis(process.start_ticks.saturating_mul(1000) / ticks_per_second());
    let age = run_clock::since_boot().saturating_sub(since_boot);
    Clock::system().now().checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn ticks_per_second() -> u64 {
    sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100).max(1)
}

/// The children of `ancestor`, their children, and so on.
pub(super) fn descendants(all: &[Process], ancestor: Pid) -> Vec<Pid> {
    let mut found = BTreeSet::from([ancestor]);
    loop {
        let known = found.len();
        found.extend(all.iter().filter(|process| found.contains(&process.parent)).map(|p| p.pid).collect::<Vec<_>>());
        if found.len() == known {
            found.remove(&ancestor);
            return found.into_iter().collect();
        }
    }
}

/// The members of the session that `leader` began at `start_ticks`. The kernel does not reuse a session's number
/// while it has a member; so if a later process has it, the session has ended.
pub(super) fn session_members(all: &[Process], leader: Pid, start_ticks: u64) -> Vec<Pid> {
    let is_another = |process: &Process| process.pid == leader && process.start_ticks != start_ticks;
    if all.iter().any(is_another) {
        return Vec::new();
    }
    all.iter().filter(|process| process.session == leader).map(|process| process.pid).collect()
}

/// The processes whose environment had one of these variables when their program started.
pub(super) fn with_a_variable(all: &[Process], variables: &[String]) -> Vec<Pid> {
    let has_it = |process: &&Process| {
        let environ = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|known| variables.iter().any(|variable| variable.as_bytes() == known))
    };
    all.iter().filter(has_it).map(|process| process.pid).collect()
}

/// Sends SIGTERM to each. A stopped process is continued, or it would never notice.
pub(super) fn terminate(pids: &[Pid]) {
    for &pid in pids {
        // One that ended in the meantime needs no signal.
        let _ = kill(pid, Signal::SIGTERM);
        let _ = kill(pid, Signal::SIGCONT);
    }
}

pub(super) fn kill_all(pids: &[Pid]) {
    for &pid in pids {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// The id of the machine's current boot, which identifies folders from before it.
pub(super) fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned()
}

/// See `proc_pid_stat(5)`. The second field is the program's name in parentheses, and may hold anything.
fn parse_stat(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    // From the third field on: state, parent, group, session; the 22nd is the start.
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |i: usize| fields.get(i)?.parse().ok().map(Pid::from_raw);
    Some(Process {
        pid: Pid::from_raw(pid.parse().ok()?),
        parent: number(1)?,
        session: number(3)?,
        is_zombie: matches!(fields.first(), Some(&("Z" | "X"))),
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32, start_ticks: u64) -> Process {
        Process {
            pid: Pid::from_raw(pid),
            parent: Pid::from_raw(parent),
            session: Pid::from_raw(session),
            is_zombie: false,
            start_ticks,
        }
    }

    fn pids<const N: usize>(pids: [i32; N]) -> Vec<Pid> {
        pids.map(Pid::from_raw).to_vec()
    }

    #[test]
    fn a_program_may_be_called_anything() {
        let line = "12 (a) R (b) c) S 3 12 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1000 200";
        assert_eq!(parse_stat(line), Some(process(12, 3, 7, 9876)));
        assert_eq!(parse_stat("12 (sh"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let all = [process(5, 4, 5, 0), process(4, 2, 2, 0), process(2, 1, 2, 0), process(3, 1, 3, 0)];
        assert_eq!(descendants(&all, Pid::from_raw(2)), pids([4, 5]));
        assert_eq!(descendants(&all, Pid::from_raw(5)), pids([]));
    }

    #[test]
    fn a_session_whose_number_came_back_has_no_members() {
        let all = [process(7, 1, 7, 100), process(8, 7, 7, 101), process(9, 1, 9, 50)];
        assert_eq!(session_members(&all, Pid::from_raw(7), 100), pids([7, 8]));
        assert_eq!(session_members(&all, Pid::from_raw(7), 99), pids([]));
        assert_eq!(session_members(&all[1..], Pid::from_raw(7), 99), pids([8]));
    }

    #[test]
    fn cpu_time_is_that_of_a_process_and_of_its_ended_children() {
        let line = "12 (a) R (b) c) S 3 12 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1000 200";
        assert_eq!(cpu_ticks(line), Some(5 + 6 + 7 + 8));
        assert_eq!(cpu_ticks("12 (sh) S 1 x"), None);
    }

    #[test]
    fn what_descendants_use_is_measured() {
        let mut child = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let begun = std::time::Instant::now();
        while children(pid).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the kernel lists no children of a process");
            std::thread::yield_now();
        }
        let (sh, sleep) = (resident_bytes(pid).unwrap(), resident_bytes(children(pid)[0]).unwrap());
        let (bytes, _) = usage_of_descendants();
        kill_all(&[children(pid), vec![pid]].concat());
        child.wait().unwrap();
        assert!(sh > 0 && sleep > 0 && bytes >= sh.max(sleep), "{bytes}");
    }

    #[test]
    fn this_process_is_seen() {
        let own = Pid::this();
        assert!(all().iter().any(|process| process.pid == own && process.parent == Pid::parent()));
    }
}
