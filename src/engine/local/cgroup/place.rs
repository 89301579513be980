//! Where control groups can be made: below the server's own group (`own.rs`), so that the limits that the machine's
//! operator set for the server apply to its tasks too.
//!
//! Version 1 has a tree per controller (or for a few together), version 2 one tree for all, and both may exist at
//! once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::controller::{Controller, controllers};
use super::{own, why_not};

/// Name prefix of the tasks' groups.
pub(super) const PREFIX: &str = "flotilla-";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Version {
    V1,
    V2,
}

/// A folder in which groups with these controllers can be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub version: Version,
    pub controllers: Vec<Controller>,
    pub folder: PathBuf,
}

/// All places on this machine, and why there are no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Places {
    pub(super) places: Vec<Place>,
    pub(super) obstacles: Vec<Obstacle>,
}

/// Why there are no groups with these controllers; if none are named, the place could have served any.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Obstacle {
    pub controllers: Vec<Controller>,
    pub reason: String,
}

impl Places {
    /// Called once at server start. It may move the server into a leaf of its own group.
    pub fn find() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let own = own_groups(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let mut found = Self::default();
        for group in own {
            // If version 1 has the memory controller, the other tree adds nothing.
            if group.version == Version::V2 && found.has(Controller::Memory) {
                continue;
            }
            let (folder, controllers) = (group.folder.display().to_string(), group.controllers.clone());
            match open(group) {
                Ok(place) => {
                    let lacking = [Controller::Memory, Controller::Cpu].into_iter();
                    let lacking: Vec<_> =
                        lacking.filter(|controller| !place.controllers.contains(controller)).collect();
                    if place.version == Version::V2 && !lacking.is_empty() {
                        let reason = format!("the control group {folder} has no such controller");
                        found.obstacles.push(Obstacle { controllers: lacking, reason });
                    }
                    found.places.push(place);
                }
                Err(error) => {
                    let reason = format!("can't make a control group in {folder}: {error}");
                    found.obstacles.push(Obstacle { controllers, reason });
                }
            }
        }
        found
    }

    /// What can't be limited here, and why.
    pub fn unmet(&self) -> Vec<String> {
        let unmet = |controller, what: &str| {
            (!self.has(controller)).then(|| format!("{what} is not limited: {}", why_not(&self.obstacles, controller)))
        };
        [unmet(Controller::Memory, "memory"), unmet(Controller::Cpu, "CPU")].into_iter().flatten().collect()
    }

    fn has(&self, controller: Controller) -> bool {
        self.places.iter().any(|place| place.controllers.contains(&controller))
    }
}

/// The groups this process is in that have useful controllers and visible folders; version 1 first.
fn own_groups(cgroup: &str, mountinfo: &str) -> Vec<Place> {
    let mut groups: Vec<Place> = Vec::new();
    for mount in mountinfo.lines().filter_map(parse_mount) {
        let (version, controllers) = match mount.fs_type {
            "cgroup2" => (Version::V2, vec![]),
            "cgroup" => (Version::V1, controllers(mount.options.split(','))),
            _ => continue,
        };
        if version == Version::V1 && controllers.is_empty() {
            continue;
        }
        let is_of_mount = |names: &str| match version {
            Version::V2 => names.is_empty(),
            Version::V1 => {
                !names.is_empty() && names.split(',').all(|name| mount.options.split(',').any(|o| o == name))
            }
        };
        let path = cgroup.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, path) = rest.split_once(':')?;
            is_of_mount(names).then_some(path)
        });
        let Some(folder) = path.and_then(|path| place_in_mount(&mount, path)) else { continue };
        let group = Place { version, controllers, folder };
        // One tree may be mounted in several places.
        if !groups.iter().any(|known| known.version == version && known.controllers == group.controllers) {
            groups.push(group);
        }
    }
    groups.sort_by_key(|group| group.version == Version::V2);
    groups
}

struct Mount<'a> {
    root: &'a str,
    point: String,
    fs_type: &'a str,
    options: &'a str,
}

/// A line of `/proc/self/mountinfo`, see proc(5).
fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ').skip(3);
    let mut after = after.split(' ');
    let (root, point) = (before.next()?, before.next()?);
    let (fs_type, _source, options) = (after.next()?, after.next()?, after.next()?);
    Some(Mount { root, point: point.replace("\\040", " "), fs_type, options })
}

