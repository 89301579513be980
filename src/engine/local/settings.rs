//! An operator's settings for local runs.

use super::supervisor::user::{Choice, for_task};
use crate::settings::checks::{optional, program, word, words};
use crate::settings::{self, Section};

/// The settings of one cluster with engine `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSettings {
    /// The program that gets a command as its last argument, with the arguments before that.
    pub shell: Vec<String>,
    /// The user that every command runs as, so that it has no access to the server's files. Needs root. `None` is the
    /// server's own user, or the task's if the server is root.
    pub user: Option<String>,
}

impl Default for LocalSettings {
    /// The settings of an empty section.
    fn default() -> Self {
        settings::defaults(Self::read)
    }
}

impl LocalSettings {
    pub fn read(section: &mut Section<'_>) -> Self {
        Self {
            shell: section.read("shell", words(["sh", "-ec"]), program),
            user: section.text("user", None, optional(word)),
        }
    }

    /// Whether commands can run as [`LocalSettings::user`], and that is not the server's own user.
    pub fn check_user(&self) -> Result<(), String> {
        match for_task(self.user.as_deref(), None)? {
            Choice::Other(identity) if !identity.uid.is_root() => Ok(()),
            Choice::Own if self.user.is_none() => Ok(()),
            Choice::Own | Choice::Other(_) => {
                Err("it is the server's own user, from whom nothing could be kept".to_owned())
            }
            Choice::Ignored(reason) => Err(reason),
        }
    }
}
