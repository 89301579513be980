//! What a container is given, how it ends, and that it is made once.

use std::time::{Duration, Instant};

use flotilla::engine::docker::{DockerSettings, Mount};
use flotilla::engine::{EngineError, EngineState, Handle, LaunchSpec};
use flotilla::model::{AttemptId, EndCause, EnvVar, Observation, RunId, StartFault};

use crate::support::skip;
use crate::world::{GRACE, IMAGE, World, config, container, eventually, shared_host, world};

#[tokio::test]
async fn exit_codes_signals_and_times_are_told() {
    let Some(world) = world() else { return };
    let (ended, output) = world.run(&world.spec("echo out; sleep 0.3; echo err >&2; exit 3")).await;
    assert_eq!((ended.exit_code, ended.cause), (3, EndCause::Exited));
    assert_eq!(output, "out\nerr\n");
    assert!(ended.started.at < ended.finished_at);
    assert!(ended.started.image_digest.unwrap().starts_with("sha256:"));

    let (ended, _) = world.run(&world.spec("kill -SEGV $$")).await;
    assert_eq!((ended.exit_code, ended.cause), (139, EndCause::Signal { name: "SIGSEGV".into() }));
}

#[tokio::test]
async fn a_failing_step_ends_the_command() {
    let Some(world) = world() else { return };
    let (ended, output) = world.run(&world.spec("echo before; false; echo after")).await;
    assert_eq!((ended.exit_code, output.as_str()), (1, "before\n"));
}

#[tokio::test]
async fn user_environment_limits_and_mounts_arrive() {
    let Some(host) = shared_host() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "shared").unwrap();
    let source = folder.path().to_str().unwrap().to_owned();
    let config = DockerSettings {
        mounts: vec![Mount { source, target: "/shared".into(), is_read_only: true }],
        user: Some("1234".into()),
        cap_drop: vec!["ALL".into()],
        read_only_root: true,
        ..config(&host)
    };
    let world = World::new(&host, config);
    let command = "id -u; echo \"$GREETING\"; cat /shared/file; echo; grep CapBnd /proc/self/status; \
                   touch /tmp/x || echo read-only; touch /shared/x || echo shared is read-only; echo $$";
    let spec = world.task(command, |task| {
        task.env = vec![EnvVar::new("GREETING", "hello 'quoted' $world")];
        task.memory_mb = Some(64);
        task.cpu_millis = Some(500);
    });
    let (ended, output) = world.run(&spec).await;
    assert_eq!(ended.exit_code, 0, "{output}");
    let lines: Vec<_> = output.lines().filter(|line| !line.starts_with("touch")).collect();
    assert_eq!(lines[..3], ["1234", "hello 'quoted' $world", "shared"]);
    assert!(lines[3].ends_with("0000000000000000"), "{output}");
    assert_eq!(lines[4..6], ["read-only", "shared is read-only"]);
    assert_ne!(lines[6], "1", "an init process reaps");
    assert_eq!(ended.usage.memory_limit_bytes, Some(64 << 20));
    assert_eq!(ended.usage.cpu_limit_millis, Some(500));

    let spec = world.task("id -u", |task| task.user = Some("4321".into()));
    assert_eq!(world.run(&spec).await.1, "4321\n");
}

#[tokio::test]
async fn out_of_memory_is_named_with_limit_and_peak() {
    let Some(world) = world() else { return };
    let spec = world.task("x=a; while true; do x=$x$x; done", |task| task.memory_mb = Some(32));
    let (ended, _) = world.run(&spec).await;
    assert!(ended.killed_for_memory, "{ended:?}");
    assert_eq!(ended.usage.memory_limit_bytes, Some(32 << 20));
    assert!(ended.usage.max_memory_bytes.is_some_and(|bytes| bytes >= 32 << 20), "{:?}", ended.usage);
}

