//! The view of a log: led by keys, searched, copied, and shown as somebody wants it.

use std::fs;

use thirtyfour::prelude::Key;

use crate::browser::Browser;
use crate::program::Server;

/// The page of the log of a run that has written this.
fn log_of(server: &Server, alias: &str, script: &str) -> String {
    server.define(alias, script);
    let run = server.launch(alias);
    server.wait_for(&run, "STOPPED");
    format!("/ui/runs/{run}/log")
}

/// Whether a line is the first on the screen.
fn is_at_top(line: u64) -> String {
    format!(
        "(() => {{
            const box = document.querySelector('.log-view').getBoundingClientRect();
            const line = document.querySelector('#L{line}')?.getBoundingClientRect();
            return line && Math.abs(line.top - box.top) < 3;
        }})()"
    )
}

/// Whether a line is on the screen with all of its height.
fn is_in_sight(line: u64) -> String {
    format!(
        "(() => {{
            const box = document.querySelector('.log-view').getBoundingClientRect();
            const line = document.querySelector('#L{line}')?.getBoundingClientRect();
            return line && line.top >= box.top - 1 && line.bottom <= box.bottom + 1;
        }})()"
    )
}

async fn search(browser: &Browser, text: &str, told: &str) {
    browser.fill("[name=q]", text).await;
    browser.until(&format!("document.querySelector('[data-log-hits]').textContent === {told:?}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn home_and_end_lead_to_the_first_and_the_last_line_of_a_log_of_any_length() {
    Browser::visit(async |browser, server| {
        browser.open(&log_of(server, "long", "seq 600000")).await;
        browser.until(&is_in_sight(600_000)).await;
        browser.value("document.querySelector('.log-view').focus()").await;
        for (home, end) in [(Key::Home + "", Key::End + ""), (Key::Control + Key::Home, Key::Control + Key::End)] {
            // From somewhere in the middle, by somebody whose other hand is at the wheel.
            browser.value("document.querySelector('.log-view').scrollTop = 4000000").await;
            browser.until("document.querySelector('.line') && !document.querySelector('#L1, #L600000')").await;
            browser
                .value("document.querySelector('.log-view').dispatchEvent(new WheelEvent('wheel', {deltaY: 1}))")
                .await;
            browser.press(home).await;
            browser.until(&is_at_top(1)).await;
            browser.press(end).await;
            browser.until(&is_in_sight(600_000)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_in_a_log_that_grows_are_counted_so_far_and_all_of_them_at_its_end() {
    Browser::visit(async |browser, server| {
        let gate = server.folder().join("gate");
        server.define(
            "growing",
            &format!("echo hit; until test -e {}; do sleep 0.05; done; echo hit; echo hit", gate.display()),
        );
        let run = server.launch("growing");
        browser.open(&format!("/ui/runs/{run}/log")).await;
        browser.until(&is_in_sight(1)).await;
        search(browser, "miss", "No line holds it so far").await;
        search(browser, "hit", "1 of 1 so far").await;
        fs::write(&gate, "").unwrap();
        browser.until("document.querySelector('[data-log-hits]').textContent === '1 of 3'").await;
    })
    .await;
}
