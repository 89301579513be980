//! What other users of the machine, and tasks, can see of a server.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::program::{Said, Server, Setup, flotilla};
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

/// What a server needs of root to run tasks as another user, as deploy/systemd/local-tasks.conf gives it.
const CAPABILITIES: &str = "-all,+setuid,+setgid,+chown,+kill,+dac_override,+fowner,+sys_ptrace";

/// A server of root whose tasks are all nobody's.
fn server_with_tasks_of_nobody(secret: &str) -> Option<Server> {
    if !nix::unistd::geteuid().is_root() {
        skip("privacy", "tasks of another user take root");
        return None;
    }
    // Whoever runs there has to reach the folder.
    let start = format!(
        "chmod 711 . && umask 022 && export SECRET={secret} \
         && exec setpriv --no-new-privs --bounding-set={CAPABILITIES} \"$@\""
    );
    let wrapper = ["sh".to_owned(), "-c".to_owned(), start, "sh".to_owned()].to_vec();
    let config = "[clusters.local]\nuser = \"nobody\"\n".to_owned();
    Some(Server::with(Setup { config, wrapper, ..Setup::default() }))
}

#[test]
fn a_task_of_a_user_of_its_own_reaches_nothing_of_the_servers() {
    let Some(mut server) = server_with_tasks_of_nobody("s3cret-of-the-server") else { return };
    server.define("other", "echo what another task wrote; echo kept > kept; sleep 300");
    let other = server.launch("other");
    server.wait_for(&other, "RUNNING");
    let (pid, data) = (server.pid(), server.data_dir());
    let data = data.display();
    // Each of them has to fail.
    let forbidden = [
        format!("ls {data}"),
        format!("cat {data}/flotilla.db"),
        format!("cat {data}/node"),
        format!("ls {data}/logs"),
        format!("ls {data}/runs"),
        format!("cat {data}/runs/*{other}*/taken.json"),
        format!("cat {data}/runs/{other}-1/taken.json"),
        format!("cat {data}/runs/{other}-1/supervisor.log"),
        format!("echo stop > {data}/runs/{other}-1/control"),
        format!("echo > {data}/lock"),
        format!("touch {data}/runs/planted"),
        "touch ../planted".to_owned(),
        "cat ../taken.json".to_owned(),
        format!("cat /proc/{pid}/environ"),
        format!("head -c 1 /proc/{pid}/mem"),
        format!("ls /proc/{pid}/fd"),
        format!("kill -0 {pid}"),
        format!("kill -TERM {pid}"),
        "kill -0 $PPID".to_owned(),
        "kill -KILL $PPID".to_owned(),
        "cat /proc/$PPID/environ".to_owned(),
        "head -c 1 /proc/$PPID/mem".to_owned(),
    ];
    let mut script =
        "id -u; id -G; cd \"$HOME\"; echo mine > mine; cat mine; grep NoNewPrivs /proc/self/status\n".to_owned();
    for what in &forbidden {
        script +=
            &format!("if {{ {what}; }} 2>/dev/null; then echo 'this went well: {}'; fi\n", what.replace('\'', ""));
    }
    script += "echo to the end";
    server.define("spy", &script);
    let spy = server.launch("spy");
    server.wait_for(&spy, "STOPPED");
    let log = server.text(&["logs", &spy]);
    assert_eq!(log, format!("{NOBODY}\n{NOBODY}\nmine\nNoNewPrivs:\t1\nto the end\n"));

    // Its log is the server's, and what it wrote is its own, and goes with it.
    let uid = |path: &std::path::Path| std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap());
    let kept = std::path::PathBuf::from(format!("{data}/runs/{other}-1/work/kept"));
    assert_eq!(uid(&kept).to_string(), NOBODY);
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&format!("{data}")), mode(&format!("{data}/logs"))), (0o711, 0o700));
    server.text(&["stop", &other]);
    server.wait_for(&other, "STOPPED");
    crate::program::until("its folder is gone", || !kept.exists());
    assert_eq!(server.text(&["logs", &other]), "what another task wrote\n");

    // Whom a task names makes no difference to that.
    for user in ["root", "0", "daemon"] {
        let definition = serde_json::json!({"alias": format!("as-{user}"), "group_name": "tests", "image": "none", "command": "id -u", "user": user});
        let file = server.folder().join("as.json");
        std::fs::write(&file, definition.to_string()).unwrap();
        server.text(&["define", "-f", file.to_str().unwrap()]);
        let refused = server.output(&["run", &format!("as-{user}")]);
        assert!(refused.err.contains(&format!("it asks to run as user `{user}`")), "{refused:?}");
    }
    // A server goes on with them after a restart.
    server.define("after", "id -u");
    server.restart();
    let after = server.launch("after");
    server.wait_for(&after, "STOPPED");
    assert_eq!(server.text(&["logs", &after]), format!("{NOBODY}\n"));
}

#[test]
fn a_server_that_can_not_give_tasks_the_user_they_are_to_have_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |user: &str| {
        std::fs::write(folder.path().join("flotilla.toml"), format!("[clusters.local]\nuser = {user:?}\n")).unwrap();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"];
        let said = Said::of(flotilla(folder.path()).args(serve));
        assert_eq!(said.code, 1, "{said:?}");
        said.err
    };
    if !nix::unistd::geteuid().is_root() {
        assert!(refused("nobody").contains("the server does not run as root"));
        return;
    }
    for (user, expected) in [
        ("no-such-user-here", "the server's machine has no user `no-such-user-here`"),
        ("root", "it is the server's own user"),
        ("0", "it is the server's own user"),
    ] {
        let said = refused(user);
        assert!(said.contains("the commands of cluster local can't run as user") && said.contains(expected), "{said}");
    }
}
