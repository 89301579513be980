//! The end of a log: whoever has seen a run stopped reads all of it, nothing else waits for it, and where it can't be had
//! the run says so, once.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use serde_json::{Value, json};

use crate::world::{Options, WAIT, World, text};

/// Long enough that a request which does not wait is answered in the meantime.
const STEPS: usize = 10;

/// Every way to read a log.
fn ways(run_id: &str) -> Vec<String> {
    let api = ["v1", "v6"].map(|version| format!("/api/{version}/{run_id}"));
    let mut ways = Vec::new();
    for api in api {
        ways.extend(
            ["logs", "logs?raw_text=true", "logs?last_seen=f/1/4", "logs?raw_text=true&last_seen=f/1/4"]
                .map(|way| format!("{api}/{way}")),
        );
        ways.push(format!("{api}/logs/stream"));
    }
    ways.push(format!("/v1/{run_id}/logs"));
    let page = format!("/ui/runs/{run_id}");
    ways.extend(["", "/log", "/log/lines", "/log/search?q=two"].map(|way| format!("{page}{way}")));
    ways
}

fn waiting() -> Options {
    let limits = Options::default().limits;
    Options { limits: flotilla::http::Limits { log_wait: Duration::from_mins(1), ..limits }, ..Options::default() }
}

fn not_waiting() -> Options {
    let limits = Options::default().limits;
    Options { limits: flotilla::http::Limits { follow_wait: Duration::ZERO, ..limits }, ..Options::default() }
}

fn impatient() -> Options {
    Options { log_patience: Duration::from_millis(200), ..Options::default() }
}

fn one_place() -> Options {
    Options { max_running: Some(1), ..Options::default() }
}

fn short_retention() -> Options {
    Options { log_retention: Some(Duration::from_hours(1)), ..Options::default() }
}

/// A run that has stopped, and of whose output only `one` has come.
async fn stopped_before_its_log(world: &World) -> String {
    world.script().hold_output(Some(4));
    let run_id = world.run("echo one; echo two").await;
    world.step_until(&run_id, |run| run["status"] == "STOPPED").await;
    world
        .stepping("the first part of the output is stored", async || {
            (std::fs::read(log_path(world, &run_id)).ok()? == b"one\n").then_some(())
        })
        .await;
    run_id
}

fn log_path(world: &World, run_id: &str) -> PathBuf {
    world.control.logs.path(World::attempt(run_id, 1))
}

async fn is_complete(world: &World, run_id: &str) -> bool {
    world.store.run(run_id.parse().unwrap()).await.unwrap().unwrap().is_log_complete
}

async fn complete(world: &World, run_id: &str) {
    world.stepping("the log is complete", async || is_complete(world, run_id).await.then_some(())).await;
}

/// The run's events of this reason.
async fn told(world: &World, run_id: &str, reason: &str) -> Vec<String> {
    let run = world.history(run_id).await;
    let events = run["pod_events"].as_array().unwrap().iter().filter(|event| event["reason"] == reason);
    events.map(|event| text(&event["message"])).collect()
}

/// Asks in every way while the end of the log is held, lets it come, and gives the answers.
async fn read_while_the_end_comes(world: &World, run_id: &str) -> Vec<(String, String)> {
    let ways = ways(run_id);
    let asking = join_all(ways.iter().map(|way| world.get(way)));
    let holding = async {
        for _ in 0..STEPS {
            world.step().await;
        }
    };
    let asking = match select(Box::pin(asking), Box::pin(holding)).await {
        Either::Left((answers, _)) => panic!("not one waited for the end: {answers:?}"),
        Either::Right(((), asking)) => asking,
    };
    world.script().hold_output(None);
    let (answers, ()) = tokio::join!(asking, complete(world, run_id));
    let answers = answers.into_iter().map(|answer| String::from_utf8(answer.bytes).unwrap());
    ways.into_iter().zip(answers).collect()
}

/// Something that is done from outside to a log that is being written.
type Damage = fn(&Path);

fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn remove_with_its_folder(path: &Path) {
    std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
}

