//! Clients that speak no HTTP, speak it wrongly, or say nothing: they hurt nobody but themselves.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::program::{Server, Setup, until};
use crate::world::{Wire, get, memory_kb, request};

/// A client that behaves is answered at once.
fn assert_serves(server: &Server) {
    let begun = Instant::now();
    assert_eq!(get(server, "/api/v6/health").status(), 200);
    assert_eq!(get(server, "/api/v1/history").status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

fn assert_unhurt(server: &mut Server) {
    assert_serves(server);
    assert!(!server.said().contains("panicked"), "{}", server.said());
    assert_eq!(get(server, "/api/v1/task").json()["total"], 0, "something was stored");
    assert!(server.stop().success());
}

#[test]
fn clients_that_say_nothing_or_little_do_not_hold_up_others() {
    let mut server = Server::start();
    let _crowd: Vec<Wire> = (0..210)
        .map(|i| {
            let mut client = Wire::open(&server);
            client.say(
                [
                    "",
                    "G",
                    "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
                    "POST /api/v1/task HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
                ][i % 4],
            );
            client
        })
        .collect();
    assert_serves(&server);
    let mut slow = Wire::open(&server);
    for byte in b"GET /api/v6/health HTTP/1.1\r\nConnection: close\r\nHost: x\r\n\r\n" {
        slow.say([*byte]);
        assert_serves(&server);
    }
    assert_eq!(slow.hear().status(), 200, "slow is not wrong");
    // Told to stop it does not wait for them for long; their requests never began, or never end.
    let begun = Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn what_is_no_request_is_refused_and_nothing_comes_of_it() {
    let mut server = Server::start();
    let long = |bytes: usize| "a".repeat(bytes);
    let many_headers = "X-Some: y\r\n".repeat(200);
    let task = r#"{"alias":"s","group_name":"g","image":"i","command":"c"}"#;
    let smuggled = format!("POST /api/v1/task HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{task}", task.len());
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("nothing at all", vec![]),
        ("zeros", vec![0; 4096]),
        ("every byte", (0..=255).cycle().take(10_000).collect()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(40)),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec()),
        ("a mail", b"HELO x\r\nMAIL FROM:<x@y>\r\n\r\n".to_vec()),
        ("an old request", b"GET /\r\n\r\n".to_vec()),
        ("a future version", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n".to_vec()),
        ("no host but spaces", b"GET  /  HTTP/1.1\r\n\r\n".to_vec()),
        ("a method of rubbish", b"G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a header of rubbish", b"GET / HTTP/1.1\r\nHo\x00st: x\r\n\r\n".to_vec()),
        ("a header without a colon", b"GET / HTTP/1.1\r\nHost\r\n\r\n".to_vec()),
        ("a folded header", b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n".to_vec()),
        ("a negative length", b"POST /api/v1/task HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_vec()),
        ("a length beyond all numbers", b"POST /api/v1/task HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec()),
        ("two lengths", format!("POST /api/v1/task HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 500\r\n\r\nhello{smuggled}").into()),
        ("a length and chunks", format!("POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}").into()),
        ("chunks that are none", format!("POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n{smuggled}").into()),
        ("a chunk beyond all numbers", b"POST /api/v1/task HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n".to_vec()),
        ("a chunk that is no number", b"POST /api/v1/task HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nxx\r\n0\r\n\r\n".to_vec()),
        ("a body that breaks off", b"POST /api/v1/task HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"alias\"".to_vec()),
        ("a huge header", format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", long(2 << 20)).into()),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: x\r\n{many_headers}\r\n").into()),
        ("a huge address", format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", long(1 << 20)).into()),
        ("a huge query", format!("GET /api/v1/history?alias={} HTTP/1.1\r\nHost: x\r\n\r\n", long(70_000)).into()),
        ("a huge body that is told", b"POST /api/v1/task HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{".to_vec()),
        ("an address that is none", b"GET http://[::bad/%zz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a tunnel", b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in table {
        let mut client = Wire::open(&server);
        client.say(&bytes);
        // We say no more, and listen.
        let _ = client.0.shutdown(std::net::Shutdown::Write);
        let answer = client.hear();
        let statuses: Vec<_> = answer.0.split("HTTP/1.1 ").skip(1).map(|one| one[..3].to_owned()).collect();
        assert!(statuses.iter().all(|status| status.starts_with(['3', '4'])), "{what}: {answer:?}");
        assert!(answer.0.is_empty() || !statuses.is_empty(), "{what}: {answer:?}");
    }
    assert_unhurt(&mut server);
}

#[test]
fn an_address_as_long_as_it_may_be_is_answered_like_any_other() {
    let mut server = Server::start();
    let long = "a".repeat(30_000);
    for path in [format!("/{long}"), format!("/api/v1/history/{long}"), format!("/api/v1/{long}/logs")] {
        let answer = get(&server, &path);
        assert_eq!(answer.status(), 404, "{path}");
        assert!(!answer.error().is_empty());
    }
    assert_eq!(get(&server, &format!("/api/v1/task?_={long}")).json()["total"], 0);
    assert_eq!(get(&server, &format!("/api/v1/task?alias={long}")).status(), 400);
    assert_eq!(request(&server, "BREW", "/api/v1/task", "").status(), 405);
    assert_unhurt(&mut server);
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_an_answer_hurts_nobody() {
    let wrapper = ["sh", "-c", "ulimit -n 100; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let server = Server::with(Setup { wrapper, ..Setup::default() });
    server.define("chatty", "seq 1000000");
    let run_id = server.launch("chatty");
    server.wait_for(&run_id, "STOPPED");
    // More of them, one after the other, than the server may open files.
    for i in 0..150 {
        let path = if i % 2 == 0 { "logs?raw_text=true" } else { "logs/stream" };
        let mut client = Wire::open(&server);
        client.say(format!("GET /api/v1/{run_id}/{path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        client.hear_until("200 OK");
    }
    assert_serves(&server);
    assert!(!server.said().contains("panicked"), "{}", server.said());
}

#[test]
fn a_refusal_can_be_read_by_a_client_that_still_sends() {
    let mut server = Server::start();
    let body = "x".repeat(8 << 20);
    for (path, status) in
        [("/api/v1/task", 413), ("/api/v1/nowhere", 404), ("/ui/tasks/new", 403), ("/api/v1/history", 405)]
    {
        // As Python's client does: all is sent before anything is read.
        let mut client = Wire::open(&server);
        client
            .0
            .write_all(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes())
            .unwrap();
        client.0.write_all(body.as_bytes()).unwrap();
        let answer = client.hear_until("\r\n\r\n");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
    // Nothing is read of a body whose client waits to be told to go on.
    let mut client = Wire::open(&server);
    client.say("POST /api/v1/task HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n");
    assert!(client.hear_until("\"error\"").starts_with("HTTP/1.1 413 "));
    // One that was told to go on can send all of it.
    let mut client = Wire::open(&server);
    client.say("POST /api/v1/task HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(client.hear_until("\r\n\r\n").starts_with("HTTP/1.1 100 "));
    for _ in 0..8 {
        client.0.write_all(format!("100000\r\n{}\r\n", "x".repeat(1 << 20)).as_bytes()).unwrap();
    }
    client.0.write_all(b"0\r\n\r\n").unwrap();
    assert!(client.hear_until("\"error\"").starts_with("HTTP/1.1 413 "));
    assert_unhurt(&mut server);
}

#[test]
fn bodies_of_which_the_end_never_comes_hold_little_and_small_ones_are_taken_meanwhile() {
    let server = Server::start();
    let before = memory_kb(&server, "VmRSS");
    for (path, bytes, more) in
        [("/api/v1/task", 1_000_000, ""), ("/ui/tasks/new", 4_000_000, "Sec-Fetch-Site: same-origin\r\n")]
    {
        let half_sent: Vec<_> = (0..120)
            .map(|_| {
                let client = Wire::open(&server);
                let mut stream = client.0.try_clone().unwrap();
                let sending = std::thread::spawn(move || {
                    let head =
                        format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {bytes}\r\n\r\n");
                    // One that is not read to its end may be cut off.
                    let _ =
                        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'x'; bytes - 1000]));
                });
                (client, sending)
            })
            .collect();
        crate::program::until("some have no turn", || {
            half_sent.iter().any(|(client, _)| client.0.peek(&mut [0]).is_ok_and(|read| read == 1))
        });
        let held = memory_kb(&server, "VmRSS").saturating_sub(before) >> 10;
        eprintln!("{path}: {held} MiB for 120 bodies of which the end never comes");
        assert!(held < 160, "{path}: {held} MiB");
        assert_serves(&server);
        let small = serde_json::json!({"group_name": "g", "image": "i", "command": "true"}).to_string();
        assert_eq!(request(&server, "POST", "/api/v1/task", &small).status(), 200);
        for (client, sending) in half_sent {
            drop(client.0.shutdown(std::net::Shutdown::Both));
            sending.join().unwrap();
        }
    }
}

#[test]
fn heads_have_a_bound() {
    let mut server = Server::start();
    let mut client = Wire::open(&server);
    client.say(format!("GET /api/v1/task HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "a".repeat(200_000)));
    let answer = client.hear_until("\r\n");
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_unhurt(&mut server);
}

#[test]
fn followers_leave_room_and_health_is_answered_even_without_any() {
    let wrapper = ["sh", "-c", "ulimit -n 128; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let server = Server::with(Setup { wrapper, ..Setup::default() });
    server.define("slow", "sleep 600");
    let run_id = server.launch("slow");
    server.wait_for(&run_id, "RUNNING");
    // 64 connections, of which 32 may be streams, and one address has half of each.
    let follow = format!("GET /api/v1/{run_id}/logs/stream HTTP/1.1\r\nHost: x\r\n\r\n");
    let followers: Vec<Wire> = (0..16).map(|_| Wire::open(&server)).collect();
    let mut followers: Vec<Wire> = followers
        .into_iter()
        .map(|mut client| {
            client.say(&follow).hear_until("200 OK");
            client
        })
        .collect();
    let mut refused = Wire::open(&server);
    let answer = refused.say(&follow).hear_until("\"error\"");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.to_lowercase().contains("retry-after: "), "{answer}");
    drop(refused);
    assert_serves(&server);

    // Every place of this address is taken.
    let idle: Vec<Wire> = (0..40).map(|_| Wire::open(&server)).collect();
    for path in ["/health/live", "/health/ready", "/api/v6/health"] {
        assert_eq!(get(&server, path).status(), 200, "{path}");
    }
    // The server may still be letting go of an earlier connection.
    until("every place is taken", || get(&server, "/api/v1/task").status() == 503);
    let refused = get(&server, "/api/v1/task");
    assert_eq!(refused.status(), 503);
    for header in ["retry-after", "x-frame-options", "x-content-type-options", "cache-control", "x-request-id"] {
        assert!(refused.0.contains(&format!("\r\n{header}: ")), "{header}: {refused:?}");
    }
    // As Python's client does: all is sent before anything is read.
    let mut sending = Wire::open(&server);
    sending.0.write_all(b"POST /api/v1/task HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n").unwrap();
    sending.0.write_all(&vec![b'x'; 900_000]).unwrap();
    let answer = sending.hear_until("\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    // Bodies that never come hold the places of the reserve for a moment only.
    let bodiless: Vec<Wire> = (0..4)
        .map(|_| {
            let mut client = Wire::open(&server);
            client.say("GET /api/v6/health HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
            client
        })
        .collect();
    for mut client in bodiless {
        assert!(client.hear_until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(get(&server, "/health/live").status(), 200);
    drop(idle);
    followers.clear();
    crate::program::until("there is room again", || get(&server, "/api/v1/task").status() == 200);
    server.text(&["stop", &run_id]);
}

/// How many files the server may open from now on.
fn limit_files(server: &Server, most: u64) {
    let pid = server.pid().cast_signed();
    let mut limit = nix::libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it reads a limit of another process of ours into our own place.
    assert_eq!(unsafe { nix::libc::prlimit(pid, nix::libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit) }, 0);
    limit.rlim_cur = most.min(limit.rlim_max);
    // SAFETY: the same, from our place.
    assert_eq!(unsafe { nix::libc::prlimit(pid, nix::libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut()) }, 0);
}

#[test]
fn health_is_answered_when_all_files_are_used_up_by_something_else() {
    let mut server = Server::start();
    let files = || -> Vec<(u64, String)> {
        let folder = format!("/proc/{}/fd", server.pid());
        let entries = std::fs::read_dir(folder).unwrap().filter_map(Result::ok);
        let link =
            |entry: &std::fs::DirEntry| std::fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        entries.map(|entry| (entry.file_name().to_str().unwrap().parse().unwrap(), link(&entry))).collect()
    };
    assert_serves(&server);
    // Among these are those that are kept to be given up.
    let spares: Vec<_> = files().into_iter().filter(|(number, link)| *number > 2 && link == "/dev/null").collect();
    assert!(spares.len() >= 4, "{:?}", files());
    let most = spares.iter().map(|(number, _)| number + 1).max().unwrap();
    limit_files(&server, most);
    // What is still free below the limit goes to connections that say nothing.
    let free =
        |files: &[(u64, String)]| (0..most).filter(|number| files.iter().all(|(open, _)| open != number)).count();
    let mut idle = Vec::new();
    while free(&files()) > 0 {
        let before = free(&files());
        idle.push(Wire::open(&server));
        crate::program::until("the connection is accepted", || free(&files()) < before);
    }
    // More often than there are spares, and whatever is asked for, one after the other.
    for _ in 0..5 {
        for path in ["/health/live", "/health/ready", "/api/v6/health", "/api/v1/task"] {
            assert_eq!(get(&server, path).status(), 200, "{path}");
        }
    }
    assert!(server.said().contains("no file is left for further connections"), "{}", server.said());
    // Connections that say nothing take what is kept for a while, and do not keep it.
    idle.extend((0..6).map(|_| Wire::open(&server)));
    assert_eq!(get(&server, "/health/live").status(), 200);
    limit_files(&server, u64::MAX);
    crate::program::until("there are files again", || get(&server, "/api/v1/task").status() == 200);
    drop(idle);
    assert_unhurt(&mut server);
}

#[test]
fn readers_that_take_nothing_hold_little_whatever_they_asked_for() {
    let server = Server::start();
    // Each byte is six in JSON: a piece of the log is an answer of 6 MiB.
    server.define("controls", "head -c 4194304 /dev/zero | tr '\\0' '\\001'");
    let run_id = server.launch("controls");
    server.wait_for(&run_id, "STOPPED");
    let value = "x".repeat(120_000);
    let env: Vec<_> = (0..4).map(|i| serde_json::json!({"name": format!("V{i}"), "value": value})).collect();
    let body = serde_json::json!({"group_name": "g", "image": "i", "command": "true", "env": env});
    let definition = request(&server, "POST", "/api/v1/task", &body.to_string());
    let definition = definition.json()["definition_id"].as_str().unwrap().to_owned();
    let whole = get(&server, &format!("/api/v1/{run_id}/logs")).json();
    assert_eq!(whole["log"].as_str().unwrap().len(), 1 << 20);

    let before = memory_kb(&server, "VmRSS");
    for path in [
        format!("/api/v1/{run_id}/logs"),
        format!("/api/v1/{run_id}/logs?raw_text=true"),
        format!("/api/v1/{run_id}/logs/stream"),
        format!("/api/v1/task/{definition}"),
        format!("/ui/runs/{run_id}/log"),
        "/api/openapi.json".to_owned(),
    ] {
        let slow: Vec<Wire> = (0..100)
            .map(|_| {
                let mut client = Wire::open(&server);
                client.say(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
                client
            })
            .collect();
        // Some were answered, or told to come again; others have their turn later.
        crate::program::until("what was asked for is made", || {
            let is_made = |client: &Wire| client.0.peek(&mut [0]).is_ok_and(|read| read == 1);
            slow.iter().filter(|client| is_made(client)).count() >= 5
        });
        assert_serves(&server);
        let more = memory_kb(&server, "VmRSS").saturating_sub(before) >> 10;
        eprintln!("{path}: {more} MiB for 100 readers");
        assert!(more < 160, "{path}: {more} MiB");
    }
    crate::program::until("whoever reads gets its answer", || {
        get(&server, &format!("/api/v1/{run_id}/logs")).status() == 200
    });
}
