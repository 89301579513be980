//! Detects from a runtime's messages that an image has no executable shell. A missing shell is refused before the
//! container starts; that a shell can't be executed (wrong architecture, missing interpreter) the runtime discovers
//! only inside the container, which then ends at once with the runtime's one-line message as its whole output.

/// Whether a container that ended with this code may never have executed its command: these are the runtimes' own
/// codes.
pub(super) const fn may_have_failed(exit_code: i64) -> bool {
    matches!(exit_code, 1 | 126 | 127 | 128 | 255)
}

/// Why the shell can't be used, if this runtime message (or all of a container's output) says so.
pub(super) fn unusable(shell: &str, words: &str) -> Option<String> {
    let words = words.trim();
    if shell.is_empty() || words.contains('\n') {
        return None;
    }
    let why = why_not_executed(shell, words)?;
    Some(format!("the image has no usable shell: `{shell}` can't be executed: {why}"))
}

fn why_not_executed<'a>(shell: &str, words: &'a str) -> Option<&'a str> {
    // runc before the start: `exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown`; and within:
    // `exec /bin/sh: exec format error`, or before 1.1 `standard_init_linux.go:228: exec user process caused: …`; crun:
    // `executable file `/bin/sh` not found: No such file or directory`.
    let forms = [
        format!("exec: \"{shell}\": "),
        format!("exec {shell}: "),
        "exec user process caused: ".to_owned(),
        "exec user process caused \"".to_owned(),
        format!("executable file `{shell}` not found"),
        format!("open executable: {shell}: "),
    ];
    let (begin, form) = forms.iter().find_map(|form| Some((words.find(form.as_str())?, form)))?;
    let rest = &words[begin + form.len()..];
    let rest = rest.strip_prefix(&format!("stat {shell}: ")).unwrap_or(rest);
    let rest = rest.trim_start_matches([':', ' ']).trim_end_matches(": unknown").trim_end_matches('"');
    Some(if rest.is_empty() { "it is not there" } else { rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_that_is_missing_or_cannot_be_executed_is_recognized_by_the_runtimes_words() {
        let table = [
            (
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: \
                 unable to start container process: exec: \"/bin/sh\": stat /bin/sh: no such file or directory: unknown",
                "no such file or directory",
            ),
            ("exec: \"/bin/sh\": permission denied: unknown", "permission denied"),
            (
                "exec: \"/bin/sh\": stat /bin/sh: too many levels of symbolic links: unknown",
                "too many levels of symbolic links",
            ),
            ("exec /bin/sh: exec format error\n", "exec format error"),
            ("standard_init_linux.go:228: exec user process caused: exec format error", "exec format error"),
            (
                "standard_init_linux.go:207: exec user process caused \"no such file or directory\"",
                "no such file or directory",
            ),
            ("executable file `/bin/sh` not found: No such file or directory", "No such file or directory"),
        ];
        for (words, why) in table {
            let expected = format!("the image has no usable shell: `/bin/sh` can't be executed: {why}");
            assert_eq!(unusable("/bin/sh", words).as_deref(), Some(expected.as_str()), "{words}");
        }
        // What a command prints is its own, even if it mentions a runtime.
        for words in [
            "",
            "no such file",
            "/bin/sh: 1: x: not found",
            "a\nexec /bin/sh: exec format error",
            "exec /usr/bin/x: exec format error",
        ] {
            assert_eq!(unusable("/bin/sh", words), None, "{words}");
        }
    }
}
