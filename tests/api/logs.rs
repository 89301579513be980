//! Logs: read piece by piece, downloaded, followed.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::on_every_engine;
use crate::world::{Options, WAIT, World, text};

/// Reads a log to its present end, token by token.
async fn read_all(world: &World, run_id: &str, from: &str) -> (String, String) {
    let (mut log, mut token) = (String::new(), from.to_owned());
    loop {
        let query = if token.is_empty() { String::new() } else { format!("?last_seen={token}") };
        let piece = world.get(&format!("/api/v1/{run_id}/logs{query}")).await.ok();
        if piece["log"] == "" {
            return (log, text(&piece["last_seen"]));
        }
        log.push_str(&text(&piece["log"]));
        token = text(&piece["last_seen"]);
    }
}

/// The events of a stream that has ended.
fn events(body: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(body).unwrap();
    let field = |block: &str, name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim_start);
        lines.collect::<Vec<_>>().join("\n")
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data:"));
    blocks.map(|block| (field(block, "event:"), field(block, "data:"))).collect()
}

fn small_pieces() -> Options {
    let limits = flotilla::http::Limits { log_bytes: 7, ..Options::default().limits };
    Options { limits, ..Options::default() }
}

fn small_logs() -> Options {
    Options { log_cap_bytes: 5, ..Options::default() }
}

fn short_retention() -> Options {
    Options { log_retention: Some(std::time::Duration::from_hours(1)), ..Options::default() }
}