fn replace(path: &Path) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, "of somebody else, and longer than ours").unwrap();
}

fn empty(path: &Path) {
    std::fs::write(path, "").unwrap();
}

fn shorten(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(1).unwrap();
}

mod damage {
    use super::*;

    crate::on_every_engine! {
        async fn a_log_that_is_removed_replaced_or_cut_while_it_is_written_is_whole_in_the_end(world: World) {
            let damages: [(Damage, usize); 5] =
                [(remove, 0), (remove_with_its_folder, 0), (replace, 0), (empty, 1), (shorten, 1)];
            for (i, (damage, read_again)) in damages.into_iter().enumerate() {
                let run_id = world.run(&format!("echo one; {WAIT}; echo two, and a lot more than before")).await;
                world.step_until_printed(&run_id, "one\n").await;
                damage(&log_path(&world, &run_id));
                world.go_on(&run_id).await;
                world.finish(&run_id).await;
                assert_eq!(world.log(&run_id).await, "one\ntwo, and a lot more than before\n", "{i}");
                assert_eq!(told(&world, &run_id, "LogReadAgain").await.len(), read_again, "{i}");
                assert!(told(&world, &run_id, "LogCut").await.is_empty(), "{i}");
            }
        }
    }
}

crate::on_fake_engine! {
    async fn a_log_that_was_cut_and_whose_output_the_engine_has_no_more_says_so(world: World) {
        for damage in [empty as Damage, shorten] {
            let run_id = world.run("echo one; sleep 100").await;
            world.step_until_printed(&run_id, "one\n").await;
            damage(&log_path(&world, &run_id));
            world.vanish(&run_id);
            world.finish(&run_id).await;
            let [cut] = &told(&world, &run_id, "LogCut").await[..] else { panic!("it is said once") };
            assert!(cut.contains("the end of the log may be missing") && cut.contains("cut off from outside"), "{cut}");
        }
    }

    async fn a_log_that_was_removed_and_whose_output_the_engine_has_no_more_is_kept(world: World) {
        let run_id = world.run("echo one; sleep 100").await;
        world.step_until_printed(&run_id, "one\n").await;
        remove(&log_path(&world, &run_id));
        world.vanish(&run_id);
        world.finish(&run_id).await;
        assert_eq!(world.log(&run_id).await, "one\n");
    }

    async fn output_that_can_not_be_read_for_a_while_after_the_end_is_whole_when_it_can(world: World) {
        world.script().set_readable(Some("the daemon does not send it"));
        let run_id = world.run("echo one").await;
        world.step_until(&run_id, |run| run["status"] == "STOPPED").await;
        for _ in 0..STEPS {
            world.step().await;
        }
        assert!(!is_complete(&world, &run_id).await && !world.is_engine_empty().await);
        world.script().set_readable(None);
        world.finish(&run_id).await;
        assert_eq!(world.log(&run_id).await, "one\n");
        assert!(told(&world, &run_id, "LogCut").await.is_empty());
    }

    async fn who_has_seen_a_run_stopped_reads_its_whole_log_in_every_way(world: World = waiting()) {
        let run_id = stopped_before_its_log(&world).await;
        for (way, answer) in read_while_the_end_comes(&world, &run_id).await {
            let end = if way.contains("search") { "\"lines\":[2]" } else { "two" };
            assert!(answer.contains(end), "{way}: {answer}");
            assert!(!answer.contains("is_complete\":false") && !answer.contains("is not stored yet"), "{way}: {answer}");
        }
    }

    async fn the_rest_of_a_stopped_runs_log_is_there_after_a_restart_of_the_server(world: World = waiting()) {
        let mut world = world;
        let run_id = stopped_before_its_log(&world).await;
        world.restart();
        for (way, answer) in read_while_the_end_comes(&world, &run_id).await {
            let end = if way.contains("search") { "\"lines\":[2]" } else { "two" };
            assert!(answer.contains(end), "{way}: {answer}");
        }
        assert_eq!(world.log(&run_id).await, "one\ntwo\n");
    }

    async fn a_read_is_not_held_for_ever_and_says_that_the_end_is_missing(world: World = not_waiting()) {
        let run_id = stopped_before_its_log(&world).await;
        let logs = format!("/api/v1/{run_id}/logs");
        let piece = world.get(&logs).await.ok();
        assert_eq!(piece, json!({"log": "one\n", "last_seen": "f/1/4", "is_complete": false}));
        let piece = world.get(&format!("{logs}?last_seen=f/1/4")).await.ok();
        assert_eq!(piece, json!({"log": "", "last_seen": "f/1/4", "is_complete": false}));
        let raw = world.get(&format!("{logs}?raw_text=true")).await;
        assert_eq!((raw.headers["log-complete"].to_str().unwrap(), &raw.bytes[..]), ("false", &b"one\n"[..]));
        let stream = String::from_utf8(world.get(&format!("{logs}/stream")).await.bytes).unwrap();
        assert!(stream.ends_with("event: end\ndata: {\"is_complete\":false}\n\n"), "{stream}");
        let page = world.get(&format!("/ui/runs/{run_id}/log")).await;
        assert!(String::from_utf8(page.bytes).unwrap().contains("the end of its log is not stored yet"));

        world.script().hold_output(None);
        world.finish(&run_id).await;
        assert_eq!(world.get(&logs).await.ok(), json!({"log": "one\ntwo\n", "last_seen": "f/1/8"}));
        let raw = world.get(&format!("{logs}?raw_text=true")).await;
        assert!(!raw.headers.contains_key("log-complete"));
        let stream = String::from_utf8(world.get(&format!("{logs}/stream")).await.bytes).unwrap();
        assert!(stream.ends_with("event: end\ndata: {}\n\n"), "{stream}");
    }

    async fn a_log_that_does_not_come_to_its_end_holds_up_no_other_run(world: World = one_place()) {
        let held = stopped_before_its_log(&world).await;
        let next = world.run("exit 3").await;
        let run = world.step_until(&next, |run| run["status"] == "STOPPED").await;
        assert_eq!(run["exit_code"], 3);
        assert!(!is_complete(&world, &held).await);
        world.script().hold_output(None);
        world.finish(&held).await;
        assert_eq!(world.log(&held).await, "one\ntwo\n");
    }

    async fn a_log_is_complete_and_prunable_although_its_object_can_not_be_removed(world: World = short_retention()) {
        world.script().keep_objects(Some("it is busy"));
        let run_id = world.run("echo one").await;
        complete(&world, &run_id).await;
        let stream = String::from_utf8(world.get(&format!("/api/v1/{run_id}/logs/stream")).await.bytes).unwrap();
        assert!(stream.contains("one") && stream.ends_with("event: end\ndata: {}\n\n"), "{stream}");
        world.pass(jiff::SignedDuration::from_secs(3601)).await;
        assert_eq!(world.global.prune_logs().await.unwrap(), 4);
        assert!(!world.is_engine_empty().await);
        world.script().keep_objects(None);
        world.finish(&run_id).await;
        assert!(world.is_engine_empty().await);
        assert_eq!(world.log(&run_id).await, "", "what was removed is not read again");
    }

    async fn a_log_that_became_complete_after_others_were_pruned_is_pruned_as_well(world: World = short_retention()) {
        let other = world.run("echo other").await;
        world.finish(&other).await;
        let late = stopped_before_its_log(&world).await;
        world.pass(jiff::SignedDuration::from_secs(3601)).await;
        assert_eq!(world.global.prune_logs().await.unwrap(), 6);
        world.script().hold_output(None);
        world.finish(&late).await;
        assert_eq!(world.global.prune_logs().await.unwrap(), 0, "it has just become complete");
        world.pass(jiff::SignedDuration::from_secs(3601)).await;
        assert_eq!(world.global.prune_logs().await.unwrap(), 8);
        assert_eq!((world.log(&late).await, world.log(&other).await), (String::new(), String::new()));
    }

    async fn an_engine_that_gives_nothing_more_is_given_up_and_the_gap_is_said_once(world: World = impatient()) {
        let run_id = stopped_before_its_log(&world).await;
        world.finish(&run_id).await;
        assert!(is_complete(&world, &run_id).await && world.is_engine_empty().await);
        assert_eq!(world.log(&run_id).await, "one\n");
        let [cut] = &told(&world, &run_id, "LogCut").await[..] else { panic!("it is said once") };
        assert!(cut.starts_with("the end of the log may be missing: the cluster has delivered no more output"), "{cut}");
        assert_eq!(told(&world, &run_id, "LogDelayed").await.len(), 1);
        let mut world = world;
        world.restart();
        world.step().await;
        assert_eq!(told(&world, &run_id, "LogCut").await.len(), 1);
    }

    async fn a_log_whose_runs_end_nobody_saw_says_that_its_end_may_be_missing(world: World) {
        for is_stopping in [false, true] {
            let run_id = world.run(&format!("echo one; {WAIT}")).await;
            world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
            world.step_until_printed(&run_id, "one\n").await;
            if is_stopping {
                world.script().swallow_stops(true);
                let id = text(&world.history(&run_id).await["definition_id"]);
                world.delete(&format!("/api/v1/task/{id}/history/{run_id}")).await.ok();
            }
            world.script().lose(World::attempt(&run_id, 1), "its machine lost power");
            let run = world.finish(&run_id).await;
            assert_eq!(run["outcome"], if is_stopping { "stopped" } else { "lost" });
            assert_eq!(world.log(&run_id).await, "one\n");
            let [cut] = &told(&world, &run_id, "LogCut").await[..] else { panic!("it is said once: {is_stopping}") };
            assert_eq!(cut, "the end of the log may be missing: its machine lost power");
        }
    }

    async fn output_that_can_not_be_read_is_given_up_with_the_engines_reason(world: World = impatient()) {
        world.script().set_readable(Some("the logging driver can't be read"));
        let run_id = world.run("echo one").await;
        world.finish(&run_id).await;
        let [cut] = &told(&world, &run_id, "LogCut").await[..] else { panic!("it is said once") };
        assert!(cut.contains("the logging driver can't be read"), "{cut}");
    }

    async fn an_engine_that_is_away_is_waited_for(world: World = impatient()) {
        let run_id = stopped_before_its_log(&world).await;
        world.script().set_available(Some("it is away"));
        let waited = std::time::Instant::now();
        while waited.elapsed() < 2 * impatient().log_patience {
            world.step().await;
        }
        world.script().hold_output(None);
        world.script().set_available(None);
        world.finish(&run_id).await;
        assert_eq!(world.log(&run_id).await, "one\ntwo\n");
        assert!(told(&world, &run_id, "LogCut").await.is_empty());
    }

    async fn what_vanished_has_a_log_that_says_so_and_old_places_in_it_are_not_refused(world: World) {
        let run_id = world.run("echo one; sleep 100").await;
        world.step_until_printed(&run_id, "one\n").await;
        world.vanish(&run_id);
        world.finish(&run_id).await;
        assert_eq!(told(&world, &run_id, "LogCut").await.len(), 1);
        // A client may have read what a power loss took.
        let piece = world.get(&format!("/api/v1/{run_id}/logs?last_seen=f/1/99")).await.ok();
        assert_eq!(piece, json!({"log": "", "last_seen": "f/1/99"}));
        world.get(&format!("/api/v1/{run_id}/logs?last_seen=f/2/0")).await.refused(400);
    }

    async fn output_that_finds_no_room_stays_with_the_engine_until_it_does(world: World = impatient()) {
        // A disk that is full, for this log alone.
        let run_id = world.run(&format!("echo one; {WAIT}; echo two")).await;
        let path = log_path(&world, &run_id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        world.stepping("the run says that its log is delayed", async || {
            (!told(&world, &run_id, "LogDelayed").await.is_empty()).then_some(())
        })
        .await;
        world.go_on(&run_id).await;
        world.step_until(&run_id, |run| run["status"] == "STOPPED").await;
        let waited = std::time::Instant::now();
        while waited.elapsed() < 2 * impatient().log_patience {
            world.step().await;
        }
        assert!(!is_complete(&world, &run_id).await, "our own fault is no reason to give up");
        std::fs::remove_file(&path).unwrap();
        world.finish(&run_id).await;
        assert_eq!(world.log(&run_id).await, "one\ntwo\n");
        let counts = [told(&world, &run_id, "LogDelayed").await, told(&world, &run_id, "LogResumed").await];
        assert_eq!(counts.map(|told| told.len()), [1, 1]);
        assert!(told(&world, &run_id, "LogCut").await.is_empty());
    }

    async fn a_log_that_another_process_writes_is_not_written_by_a_second_one(world: World) {
        let run_id = world.run("echo one; echo two").await;
        let path = log_path(&world, &run_id);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let other = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        other.lock().unwrap();
        world.stepping("the run says that its log is delayed", async || {
            let told = told(&world, &run_id, "LogDelayed").await;
            told.iter().any(|message| message.contains("another process")).then_some(())
        })
        .await;
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        drop(other);
        world.finish(&run_id).await;
        assert_eq!(world.log(&run_id).await, "one\ntwo\n");
    }

    async fn a_server_that_ends_lets_its_logs_go_and_the_next_one_goes_on_with_them(world: World) {
        let mut world = world;
        let run_id = world.run(&format!("echo one; {WAIT}; echo two")).await;
        world.step_until_printed(&run_id, "one\n").await;
        world.control.end_pumps().await;
        let free = OpenOptions::new().append(true).open(log_path(&world, &run_id)).unwrap();
        free.try_lock().unwrap();
        drop(free);
        world.restart();
        world.go_on(&run_id).await;
        let run = world.finish(&run_id).await;
        assert_eq!((&run["outcome"], world.log(&run_id).await.as_str()), (&Value::from("succeeded"), "one\ntwo\n"));
        assert!(told(&world, &run_id, "LogReadAgain").await.is_empty());
    }

    async fn a_log_whose_position_is_damaged_is_read_again_without_a_gap_or_a_repeat(world: World) {
        let mut world = world;
        for damage in ["", "\0\0\0\0", "{\"bytes\":", "{\"version\":99,\"bytes\":2}", "{\"version\":2,\"bytes\":400,\"kept_bytes\":400}"] {
            let run_id = world.run(&format!("echo one; {WAIT}; echo two")).await;
            world.step_until_printed(&run_id, "one\n").await;
            world.control.end_pumps().await;
            std::fs::write(log_path(&world, &run_id).with_extension("position"), damage).unwrap();
            world.restart();
            world.go_on(&run_id).await;
            world.finish(&run_id).await;
            assert_eq!(world.log(&run_id).await, "one\ntwo\n", "{damage:?}");
            assert_eq!(told(&world, &run_id, "LogReadAgain").await.len(), 1, "{damage:?}");
            assert!(told(&world, &run_id, "LogCut").await.is_empty());
        }
    }

    async fn bytes_that_are_no_text_are_followed_as_they_were_written(world: World) {
        let run_id = world.run(&format!("{WAIT}; exit 0")).await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        let written: &[u8] = b"\xff\0\r\n\xe2\x82 half \xe2\x82\xac\xc3";
        for byte in written {
            world.script().print(World::attempt(&run_id, 1), [*byte]);
            world.step().await;
        }
        world.go_on(&run_id).await;
        world.finish(&run_id).await;
        let stream = String::from_utf8(world.get(&format!("/api/v1/{run_id}/logs/stream")).await.bytes).unwrap();
        let pieces = stream.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| data.contains("last_seen"));
        let bytes = pieces.flat_map(|data| {
            let piece: flotilla::wire::LogChunk = serde_json::from_str(data).unwrap();
            piece.bytes().into_owned()
        });
        assert_eq!(bytes.collect::<Vec<_>>(), written);
    }
}
