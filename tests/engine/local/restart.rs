//! The server goes away at any moment, and comes back; supervisors are killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flotilla::engine::{Engine, EngineError, LaunchSpec, Reports};
use flotilla::model::{AttemptId, Execution, Observation, RunId, StartFault, TaskSpec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;

use super::{LocalWorld, engine, is_alive, world, world_in};
use crate::support::origin;
use crate::world::{GRACE, LONGEST, World, eventually};

#[tokio::test]
async fn a_restarted_server_finds_what_runs_and_what_ended() {
    let world = world();
    let (_, ended) = world.launch("echo done; exit 4").await;
    world.ended(&ended).await;
    let (spec, running) = world.launch("sleep 1000").await;
    let before = world.running(&running).await;

    let later = world.restarted();
    assert_eq!(later.ended(&ended).await.exit_code, 4);
    assert_eq!(later.running(&running).await, before);
    assert_eq!(later.engine.list_ours().await.unwrap().len(), 2);
    assert_eq!(later.engine.launch(&spec).await.unwrap(), running);
    assert_eq!(later.running(&running).await, before, "it does not run again");
}

#[tokio::test]
async fn a_restarted_server_is_poked_by_what_ran_before() {
    let world = world();
    let (_, handle) = world.launch("sleep 1000").await;
    world.running(&handle).await;
    let later = world.restarted();
    later.running(&handle).await;
    world.engine.stop(&handle, GRACE).await.unwrap();
    let poked = timeout(LONGEST, later.reports.take()).await.expect("the end comes with a poke");
    assert!(poked.contains(&handle.attempt_id));
    assert!(matches!(later.observe(&handle).await, Observation::Ended(_)), "a poke comes after the fact");
}

#[tokio::test]
async fn a_killed_supervisor_is_told_with_a_poke_and_its_task_is_gone_after_removal() {
    for is_restarted in [false, true] {
        let world = world();
        let command = "setsid sh -c 'echo $$ > far; while :; do sleep 1000; done' & echo $$ > near; wait";
        let (spec, handle) = world.launch(command).await;
        world.running(&handle).await;
        let (near, far) = (world.number(&spec, "near").await, world.number(&spec, "far").await);
        let other = world.restarted();
        let looking: &World = if is_restarted { &other } else { &world };
        looking.running(&handle).await;
        while timeout(std::time::Duration::ZERO, looking.reports.take()).await.is_ok() {}

        let supervisor = world.supervisor_of(&spec).await;
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
        timeout(LONGEST, looking.reports.take()).await.expect("its end comes with a poke");
        let expected = format!("its supervisor (pid {supervisor}) was killed");
        let seen = looking.observe(&handle).await;
        assert!(matches!(&seen, Observation::Lost { reason, started: Some(_), .. } if *reason == expected), "{seen:?}");
        let stopped = looking.engine.stop(&handle, GRACE).await;
        assert!(matches!(stopped, Err(EngineError::Gone(_))), "{stopped:?}");
        assert_eq!(looking.engine.launch(&spec).await.unwrap(), handle, "it is there and does not run again");

        looking.engine.remove(&handle).await.unwrap();
        assert!(!is_alive(near) && !is_alive(far), "whatever it started is gone");
        eventually("the supervisor is reaped", || !Path::new(&format!("/proc/{supervisor}")).exists()).await;
    }
}

#[tokio::test]
async fn the_data_of_another_server_is_not_taken_for_lost() {
    let (one, other) = (world(), world());
    let (_, handle) = one.launch("sleep 1000").await;
    let seen = other.observe(&handle).await;
    assert!(matches!(&seen, Observation::Unknown { reason } if reason.contains("another server")), "{seen:?}");
    assert!(matches!(other.engine.stop(&handle, GRACE).await, Err(EngineError::Unavailable(_))));
    assert!(matches!(other.engine.remove(&handle).await, Err(EngineError::Unavailable(_))));
    one.running(&handle).await;
}

/// A world whose supervisor is a script, which stands for one that is killed at some step.
fn world_with(script: &str) -> LocalWorld {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("supervisor");
    fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    world_in(folder, |config| config.supervisor = path)
}

async fn after_its_supervisor_died(world: &LocalWorld, spec: &LaunchSpec) -> Observation {
    let handle = world.engine.launch(spec).await.unwrap();
    world.until(&handle, "over", |seen| !matches!(seen, Observation::Starting | Observation::Running(_))).await
}

#[tokio::test]
async fn a_supervisor_killed_before_it_took_the_spec_never_ran_anything() {
    let world = world_with("echo no luck today >&2; exit 1");
    let spec = world.spec("echo once");
    let expected = "its supervisor ended before it started the command: no luck today";
    let seen = after_its_supervisor_died(&world, &spec).await;
    assert_eq!(seen, Observation::NeverRan { reason: expected.into(), fault: StartFault::Machine });

    // As after a kill between the folder and the supervisor: a second launch makes up for it, and only one does.
    let later = world.restarted();
    let (first, second) = tokio::join!(later.engine.launch(&spec), later.engine.launch(&spec));
    assert_eq!(first.unwrap(), second.unwrap());
    let (ended, output) = later.run_spec(&spec).await;
    assert_eq!((ended.exit_code, output.as_str()), (0, "once\n"));
}

#[tokio::test]
async fn a_supervisor_killed_after_it_took_the_spec_may_have_run_it_so_nobody_runs_it_again() {
    let world = world_with("mv $2/spec.json $2/taken.json; kill -9 $$");
    let spec = world.spec("echo twice");
    let expected = "its supervisor was killed in the moment it started the command";
    let lost = Observation::Lost { reason: expected.into(), started: None, last_seen_at: None };
    assert_eq!(after_its_supervisor_died(&world, &spec).await, lost);
    let later = world.restarted();
    let handle = later.engine.launch(&spec).await.unwrap();
    assert_eq!(later.observe(&handle).await, lost);
    assert!(!spec.log_path.exists());
}

#[tokio::test]
async fn after_a_restart_of_the_machine_an_attempt_without_an_end_is_lost() {
    let world = world_with(
        "sed -i 's/\"boot_id\":\"[^\"]*\"/\"boot_id\":\"before\"/' $2/spec.json; mv $2/spec.json $2/taken.json",
    );
    let seen = after_its_supervisor_died(&world, &world.spec("true")).await;
    let reason = "the machine was restarted while it ran".to_owned();
    assert_eq!(seen, Observation::Lost { reason, started: None, last_seen_at: None });
}

#[tokio::test]
async fn nobody_but_a_server_starts_a_supervisor() {
    let world = world();
    let (spec, handle) = world.launch("echo $$ > shell; sleep 1000").await;
    world.running(&handle).await;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_flotilla"));
    let output = command.arg("supervise").arg(world.folder_of(&spec)).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("only a server starts a supervisor"));
    world.running(&handle).await;
}

