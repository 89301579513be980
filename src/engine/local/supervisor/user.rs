//! The user that a command runs as.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, geteuid, getgrouplist, setgid, setgroups, setuid};

/// A user of this machine with all its groups, ready to switch to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::local) struct Identity {
    pub uid: Uid,
    pub gid: Gid,
    groups: Vec<Gid>,
}

/// What a task's `user` means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine::local) enum Choice {
    /// The server's own user.
    Own,
    Other(Identity),
    /// Only root can switch users; the text says so.
    Ignored(String),
}

/// The user for a task that requests `asked`, in a cluster whose commands all run as `of_cluster`. `Err` explains why
/// that is impossible.
pub(in crate::engine::local) fn for_task(of_cluster: Option<&str>, asked: Option<&str>) -> Result<Choice, String> {
    let Some(of_cluster) = of_cluster else { return choose(asked) };
    let choice = choose(Some(of_cluster))?;
    match asked {
        Some(other) if other != of_cluster && choose(Some(other)) != Ok(choice.clone()) => {
            Err(format!("it asks to run as user `{other}`, and the cluster's commands all run as `{of_cluster}`"))
        }
        _ => Ok(choice),
    }
}

/// Finds `name`, `uid`, `name:group` or `uid:gid`, written like a container's user. `Err` if there is none.
pub(in crate::engine::local) fn choose(user: Option<&str>) -> Result<Choice, String> {
    let Some(text) = user else { return Ok(Choice::Own) };
    if !geteuid().is_root() {
        let own = User::from_uid(geteuid()).ok().flatten();
        let is_own = text == geteuid().to_string() || own.is_some_and(|own| own.name == text);
        return Ok(if is_own {
            Choice::Own
        } else {
            Choice::Ignored(format!("the server does not run as root, so the command does not run as user `{text}`"))
        });
    }
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let missing = |what: &str, name: &str| format!("the server's machine has no {what} `{name}`");
    let user = find_user(user).ok_or_else(|| missing("user", user))?;
    let gid = match group {
        None => user.gid,
        Some(group) => find_group(group).ok_or_else(|| missing("group", group))?,
    };
    let name = CString::new(user.name).map_err(|error| error.to_string())?;
    let groups =
        getgrouplist(&name, gid).map_err(|error| format!("can't find the groups of user `{text}`: {error}"))?;
    Ok(Choice::Other(Identity { uid: user.uid, gid, groups }))
}

impl Identity {
    /// Switches to this user permanently.
    pub fn assume(&self) -> nix::Result<()> {
        setgroups(&self.groups)?;
        setgid(self.gid)?;
        setuid(self.uid)
    }
}

fn find_user(text: &str) -> Option<User> {
    let by_id = || User::from_uid(Uid::from_raw(text.parse().ok()?)).ok().flatten();
    User::from_name(text).ok().flatten().or_else(by_id)
}

fn find_group(text: &str) -> Option<Gid> {
    let by_id = || Group::from_gid(Gid::from_raw(text.parse().ok()?)).ok().flatten();
    Group::from_name(text).ok().flatten().or_else(by_id).map(|group| group.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_asked_for_is_the_server_itself() {
        assert_eq!(choose(None), Ok(Choice::Own));
    }

    #[test]
    fn where_the_cluster_says_who_it_is_a_task_can_be_nobody_else() {
        assert_eq!(for_task(None, Some("0")), choose(Some("0")));
        if !geteuid().is_root() {
            assert!(matches!(for_task(Some("nobody"), None), Ok(Choice::Ignored(_))));
            return;
        }
        let nobody = choose(Some("nobody"));
        let Ok(Choice::Other(Identity { uid, .. })) = &nobody else { panic!("{nobody:?}") };
        let uid = uid.to_string();
        for asked in [None, Some("nobody"), Some(uid.as_str())] {
            assert_eq!(for_task(Some("nobody"), asked), nobody, "{asked:?}");
        }
        for asked in ["root", "0", "0:0", "nobody:root", "daemon", "no-such-user-here"] {
            let reason = for_task(Some("nobody"), Some(asked)).unwrap_err();
            assert!(reason.contains(&format!("`{asked}`, and the cluster's commands all run as `nobody`")), "{reason}");
        }
        assert_eq!(for_task(Some("no-such-user-here"), None), choose(Some("no-such-user-here")));
        assert_eq!(for_task(Some("root"), None), choose(Some("root")));
    }

    #[test]
    fn only_root_can_become_another_and_only_one_that_exists() {
        let choice = choose(Some("no-such-user-here"));
        if geteuid().is_root() {
            assert_eq!(choice.unwrap_err(), "the server's machine has no user `no-such-user-here`");
            assert!(matches!(choose(Some("0:0")), Ok(Choice::Other(Identity { uid, .. })) if uid.is_root()));
            assert!(choose(Some("root:no-such-group-here")).is_err());
        } else {
            assert!(matches!(choice, Ok(Choice::Ignored(_))));
            assert_eq!(choose(Some(&geteuid().to_string())), Ok(Choice::Own));
        }
    }
}