#[tokio::test]
async fn a_command_that_outlives_a_child_killed_for_memory_keeps_its_own_code() {
    let Some(world) = world() else { return };
    let command = "sh -c 'x=a; while true; do x=$x$x; done' || echo coped; exit 3";
    let (ended, output) = world.run(&world.task(command, |task| task.memory_mb = Some(32))).await;
    // The shell says on the other stream that its child was killed, before this or after it.
    assert!(output.lines().any(|line| line == "coped"), "{output}");
    assert_eq!((ended.exit_code, ended.cause, ended.killed_for_memory), (3, EndCause::Exited, true));
}

#[tokio::test]
async fn containers_gain_no_privileges_and_have_a_bound_on_processes() {
    let Some(world) = world() else { return };
    let handle = world.launch("grep NoNewPrivs /proc/self/status; sleep 1000").await;
    world.running(&handle).await;
    let limit = world.docker(&["inspect", "-f", "{{.HostConfig.PidsLimit}}", &container(&handle)]);
    assert_eq!(limit.trim(), "4096");
    world.engine().stop(&handle, Duration::ZERO).await.unwrap();
    world.ended(&handle).await;
    let output = String::from_utf8(world.output(&handle).await).unwrap();
    assert!(output.starts_with("NoNewPrivs:\t1\n"), "{output}");
}

/// An image of nothing but what `script` puts below its root.
fn image_of(world: &World, name: &str, script: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let script = format!("mkdir -p root/bin && {script} && tar -C root -cf image.tar .");
    let made = std::process::Command::new("sh").args(["-ec", &script]).current_dir(folder.path()).status();
    assert!(made.unwrap().success(), "{name}");
    let image = format!("shell-{name}-{}", world.identity.installation_id);
    world.docker(&["import", archive.to_str().unwrap(), &image]);
    image
}

#[tokio::test]
async fn a_shell_that_cannot_be_executed_is_said_and_the_command_never_ran() {
    let Some(world) = world() else { return };
    let other_machine = r"printf '\177ELF\002\001\001\0\0\0\0\0\0\0\0\0\002\0\267\0\001\0\0\0' > root/bin/sh && \
        head -c 200 /dev/zero >> root/bin/sh && chmod 755 root/bin/sh";
    let table = [
        ("missing", "true", "No such file or directory"),
        ("folder", "mkdir root/bin/sh", "Permission denied"),
        ("loop", "ln -s other root/bin/sh && ln -s sh root/bin/other", "Too many levels of symbolic links"),
        ("plain", "echo text > root/bin/sh", "Permission denied"),
        ("machine", other_machine, "Exec format error"),
    ];
    for (name, script, error) in table {
        let image = image_of(&world, name, script);
        let spec = world.task("echo never", |task| image.clone_into(&mut task.image));
        let handle = world.engine().launch(&spec).await.unwrap();
        let seen = world.over(&handle).await;
        let Observation::NeverRan { reason, fault: StartFault::Task } = seen else { panic!("{name}: {seen:?}") };
        assert_eq!(reason, format!("the image has no usable shell: /bin/sh can't be executed: {error}"));
        world.engine().remove(&handle).await.unwrap();
        world.docker(&["rmi", &image]);
    }
    // A command's own words for the same are the command's.
    let (ended, _) = world.run(&world.spec("echo '[FATAL tini (7)] exec /bin/sh failed: x' >&2; echo; exit 127")).await;
    assert_eq!((ended.exit_code, ended.cause), (127, EndCause::Exited));
}

#[tokio::test]
async fn peak_memory_and_cpu_are_measured() {
    let Some(world) = world() else { return };
    // 20 MB in a shell's variable, and a core that is busy until it is stopped.
    let handle = world.launch("x=$(head -c 20000000 /dev/zero | tr '\\0' x); while true; do :; done").await;
    world.running(&handle).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    world.engine().stop(&handle, Duration::ZERO).await.unwrap();
    let usage = world.ended(&handle).await.usage;
    assert!(usage.max_memory_bytes.is_some_and(|bytes| bytes > 20_000_000), "{usage:?}");
    assert!(usage.max_cpu_millis.is_some_and(|millis| (100..1500).contains(&millis)), "{usage:?}");
    assert!(usage.cpu_time_ms.is_some_and(|ms| ms > 200), "{usage:?}");
}

