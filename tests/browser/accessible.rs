//! Pages that everybody can read and operate: axe finds nothing serious, light and dark, on a phone and on a desk; and
//! no page is wider than its window, however wide that is.

use std::path::PathBuf;

use crate::browser::{Browser, View};
use crate::program::Server;
use crate::support;

const VIEWS: [View; 4] = [
    View { width: 1280, is_dark: false },
    View { width: 1280, is_dark: true },
    View { width: 400, is_dark: false },
    View { width: 400, is_dark: true },
];

/// From the narrowest that WCAG's reflow asks for, with the places between where layouts change.
const WIDTHS: [u32; 6] = [320, 390, 640, 768, 1024, 1440];

/// Pages with something on them, each of another kind.
fn pages(server: &Server) -> Vec<String> {
    server.define("good", "exit 0");
    server.define(
        "bad",
        "for i in 1 2 3 4 5 6 7 8; do echo step $i; done; printf '\\033[1;31mno rows\\033[0m\\n'; exit 3",
    );
    server.define("a-name-that-is-so-long-that-nobody-would-ever-want-to-read-all-of-it-in-a-list", "sleep 300");
    let ended = server.launch("good");
    server.wait_for(&ended, "STOPPED");
    let failed = server.launch("bad");
    let failed = server.wait_for(&failed, "STOPPED");
    let going = server.launch("a-name-that-is-so-long-that-nobody-would-ever-want-to-read-all-of-it-in-a-list");
    let task = failed["definition_id"].as_str().expect("a run has a task").to_owned();
    vec![
        "/ui".into(),
        "/ui/clusters".into(),
        "/ui/clusters/local".into(),
        format!("/ui/runs/{}", failed["run_id"].as_str().expect("a run has an id")),
        format!("/ui/runs/{}/log", failed["run_id"].as_str().expect("a run has an id")),
        format!("/ui/runs/{going}"),
        format!("/ui/runs/{going}/stop"),
        "/ui/tasks".into(),
        "/ui/tasks?q=nothing".into(),
        format!("/ui/tasks/{task}"),
        "/ui/tasks/new".into(),
        format!("/ui/tasks/{task}/edit"),
        format!("/ui/tasks/{task}/delete"),
        format!("/ui/tasks/{task}/launch?from={}", failed["run_id"].as_str().expect("a run has an id")),
        "/ui/runs".into(),
        "/ui/runs?outcome=failed&owner=somebody".into(),
        "/ui/no/such/page".into(),
    ]
}

/// Such as `08-ui-tasks-new-400-dark.png`. Ids are left out.
fn file_name(number: usize, page: &str, View { width, is_dark }: View) -> String {
    let path = page.split('?').next().unwrap_or_default();
    let words = path.split('/').filter(|part| !part.is_empty() && !part.contains(|c: char| c.is_ascii_digit()));
    let query = if page.contains('?') { "-asked" } else { "" };
    let id = if path.contains(|c: char| c.is_ascii_digit()) { "-one" } else { "" };
    let scheme = if is_dark { "dark" } else { "light" };
    format!("{number:02}-{}{id}{query}-{width}-{scheme}.png", words.collect::<Vec<_>>().join("-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_serious_on_any_page() {
    let Some(axe) = support::axe_script() else { return };
    // Where `scripts/screenshots` wants pictures of all that is visited.
    let pictures = std::env::var_os("FLOTILLA_TEST_PICTURES").map(PathBuf::from);
    Browser::visit(async |browser, server| {
        let mut found = Vec::new();
        for (number, page) in pages(server).into_iter().enumerate() {
            for view in VIEWS {
                browser.look(view).await;
                browser.open(&page).await;
                // What is folded away has to hold as well.
                browser.value("document.querySelectorAll('details').forEach((more) => more.open = true)").await;
                found.extend(browser.violations(&axe).await.into_iter().map(|what| format!("{page} {view:?}: {what}")));
                if let Some(folder) = &pictures {
                    browser.picture(&folder.join(file_name(number, &page, view))).await;
                }
            }
        }
        for (keys, dialog) in [("?", "keys"), ("/", "palette")] {
            browser.open("/ui/tasks").await;
            browser.press(keys).await;
            browser.until(&format!("document.querySelector('dialog.{dialog}[open]')")).await;
            found.extend(browser.violations(&axe).await.into_iter().map(|what| format!("{dialog}: {what}")));
        }
        // The refusal is meant, but a browser notes it as an error.
        browser.forget_console().await;
        assert!(found.is_empty(), "{}", found.join("\n\n"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_page_scrolls_sideways_at_any_width() {
    Browser::visit(async |browser, server| {
        let mut found = Vec::new();
        for page in pages(server) {
            browser.open(&page).await;
            browser.value("document.querySelectorAll('details').forEach((more) => more.open = true)").await;
            for width in WIDTHS {
                browser.look(View { width, is_dark: false }).await;
                let overhang = browser.value(OVERHANG).await;
                if overhang.as_i64() > Some(0) {
                    let widest = browser.value(WIDEST).await;
                    found.push(format!("{page} at {width} px is {overhang} px too wide: {widest}"));
                }
            }
        }
        browser.forget_console().await;
        assert!(found.is_empty(), "{}", found.join("\n"));
    })
    .await;
}

/// How much wider the page is than the window, or a list than its place.
const OVERHANG: &str = "Math.max(document.documentElement.scrollWidth - innerWidth,
    ...[...document.querySelectorAll('.scroll')].map((list) => list.scrollWidth - list.clientWidth))";

/// What reaches beyond the window, the innermost of it.
const WIDEST: &str = "[...document.querySelectorAll('body *')]
    .filter((element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest('.log-view, pre, dialog'))
    .slice(-3).map((element) => `${element.tagName}.${element.className} ${element.textContent.trim().slice(0, 30)}`)";
