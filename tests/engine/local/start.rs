//! What a task finds when it starts, and what is said when it can't.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use flotilla::engine::EngineError;
use flotilla::model::{EndCause, EnvVar, EventType, Observation, StartFault};
use jiff::Timestamp;

use super::{is_root, world, world_in};

#[tokio::test]
async fn the_environment_is_the_runs_own_and_path_and_home() {
    let world = world();
    let mut spec = world.spec("cat /proc/$$/environ");
    spec.task.env = vec![EnvVar::new("A", "1"), EnvVar::new("B", "two words\nand a line")];
    let (_, output) = world.run_spec(&spec).await;
    let mut found: Vec<&str> = output.split_terminator('\0').collect();
    found.sort_unstable();
    let home = format!("HOME={}", world.work_of(&spec).display());
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(found, ["A=1", "B=two words\nand a line", home.as_str(), path]);
}

#[tokio::test]
async fn a_run_may_set_path_and_home_itself() {
    let world = world();
    let mut spec = world.spec("echo $PATH $HOME");
    spec.task.env = vec![EnvVar::new("PATH", "/nowhere"), EnvVar::new("HOME", "/mine")];
    let (ended, output) = world.run_spec(&spec).await;
    assert_eq!((ended.exit_code, output.as_str()), (0, "/nowhere /mine\n"));
}

#[tokio::test]
async fn the_working_directory_is_fresh_and_writable() {
    let world = world();
    let (spec, handle) = world.launch("pwd; ls -A; touch file; cd; ls").await;
    let (ended, output) = world.finish(&spec, &handle).await;
    assert_eq!(output, format!("{}\nfile\n", world.work_of(&spec).display()));
    assert_eq!(ended.exit_code, 0);
}

#[tokio::test]
async fn nothing_of_the_server_leaks_into_the_task() {
    let world = world();
    // The signals come first: a shell that waited for a child may have changed them.
    let command = "while read line; do case $line in Sig[BI]*) echo $line;; esac; done < /proc/$$/status; umask; \
        ls /proc/$$/fd; readlink /proc/$$/fd/0; cut -d' ' -f6 /proc/$$/stat; echo $$";
    let (_, output) = world.run(command).await;
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[2..7], ["0022", "0", "1", "2", "/dev/null"], "{output}");
    for line in &lines[..2] {
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // Two of the real-time signals belong to the C library, which lets nobody touch them.
        assert_eq!(mask & !0x1_8000_0000, 0, "{line}");
    }
    assert_eq!(lines[7], lines[8], "it leads a session of its own");
}

#[tokio::test]
async fn the_start_is_told_as_it_was() {
    let world = world();
    let before = Timestamp::now();
    let (_, handle) = world.launch("echo $$ > shell; sleep 1000").await;
    let started = world.running(&handle).await;
    assert!(before <= started.at && started.at <= Timestamp::now());
    let pid = started.instance.instance_id.strip_prefix("pid-").unwrap();
    assert!(fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().starts_with("sh\0-ec\0"));
    assert_eq!(started.instance.dns_name, nix::unistd::gethostname().unwrap().to_str().unwrap());
    let note = &started.notes[0];
    assert_eq!((note.reason.as_str(), note.event_type), ("ImageNotUsed", EventType::Normal));
    assert!(note.message.contains("the image `busybox:1` is not used"), "{}", note.message);
}

#[tokio::test]
async fn a_shell_stops_at_the_first_failing_command() {
    let (ended, output) = world().run("echo one; false; echo two").await;
    assert_eq!((ended.exit_code, output.as_str()), (1, "one\n"));
    let (ended, output) = world().run("no-such-program-here").await;
    assert_eq!(ended.exit_code, 127);
    assert!(output.starts_with("sh: ") && output.contains("no-such-program-here: not found"), "{output}");
}

#[tokio::test]
async fn a_real_time_signal_is_told_too() {
    let (ended, _) = world().run("kill -40 $$").await;
    assert_eq!((ended.exit_code, ended.cause), (168, EndCause::Signal { name: "SIGRTMIN+6".into() }));
}

#[tokio::test]
async fn the_shell_is_the_operators_choice() {
    let world = world_in(tempfile::tempdir().unwrap(), |config| {
        config.settings.shell = vec!["/usr/bin/env".into(), "printf".into(), "<%s>".into()];
    });
    assert_eq!(world.run("a b").await.1, "<a b>");
}

#[tokio::test]
async fn a_shell_that_can_not_be_executed_never_ran_and_is_no_reason_to_try_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let program = |name: &str, bytes: &[u8]| {
        fs::write(path(name), bytes).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
        path(name)
    };
    // The header of a program for another machine: IBM's System/370.
    let mut elsewhere = fs::read("/proc/self/exe").unwrap();
    elsewhere.truncate(4096);
    elsewhere[18..20].copy_from_slice(&9_u16.to_le_bytes());
    std::os::unix::fs::symlink(path("loop"), path("loop")).unwrap();
    let shells = [
        "/no/such/shell".to_owned(),
        "no-such-shell-here".to_owned(),
        "/etc/passwd".to_owned(),
        "/etc/passwd/sh".to_owned(),
        "/".to_owned(),
        path("loop"),
        program("elsewhere", &elsewhere),
        program("empty", b""),
        program("text", b"echo this is not what was asked for\n"),
        program("interpreted", b"#!/no/such/interpreter\n"),
        format!("/{}", "long/".repeat(2000)),
    ];
    for shell in shells {
        let world = world_in(tempfile::tempdir().unwrap(), |config| config.settings.shell = vec![shell.clone()]);
        let (spec, handle) = world.launch("true").await;
        let seen = world.until(&handle, "refused", |seen| !matches!(seen, Observation::Starting)).await;
        let Observation::NeverRan { reason, fault: StartFault::Task } = seen else { panic!("{shell}: {seen:?}") };
        let expected = format!("the server's machine has no usable shell: `{shell}` ");
        assert!(reason.starts_with(&expected), "{reason}");
        assert_eq!(fs::read_to_string(&spec.log_path).unwrap(), "", "{shell}");
    }
}