#[tokio::test]
async fn launching_again_finds_the_first_and_runs_nothing_twice() {
    let Some(mut world) = world() else { return };
    let spec = world.spec("echo once");
    let (first, second) = tokio::join!(world.engine().launch(&spec), world.engine().launch(&spec));
    let handle = first.unwrap();
    assert_eq!(second.unwrap(), handle);
    let before = world.ended(&handle).await;
    world.restart();
    assert_eq!(world.engine().launch(&spec).await.unwrap(), handle);
    let after = world.ended(&handle).await;
    assert_eq!((before.started.at, before.finished_at), (after.started.at, after.finished_at));
    assert_eq!(world.output(&handle).await, b"once\n");
}

#[tokio::test]
async fn a_container_that_was_made_and_not_started_is_started_by_the_next_launch() {
    let Some(world) = world() else { return };
    let spec = made_and_not_started(&world);
    let unstored = Handle { attempt_id: spec.attempt_id, text: String::new() };
    assert!(matches!(world.try_observe(&unstored).await.unwrap(), Observation::Gone { .. }));
    assert_eq!(world.run(&spec).await.1, "once\n");
}

#[tokio::test]
async fn a_container_whose_start_nobody_finishes_is_removed_and_given_back() {
    let Some(world) = world() else { return };
    let handle = Handle { attempt_id: made_and_not_started(&world).attempt_id, text: "pulling".into() };
    let Observation::NeverRan { fault: StartFault::Machine, .. } = world.over(&handle).await else {
        panic!("it never ran")
    };
    assert_eq!(world.engine().list_ours().await.unwrap(), []);
}

/// What a server leaves behind that dies between two calls.
pub fn made_and_not_started(world: &World) -> LaunchSpec {
    let spec = world.spec("echo once");
    let name = format!("flotilla-{}", spec.attempt_id);
    let labels = [
        format!("flotilla.server={}", world.identity.installation_id),
        format!("flotilla.cluster={}", world.identity.cluster),
        format!("flotilla.run_id={}", spec.attempt_id.run_id),
        format!("flotilla.attempt={}", spec.attempt_id.attempt),
    ];
    let mut arguments = vec!["create", "--name", &name, "--network", "none"];
    arguments.extend(labels.iter().flat_map(|label| ["--label", label]));
    arguments.extend([IMAGE, "/bin/sh", "-ec", "echo once"]);
    world.docker(&arguments);
    spec
}

#[tokio::test]
async fn a_name_that_somebody_else_has_is_not_taken_for_ours() {
    let Some(world) = world() else { return };
    let spec = world.spec("echo mine");
    let name = format!("flotilla-{}", spec.attempt_id);
    world.docker(&["run", "-d", "--network", "none", "--name", &name, IMAGE, "/bin/sleep", "1000"]);
    let error = world.engine().launch(&spec).await.unwrap_err();
    let EngineError::NotStarted { reason, fault: StartFault::Machine } = error else { panic!("{error}") };
    assert!(reason.contains("already in use"), "{reason}");
    let handle = Handle { attempt_id: spec.attempt_id, text: "container".into() };
    assert!(matches!(world.engine().stop(&handle, GRACE).await, Err(EngineError::Gone(_))));
    world.engine().remove(&handle).await.unwrap();
    assert_eq!(world.docker(&["inspect", "-f", "{{.State.Running}}", &name]).trim(), "true");
    world.docker(&["rm", "-f", &name]);
}

