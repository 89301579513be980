//! A task's own control groups: they keep its processes together, limit them and count their usage.
//!
//! The task enters them itself, between fork and exec: moving oneself takes a tenth of a millisecond, being moved by
//! another process five or more, because the kernel then waits until no process of the machine forks.

mod controller;
mod own;
mod place;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use controller::Controller;
use place::{Obstacle, PREFIX, Place, Version};

pub(super) use place::Places;

/// The period to which a CPU time quota refers, in microseconds; the kernel's own default.
const CPU_PERIOD_MICROS: i64 = 100_000;
/// The kernel allows no smaller quota, in microseconds.
const SMALLEST_QUOTA_MICROS: i64 = 1000;

/// A task's limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub memory_bytes: Option<i64>,
    pub cpu_millis: Option<i64>,
}

/// The groups of one task, at most one in each tree.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    version: Version,
    controllers: Vec<Controller>,
    folder: PathBuf,
}

impl Groups {
    /// Creates the groups of `name` with the limits that are possible; returns both, and why other limits are not
    /// set.
    pub fn make(places: &Places, name: &str, limits: Limits) -> (Self, Limits, Vec<String>) {
        let mut groups = Self::default();
        let mut obstacles = places.obstacles.clone();
        for place in &places.places {
            let is_only_for_cpu = place.controllers == [Controller::Cpu];
            if is_only_for_cpu && limits.cpu_millis.is_none() {
                continue;
            }
            let group = Group::at(place, name);
            match make_folder(&group.folder) {
                Ok(()) => groups.groups.push(group),
                Err(error) => {
                    let reason = format!("can't make the control group {}: {error}", group.folder.display());
                    obstacles.push(Obstacle { controllers: group.controllers, reason });
                }
            }
        }
        let (enforced, unmet) = groups.limit(limits, &obstacles);
        (groups, enforced, unmet)
    }