on_every_engine! {
    async fn a_log_is_read_once_and_only_what_is_new_after_that(world: World) {
        let run_id = world.run(&format!("echo one; {WAIT}; echo two; {WAIT}; echo 'drei €'; {WAIT}; echo four")).await;
        assert_eq!(world.get(&format!("/api/v1/{run_id}/logs")).await.ok()["log"], "");
        let mut token = String::new();
        for expected in ["one\n", "two\n", "drei €\n"] {
            let (log, next) = world
                .stepping("there is something new", async || {
                    Some(read_all(&world, &run_id, &token).await).filter(|(log, _)| !log.is_empty())
                })
                .await;
            assert_eq!(log, expected);
            let again = world.get(&format!("/api/v6/{run_id}/logs?last_seen={next}")).await.ok();
            assert_eq!(again, json!({"log": "", "last_seen": next}));
            token = next;
            world.go_on(&run_id).await;
        }
        world.finish(&run_id).await;
        // Long after it ended, and through another way in.
        let whole = world.get(&format!("/v1/{run_id}/logs")).await.ok();
        assert_eq!(whole["log"], "one\ntwo\ndrei €\nfour\n");
        let rest = world.get(&format!("/v1/{run_id}/logs?last_seen={token}")).await.ok();
        assert_eq!(rest["log"], "four\n");
    }

    async fn a_stream_gives_everything_and_closes_when_the_run_has_stopped(world: World) {
        let run_id = world.run(&format!("echo one; {WAIT}; echo two")).await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        let request = Request::get(format!("/api/v1/{run_id}/logs/stream")).body(Body::empty()).unwrap();
        let answer = world.request(request).await;
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let reading = tokio::spawn(async move { answer.into_body().collect().await.unwrap().to_bytes() });
        world.go_on(&run_id).await;
        world.finish(&run_id).await;
        let body = tokio::time::timeout(std::time::Duration::from_secs(20), reading).await.expect("the stream closes").unwrap();
        let events = events(&body);
        let pieces: Vec<Value> = events.iter().filter(|(kind, _)| kind.is_empty()).map(|(_, data)| serde_json::from_str(data).unwrap()).collect();
        let log: String = pieces.iter().map(|piece| text(&piece["log"])).collect();
        assert_eq!(log, "one\ntwo\n");
        assert_eq!(events.last().map(|(kind, _)| kind.as_str()), Some("end"));

        // Another client goes on from the middle, in the way browsers do.
        let request = Request::get(format!("/api/v1/{run_id}/logs/stream")).header("last-event-id", "f/1/4").body(Body::empty()).unwrap();
        let body = world.request(request).await.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("\"log\":\"two\\n\""), "{body:?}");
        assert!(!String::from_utf8_lossy(&body).contains("one"), "{body:?}");
    }

    async fn the_stream_of_a_run_that_never_ran_ends(world: World) {
        let run_id = world.run_refused().await;
        world.finish(&run_id).await;
        let answer = world.get(&format!("/api/v1/{run_id}/logs/stream")).await;
        assert_eq!(events(&answer.bytes), [("end".to_owned(), "{}".to_owned())]);
    }

    async fn a_token_that_is_not_ours_is_refused(world: World) {
        let run_id = world.run("echo one").await;
        world.step_until(&run_id, |run| run["status"] == "STOPPED").await;
        world.finish(&run_id).await;
        for token in ["x", "f/32797019482293329766487489112145098696112137148578922496", "f/1/5", "f/2/0", "f/0/0", "f/1/-1"] {
            for path in ["logs", "logs/stream"] {
                let error = world.get(&format!("/api/v1/{run_id}/{path}?last_seen={token}")).await.refused(400);
                assert!(error.contains("`last_seen`") && error.contains(token), "{error}");
            }
        }
        let error = world.get(&format!("/api/v1/{run_id}/logs?raw_text=maybe")).await.refused(400);
        assert!(error.contains("`raw_text` must be true or false, not \"maybe\""), "{error}");
    }

    async fn the_raw_log_is_plain_text(world: World) {
        let run_id = world.run("echo one; echo '<b>two</b>'").await;
        world.finish(&run_id).await;
        let answer = world.get(&format!("/api/v1/{run_id}/logs?raw_text=true")).await;
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(answer.bytes, b"one\n<b>two</b>\n");

        // As browsers ask.
        let request = Request::get(format!("/api/v1/{run_id}/logs?raw_text=true")).header("accept-encoding", "gzip");
        let answer = world.request(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers()["content-encoding"], "gzip");
        let compressed = answer.into_body().collect().await.expect("it is whole").to_bytes();
        let mut log = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut log).unwrap();
        assert_eq!(log, "one\n<b>two</b>\n");
    }

    async fn a_stream_ends_when_the_server_stops(world: World) {
        let run_id = world.run("echo one; sleep 100").await;
        world.step_until(&run_id, |run| run["status"] == "RUNNING").await;
        let request = Request::get(format!("/api/v1/{run_id}/logs/stream")).body(Body::empty()).unwrap();
        let answer = world.request(request).await;
        world.stop.cancel();
        let ending = tokio::time::timeout(std::time::Duration::from_secs(20), answer.into_body().collect());
        ending.await.expect("the stream ends").unwrap();
    }

    async fn an_answer_is_cut_to_its_size_but_never_within_a_character(world: World = small_pieces()) {
        let run_id = world.run("echo ääääää€€€€x").await;
        world.finish(&run_id).await;
        let piece = world.get(&format!("/api/v1/{run_id}/logs")).await.ok();
        assert_eq!(piece["log"], "äää");
        let (log, _) = read_all(&world, &run_id, "").await;
        assert_eq!(log, "ääääää€€€€x\n");
    }

    async fn output_beyond_the_cap_is_cut_and_the_log_says_so(world: World = small_logs()) {
        let run_id = world.run("echo 123456789").await;
        world.finish(&run_id).await;
        let (log, _) = read_all(&world, &run_id, "").await;
        assert!(log.starts_with("12345\n[flotilla: the log reached its cap of 5 bytes"), "{log}");
        assert!(log.ends_with("[flotilla: 5 bytes of output were not kept]\n"), "{log}");
    }
}

mod scripted {
    use super::*;

    crate::on_fake_engine! {
        async fn an_old_log_is_removed_and_its_run_stays(world: World = short_retention()) {
            let old = world.run("echo old").await;
            world.finish(&old).await;
            let (_, token) = read_all(&world, &old, "").await;
            world.pass(jiff::SignedDuration::from_secs(1800)).await;
            let young = world.run("echo young").await;
            world.finish(&young).await;
            world.pass(jiff::SignedDuration::from_secs(1801)).await;
            assert_eq!(world.global.prune_logs().await.unwrap(), 4);
            assert_eq!(world.global.prune_logs().await.unwrap(), 0);
            assert_eq!(read_all(&world, &old, "").await.0, "");
            assert_eq!(read_all(&world, &young, "").await.0, "young\n");
            // A token from before reads nothing, and is not refused.
            assert_eq!(read_all(&world, &old, &token).await, (String::new(), token));
            assert_eq!(world.history(&old).await["outcome"], "succeeded");
        }
    }
}