#[tokio::test]
async fn what_cannot_start_is_rejected_with_the_reason_and_leaves_nothing() {
    let Some(world) = world() else { return };
    let table = [
        ("ghost", "unable to find user ghost"),
        ("0:ghost", "unable to find group ghost"),
        ("-1", "must be in range"),
        ("0:-1", "must be in range"),
        ("4294967296", "must be in range"),
    ];
    for (user, words) in table {
        let spec = world.task("true", |task| task.user = Some(user.into()));
        let launched = world.engine().launch(&spec).await;
        let Err(EngineError::Rejected(reason)) = launched else { panic!("{user} should not start: {launched:?}") };
        assert!(reason.contains(words), "{reason}");
    }
    assert_eq!(world.engine().list_ours().await.unwrap(), []);
}

#[tokio::test]
async fn privileged_is_for_clusters_that_allow_it() {
    let Some(host) = shared_host() else { return };
    let strict = World::new(&host, config(&host));
    let spec = strict.task("true", |task| task.privileged = Some(true));
    for result in [strict.engine().check(&spec.task).await, strict.engine().launch(&spec).await.map(drop)] {
        let Err(EngineError::Rejected(reason)) = result else { panic!("it should be refused") };
        assert!(reason.contains("privileged"), "{reason}");
    }
    let open = World::new(&host, DockerSettings { allow_privileged: true, ..config(&host) });
    open.engine().check(&spec.task).await.unwrap();
    let spec = open.task("test -e /dev/kmsg && echo all devices", |task| task.privileged = Some(true));
    match open.engine().launch(&spec).await {
        // A machine that has not every right itself has none to give.
        Err(EngineError::Rejected(reason)) if reason.contains("operation not permitted") => {
            skip("privileged containers", "this machine has not every right itself");
        }
        handle => {
            let handle = handle.unwrap();
            open.ended(&handle).await;
            assert_eq!(open.output(&handle).await, b"all devices\n");
        }
    }
}

#[tokio::test]
async fn what_never_fits_is_refused_and_what_there_is_is_told() {
    let Some(world) = world() else { return };
    let mut task = world.spec("true").task;
    world.engine().check(&task).await.unwrap();
    let capacity = world.engine().capacity();
    assert!(capacity.memory_mb.is_some_and(|mb| mb > 100) && capacity.cpu_millis.is_some_and(|millis| millis >= 1000));
    assert_eq!(world.engine().state(), EngineState::Reachable);
    task.memory_mb = Some(1 << 30);
    let Err(EngineError::Rejected(reason)) = world.engine().check(&task).await else { panic!("it should not fit") };
    assert!(reason.contains("the cluster cannot support running the job"), "{reason}");
}

#[tokio::test]
async fn a_disk_limit_that_cannot_be_enforced_is_told_and_does_not_stop_the_run() {
    let Some(world) = world() else { return };
    let spec = world.task("sleep 1000", |task| task.ephemeral_storage_mb = Some(100));
    let handle = world.engine().launch(&spec).await.unwrap();
    let notes = world.running(&handle).await.notes;
    // A daemon whose storage driver can enforce it has nothing to tell.
    assert!(notes.iter().all(|note| note.message.contains("ephemeral_storage")), "{notes:?}");
}

