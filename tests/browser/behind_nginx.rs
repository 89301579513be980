//! A server below a path of a proxy: pages, streams, the API and the command line, whether the proxy hands the path on or
//! takes it away.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::json;
use thirtyfour::prelude::Key;

use crate::browser::Browser;
use crate::journey;
use crate::nginx::{Nginx, Way};
use crate::program::{Going, Said, Server, until};

async fn visit(way: Way, visit: impl AsyncFnOnce(&Browser, &mut Server)) {
    let Some((nginx, mut server)) = Nginx::before_a_server(way) else { return };
    Browser::visit_at(&nginx.url, &mut server, visit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_journey_goes_on_below_a_path_that_the_proxy_takes_away() {
    visit(Way::Stripped, journey::define_launch_watch_edit_and_delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_journey_goes_on_below_a_path_that_the_proxy_hands_on() {
    visit(Way::Whole, journey::define_launch_watch_edit_and_delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_leads_everywhere_below_a_path() {
    visit(Way::Stripped, journey::go_by_the_keyboard_alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moves_a_page_is_found_below_a_path() {
    for way in [Way::Stripped, Way::Whole] {
        visit(way, async |browser, server| {
            server.define("moving", "sleep 300");
            // From the path itself to the first page.
            browser.open("/").await;
            browser.until("location.pathname === '/flotilla/ui' && document.readyState === 'complete'").await;
            // News come through the worker that all windows share.
            let asked = "performance.getEntriesByType('resource').map(({ name }) => new URL(name).pathname)";
            browser.until(&format!("{asked}.some((path) => path.startsWith('/flotilla/ui/assets/'))")).await;
            let run = server.launch("moving");
            browser.until(&format!("document.querySelector('#running [data-key=\"{run}\"]')")).await;
            assert_eq!(browser.value(&format!("{asked}.every((path) => path.startsWith('/flotilla/'))")).await, true);
            let by_window = format!("{asked}.some((path) => path.endsWith('/ui/changes'))");
            assert_eq!(browser.value(&by_window).await, false, "each window asks by itself");
            // Runs and pages by the palette.
            browser.press(Key::Control + "k").await;
            browser.until("document.activeElement.matches('dialog.palette input')").await;
            browser.press("new task").await;
            browser.until("document.querySelector('[aria-selected=true]')?.textContent.startsWith('New task')").await;
            browser.press(Key::Enter).await;
            browser.until("location.pathname === '/flotilla/ui/tasks/new'").await;
            browser.open(&format!("/ui/runs/{run}")).await;
            browser.until("document.querySelector('#look .is-running')").await;
            // The description, and what it offers to try.
            browser.open("/docs").await;
            browser.until("location.pathname === '/flotilla/api/docs/'").await;
            browser.until_shown("Define tasks once").await;
            browser.until("document.querySelector('#operations-tasks-list_definitions, [id^=operations-tasks]')").await;
            let document = browser.called("async () => (await fetch('../openapi.json')).json()").await;
            assert_eq!(document["value"]["servers"], json!([{"url": "/flotilla"}]));
            let shown = browser.value("document.querySelector('.servers option, .servers select')?.value").await;
            assert_eq!(shown, "/flotilla");
        })
        .await;
    }
}

/// The server's answer to what a program sends to `nginx`, raw.
fn ask(nginx: &Nginx, path: &str) -> BufReader<TcpStream> {
    let address = nginx.url.trim_start_matches("http://").split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /flotilla{path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: gzip\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(crate::program::PATIENCE)).unwrap();
    BufReader::new(stream)
}

#[test]
fn a_followed_log_comes_through_line_by_line_and_with_signs_of_life() {
    let Some((nginx, server)) = Nginx::before_a_server(Way::Stripped) else { return };
    let gate = server.folder().join("gate");
    server.define("slow", &format!("echo first; until test -e {}; do sleep 0.1; done; echo last", gate.display()));
    let run = server.launch("slow");
    let mut follow = Going::start(server.command(&["logs", "--follow", &run]).env("FLOTILLA_SERVER", &nginx.url));
    // It comes while the run goes on, so nothing held it back.
    assert_eq!(follow.next_line(), "first\n");

    // While nothing is written, a proxy that gives up after a minute without a byte hears of the stream more often.
    let mut lines = ask(&nginx, &format!("/api/v1/{run}/logs/stream")).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == ":"), "a comment is a sign of life");
    assert_eq!(server.json(&["show", &run])["status"], "RUNNING");

    std::fs::write(&gate, "").unwrap();
    let said = follow.end();
    assert_eq!((said.code, said.out.as_str()), (0, "last\n"), "{said:?}");
}

#[test]
fn the_command_line_and_programs_work_below_a_path() {
    for way in [Way::Stripped, Way::Whole] {
        let Some((nginx, server)) = Nginx::before_a_server(way) else { return };
        for address in [nginx.url.clone(), format!("{}/", nginx.url)] {
            let output = |arguments: &[&str]| Said::of(server.command(arguments).env("FLOTILLA_SERVER", &address));
            let text = |arguments: &[&str]| {
                let said = output(arguments);
                assert_eq!(said.code, 0, "{way:?} {address} {arguments:?}: {said:?}");
                said.out
            };
            let file = server.folder().join("below.json");
            let definition =
                json!({"alias": "below", "group_name": "tests", "image": "none", "command": "echo below; sleep 300"});
            std::fs::write(&file, definition.to_string()).unwrap();
            text(&["define", "-f", file.to_str().unwrap()]);
            let run = text(&["run", "below", "-q"]).trim().to_owned();
            until("the log is there", || text(&["logs", &run]).contains("below"));
            assert!(text(&["ps"]).contains("below"));
            text(&["stop", &run]);
            server.wait_for(&run, "STOPPED");
            assert!(text(&["clusters"]).contains("local"));
            assert_eq!(output(&["show", "nothing"]).code, server.output(&["show", "nothing"]).code);
        }
        if way == Way::Whole {
            // A name of any kind; nginx decodes the slash where it takes the path away.
            let definition = json!({"alias": "be/l%w", "group_name": "tests", "image": "none", "command": "exit 0"});
            let file = server.folder().join("slash.json");
            std::fs::write(&file, definition.to_string()).unwrap();
            server.text(&["define", "-f", file.to_str().unwrap()]);
            let said = Said::of(server.command(&["run", "be/l%w", "--follow"]).env("FLOTILLA_SERVER", &nginx.url));
            assert_eq!(said.code, 0, "{said:?}");
        }
        // Whatever leads on does so below the path.
        for (path, expected) in [
            ("/", "/flotilla/ui"),
            ("/ui/", "/flotilla/ui"),
            ("/docs", "/flotilla/api/docs/"),
            ("/api/docs", "/flotilla/api/docs/"),
        ] {
            let mut answer = ask(&nginx, path);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert_ne!(answer.read_line(&mut head).unwrap(), 0, "{head}");
            }
            let location =
                head.lines().find_map(|line| line.strip_prefix("Location: ").or(line.strip_prefix("location: ")));
            let location = location.unwrap_or_else(|| panic!("{path}: {head}"));
            assert!(
                location == expected || location == format!("{}{}", nginx.url.trim_end_matches("/flotilla"), expected),
                "{path}: {location}"
            );
        }
    }
}

#[test]
fn a_body_that_the_proxy_refuses_is_told_as_such() {
    let Some((nginx, server)) = Nginx::before_a_server(Way::Whole) else { return };
    let file = server.folder().join("large.json");
    let definition = json!({"alias": "large", "group_name": "tests", "image": "none", "command": "x".repeat(2 << 20)});
    std::fs::write(&file, definition.to_string()).unwrap();
    let said = Said::of(server.command(&["define", "-f", file.to_str().unwrap()]).env("FLOTILLA_SERVER", &nginx.url));
    assert_ne!(said.code, 0);
    assert!(said.err.contains("413"), "{said:?}");
}
