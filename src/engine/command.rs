//! How a command is passed to a cluster's shell, the same on every engine.

use crate::model::limits;

/// Shells that parse a command by POSIX rules when their last argument is `-c`.
const SHELLS: [&str; 6] = ["sh", "ash", "bash", "dash", "ksh", "zsh"];

pub(super) fn is_posix_shell(shell: &[String]) -> bool {
    let program = shell.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let takes_command = shell.last().is_some_and(|option| option.starts_with('-') && option.ends_with('c'));
    SHELLS.contains(&program) && takes_command
}

/// The shell's last argument. A shell parses an argument that begins with a minus or a plus as further options, even
/// after `-c`; a leading blank prevents that and changes nothing else, including the shell's line count. Interpreters
/// that are not shells may be sensitive to a blank and get a line break instead.
pub(super) fn argument(shell: &[String], command: &str) -> String {
    if !command.starts_with(['-', '+']) {
        return command.to_owned();
    }
    with_prefix(if is_posix_shell(shell) { " " } else { "\n" }, command)
}

/// A command with our prefix. The prefix is omitted where Linux would not accept the two together, which happens for
/// runs accepted when commands could be as long as an argument.
pub(super) fn with_prefix(prefix: &str, command: &str) -> String {
    let fits = prefix.len() + command.len() <= limits::ARGUMENT_BYTES;
    if fits { format!("{prefix}{command}") } else { command.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_begins_with_a_sign_is_no_option_of_its_shell() {
        let words = |shell: &[&str]| shell.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for shell in [&["/bin/sh", "-ec"][..], &["bash", "-o", "pipefail", "-c"], &["python3", "-c"]] {
            // Accepted unchanged by all of these.
            for sign in ["-", "+"] {
                let blank = if shell[0].contains("python") { "\n" } else { " " };
                assert_eq!(argument(&words(shell), &format!("{sign}x\ny")), format!("{blank}{sign}x\ny"));
            }
            for command in ["echo -x", " -x", "", "\n-x"] {
                assert_eq!(argument(&words(shell), command), command);
            }
        }
    }

    #[test]
    fn what_is_put_before_the_longest_command_fits() {
        let shell = ["/bin/sh", "-ec"].map(str::to_owned);
        let longest = format!("-{}", "x".repeat(limits::COMMAND_BYTES - 1));
        let argument = argument(&shell, &longest);
        assert_eq!(argument.len(), limits::COMMAND_BYTES + 1);
        let earlier = "x".repeat(limits::ARGUMENT_BYTES);
        assert_eq!(with_prefix("trap '' TERM; ", &earlier), earlier);
    }

    #[test]
    fn what_reads_commands_as_shells_do_is_known_by_its_name() {
        let is_shell =
            |words: &[&str]| is_posix_shell(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert!(is_shell(&["/bin/bash", "-o", "pipefail", "-ec"]) && is_shell(&["sh", "-c"]));
        for shell in [&["python3", "-c"][..], &["/bin/sh"], &["/bin/sh", "-e"], &["/usr/bin/env", "-c"], &[]] {
            assert!(!is_shell(shell), "{shell:?}");
        }
    }
}
