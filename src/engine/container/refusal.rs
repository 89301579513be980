//! Whether a refusal is permanent, by its wording: that of Docker, which answers 500 to many faults of the task, and
//! that of registries and runtimes, which a kubelet passes on. Unknown wording counts as temporary, so that a run
//! never ends because of a daemon's temporary trouble.

/// Temporary, whatever else the message says.
const PASSING: [&str; 19] = [
    "no space left",
    "cannot allocate memory",
    "resource temporarily unavailable",
    "device or resource busy",
    "too many open files",
    "timeout",
    "timed out",
    "deadline exceeded",
    "connection refused",
    "connection reset",
    "no such host",
    "transport is closing",
    "ttrpc",
    "unavailable",
    "context canceled",
    "address already in use",
    "port is already allocated",
    "toomanyrequests",
    "shutting down",
];

/// Permanent, even with status 500: failures to start a container, and to fetch an image.
const FINAL: [&str; 20] = [
    "oci runtime create failed",
    "unable to find user",
    "unable to find group",
    "uids and gids must be in range",
    "no matching entries",
    "could not select device driver",
    "not a directory",
    "no such file or directory",
    "executable file not found",
    "permission denied",
    "invalid",
    "not supported",
    "not found",
    "does not exist",
    "manifest unknown",
    "no matching manifest",
    "denied",
    "unauthorized",
    "authentication required",
    "no basic auth credentials",
];

/// Whether what Docker refused will always be refused.
pub(in crate::engine) fn is_final(status: u16, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    !says(&PASSING) && (matches!(status, 400..=499) && status != 429 || says(&FINAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tasks_fault_is_final_and_the_machines_passes() {
        // As worded by a daemon of version 20.10.
        let table = [
            (500, "unable to find user ghost: no matching entries in passwd file", true),
            (500, "unable to find group ghost: no matching entries in group file", true),
            (500, "uids and gids must be in range 0-2147483647", true),
            (500, "could not select device driver \"\" with capabilities: [[gpu]]", true),
            (
                400,
                "failed to create shim task: OCI runtime create failed: runc create failed: exec: \"/nope\": no such file or directory: unknown",
                true,
            ),
            (400, "invalid mount config for type \"bind\": bind source path does not exist: /nope/x", true),
            (500, "Cannot mkdir: /etc/passwd is not a directory", true),
            (500, "Get \"http://127.0.0.1:5000/v2/a/manifests/1\": no basic auth credentials", true),
            (404, "manifest for a:2 not found: manifest unknown: manifest unknown", true),
            (500, "write /var/lib/docker/tmp: no space left on device", false),
            (
                500,
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
                false,
            ),
            (500, "Get \"http://127.0.0.1:5056/v2/\": dial tcp 127.0.0.1:5056: connect: connection refused", false),
            (
                500,
                "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated",
                false,
            ),
            (500, "OCI runtime create failed: fork: cannot allocate memory", false),
            (429, "toomanyrequests: You have reached your pull rate limit", false),
            (500, "something nobody has seen before", false),
        ];
        for (status, message, expected) in table {
            assert_eq!(is_final(status, message), expected, "{status} {message}");
        }
    }
}