#[tokio::test]
async fn a_large_environment_arrives_and_a_too_large_one_is_told() {
    let world = world();
    let mut spec = world.spec("echo ${#V0} ${#V7}");
    let variable = |i: usize| EnvVar::new(format!("V{i}"), "x".repeat(120_000));
    spec.task.env = (0..8).map(variable).collect();
    assert_eq!(world.run_spec(&spec).await.1, "120000 120000\n");

    let mut spec = world.spec("true");
    spec.task.env = (0..100).map(variable).collect();
    let handle = world.engine.launch(&spec).await.unwrap();
    let seen = world.until(&handle, "refused", |seen| !matches!(seen, Observation::Starting)).await;
    let expected = "the command and its environment are too large for this machine";
    assert_eq!(seen, Observation::NeverRan { reason: expected.into(), fault: StartFault::Task });
}

#[tokio::test]
async fn a_command_may_hold_anything_but_nul() {
    let world = world();
    assert_eq!(world.run("echo 'ü \"quoted\" $x `y`'").await.1, "ü \"quoted\" $x `y`\n");
    let (_, handle) = world.launch("echo \0").await;
    let seen = world.until(&handle, "refused", |seen| !matches!(seen, Observation::Starting)).await;
    assert!(matches!(seen, Observation::NeverRan { fault: StartFault::Task, .. }), "{seen:?}");
}

#[tokio::test]
async fn another_user_is_become_where_the_server_is_root() {
    let world = world();
    let mut spec = world.spec("id -u; touch file; echo to the error output > /dev/stderr");
    spec.task.user = Some(if is_root() { "nobody" } else { "root" }.into());
    let (ended, output) = world.run_spec(&spec).await;
    if is_root() {
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        assert_eq!(output, format!("{}\nto the error output\n", nobody.uid));
        spec.task.user = Some("no-such-user-here".into());
        let Err(EngineError::Rejected(reason)) = world.engine.check(&spec.task).await else { panic!() };
        assert!(reason.contains("no user `no-such-user-here`"), "{reason}");
    } else {
        assert!(ended.started.notes.iter().any(|note| note.reason == "UserNotUsed"), "{:?}", ended.started.notes);
    }
}

#[tokio::test]
async fn what_does_not_fit_the_machine_is_rejected_with_numbers() {
    let world = world();
    let task = world.spec("true").task;
    let refusals = [
        (
            flotilla::model::TaskSpec { memory_mb: Some(99_999_999), ..task.clone() },
            "it asks for 99999999 MB of memory",
        ),
        (flotilla::model::TaskSpec { cpu_millis: Some(5_000_000), ..task.clone() }, "it asks for 5000 CPUs"),
        (flotilla::model::TaskSpec { gpu: Some(1), ..task }, "the local engine has no GPUs"),
    ];
    for (task, expected) in refusals {
        let Err(EngineError::Rejected(reason)) = world.engine.check(&task).await else { panic!("{expected}") };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn a_supervisor_that_can_not_start_is_the_machines_fault() {
    let world = world_in(tempfile::tempdir().unwrap(), |config| config.supervisor = "/no/such/program".into());
    let spec = world.spec("true");
    let Err(EngineError::Unavailable(reason)) = world.engine.launch(&spec).await else { panic!() };
    assert!(reason.contains("/no/such/program"), "{reason}");
    assert!(!world.folder_of(&spec).exists());
}

#[tokio::test]
async fn a_log_that_can_not_be_written_is_the_machines_fault() {
    let world = world();
    let mut spec = world.spec("true");
    fs::write(world.folder.path().join("file"), "").unwrap();
    spec.log_path = world.folder.path().join("file/log");
    let handle = world.engine.launch(&spec).await.unwrap();
    let seen = world.until(&handle, "refused", |seen| !matches!(seen, Observation::Starting)).await;
    let Observation::NeverRan { reason, fault: StartFault::Machine } = seen else { panic!("{seen:?}") };
    assert!(reason.starts_with("can't open the log"), "{reason}");
}

#[tokio::test]
async fn while_the_folder_of_runs_is_away_nothing_is_concluded() {
    let world = world();
    let (_, handle) = world.launch("echo hi").await;
    world.ended(&handle).await;
    let away = world.folder.path().join("away");
    fs::rename(&world.runs_dir, &away).unwrap();
    fs::write(&world.runs_dir, "not a folder").unwrap();
    let is_unavailable = |error: EngineError| matches!(error, EngineError::Unavailable(_));
    assert!(matches!(world.observe(&handle).await, Observation::Unknown { .. }));
    assert!(is_unavailable(world.engine.launch(&world.spec("true")).await.unwrap_err()));
    assert!(is_unavailable(world.engine.stop(&handle, crate::world::GRACE).await.unwrap_err()));
    assert!(is_unavailable(world.engine.remove(&handle).await.unwrap_err()));
    assert!(is_unavailable(world.engine.list_ours().await.unwrap_err()));
    fs::remove_file(&world.runs_dir).unwrap();
    assert!(matches!(world.observe(&handle).await, Observation::Unknown { .. }));
    fs::rename(&away, &world.runs_dir).unwrap();
    world.ended(&handle).await;
}
