//! The server's own group in a version 2 tree, prepared as a place for the groups of tasks.
//!
//! A group that delegates controllers must hold no processes itself (cgroups(7), "no internal processes"), so the
//! server has to be in a leaf. systemd has placed it there since version 254 (`DelegateSubgroup=`). Before that the
//! server moves itself, and its unit has to revoke the controllers when the server ends, however it ends: the next
//! server could not be placed into a group that delegates memory.
//!
//! ```text
//! flotilla.service          delegates memory and cpu, no processes
//!   ├ flotilla-server       the server and the supervisors, if created by systemd; flotilla-self if by the server
//!   └ flotilla-ATTEMPT      a task
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::child_folders;
use super::controller::{Controller, controllers};

/// The leaf that the service manager creates for the server.
const LEAF: &str = "flotilla-server";
/// The leaf that the server creates for itself.
const OWN_LEAF: &str = "flotilla-self";
/// Set by a unit that revokes the controllers after the server has ended.
const IS_RELEASED: &str = "FLOTILLA_GROUPS_ARE_RELEASED";
/// The delegated controllers, in this order: a group that delegates `cpu` alone while it holds processes becomes one
/// whose child groups can't have `memory`.
const HANDED_DOWN: [&str; 2] = ["memory", "cpu"];

/// Prepares the server's own group, or its parent if that was created for this purpose. Never goes further up: those
/// groups belong to others.
pub(super) fn open(own: PathBuf) -> io::Result<(PathBuf, Vec<Controller>)> {
    let is_in_leaf = own.file_name().is_some_and(|name| name == LEAF || name == OWN_LEAF);
    if is_in_leaf && let Some(above) = own.parent().filter(|above| above.join("cgroup.procs").exists()) {
        return hand_down(above).map(|controllers| (above.to_owned(), controllers));
    }
    // Only the root of the tree has no type; it may hold processes and delegate controllers.
    if own.join("cgroup.type").exists() {
        move_to_leaf(&own, std::env::var_os(IS_RELEASED).is_some())?;
    }
    hand_down(&own).map(|controllers| (own, controllers))
}

/// Revokes the controllers from all groups below the server unit's, if the server moved to its own leaf. The limits
/// of running tasks have no effect until the next server has set them again.
///
/// # Errors
/// The groups can't be read or changed.
pub(super) fn release_unit(own: &Path) -> io::Result<()> {
    // systemd runs the commands that follow the server's end in a group `.control` beside the leaf.
    let unit = own.parent().into_iter().chain([own]).find(|group| group.join(OWN_LEAF).is_dir());
    unit.map_or(Ok(()), release)
}

/// Makes a group delegate its controllers to its child groups; returns those that it delegates.
fn hand_down(folder: &Path) -> io::Result<Vec<Controller>> {
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let (available, enabled) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    for name in missing(&available, &enabled) {
        fs::write(folder.join("cgroup.subtree_control"), format!("+{name}"))?;
    }
    Ok(controllers(read("cgroup.subtree_control")?.split_whitespace()))
}

fn missing<'a>(available: &'a str, enabled: &'a str) -> impl Iterator<Item = &'static str> + 'a {
    let has = |list: &str, name: &str| list.split_whitespace().any(|known| known == name);
    HANDED_DOWN.into_iter().filter(move |name| has(available, name) && !has(enabled, name))
}