    /// Sets limits; returns those in force, and why the others are not.
    fn limit(&self, limits: Limits, obstacles: &[Obstacle]) -> (Limits, Vec<String>) {
        let set = |controller, set: &dyn Fn(&Group) -> io::Result<()>| match self.with(controller).map(set) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(why_not(obstacles, controller)),
        };
        let mut enforced = Limits::default();
        let mut unmet = Vec::new();
        if let Some(bytes) = limits.memory_bytes {
            match set(Controller::Memory, &|group| group.limit_memory(bytes)) {
                Ok(()) => enforced.memory_bytes = Some(bytes),
                Err(reason) => unmet.push(format!("memory is not limited: {reason}")),
            }
        }
        if let Some(millis) = limits.cpu_millis {
            match set(Controller::Cpu, &|group| group.limit_cpu(millis)) {
                Ok(()) => enforced.cpu_millis = Some(millis),
                Err(reason) => unmet.push(format!("CPU is not limited: {reason}")),
            }
        }
        (enforced, unmet)
    }

    /// Sets the limits of a running task again: they are lost if the server's group did not delegate its controllers
    /// while there was no server. Returns why that was not possible.
    pub fn limit_again(&self, limits: Limits) -> Vec<String> {
        let has_v2 = self.groups.iter().any(|group| group.version == Version::V2);
        if has_v2 { self.limit(limits, &[]).1 } else { Vec::new() }
    }

    /// The groups created earlier for `name` that still exist.
    pub fn find(places: &Places, name: &str) -> Self {
        let groups = places.places.iter().map(|place| Group::at(place, name));
        Self { groups: groups.filter(|group| group.folder.exists()).collect() }
    }

    /// Files to which a single-threaded process writes `0` to enter.
    pub fn entrances(&self) -> io::Result<Vec<File>> {
        let open = |group: &Group| OpenOptions::new().write(true).open(group.entrance());
        self.groups.iter().map(open).collect()
    }

    /// The processes in the groups.
    pub fn pids(&self) -> Vec<Pid> {
        // All groups hold the same processes, unless one left some of them: so all are read.
        let mut pids = Vec::new();
        for group in &self.groups {
            collect_pids(&group.folder, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Kills all processes in the groups at once if the kernel supports it (version 2, Linux 5.14).
    pub fn kill(&self) {
        for group in self.groups.iter().filter(|group| group.version == Version::V2) {
            // Otherwise the processes are killed one by one.
            let _ = write(&group.folder.join("cgroup.kill"), "1");
        }
    }

    /// The peak if the kernel records one; otherwise the current usage.
    pub fn memory_peak_bytes(&self) -> Option<u64> {
        let group = self.with(Controller::Memory)?;
        let number = |name| read_number(&group.folder.join(name));
        match group.version {
            Version::V1 => number("memory.max_usage_in_bytes"),
            // Linux 5.19.
            Version::V2 => number("memory.peak").or_else(|| number("memory.current")),
        }
    }

    /// Current usage without what the kernel would give back at once: a task does not need page cache.
    pub fn memory_bytes(&self) -> Option<u64> {
        let group = self.with(Controller::Memory)?;
        let (used, spare) = match group.version {
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
            Version::V2 => ("memory.current", "inactive_file"),
        };
        let spare = read_key(&group.folder.join("memory.stat"), spare).unwrap_or(0);
        read_number(&group.folder.join(used)).map(|used| used.saturating_sub(spare))
    }

    pub fn cpu_time(&self) -> Option<Duration> {
        let group = self.with(Controller::CpuTime)?;
        match group.version {
            Version::V1 => read_number(&group.folder.join("cpuacct.usage")).map(Duration::from_nanos),
            Version::V2 => read_key(&group.folder.join("cpu.stat"), "usage_usec").map(Duration::from_micros),
        }
    }

    /// How many of its processes the kernel's OOM killer killed.
    pub fn oom_kills(&self) -> u64 {
        let count = self.with(Controller::Memory).and_then(|group| match group.version {
            Version::V1 => read_key(&group.folder.join("memory.oom_control"), "oom_kill"),
            Version::V2 => read_key(&group.folder.join("memory.events"), "oom_kill"),
        });
        count.unwrap_or(0)
    }

    /// Removes the groups; fails while one holds a process.
    pub fn remove(&self) -> io::Result<()> {
        self.groups.iter().try_for_each(|group| remove_tree(&group.folder))
    }

    fn with(&self, controller: Controller) -> Option<&Group> {
        self.groups.iter().find(|group| group.controllers.contains(&controller))
    }
}

impl Group {
    fn at(place: &Place, name: &str) -> Self {
        let folder = place.folder.join(format!("{PREFIX}{name}"));
        Self { version: place.version, controllers: place.controllers.clone(), folder }
    }

    fn entrance(&self) -> PathBuf {
        // In version 1 only the file for threads is fast; version 2 moves whole processes.
        self.folder.join(match self.version {
            Version::V1 => "tasks",
            Version::V2 => "cgroup.procs",
        })
    }

    fn limit_memory(&self, bytes: i64) -> io::Result<()> {
        let bytes = bytes.to_string();
        // The second file is missing if the kernel does not account swap; then swap is not limited.
        let (memory, swap, swap_bytes) = match self.version {
            Version::V1 => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes.as_str()),
            Version::V2 => ("memory.max", "memory.swap.max", "0"),
        };
        write(&self.folder.join(memory), &bytes)?;
        match write(&self.folder.join(swap), swap_bytes) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn limit_cpu(&self, millis: i64) -> io::Result<()> {
        let quota = cpu_quota_micros(millis);
        match self.version {
            Version::V1 => {
                write(&self.folder.join("cpu.cfs_period_us"), &CPU_PERIOD_MICROS.to_string())?;
                write(&self.folder.join("cpu.cfs_quota_us"), &quota.to_string())
            }
            Version::V2 => write(&self.folder.join("cpu.max"), &format!("{quota} {CPU_PERIOD_MICROS}")),
        }
    }
}

/// The processes of a group and of any groups that the task created in it.
fn collect_pids(folder: &Path, pids: &mut Vec<Pid>) {
    if let Ok(text) = fs::read_to_string(folder.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
    }
    for child in child_folders(folder) {
        collect_pids(&child, pids);
    }
}

fn why_not(obstacles: &[Obstacle], controller: Controller) -> String {
    let is_of_it = |o: &&Obstacle| o.controllers.is_empty() || o.controllers.contains(&controller);
    let reasons: Vec<&str> = obstacles.iter().filter(is_of_it).map(|obstacle| obstacle.reason.as_str()).collect();
    if reasons.is_empty() { "the machine has no control groups for it".to_owned() } else { reasons.join("; ") }
}

fn cpu_quota_micros(millis: i64) -> i64 {
    (millis.saturating_mul(CPU_PERIOD_MICROS) / 1000).max(SMALLEST_QUOTA_MICROS)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        // Left by a supervisor that was killed before it ran the command.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn child_folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    for child in child_folders(folder) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Writes a value in one piece, as the kernel requires, to an existing file.
fn write(path: &Path, value: &str) -> io::Result<()> {
    use io::Write;
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn read_key(path: &Path, key: &str) -> Option<u64> {
    find_key(&fs::read_to_string(path).ok()?, key)
}

/// The number after a key, in a text with a key and a number on each line.
fn find_key(text: &str, key: &str) -> Option<u64> {
    let value = |line: &str| line.split_once(' ').filter(|(name, _)| *name == key).and_then(|(_, n)| n.parse().ok());
    text.lines().find_map(value)
}

/// Prepares the server's group for the next server, after this one has ended.
///
/// # Errors
/// The groups can't be read or changed.
pub fn release() -> io::Result<()> {
    place::own_group_v2().map_or(Ok(()), |own| own::release_unit(&own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_key() {
        let text = "low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(find_key(text, "oom_kill"), Some(1));
        assert_eq!(find_key(text, "oom"), Some(2));
        assert_eq!(find_key(text, "oom_"), None);
        assert_eq!(find_key("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(find_key("usage_usec 1234567\nuser_usec 1\n", "usage_usec"), Some(1_234_567));
    }

    #[test]
    fn a_limit_is_missing_for_its_own_reasons() {
        let obstacle = |controllers: &[Controller], reason: &str| Obstacle {
            controllers: controllers.to_vec(),
            reason: reason.to_owned(),
        };
        let obstacles = [obstacle(&[Controller::Cpu], "a"), obstacle(&[Controller::Memory], "b"), obstacle(&[], "c")];
        assert_eq!(why_not(&obstacles, Controller::Memory), "b; c");
        assert_eq!(why_not(&obstacles[..1], Controller::Memory), "the machine has no control groups for it");
    }

    #[test]
    fn a_quota_is_a_share_of_the_period() {
        assert_eq!([1, 10, 500, 1500].map(cpu_quota_micros), [1000, 1000, 50_000, 150_000]);
    }

    /// On a machine with both versions the version 2 tree has no controllers, but holds processes like any other.
    #[test]
    fn a_group_of_version_2_holds_counts_and_kills_its_processes() {
        let Some(place) = place::tests::find_v2() else {
            eprintln!("not tested: there is no tree of version 2 to make groups in");
            return;
        };
        let places = Places { places: vec![place], obstacles: vec![] };
        let name = format!("test-{}", std::process::id());
        let (groups, _, unmet) = Groups::make(&places, &name, Limits::default());
        assert_eq!((groups.groups.len(), unmet.len()), (1, 0));
        let mut command = std::process::Command::new("sleep");
        let entrances = groups.entrances().unwrap();
        // SAFETY: writing to a file is allowed between fork and exec.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(command.arg("1000"), move || {
                entrances.iter().try_for_each(|mut file| io::Write::write_all(&mut file, b"0"))
            });
        }
        let mut child = command.spawn().unwrap();
        assert_eq!(groups.pids(), [Pid::from_raw(i32::try_from(child.id()).unwrap())]);
        assert!(groups.cpu_time().is_some());
        assert!(groups.remove().is_err(), "it is not empty");
        groups.kill();
        assert!(!child.wait().unwrap().success());
        assert_eq!(groups.pids(), []);
        groups.remove().unwrap();
        assert!(Groups::find(&places, &name).groups.is_empty());
    }

    #[test]
    fn without_a_place_every_limit_is_told_as_missing() {
        let limits = Limits { memory_bytes: Some(1 << 20), cpu_millis: Some(500) };
        let (groups, enforced, obstacles) = Groups::make(&Places::default(), "x", limits);
        assert_eq!(enforced, Limits::default());
        assert_eq!(obstacles.len(), 2, "{obstacles:?}");
        assert!(groups.entrances().unwrap().is_empty());
        assert!(groups.memory_peak_bytes().is_none() && groups.memory_bytes().is_none() && groups.cpu_time().is_none());
    }
}
