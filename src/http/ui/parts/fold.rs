//! Long parts of a page are collapsed, so that what follows them is found.

use crate::model::EnvVar;

/// Commands with more lines are collapsed.
const COMMAND_LINES: usize = 12;
/// More variables than this are collapsed.
const VARIABLES_SHOWN: usize = 12;

/// Number of lines of a command, if it is long enough to be collapsed.
pub fn lines_of_long(command: &str) -> Option<usize> {
    Some(command.lines().count()).filter(|lines| *lines > COMMAND_LINES)
}

pub const fn are_many(env: &[EnvVar]) -> bool {
    env.len() > VARIABLES_SHOWN
}