/// Moves this process out of its group if it is alone there: other processes are not ours to move.
fn move_to_leaf(own: &Path, is_released: bool) -> io::Result<()> {
    let pid = std::process::id().to_string();
    if fs::read_to_string(own.join("cgroup.procs"))?.lines().any(|other| other != pid) {
        return Err(io::Error::other("other processes are in it"));
    }
    let is_service = own.extension().is_some_and(|extension| extension == "service");
    if is_service && !is_released {
        return Err(io::Error::other(
            "its service manager could not start the server again beside its runs; let the unit have \
             `Delegate=yes` and `DelegateSubgroup=flotilla-server` (systemd 254), or be as in deploy/systemd",
        ));
    }
    // Left by a server that was killed, or by an earlier version.
    release(own)?;
    let leaf = own.join(OWN_LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    fs::write(leaf.join("cgroup.procs"), "0")
}

/// Starts with the deepest groups: a group can't revoke what one below it delegates.
fn release(folder: &Path) -> io::Result<()> {
    for child in child_folders(folder) {
        release(&child)?;
    }
    let control = folder.join("cgroup.subtree_control");
    for name in fs::read_to_string(&control)?.split_whitespace() {
        fs::write(&control, format!("-{name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_handed_down_before_cpu_and_only_what_is_there_and_missing() {
        let found = |available, enabled| missing(available, enabled).collect::<Vec<_>>();
        assert_eq!(found("cpuset cpu io memory pids", ""), ["memory", "cpu"]);
        assert_eq!(found("cpuset cpu io memory pids", "cpu"), ["memory"]);
        assert_eq!(found("cpu", "pids"), ["cpu"]);
        assert_eq!(found("memory_x", ""), [""; 0]);
    }

    /// A folder that reads and writes like a group.
    fn group(path: &Path, handed_down: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("cgroup.type"), "domain\n").unwrap();
        fs::write(path.join("cgroup.procs"), format!("{}\n", std::process::id())).unwrap();
        fs::write(path.join("cgroup.controllers"), "cpu memory\n").unwrap();
        fs::write(path.join("cgroup.subtree_control"), handed_down).unwrap();
    }

    #[test]
    fn a_service_that_could_not_be_restarted_keeps_its_group_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join("system.slice/flotilla.service");
        group(folder.path().join("system.slice").as_path(), "");
        group(&unit, "");
        let error = move_to_leaf(&unit, false).unwrap_err();
        assert!(error.to_string().contains("DelegateSubgroup"), "{error}");
        assert!(!unit.join(OWN_LEAF).exists());
        let error = open(unit.clone()).unwrap_err();
        assert!(error.to_string().contains("DelegateSubgroup"), "{error}");
        let above = fs::read_to_string(folder.path().join("system.slice/cgroup.subtree_control")).unwrap();
        assert_eq!(above, "", "what is above the server's unit is not touched");
    }

    #[test]
    fn a_server_moves_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let scope = folder.path().join("run.scope");
        group(&scope, "");
        fs::write(scope.join("cgroup.procs"), "1\n").unwrap();
        let error = move_to_leaf(&scope, true).unwrap_err();
        assert_eq!(error.to_string(), "other processes are in it");
    }

    #[test]
    fn in_its_leaf_a_server_uses_the_group_above_and_none_further_up() {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join("flotilla.service");
        group(&unit, "cpu memory");
        group(&unit.join(LEAF), "");
        let (place, found) = open(unit.join(LEAF)).unwrap();
        assert_eq!((place, found), (unit, vec![Controller::Cpu, Controller::Memory]));
    }

    #[test]
    fn an_ended_server_leaves_a_group_into_which_the_next_can_be_put() {
        let folder = tempfile::tempdir().unwrap();
        let unit = folder.path().join("flotilla.service");
        group(&unit, "memory");
        group(&unit.join(".control"), "");
        group(&unit.join("flotilla-task"), "");
        release_unit(&unit.join(".control")).unwrap();
        let control = |group: &Path| fs::read_to_string(group.join("cgroup.subtree_control")).unwrap();
        assert_eq!(control(&unit), "memory", "systemd made the leaf, and needs nothing");
        fs::create_dir(unit.join(OWN_LEAF)).unwrap();
        fs::write(unit.join(OWN_LEAF).join("cgroup.subtree_control"), "").unwrap();
        release_unit(&unit.join(".control")).unwrap();
        assert_eq!(control(&unit), "-memory");
    }
}
