//! What a daemon does that is slow, breaks off, or has another time, against one that answers as told.

use std::time::{Duration, Instant};

use flotilla::engine::docker::DockerSettings;
use flotilla::engine::{EngineError, Handle};
use flotilla::model::{EndCause, LogPosition, Observation, StartFault};
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use crate::fake::{FakeDaemon, OnCreate};
use crate::world::{GRACE, World, config, eventually};

/// Long enough for what takes no time, and short of the time after which a call is given up.
const SOON: Duration = Duration::from_secs(20);

fn world(daemon: &FakeDaemon) -> World {
    World::new(&daemon.host(), config(&daemon.host()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_the_container_is_made_after_a_pull_reaches_docker() {
    let daemon = FakeDaemon::start();
    daemon.with(|daemon| (daemon.has_image, daemon.on_create) = (false, OnCreate::Hold));
    let world = world(&daemon);
    let handle = world.launch("sleep 1000").await;
    eventually("the container is made", || daemon.with(|daemon| daemon.container.is_some())).await;
    // Nothing is concluded from the stop alone, and nobody is sent round in circles.
    for _ in 0..3 {
        world.engine().stop(&handle, GRACE).await.unwrap();
        assert_eq!(world.try_observe(&handle).await.unwrap(), Observation::Starting);
    }
    assert!(world.engine().remove(&handle).await.is_err(), "what is being made is not forgotten");
    daemon.go_on();
    world.running(&handle).await;
    world.engine().stop(&handle, GRACE).await.unwrap();
    assert_eq!(world.ended(&handle).await.cause, EndCause::Stopped);
    assert_eq!(daemon.count("POST /containers/create"), 2, "once without its image, and once with it");
    world.engine().remove(&handle).await.unwrap();
    assert!(daemon.with(|daemon| daemon.container.is_none()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_while_a_container_is_made_leaves_nothing_waiting() {
    let daemon = FakeDaemon::start();
    daemon.with(|daemon| (daemon.has_image, daemon.on_create) = (false, OnCreate::Break));
    let world = world(&daemon);
    let handle = world.launch("true").await;
    let Observation::NeverRan { fault: StartFault::Machine, reason } = world.over(&handle).await else {
        panic!("it never ran")
    };
    assert!(reason.contains("does not answer"), "{reason}");
    assert!(daemon.with(|daemon| daemon.container.is_none()), "nothing is left that could start later");
    assert_eq!(daemon.count("POST /containers/c0ffee"), 0, "it was not started");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_runs_although_its_launch_was_thought_to_have_failed_is_stopped() {
    let daemon = FakeDaemon::start();
    daemon.with(|daemon| (daemon.has_image, daemon.on_create) = (false, OnCreate::BreakRunning));
    let world = world(&daemon);
    let handle = world.launch("sleep 1000").await;
    world.running(&handle).await;
    world.engine().stop(&handle, GRACE).await.unwrap();
    assert_eq!(world.ended(&handle).await.cause, EndCause::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_started_and_is_not_there_any_more_is_gone_and_never_started_again() {
    let daemon = FakeDaemon::start();
    daemon.with(|daemon| daemon.has_image = false);
    let world = world(&daemon);
    let spec = world.spec("true");
    let handle = world.engine().launch(&spec).await.unwrap();
    eventually("it is started", || daemon.count("POST /containers/c0ffee") == 1).await;
    eventually("that is known", || world.pokes_now().contains(&spec.attempt_id)).await;
    daemon.with(|daemon| daemon.container = None);
    assert!(matches!(world.try_observe(&handle).await.unwrap(), Observation::Gone { .. }));
    world.engine().launch(&spec).await.unwrap();
    assert_eq!(daemon.count("POST /containers/create"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_with_another_time_changes_no_cause() {
    for hours in [-1, 1] {
        let daemon = FakeDaemon::start();
        daemon.with(|daemon| daemon.clock = SignedDuration::from_hours(hours));
        let world = World::new(&daemon.host(), DockerSettings { keep_failed_secs: 600, ..config(&daemon.host()) });
        let stopped = world.launch("sleep 1000").await;
        world.running(&stopped).await;
        world.engine().stop(&stopped, GRACE).await.unwrap();
        assert_eq!(world.ended(&stopped).await.cause, EndCause::Stopped, "{hours} h");
        // It is kept for ten minutes by whatever clock.
        world.engine().remove(&stopped).await.unwrap();
        assert!(daemon.with(|daemon| daemon.container.is_some()), "{hours} h");
        assert_eq!(world.engine().list_ours().await.unwrap(), []);

        let killed = world.launch("sleep 1000").await;
        world.running(&killed).await;
        daemon.with(|daemon| daemon.end(137, Some(9)));
        let by = "another client of the Docker daemon sent SIGKILL".to_owned();
        assert_eq!(world.ended(&killed).await.cause, EndCause::Outside { by }, "{hours} h");

        // Its container has the same id as all of a daemon's, and nobody has sent anything to this one.
        let daemon = FakeDaemon::start();
        daemon.with(|daemon| daemon.clock = SignedDuration::from_hours(hours));
        let world = World::new(&daemon.host(), config(&daemon.host()));
        let own = world.launch("exit 255").await;
        world.running(&own).await;
        daemon.with(|daemon| daemon.end(255, None));
        let ended = world.ended(&own).await;
        assert_eq!((ended.exit_code, ended.cause), (255, EndCause::Exited), "{hours} h");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_before_the_daemon_was_started_anew_keeps_its_code_and_claims_no_more_than_is_known() {
    let secs = SignedDuration::from_secs;
    let not_kept = "the Docker daemon was started anew since, and";
    // With how long after the end the daemon made its network, and what is said then; nothing where the run is lost.
    let table = [
        (255, Some(secs(-3600)), Some("")),
        (255, Some(secs(3600)), Some("")),
        (255, Some(secs(20)), None),
        (255, None, None),
        (255, Some(SignedDuration::from_millis(500)), None),
        (143, Some(secs(3600)), Some("does not remember who ended it")),
        (137, None, Some("does not remember who ended it")),
        (3, None, Some("")),
    ];
    for (exit_code, network_made_after, words) in table {
        let case = format!("{exit_code} {network_made_after:?}");
        let daemon = FakeDaemon::start();
        let mut world = world(&daemon);
        let handle = world.launch("true").await;
        let started = world.running(&handle).await;
        let ended_at = daemon.with(|daemon| {
            daemon.end(exit_code, None);
            daemon.forget();
            let at: Timestamp =
                daemon.container.as_ref().unwrap()["State"]["FinishedAt"].as_str().unwrap().parse().unwrap();
            daemon.network_made_at = network_made_after.map(|after| at + after);
            at
        });
        // The server was away as well.
        world.restart();
        match (world.over(&handle).await, words) {
            (Observation::Ended(ended), Some(words)) => {
                assert_eq!(
                    (ended.exit_code, ended.finished_at, ended.started.at),
                    (exit_code, ended_at, started.at),
                    "{case}"
                );
                match ended.cause {
                    EndCause::Exited => assert_eq!(words, "", "{case}"),
                    EndCause::Forgotten { why } => {
                        assert!(why.starts_with(not_kept) && !words.is_empty() && why.contains(words), "{case}: {why}");
                    }
                    other => panic!("{case}: {other:?}"),
                }
            }
            (Observation::Lost { reason, .. }, None) => assert!(reason.contains("exit code 255"), "{case}: {reason}"),
            (other, _) => panic!("{case}: {other:?}"),
        }
    }
}

/// A container that is thought to have printed this and to have ended.
async fn ended_with(daemon: &FakeDaemon, world: &World, output: Vec<(u8, Timestamp, String)>) -> Handle {
    let handle = world.launch("true").await;
    world.running(&handle).await;
    daemon.with(|daemon| {
        daemon.output = output;
        daemon.end(0, None);
    });
    world.ended(&handle).await;
    handle
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_hangs_after_the_end_is_not_waited_for() {
    let daemon = FakeDaemon::start();
    daemon.with(|daemon| daemon.ends_output = false);
    let world = world(&daemon);
    let now = Timestamp::now();
    let handle = ended_with(&daemon, &world, vec![(1, now, "one\n".into()), (2, now, "two\n".into())]).await;
    let output = timeout(SOON, world.output(&handle)).await.expect("the output ends");
    assert_eq!(output, b"one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_that_does_not_come_after_the_end_is_asked_for_again_and_not_thought_gone() {
    let daemon = FakeDaemon::start();
    let world = world(&daemon);
    let now = Timestamp::now();
    let handle = ended_with(&daemon, &world, vec![(1, now, "one\n".into()), (2, now, "two\n".into())]).await;
    daemon.with(|daemon| daemon.sends_output = false);
    let (mut log, mut position) = (Vec::new(), LogPosition::default());
    let waiting = world.pump(&handle, &mut log, &mut position, usize::MAX);
    let error = timeout(SOON, waiting).await.expect("nobody waits for long").unwrap_err();
    let EngineError::Unavailable(reason) = error else { panic!("it may still come: {error}") };
    assert!(reason.contains("answers, but does not send the output"), "{reason}");
    daemon.with(|daemon| daemon.sends_output = true);
    world.pump(&handle, &mut log, &mut position, usize::MAX).await.unwrap();
    assert_eq!(log, b"one\ntwo\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_unfinished_line_loses_and_repeats_nothing_wherever_it_is_torn() {
    let daemon = FakeDaemon::start();
    let mut world = world(&daemon);
    let begin = Timestamp::now();
    let at = |seconds: i64| begin + SignedDuration::from_secs(seconds);
    // A progress bar on standard error, whose parts all carry the time of the first, beside lines on standard output.
    let bar = |i: usize| format!("{i:016384}");
    let mut output = vec![(1, at(0), "begin\n".to_owned())];
    for i in 0..60 {
        output.push((2, at(1), bar(i)));
        output.push((1, at(2 + 10 * i64::try_from(i).unwrap()), format!("line {i}\n")));
    }
    output.push((2, at(1), "end of the bar".to_owned()));
    output.push((1, at(1000), "end\n".to_owned()));
    // The driver forgets the newline behind a line that it cut.
    let with_newline = |text: &String| if text == "end of the bar" { format!("{text}\n") } else { text.clone() };
    let expected: String = output.iter().map(|(_, _, text)| with_newline(text)).collect();
    let handle = ended_with(&daemon, &world, output).await;
    for piece in [1, 600_000] {
        let (mut log, mut position) = (Vec::new(), LogPosition::default());
        loop {
            let limit = log.len() + piece;
            match world.pump(&handle, &mut log, &mut position, limit).await {
                Ok(()) if log.len() < limit => break,
                Ok(()) | Err(EngineError::Unavailable(_)) => world.restart(),
                Err(error) => panic!("{error}"),
            }
        }
        let is_same = String::from_utf8(log).unwrap() == expected;
        assert!(is_same, "in pieces of {piece} bytes something is lost or repeated");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_does_not_answer_about_an_image_is_not_waited_for_long() {
    let daemon = FakeDaemon::start();
    daemon.with(|daemon| daemon.knows_images = false);
    let world = world(&daemon);
    let begin = Instant::now();
    world.engine().check(&world.spec("true").task).await.unwrap();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}
