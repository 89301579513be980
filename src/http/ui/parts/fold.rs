//! What is folded away on a page because it is long, so that what follows it is found.

use crate::model::EnvVar;

/// A command with more lines is folded away.
const COMMAND_LINES: usize = 12;
/// So are more variables than this.
const VARIABLES_SHOWN: usize = 12;

/// How many lines a command has, where they are too many.
pub fn lines_of_long(command: &str) -> Option<usize> {
    Some(command.lines().count()).filter(|lines| *lines > COMMAND_LINES)
}

pub const fn are_many(env: &[EnvVar]) -> bool {
    env.len() > VARIABLES_SHOWN
}