#[tokio::test]
async fn stopping_gives_a_process_its_grace_and_no_more() {
    let Some(world) = world() else { return };
    let polite = world.launch("trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done").await;
    let stubborn = world.launch("trap '' TERM; echo ready; while true; do sleep 0.1; done").await;
    for handle in [&polite, &stubborn] {
        world.running(handle).await;
        eventually("it has set its trap", || world.docker(&["logs", &container(handle)]).contains("ready")).await;
    }
    let begin = Instant::now();
    for _ in 0..3 {
        match world.engine().stop(&polite, GRACE).await {
            // It may end between two requests.
            Ok(()) | Err(EngineError::Gone(_)) => {}
            Err(error) => panic!("{error}"),
        }
        world.engine().stop(&stubborn, Duration::from_secs(2)).await.unwrap();
    }
    assert!(begin.elapsed() < Duration::from_millis(1500), "a request to stop is not waited for");
    let ended = world.ended(&polite).await;
    assert_eq!((ended.exit_code, ended.cause), (0, EndCause::Stopped));
    let output = String::from_utf8(world.output(&polite).await).unwrap();
    assert_eq!(without_the_shells_word(&output), "ready\nbye\n", "one SIGTERM, however often it was asked");
    let ended = world.ended(&stubborn).await;
    assert_eq!((ended.exit_code, ended.cause), (137, EndCause::Stopped));
    assert!((Duration::from_secs(2)..Duration::from_secs(8)).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert!(matches!(world.engine().stop(&polite, GRACE).await, Err(EngineError::Gone(_))));
}

/// What a shell says when a program that it waited for was stopped.
fn without_the_shells_word(output: &str) -> String {
    output.replace("Terminated\n", "")
}

#[tokio::test]
async fn a_program_that_the_shell_waits_for_has_its_grace_as_well() {
    let Some(world) = world() else { return };
    let child =
        "sh -c 'trap \"sleep 0.5; echo child is done; exit 5\" TERM; echo ready; while true; do sleep 0.1; done'";
    let handle = world.launch(&format!("echo first; {child}; echo never")).await;
    world.running(&handle).await;
    eventually("it has set its trap", || world.docker(&["logs", &container(&handle)]).contains("ready")).await;
    world.engine().stop(&handle, GRACE).await.unwrap();
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.cause), (143, EndCause::Stopped));
    let output = String::from_utf8(world.output(&handle).await).unwrap();
    assert!(output.contains("child is done") && !output.contains("never"), "{output}");
}

#[tokio::test]
async fn a_second_stop_with_less_grace_cuts_the_first() {
    let Some(world) = world() else { return };
    let handle = world.launch("trap 'echo again' TERM; echo ready; while true; do sleep 0.1 || true; done").await;
    world.running(&handle).await;
    eventually("it has set its trap", || world.docker(&["logs", &container(&handle)]).contains("ready")).await;
    let begin = Instant::now();
    world.engine().stop(&handle, Duration::from_mins(1)).await.unwrap();
    eventually("it was told to end", || world.docker(&["logs", &container(&handle)]).contains("again")).await;
    world.engine().stop(&handle, Duration::from_secs(90)).await.unwrap();
    world.engine().stop(&handle, Duration::from_secs(1)).await.unwrap();
    let ended = world.ended(&handle).await;
    assert_eq!((ended.exit_code, ended.cause), (137, EndCause::Stopped));
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    let output = String::from_utf8(world.output(&handle).await).unwrap();
    assert_eq!(output.matches("again").count(), 1, "{output}");
}

#[tokio::test]
async fn a_failed_container_is_kept_for_a_while_where_that_is_wished() {
    let Some(host) = shared_host() else { return };
    let world = World::new(&host, DockerSettings { keep_failed_secs: 3, ..config(&host) });
    let (good, bad) = (world.launch("exit 0").await, world.launch("exit 1").await);
    for handle in [&good, &bad] {
        world.ended(handle).await;
        world.engine().remove(handle).await.unwrap();
    }
    assert_eq!(world.engine().list_ours().await.unwrap(), [], "what is kept is no stray");
    world.docker(&["inspect", &container(&bad)]);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(world.engine().list_ours().await.unwrap(), std::slice::from_ref(&bad));
    world.engine().remove(&bad).await.unwrap();
    assert_eq!(world.engine().list_ours().await.unwrap(), []);
}

#[tokio::test]
async fn what_was_never_launched_is_gone() {
    let Some(world) = world() else { return };
    let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 1 };
    let handle = Handle { attempt_id, text: String::new() };
    assert!(matches!(world.try_observe(&handle).await.unwrap(), Observation::Gone { .. }));
    assert!(matches!(world.engine().stop(&handle, GRACE).await, Err(EngineError::Gone(_))));
    assert!(matches!(
        world.engine().output(&handle, &flotilla::model::LogPosition::default()).await,
        Err(EngineError::Gone(_))
    ));
    world.engine().remove(&handle).await.unwrap();
}
