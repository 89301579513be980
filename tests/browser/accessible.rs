//! Pages that everybody can read and operate: axe finds nothing serious, light and dark, on a phone and on a desk; and
//! no page is wider than its window.

use crate::browser::{Browser, View};
use crate::program::Server;
use crate::support;

const VIEWS: [View; 4] = [
    View { width: 1280, is_dark: false },
    View { width: 1280, is_dark: true },
    View { width: 400, is_dark: false },
    View { width: 400, is_dark: true },
];

/// Pages with something on them, each of another kind.
fn pages(server: &Server) -> Vec<String> {
    server.define("good", "exit 0");
    server.define("bad", "echo failing; exit 3");
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
        format!("/ui/runs/{}", failed["run_id"].as_str().expect("a run has an id")),
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
        "/ui/no/such/page".into(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_serious_on_any_page() {
    let Some(axe) = support::axe_script() else { return };
    Browser::visit(async |browser, server| {
        let mut found = Vec::new();
        for page in pages(server) {
            for view in VIEWS {
                browser.look(view).await;
                browser.open(&page).await;
                // What is folded away has to hold as well.
                browser.value("document.querySelectorAll('details').forEach((more) => more.open = true)").await;
                found.extend(browser.violations(&axe).await.into_iter().map(|what| format!("{page} {view:?}: {what}")));
                let overhang = browser.value("document.documentElement.scrollWidth - innerWidth").await;
                if overhang.as_i64() > Some(0) {
                    found.push(format!("{page} {view:?}: is {overhang} px wider than the window"));
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