#[tokio::test]
async fn folders_without_rights_are_removed_too() {
    let world = world();
    let (spec, handle) = world.launch("mkdir -p a/b; touch a/b/c; ln -s / a/root; chmod 0 a/b/c a/b a").await;
    world.ended(&handle).await;
    world.engine.remove(&handle).await.unwrap();
    assert!(!world.folder_of(&spec).exists());
    assert!(Path::new("/etc/passwd").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_all_run_once() {
    let world = world();
    let mut launched = vec![];
    for i in 0..60 {
        launched.push(world.launch(&format!("echo {i}; exit {i}")).await);
    }
    for (i, (spec, handle)) in launched.iter().enumerate() {
        let (ended, output) = world.finish(spec, handle).await;
        assert_eq!((ended.exit_code, output), (i64::try_from(i).unwrap(), format!("{i}\n")));
        world.engine.remove(handle).await.unwrap();
    }
    assert_eq!(world.engine.list_ours().await.unwrap(), []);
}

#[tokio::test]
async fn a_server_that_ends_leaves_its_tasks_alone() {
    let folder = tempfile::tempdir().unwrap();
    let world = world_in(folder, |_| {});
    let spec =
        world.spec("echo $$ > shell; while ! [ -f go ]; do sleep 0.01; done; read line < go; echo $line; exit 6");
    let runs_dir = world.runs_dir.clone();
    // A server in a runtime of its own, which is shut down while the task runs.
    let launch = spec.clone();
    let handle = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let reports = Reports::default();
        let handle = runtime.block_on(async {
            let engine = engine(&runs_dir, &reports, |_| {});
            engine.launch(&launch).await.unwrap()
        });
        runtime.shutdown_background();
        handle
    })
    .join()
    .unwrap();
    world.number(&spec, "shell").await;
    fs::write(world.work_of(&spec).join("go.new"), "on\n").unwrap();
    fs::rename(world.work_of(&spec).join("go.new"), world.work_of(&spec).join("go")).unwrap();
    let later = world.restarted();
    let (ended, output) = later.finish(&spec, &handle).await;
    assert_eq!((ended.exit_code, output.as_str()), (6, "on\n"));
}

