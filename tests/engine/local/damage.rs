//! Somebody removes, moves, cuts or replaces what belongs to an attempt, while it runs or while the power is away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use flotilla::engine::{Handle, LaunchSpec};
use flotilla::logs::Logs;
use flotilla::model::{AttemptId, EndCause, Observation, RunId, StartFault};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{LocalWorld, engine_with, is_alive, is_root, world};
use crate::world::{GRACE, World, eventually};

type Damage = fn(&Path);

fn on_file(name: &str, damage: impl Fn(&Path)) -> impl Fn(&Path) {
    let name = name.to_owned();
    move |folder: &Path| damage(&folder.join(&name))
}

fn remove(path: &Path) {
    fs::remove_file(path).unwrap();
}

fn truncate(path: &Path) {
    fs::write(path, "").unwrap();
}

fn replace_by_a_file(path: &Path) {
    remove(path);
    fs::write(path, "of somebody else").unwrap();
}

/// What is done to a folder.
type AnyDamage = Box<dyn Fn(&Path)>;

fn damages() -> Vec<(String, AnyDamage)> {
    let whole: [(&str, Damage); 5] = [
        ("the folder is removed", |folder| fs::remove_dir_all(folder).unwrap()),
        ("the folder is moved", |folder| fs::rename(folder, folder.with_extension("moved")).unwrap()),
        ("the folder is replaced by a file", |folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::write(folder, "").unwrap();
        }),
        ("the folder is replaced by another", |folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        }),
        ("nobody may enter the folder", |folder| {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o0)).unwrap();
        }),
    ];
    let mut damages: Vec<(String, AnyDamage)> =
        whole.into_iter().map(|(what, damage)| (what.to_owned(), Box::new(damage) as AnyDamage)).collect();
    for name in ["taken.json", "started.json", "supervisor.log", "control", "status"] {
        damages.push((format!("{name} is removed"), Box::new(on_file(name, remove))));
        damages.push((format!("{name} is replaced"), Box::new(on_file(name, replace_by_a_file))));
    }
    for name in ["taken.json", "started.json", "supervisor.log"] {
        damages.push((format!("{name} is truncated"), Box::new(on_file(name, truncate))));
    }
    damages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_attempt_is_seen_and_stopped_whatever_was_done_to_its_folder() {
    let world = world();
    let mut attempts = vec![];
    for (what, damage) in damages() {
        let (spec, handle) = world.launch("sleep 1000").await;
        world.running(&handle).await;
        damage(&world.folder_of(&spec));
        attempts.push((what, handle));
    }
    let later = world.restarted();
    for looking in [&*world, &later] {
        for (what, handle) in &attempts {
            let seen = looking.observe(handle).await;
            assert!(matches!(seen, Observation::Starting | Observation::Running(_)), "{what}: {seen:?}");
        }
    }
    for (what, handle) in &attempts {
        later.engine.stop(handle, GRACE).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    for (what, handle) in &attempts {
        let seen = later.until(handle, what, |seen| matches!(seen, Observation::Ended(_))).await;
        let Observation::Ended(ended) = seen else { unreachable!() };
        assert_eq!((ended.exit_code, ended.cause), (143, EndCause::Stopped), "{what}");
    }
    for (what, handle) in &attempts {
        later.engine.remove(handle).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    eventually("nothing is left", || {
        fs::read_dir(&world.runs_dir).unwrap().flatten().all(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name == "node" || name.ends_with("moved")
        })
    })
    .await;
}

/// Launches what waits until `finish` is called.
async fn launch_waiting(world: &LocalWorld, then: &str) -> (LaunchSpec, Handle) {
    let go = world.folder.path().join("go");
    let (spec, handle) =
        world.launch(&format!("cd /; echo one; until [ -e {} ]; do sleep 0.02; done; {then}", go.display())).await;
    world.until_printed(&spec, &handle, "one").await;
    (spec, handle)
}

fn finish(world: &LocalWorld) {
    fs::write(world.folder.path().join("go"), "").unwrap();
}

#[tokio::test]
async fn an_attempt_whose_folder_was_removed_ends_as_it_ends_and_keeps_its_log() {
    let world = world();
    let (spec, handle) = launch_waiting(&world, "echo two; exit 5").await;
    world.running(&handle).await;
    fs::remove_dir_all(world.folder_of(&spec)).unwrap();
    let later = world.restarted();
    assert!(matches!(later.observe(&handle).await, Observation::Running(_)));
    finish(&world);
    let (ended, output) = later.finish(&spec, &handle).await;
    assert_eq!((ended.exit_code, output.as_str()), (5, "one\ntwo\n"));
    assert_eq!(later.engine.list_ours().await.unwrap(), std::slice::from_ref(&handle));
    later.engine.remove(&handle).await.unwrap();
    assert_eq!(later.engine.list_ours().await.unwrap(), []);
}

#[tokio::test]
async fn a_server_on_a_copy_of_the_data_sees_that_an_attempt_goes_on_and_can_stop_it() {
    let world = world();
    let (spec, handle) = launch_waiting(&world, "exit 5").await;
    world.running(&handle).await;
    let copy = world.folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(&world.runs_dir).arg(&copy).status().unwrap();
    assert!(copied.success());
    let (engine, _pokes) = engine_with(&copy, |_| {});
    let seen = engine.observe(std::slice::from_ref(&handle)).await.unwrap().remove(0);
    assert!(matches!(seen, Observation::Running(_)), "{seen:?}");
    engine.stop(&handle, GRACE).await.unwrap();
    let ended = world.ended(&handle).await;
    assert_eq!(ended.cause, EndCause::Stopped);
    drop(spec);
}

#[tokio::test]
async fn a_log_that_was_removed_while_it_was_written_is_whole_in_the_end() {
    let world = world();
    let (spec, handle) = launch_waiting(&world, "echo two").await;
    fs::remove_file(&spec.log_path).unwrap();
    finish(&world);
    let (ended, output) = world.finish(&spec, &handle).await;
    assert_eq!((ended.exit_code, output.as_str()), (0, "one\ntwo\n"));
}

#[tokio::test]
async fn an_attempt_whose_folder_was_removed_does_not_run_again() {
    let world = world();
    let (spec, handle) = launch_waiting(&world, "true").await;
    fs::remove_dir_all(world.folder_of(&spec)).unwrap();
    // As a server asks that was killed before it stored the handle.
    let unknown = Handle { text: String::new(), ..handle.clone() };
    let later = world.restarted();
    assert!(matches!(later.observe(&unknown).await, Observation::Running(_)));
    assert_eq!(later.engine.launch(&spec).await.unwrap(), handle);
    finish(&world);
    later.ended(&unknown).await;
    // Now its end is lost as well; the log says that it ran.
    later.engine.remove(&handle).await.unwrap();
    assert_eq!(later.engine.launch(&spec).await.unwrap(), handle);
    assert!(!world.folder_of(&spec).exists());
    assert_eq!(fs::read_to_string(&spec.log_path).unwrap(), "one\n");
    assert!(matches!(later.observe(&handle).await, Observation::Gone { .. }));
}

#[tokio::test]
async fn what_is_left_of_a_killed_supervisor_without_a_folder_is_ended() {
    let world = world();
    let command = "setsid sh -c 'echo $$ > far; exec sleep 1000' & wait";
    let (spec, handle) = world.launch(command).await;
    let far = world.number(&spec, "far").await;
    let supervisor = world.supervisor_of(&spec).await;
    fs::remove_dir_all(world.folder_of(&spec)).unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    eventually("it is not seen alive", || !is_alive(supervisor)).await;
    assert!(matches!(world.observe(&handle).await, Observation::Gone { .. }));
    world.engine.remove(&handle).await.unwrap();
    assert!(!is_alive(far));
}

/// Another boot is one with another id.
fn let_it_be_of_another_boot(path: &Path) {
    let text = fs::read_to_string(path).unwrap();
    let mut spec: serde_json::Value = serde_json::from_str(&text).unwrap();
    spec["boot_id"] = "another".into();
    fs::write(path, spec.to_string()).unwrap();
}

fn fill_with_nuls(path: &Path) {
    let length = fs::metadata(path).unwrap().len();
    fs::write(path, vec![0; usize::try_from(length).unwrap()]).unwrap();
}

/// A server that knows where the logs are, as the program's own does.
fn server_with_logs(world: &LocalWorld) -> World {
    let logs = Logs::open(&world.folder.path().join("logs")).unwrap();
    let (engine, reports) = engine_with(&world.runs_dir, |config| config.logs = Some(logs.into()));
    World::new(engine, reports, tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn after_a_loss_of_power_what_may_have_run_is_lost_and_does_not_run_again() {
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 7] = [
        ("of another boot", |folder| let_it_be_of_another_boot(&folder.join("taken.json"))),
        ("NULs", |folder| fill_with_nuls(&folder.join("taken.json"))),
        ("all NULs", |folder| {
            for name in ["taken.json", "started.json", "exit.json.new"] {
                fill_with_nuls(&folder.join(name));
            }
        }),
        ("empty", |folder| truncate(&folder.join("taken.json"))),
        ("missing", |folder| remove(&folder.join("taken.json"))),
        ("as if it had never been taken", |folder| {
            let_it_be_of_another_boot(&folder.join("taken.json"));
            fs::rename(folder.join("taken.json"), folder.join("spec.json")).unwrap();
            remove(&folder.join("started.json"));
        }),
        ("an end of NULs", |folder| {
            let_it_be_of_another_boot(&folder.join("taken.json"));
            fs::write(folder.join("exit.json"), [0; 300]).unwrap();
        }),
    ];
    for (what, lose) in losses {
        let world = world();
        let mut spec = world.spec("echo ran; sleep 1000");
        let logs = Logs::open(&world.folder.path().join("logs")).unwrap();
        spec.log_path = logs.path(spec.attempt_id);
        let handle = world.engine.launch(&spec).await.unwrap();
        world.until_printed(&spec, &handle, "ran").await;
        let supervisor = world.supervisor_of(&spec).await;
        kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
        eventually("it is not seen alive", || !is_alive(supervisor)).await;
        lose(&world.folder_of(&spec));
        let nuls = fs::OpenOptions::new().append(true).open(&spec.log_path).unwrap();
        nuls.set_len(400).unwrap();
        let modified = nuls.metadata().unwrap().modified().unwrap();

        let later = server_with_logs(&world);
        for handle in [&handle, &Handle { text: String::new(), ..handle.clone() }] {
            let seen = later.observe(handle).await;
            let Observation::Lost { last_seen_at, .. } = &seen else { panic!("{what}: {seen:?}") };
            let last_seen_at = last_seen_at.expect("the log says when it was last seen");
            let late = last_seen_at.duration_since(modified.try_into().unwrap());
            assert!(late.abs() < jiff::SignedDuration::from_secs(5), "{what}: {late}");
        }
        assert_eq!(later.engine.launch(&spec).await.unwrap(), handle, "{what}");
        assert!(matches!(later.observe(&handle).await, Observation::Lost { .. }), "{what}");
        let log = fs::read_to_string(&spec.log_path).unwrap();
        if what != "missing" {
            let note = "ran\n[flotilla: the machine was restarted while the command ran: 396 NUL bytes were cut off, and \
                output from just before the loss of power may be missing here]\n";
            assert_eq!(log, note, "{what}");
        }
        later.engine.remove(&handle).await.unwrap();
    }
}

#[tokio::test]
async fn the_log_of_what_had_ended_stays_as_it_is_after_a_loss_of_power() {
    let world = world();
    let mut spec = world.spec("echo ran");
    spec.log_path = Logs::open(&world.folder.path().join("logs")).unwrap().path(spec.attempt_id);
    let handle = world.engine.launch(&spec).await.unwrap();
    world.ended(&handle).await;
    // The folder went, and the power before the server had stored that.
    world.engine.remove(&handle).await.unwrap();
    let text = handle.text.rsplit_once('/').unwrap().0;
    let of_another_boot = Handle { text: format!("{text}/another"), ..handle.clone() };
    let seen = server_with_logs(&world).observe(&of_another_boot).await;
    assert!(matches!(seen, Observation::Lost { .. }), "{seen:?}");
    assert_eq!(fs::read_to_string(&spec.log_path).unwrap(), "ran\n");
}

#[tokio::test]
async fn after_a_loss_of_power_what_certainly_never_ran_is_tried_again() {
    let world = world();
    let spec = world.spec("true");
    let (engine, _) = engine_with(&world.runs_dir, |config| config.supervisor = "/bin/true".into());
    let handle = engine.launch(&spec).await.unwrap();
    let folder = world.folder_of(&spec);
    eventually("it has no supervisor", || fs::File::open(folder.join("spec.json")).is_ok()).await;
    let never_ran = |seen: &Observation| {
        matches!(seen, Observation::NeverRan { reason, fault: StartFault::Machine }
            if reason == "the machine was restarted before the command started")
    };
    let_it_be_of_another_boot(&folder.join("spec.json"));
    let seen = world.until(&handle, "over", |seen| !matches!(seen, Observation::Starting)).await;
    assert!(never_ran(&seen), "{seen:?}");
    world.engine.launch(&spec).await.unwrap();
    assert!(!folder.join("taken.json").exists(), "what another boot left is not used");
    fill_with_nuls(&folder.join("spec.json"));
    let text = handle.text.rsplit_once('/').unwrap().0;
    let before = Handle { text: format!("{text}/another"), ..handle.clone() };
    let unknown = Handle { text: String::new(), ..handle.clone() };
    assert!(never_ran(&world.observe(&before).await) && never_ran(&world.observe(&unknown).await));
    // Nothing of it was on the disk.
    fs::remove_dir_all(&folder).unwrap();
    assert!(never_ran(&world.observe(&before).await));
    assert!(matches!(world.observe(&handle).await, Observation::Gone { .. }), "in this boot somebody removed it");
}

#[tokio::test]
async fn where_the_folder_of_runs_is_away_a_running_attempt_can_still_be_stopped() {
    let world = world();
    let (spec, handle) = world.launch("sleep 1000").await;
    world.running(&handle).await;
    let supervisor = world.supervisor_of(&spec).await;
    let away = world.folder.path().join("away");
    fs::rename(&world.runs_dir, &away).unwrap();
    assert!(matches!(world.observe(&handle).await, Observation::Running(_)));
    world.engine.stop(&handle, GRACE).await.unwrap();
    let ended = || fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap().is_empty();
    eventually("the task has ended", ended).await;
    assert!(matches!(world.observe(&handle).await, Observation::Running(_)), "until its end can be written");
    fs::rename(&away, &world.runs_dir).unwrap();
    assert_eq!(world.ended(&handle).await.cause, EndCause::Stopped);
}

#[tokio::test]
async fn a_folder_of_runs_that_can_not_be_used_makes_the_engine_unreachable_until_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let runs_dir = folder.path().join("runs");
    fs::write(&runs_dir, "not a folder").unwrap();
    let (engine, reports) = engine_with(&runs_dir, |_| {});
    let world = World::new(engine, reports, folder);
    let is_unreachable = || matches!(world.engine.state(), flotilla::engine::EngineState::Unreachable { .. });
    assert!(is_unreachable());
    assert!(world.engine.launch(&world.spec("true")).await.is_err());
    fs::remove_file(&runs_dir).unwrap();
    assert_eq!(world.run("echo hi").await.1, "hi\n");
    assert!(!is_unreachable());
    crate::world::remove_everything(&world.engine);
}

/// What can't be deleted, and how that is mended.
fn obstacles() -> Vec<(&'static str, [Vec<&'static str>; 2])> {
    vec![
        ("work", [vec!["mount", "-t", "tmpfs", "none"], vec!["umount"]]),
        ("work/locked", [vec!["chattr", "+i"], vec!["chattr", "-i"]]),
        ("", [vec!["chattr", "+i"], vec!["chattr", "-i"]]),
        ("", [vec!["mount", "-t", "tmpfs", "none"], vec!["umount"]]),
    ]
}

