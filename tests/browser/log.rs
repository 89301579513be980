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

/// Whether some of what is marked as found is on the screen.
const IS_MARK_IN_SIGHT: &str = "(() => {
    const box = document.querySelector('.log-view').getBoundingClientRect();
    return [...(CSS.highlights.get('log-hit') ?? [])].some((range) => {
        const text = range.getBoundingClientRect();
        return text.top >= box.top && text.bottom <= box.bottom && text.left >= box.left && text.right <= box.right;
    });
})()";

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
async fn a_hit_in_a_long_line_is_brought_into_sight_or_said_to_be_in_a_part_that_is_not_shown() {
    Browser::visit(async |browser, server| {
        let long = "head -c 10000 /dev/zero | tr '\\0' x; printf needle-near; head -c 30000 /dev/zero | tr '\\0' y; echo needle-far";
        let log = log_of(server, "wide", &format!("seq 100; {long}; seq 300"));
        let far = "1 of 1, in a part of line 101 that is not shown";
        for is_wrapped in [false, true] {
            browser.open(&log).await;
            browser.until(&is_in_sight(401)).await;
            assert_eq!(browser.value("document.querySelector('.is-wrapped') !== null").await, is_wrapped);
            search(browser, "needle-near", "1 of 1").await;
            browser.until(IS_MARK_IN_SIGHT).await;
            search(browser, "needle-far", far).await;
            browser.until(&is_at_top(101)).await;
            // How it is shown is remembered.
            browser.click("[data-log-wrap]").await;
        }
        browser.open(&log).await;
        browser.until("document.querySelector('[data-log-wrap]').ariaPressed === 'false'").await;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_is_what_is_marked_or_the_log_or_of_a_long_one_the_screen() {
    Browser::visit(async |browser, server| {
        let copied = async |told: &str| {
            browser.value("navigator.clipboard.writeText = async (text) => void (window.copied = text)").await;
            browser.click("[data-log-copy]").await;
            browser.until(&format!("document.querySelector('[data-log-copied]').textContent.match(/{told}/)")).await;
            browser.value("window.copied").await.as_str().unwrap().to_owned()
        };
        browser.open(&log_of(server, "short", "seq 400")).await;
        browser.until(&is_in_sight(400)).await;
        let whole: String = (1..=400).map(|number| format!("{number}\n")).collect();
        assert_eq!(copied("^Copied 400 lines$").await, whole);
        browser.click("#L398 .n").await;
        let shift_click = "new MouseEvent('click', {shiftKey: true, bubbles: true, cancelable: true})";
        browser.value(&format!("document.querySelector('#L400 .n').dispatchEvent({shift_click})")).await;
        assert_eq!(copied("^Copied 3 lines$").await, "398\n399\n400\n");
        browser.open(&log_of(server, "long", "seq 9000")).await;
        browser.until(&is_in_sight(9000)).await;
        assert!(copied("^Copied \\d+ lines on the screen$").await.ends_with("\n8999\n9000\n"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_script_a_short_log_begins_at_the_top_and_a_long_one_is_seen_at_its_end() {
    Browser::visit(async |browser, server| {
        browser.block("/log.js").await;
        browser.open(&log_of(server, "short", "seq 3")).await;
        assert_eq!(browser.value(&is_at_top(1)).await, true);
        browser.open(&log_of(server, "long", "seq 190")).await;
        assert_eq!(browser.value(&is_in_sight(190)).await, true);
        // The script that is missing is an error of the console.
        browser.forget_console().await;
    })
    .await;
}