/// Where the server that is to be killed finds its work; without it, it is no test of its own.
const KILLED_SERVER: &str = "FLOTILLA_TEST_KILLED_SERVER";

fn attempts_in(folder: &Path) -> Vec<LaunchSpec> {
    let ids = fs::read_to_string(folder.join("attempts")).unwrap();
    let spec = |id: &str| {
        let attempt_id = id.parse().unwrap();
        let command = format!("echo {id} | tee -a {}", folder.join("ran").display());
        let task = TaskSpec { command, memory_mb: Some(64), ..TaskSpec::default() };
        let log_path = folder.join("logs").join(id);
        let execution = Execution::default();
        LaunchSpec {
            attempt_id,
            origin: origin(),
            task,
            execution,
            log_path,
            log_cap_bytes: 1000,
            grace: GRACE,
            longest_start: None,
        }
    };
    ids.lines().map(spec).collect()
}

/// Not a test: the server that the next one kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_to_be_killed() {
    let Some(folder) = std::env::var_os(KILLED_SERVER) else { return };
    let engine = engine(&Path::new(&folder).join("runs"), &Reports::default(), |_| {});
    for spec in attempts_in(Path::new(&folder)) {
        engine.launch(&spec).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_server_is_killed_each_attempt_runs_exactly_once() {
    for round in 0..12 {
        let world = world();
        let folder = world.folder.path();
        let ids = (0..12).map(|_| AttemptId { run_id: RunId::generate(), attempt: 1 }.to_string());
        fs::write(folder.join("attempts"), ids.collect::<Vec<_>>().join("\n")).unwrap();
        let mut server = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "local::restart::server_to_be_killed"])
            .env(KILLED_SERVER, folder)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // At another step each round: as soon as so many entries are there, finished or not.
        while fs::read_dir(&world.runs_dir).unwrap().count() < 1 + round && server.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        server.kill().unwrap();
        server.wait().unwrap();

        let later = world.restarted();
        let specs = attempts_in(folder);
        for spec in &specs {
            let (ended, output) = later.run_spec(spec).await;
            assert_eq!((ended.exit_code, output), (0, format!("{}\n", spec.attempt_id)));
        }
        let ran = fs::read_to_string(folder.join("ran")).unwrap();
        let mut ran: Vec<&str> = ran.lines().collect();
        ran.sort_unstable();
        let mut expected: Vec<String> = specs.iter().map(|spec| spec.attempt_id.to_string()).collect();
        expected.sort_unstable();
        assert_eq!(ran, expected);
    }
}