fn is_done(command: &[&str], path: &Path) -> bool {
    std::process::Command::new(command[0]).args(&command[1..]).arg(path).status().is_ok_and(|status| status.success())
}

#[tokio::test]
async fn what_can_not_be_deleted_is_in_nobodys_way_and_reported_once() {
    if !is_root() {
        eprintln!("not tested: only root can mount, or make a file immutable");
        return;
    }
    for (where_, [obstruct, mend]) in obstacles() {
        let world = world();
        let (spec, handle) = world.launch("touch locked").await;
        world.ended(&handle).await;
        let obstacle = world.folder_of(&spec).join(where_);
        if !is_done(&obstruct, &obstacle) {
            eprintln!("not tested: {obstruct:?} does not work here");
            continue;
        }
        world.engine.remove(&handle).await.unwrap();
        let notes = world.reports.take_notes();
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert_eq!((notes[0].0, notes[0].1.reason.as_str()), (handle.attempt_id, "LeftBehind"));
        world.engine.remove(&handle).await.unwrap();
        assert_eq!(world.reports.take_notes(), [], "once");

        // A server starts beside it, and runs what it is given.
        let later = world.restarted();
        assert_eq!(later.run("echo hi").await.1, "hi\n");
        // It is where it was, or lies under the name that it was given.
        let aside = fs::read_dir(&world.runs_dir).unwrap().flatten().map(|entry| entry.path());
        let aside = aside.filter(|path| path.file_name().unwrap().to_str().unwrap().contains(".gone-")).last();
        let left = aside.unwrap_or_else(|| world.folder_of(&spec)).join(where_);
        assert!(is_done(&mend, &left), "{left:?}");
        let last = world.restarted();
        last.engine.remove(&handle).await.unwrap();
        let gone = || {
            fs::read_dir(&world.runs_dir)
                .unwrap()
                .flatten()
                .all(|entry| !entry.file_name().to_string_lossy().starts_with(".gone-"))
        };
        eventually("it is deleted as soon as it can be", || gone() && !world.folder_of(&spec).exists()).await;
    }
}