/// The folder of a group in a mount, which may show only part of the tree.
fn place_in_mount(mount: &Mount, path: &str) -> Option<PathBuf> {
    let below = Path::new(path).strip_prefix(mount.root).ok()?;
    // A group outside this process's namespace is shown as `/../…`.
    let is_outside = below.components().any(|part| part == std::path::Component::ParentDir);
    (!is_outside).then(|| Path::new(&mount.point).join(below))
}

/// Prepares the server's own group, or its parent, as a place for groups.
fn open(own: Place) -> io::Result<Place> {
    let (folder, mut controllers) = match own.version {
        Version::V1 => (own.folder, own.controllers),
        Version::V2 => own::open(own.folder)?,
    };
    try_out(&folder)?;
    if own.version == Version::V2 {
        controllers.push(Controller::CpuTime);
    }
    Ok(Place { version: own.version, controllers, folder })
}

/// Creates a group and removes it.
fn try_out(folder: &Path) -> io::Result<()> {
    let group = folder.join(format!("{PREFIX}probe-{}", std::process::id()));
    fs::create_dir(&group)?;
    fs::remove_dir(&group)
}

/// The server's own group in the version 2 tree, if it is in one.
pub(super) fn own_group_v2() -> Option<PathBuf> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let own = own_groups(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
    own.into_iter().find(|group| group.version == Version::V2).map(|group| group.folder)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const V2_ONLY: &str = "25 30 0:23 / /proc rw - proc proc rw\n\
        35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
    const HYBRID: &str = "30 24 0:26 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
        31 24 0:27 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n\
        32 24 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:11 - cgroup cgroup rw,cpu,cpuacct\n\
        33 24 0:29 / /sys/fs/cgroup/systemd rw shared:12 - cgroup cgroup rw,xattr,name=systemd\n";

    fn place(version: Version, controllers: &[Controller], folder: &str) -> Place {
        Place { version, controllers: controllers.to_vec(), folder: folder.into() }
    }

    /// A place in this machine's version 2 tree, whether or not version 1 exists too.
    pub fn find_v2() -> Option<Place> {
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let own = own_groups(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        let own = own.into_iter().find(|group| group.version == Version::V2)?;
        // Only if it needs no change to the machine's groups.
        let has_controllers = fs::read_to_string(own.folder.join("cgroup.subtree_control")).ok()?.trim() != "";
        (!has_controllers && try_out(&own.folder).is_ok())
            .then(|| Place { controllers: vec![Controller::CpuTime], ..own })
    }

    #[test]
    fn the_own_group_is_found_in_version_2() {
        let found = own_groups("0::/system.slice/flotilla.service\n", V2_ONLY);
        assert_eq!(found, [place(Version::V2, &[], "/sys/fs/cgroup/system.slice/flotilla.service")]);
    }

    #[test]
    fn each_tree_of_version_1_has_its_own_path() {
        let cgroup = "12:cpu,cpuacct:/a\n9:memory:/b/c\n1:name=systemd:/d\n0::/e\n";
        let expected = [
            place(Version::V1, &[Controller::Memory], "/sys/fs/cgroup/memory/b/c"),
            place(Version::V1, &[Controller::Cpu, Controller::CpuTime], "/sys/fs/cgroup/cpu,cpuacct/a"),
            place(Version::V2, &[], "/sys/fs/cgroup/unified/e"),
        ];
        assert_eq!(own_groups(cgroup, HYBRID), expected);
    }

    #[test]
    fn a_container_sees_only_its_part_of_the_tree() {
        let mountinfo = "31 24 0:27 /docker/abc /sys/fs/cgroup/memory ro shared:10 - cgroup cgroup rw,memory\n";
        let found = own_groups("9:memory:/docker/abc/below\n", mountinfo);
        assert_eq!(found, [place(Version::V1, &[Controller::Memory], "/sys/fs/cgroup/memory/below")]);
    }

    #[test]
    fn a_group_out_of_sight_is_no_place() {
        assert_eq!(own_groups("0::/../other\n", V2_ONLY), []);
        assert_eq!(own_groups("9:memory:/elsewhere\n", "31 24 0:27 /docker /m rw - cgroup cgroup rw,memory\n"), []);
        assert_eq!(own_groups("", ""), []);
    }
}
