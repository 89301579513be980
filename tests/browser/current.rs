//! Pages that are left open: each ends up whole and current, or says that it is not.

use std::fs;

use serde_json::json;

use crate::browser::Browser;
use crate::proxy::Way;

/// The last line of a log of so many is in the page, and the run is shown to have succeeded.
fn is_whole(lines: u64) -> String {
    format!("document.querySelector('#L{lines}') && document.querySelector('.pill.is-succeeded')")
}

const IS_STALE: &str = "document.getElementById('away')";

/// A run that writes 18 lines, and 101 in all once `gate` is there.
fn script(gate: &std::path::Path) -> String {
    format!("seq 18; until test -e {}; do sleep 0.05; done; seq 19 101", gate.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_windows_at_once_are_all_current() {
    Browser::visit(async |browser, server| {
        let gate = server.folder().join("gate");
        server.define("watched", &script(&gate));
        let runs = [server.launch("watched"), server.launch("watched"), server.launch("watched")];
        let task = server.wait_for(&runs[0], "RUNNING")["definition_id"].as_str().unwrap().to_owned();
        let mut pages = Vec::new();
        for run in &runs {
            pages.push((format!("/ui/runs/{run}/log"), is_whole(101)));
            pages.push((format!("/ui/runs/{run}"), is_whole(101)));
        }
        let list = "document.querySelectorAll('[data-key] .is-succeeded').length >= 3".to_owned();
        pages.push((format!("/ui/tasks/{task}"), list.clone()));
        pages.push(("/ui/runs".into(), list.clone()));
        pages.push(("/ui/runs?cluster=local".into(), list));
        pages.push(("/ui".into(), "document.querySelector('[data-key] .is-succeeded')".into()));
        let mut windows = Vec::new();
        for (number, (page, is_current)) in pages.iter().enumerate() {
            let window = if number == 0 { browser.window().await } else { browser.new_window().await };
            browser.open(page).await;
            browser.until("document.querySelector('.is-running')").await;
            assert_eq!(browser.value("document.visibilityState").await, "visible", "{page}");
            windows.push((window, is_current));
        }
        fs::write(&gate, "").unwrap();
        for (window, is_current) in windows {
            browser.switch_to(window).await;
            browser.until(is_current).await;
            browser.until("!document.getElementById('away')").await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_off_from_the_server_says_so_and_is_whole_when_it_is_back() {
    Browser::visit_through_a_proxy(async |browser, server, proxy| {
        for way in [Way::BadGateway, Way::OtherPage, Way::Cut, Way::Silent] {
            let gate = server.folder().join(format!("gate-{way:?}"));
            server.define(&format!("cut-{way:?}"), &script(&gate));
            let run = server.launch(&format!("cut-{way:?}"));
            let page = if way == Way::Cut { format!("/ui/runs/{run}") } else { format!("/ui/runs/{run}/log") };
            browser.open(&page).await;
            browser.until("document.querySelector('#L18') && document.querySelector('.pill.is-running')").await;
            browser.until("!document.getElementById('away')").await;
            proxy.set(way);
            // All that happens from here on happens unseen.
            fs::write(&gate, "").unwrap();
            server.wait_for(&run, "STOPPED");
            browser.until(IS_STALE).await;
            browser.until_shown("has not answered").await;
            assert_eq!(browser.value("document.querySelector('#L101')").await, json!(null), "{way:?}");
            proxy.set(Way::Open);
            browser.until(&is_whole(101)).await;
            browser.until("!document.getElementById('away')").await;
        }
        // That the server could not be reached is meant, but a browser notes it as an error.
        browser.forget_console().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_page_that_come_from_no_server_are_not_shown_as_if_they_did() {
    Browser::visit_through_a_proxy(async |browser, server, proxy| {
        let gate = server.folder().join("gate");
        server.define("list", &script(&gate));
        let run = server.launch("list");
        browser.open("/ui/runs").await;
        browser.until("document.querySelector('[data-key] .is-running')").await;
        for way in [Way::OtherPage, Way::BadGateway, Way::Silent] {
            proxy.set(way);
            browser.until(IS_STALE).await;
            assert_ne!(browser.value("document.querySelector('[data-key] .is-running')").await, json!(null), "{way:?}");
            proxy.set(Way::Open);
            browser.until("!document.getElementById('away')").await;
        }
        fs::write(&gate, "").unwrap();
        browser.until(&format!("document.querySelector('[data-key=\"{run}\"] .is-succeeded')")).await;
        browser.forget_console().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_shared_worker_each_window_asks_for_itself() {
    Browser::visit(async |browser, server| {
        let gate = server.folder().join("gate");
        server.define("alone", &script(&gate));
        let run = server.launch("alone");
        browser.before_each_page("delete window.SharedWorker").await;
        browser.open(&format!("/ui/runs/{run}")).await;
        browser.until("document.querySelector('#L18') && document.querySelector('.pill.is-running')").await;
        assert_eq!(browser.value("'SharedWorker' in window").await, false);
        fs::write(&gate, "").unwrap();
        browser.until(&is_whole(101)).await;
        browser.until("!document.getElementById('away')").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn durations_are_the_servers_also_where_the_browsers_clock_is_off() {
    Browser::visit(async |browser, server| {
        server.define("timed", "sleep 300");
        let run = server.launch("timed");
        server.wait_for(&run, "RUNNING");
        let ended = server.launch("timed");
        server.text(&["stop", &ended]);
        server.wait_for(&ended, "STOPPED");
        // The second one comes on top of the first: an hour behind, and then one ahead.
        for hours in [-1, 2] {
            browser
                .before_each_page(&format!(
                    "{{ const Real = Date; const shift = {hours} * 3600e3;
                        window.Date = class extends Real {{
                            constructor(...given) {{ if (given.length) super(...given); else super(Real.now() + shift); }}
                            static now() {{ return Real.now() + shift; }}
                        }}; }}"
                ))
                .await;
            browser.open(&format!("/ui/runs/{run}")).await;
            assert!(browser.value("Math.abs(Date.now() - performance.timeOrigin)").await.as_f64() > Some(3e6));
            let shown = "document.querySelector('#told h2').innerText";
            let first = browser.value(shown).await;
            // Until it was counted on by the page.
            browser.until(&format!("{shown} !== {first}")).await;
            browser.until(&format!("/running for ([1-9]\\d?(\\.\\d)? s|[1-4] min \\d+ s)$/.test({shown})")).await;
            let ages = "[...document.querySelectorAll('time')].every((time) => /^(just now|[1-9]\\d? s ago|[1-4] min ago)$/.test(time.innerText))";
            browser.until(ages).await;
            // A page on which nothing moves has times, too.
            browser.open(&format!("/ui/runs/{ended}")).await;
            browser.until(ages).await;
            browser.until("/s ago|min ago/.test(document.querySelector('#facts time').innerText)").await;
            browser.until(ages).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_an_earlier_version_is_loaded_anew_once_and_then_says_so() {
    Browser::visit(async |browser, server| {
        server.define("long", "sleep 300");
        let run = server.launch("long");
        server.wait_for(&run, "RUNNING");
        browser
            .before_each_page(
                "new MutationObserver((_, observer) => { \
                   if (!document.documentElement?.dataset.version) return; \
                   document.documentElement.dataset.version = 'earlier'; observer.disconnect(); \
                 }).observe(document, {childList: true, subtree: true})",
            )
            .await;
        browser.open(&format!("/ui/runs/{run}")).await;
        browser.until_shown("The server was updated after this page was opened.").await;
        assert_ne!(browser.value("sessionStorage.getItem('reloaded-for')").await, json!(null));
    })
    .await;
}