#[tokio::test]
async fn what_is_mounted_in_a_folder_is_not_deleted_with_it() {
    let world = world();
    let precious = world.folder.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("data"), "not the task's").unwrap();
    let (spec, handle) = world.launch("mkdir there").await;
    world.ended(&handle).await;
    let there = world.work_of(&spec).join("there");
    if !is_root() || !is_done(&["mount", "--bind", precious.to_str().unwrap()], &there) {
        eprintln!("not tested: nothing can be mounted here");
        return;
    }
    world.engine.remove(&handle).await.unwrap();
    let notes = world.reports.take_notes();
    assert!(notes[0].1.message.contains("a file system is mounted on"), "{notes:?}");
    assert_eq!(fs::read_to_string(precious.join("data")).unwrap(), "not the task's");
    let aside = fs::read_dir(&world.runs_dir).unwrap().flatten().map(|entry| entry.path());
    let aside = aside.filter(|path| path.join("work").exists()).last().unwrap();
    assert!(is_done(&["umount"], &aside.join("work/there")));
}

#[tokio::test]
async fn what_a_killed_server_left_half_made_is_in_nobodys_way() {
    let world = world();
    let spec = world.spec("echo hi");
    let rubbish = AttemptId { run_id: RunId::generate(), attempt: 2 };
    for name in [format!(".new-{}", spec.attempt_id), format!(".new-{rubbish}"), format!(".gone-{rubbish}.x")] {
        fs::create_dir_all(world.runs_dir.join(name).join("work/locked")).unwrap();
    }
    assert_eq!(world.run_spec(&spec).await.1, "hi\n");
    let later = world.restarted();
    let is_clean = || {
        let left = fs::read_dir(&world.runs_dir).unwrap().flatten();
        left.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count() == 0
    };
    eventually("it is removed", is_clean).await;
    drop(later);
}
