//! What other users of the machine, and tasks, can see of a server.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::program::{Server, Setup, flotilla};
use crate::support::skip;

/// The user `nobody` of most systems.
const NOBODY: &str = "65534";

/// A server that does not run as root, with the umask that most people have; `None` where there can't be one.
fn server_of_nobody(secret: &str) -> Option<Server> {
    if !nix::unistd::geteuid().is_root() {
        skip("privacy", "a server of another user takes root");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = flotilla(folder.path()).get_program().to_owned();
    let can_execute = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "test", "-x"])
        .arg(program)
        .status();
    if !can_execute.is_ok_and(|status| status.success()) {
        skip("privacy", "other users can't execute the program where it was built");
        return None;
    }
    let start = format!(
        "chown {NOBODY}:{NOBODY} . && chmod 755 . && umask 022 && export SECRET={secret} \
         && exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \"$@\""
    );
    let wrapper = ["sh".to_owned(), "-c".to_owned(), start, "sh".to_owned()].to_vec();
    Some(Server::with(Setup { wrapper, ..Setup::default() }))
}

#[test]
fn nothing_that_the_server_writes_can_be_read_by_other_users() {
    let Some(mut server) = server_of_nobody("unused") else { return };
    server.define("secretive", "echo the secret is 42; umask; touch mine; ls -l mine");
    let run_id = server.launch("secretive");
    server.wait_for(&run_id, "STOPPED");
    let data_dir = server.data_dir();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir), 0o700);
    for entry in std::fs::read_dir(&data_dir).unwrap() {
        let path = entry.unwrap().path();
        // Who runs as another user has to reach the folder of its run.
        let allowed = if path.ends_with("runs") { 0o711 } else { 0o700 };
        assert_eq!(mode(&path) & !allowed, 0, "{}: {:o}", path.display(), mode(&path));
    }
    let log = server.text(&["logs", &run_id]);
    assert!(log.contains("0022") && log.contains("-rw-r--r--"), "tasks have a usual umask: {log}");

    // What an older version left open is closed at the next start.
    assert!(server.stop().success());
    for path in [data_dir.clone(), data_dir.join("logs"), data_dir.join("flotilla.db"), data_dir.join("lock")] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    server.start_again();
    for (path, expected) in [
        (data_dir.clone(), 0o700),
        (data_dir.join("logs"), 0o700),
        (data_dir.join("flotilla.db"), 0o700),
        (data_dir.join("lock"), 0o700),
    ] {
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
}

#[test]
fn a_task_of_the_servers_own_user_can_not_read_the_servers_secrets() {
    let Some(server) = server_of_nobody("s3cret-of-the-server") else { return };
    let pid = server.pid();
    let spy = format!("id -u; cat /proc/{pid}/environ; head -c 1 /proc/{pid}/mem; ls /proc/{pid}/fd; exit 0");
    server.define("spy", &spy.replace("; ", " || true; "));
    let run_id = server.launch("spy");
    server.wait_for(&run_id, "STOPPED");
    let log = server.text(&["logs", &run_id]);
    assert!(log.starts_with(NOBODY), "{log}");
    assert!(!log.contains("s3cret-of-the-server"), "{log}");
    assert_eq!(log.matches("Permission denied").count(), 3, "{log}");
}
