//! What a person does with tasks, from defining one to deleting it.

use thirtyfour::prelude::Key;

use crate::browser::Browser;
use crate::program::Server;

/// The id of the only task.
async fn task_id(browser: &Browser) -> String {
    let path = browser.path().await;
    path.strip_prefix("/ui/tasks/").expect("a task is shown").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_defined_launched_watched_edited_and_deleted() {
    Browser::visit(define_launch_watch_edit_and_delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_leads_everywhere() {
    Browser::visit(go_by_the_keyboard_alone).await;
}

/// Wherever the server lies.
pub async fn define_launch_watch_edit_and_delete(browser: &Browser, server: &mut Server) {
    browser.open("/ui/tasks").await;
    browser.until_shown("Define what you want to run").await;
    browser.click(".head .primary").await;

    // What is wrong is told when a field is left, and goes when it is mended.
    browser.fill("#f-alias", "journey").await;
    browser.fill("#f-group_name", "tests").await;
    browser.fill("#f-image", "has space").await;
    browser.press(Key::Tab).await;
    browser.until("document.querySelector('#e-image').textContent.includes('white space')").await;
    browser.fill("#f-image", "debian:stable-slim").await;
    browser.press(Key::Tab).await;
    browser.until("document.querySelector('#e-image').textContent === ''").await;

    // Indentation is kept, and nobody is trapped in the field.
    browser.click("#f-command").await;
    browser.press("if true; then").await;
    browser.press(Key::Enter).await;
    browser.press(Key::Tab + "echo \"hello $NAME\"; until test -e $GATE; do sleep 0.1; done").await;
    browser.press(Key::Enter).await;
    browser.press(Key::Shift + Key::Tab).await;
    browser.press("fi").await;
    let command = "if true; then\n  echo \"hello $NAME\"; until test -e $GATE; do sleep 0.1; done\nfi";
    assert_eq!(browser.value("document.querySelector('#f-command').value").await, command);
    browser.press(Key::Escape).await;
    browser.press(Key::Tab).await;
    browser.until("document.activeElement.id !== 'f-command'").await;

    // Whoever fills the last row goes on in a new one.
    browser.fill("[name=env_name]", "NAME").await;
    browser.fill("[name=env_value]", "world").await;
    browser.until("document.querySelectorAll('[name=env_name]').length === 2").await;
    // Its runs end when this file is there.
    let gate = server.folder().join("gate");
    browser.fill("[data-row]:nth-of-type(2) [name=env_name]", "GATE").await;
    browser.fill("[data-row]:nth-of-type(2) [name=env_value]", gate.to_str().unwrap()).await;
    browser.click(".bar .primary").await;
    browser.until("document.querySelector('h1').textContent === 'journey'").await;
    let id = task_id(browser).await;
    browser.until_shown("It has never run").await;

    // Its runs appear and change on the page without a reload.
    browser.value("window.isTheSamePage = true").await;
    let run = server.launch("journey");
    browser.until(&format!("document.querySelector('[data-key=\"{run}\"] .is-running')")).await;
    std::fs::write(&gate, "").unwrap();
    browser.until(&format!("document.querySelector('[data-key=\"{run}\"] .is-succeeded')")).await;
    browser.until("document.querySelector('.chart')").await;
    assert_eq!(browser.value("window.isTheSamePage").await, true);

    // A launch, with a variable changed.
    std::fs::remove_file(&gate).unwrap();
    browser.click(".head .primary").await;
    browser.until("document.querySelector('[name=env_value]').value === 'world'").await;
    browser.fill("[name=env_value]", "you").await;
    browser.fill("#f-owner", "ada").await;
    browser.click(".bar .primary").await;

    // The page of the run shows its statuses and its log as they come.
    browser.until("location.pathname.includes('/ui/runs/')").await;
    browser.until("document.querySelector('#look .is-running')").await;
    browser.until_shown("hello you").await;
    browser.until("document.querySelector('#meters svg.usage path')").await;
    browser.fill("#log [name=q]", "HELLO").await;
    browser.press(Key::Enter).await;
    browser.until("document.querySelector('#log .line.is-hit')").await;
    std::fs::write(&gate, "").unwrap();
    browser.until("document.querySelector('#look .is-succeeded')").await;
    let run = browser.path().await.trim_start_matches("/ui/runs/").to_owned();
    assert_eq!(server.wait_for(&run, "STOPPED")["user"], "ada");

    // Again, and stopped, after a question.
    std::fs::remove_file(&gate).unwrap();
    browser.click("a[data-shortcut=c]").await;
    browser.until("document.querySelector('[name=env_value]')?.value === 'you'").await;
    assert_eq!(browser.value("document.querySelector('#f-owner').value").await, "ada");
    browser.click(".bar .primary").await;
    browser.until("document.querySelector('#look .is-running')").await;
    browser.click("a[data-shortcut=x]").await;
    browser.click("dialog[open] .danger").await;
    browser.until("document.querySelector('#look .is-stopped')").await;

    // Again with the same values, by one press.
    let stopped = browser.path().await;
    browser.click("form[action$='/again'] button").await;
    browser
        .until(&format!("!location.pathname.endsWith({stopped:?}) && document.querySelector('#look .is-running')"))
        .await;
    std::fs::write(&gate, "").unwrap();
    browser.until("document.querySelector('#look .is-succeeded')").await;

    // Found again by what is typed, which the address keeps.
    browser.open("/ui/tasks").await;
    browser.fill("input[type=search]", "nothing like it").await;
    browser.until_shown("No tasks match this search").await;
    browser.fill("input[type=search]", "journ").await;
    browser.until("document.querySelector('tr .name')?.textContent === 'journey'").await;
    browser.until("new URLSearchParams(location.search).get('q') === 'journ'").await;

    // Edited.
    browser.open(&format!("/ui/tasks/{id}/edit")).await;
    browser.fill("#f-alias", "renamed").await;
    browser.click(".bar .primary").await;
    browser.until("document.querySelector('h1').textContent === 'renamed'").await;

    // Deleted, after a question.
    browser.open(&format!("/ui/tasks/{id}")).await;
    browser.click("a[data-confirm]").await;
    browser.click("dialog[open] .danger").await;
    browser.until_shown("renamed was deleted. Its runs stay.").await;
    // A reload does not tell it again.
    browser.until("location.pathname.endsWith('/ui/tasks') && location.search === ''").await;
    browser.until_shown("Define what you want to run").await;
}

/// Likewise.
pub async fn go_by_the_keyboard_alone(browser: &Browser, server: &mut Server) {
    server.define("keyboard", "exit 0");
    browser.open("/ui/tasks").await;
    // The first stop leads past the navigation.
    browser.press(Key::Tab).await;
    browser.until("document.activeElement.className === 'skip'").await;
    browser.press("?").await;
    browser.until("document.querySelector('dialog.keys[open]')").await;
    browser.press(Key::Escape).await;
    browser.until("!document.querySelector('dialog[open]')").await;
    browser.press("gr").await;
    browser.until("location.pathname.endsWith('/ui/runs') && document.readyState === 'complete'").await;
    browser.press(Key::Control + "k").await;
    browser.until("document.activeElement.matches('dialog.palette input')").await;
    browser.press("keyb").await;
    browser.until("document.querySelector('[aria-selected=true]')?.textContent.startsWith('keyboard')").await;
    browser.press(Key::Enter).await;
    browser.until("document.querySelector('h1').textContent === 'keyboard'").await;
    browser.press("l").await;
    browser.until("location.pathname.endsWith('/launch')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_moves_under_the_pointer() {
    Browser::visit(async |browser, server| {
        server.define("first", "sleep 0.3");
        let first = server.launch("first");
        server.wait_for(&first, "STOPPED");
        browser.open("/ui/runs").await;
        browser.until("document.querySelector('[data-key] .is-succeeded')").await;
        // As if somebody were at the row's link.
        browser.value("document.querySelector('[data-key] a').focus()").await;
        let second = server.launch("first");
        browser.until("document.querySelector('.news')").await;
        assert_eq!(browser.value("document.querySelectorAll('[data-key]').length").await, 1);
        browser.click(".news").await;
        browser.until(&format!("document.querySelector('[data-key]').dataset.key === '{second}'")).await;
        browser.until("!document.querySelector('.news')").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_says_is_never_carried_out() {
    Browser::visit(async |browser, server| {
        let evil = "<img src=x onerror=document.title='broken'>";
        server.define(evil, "echo '</textarea><script>document.title=\"broken\"</script>' >&2; exit 1");
        let run = server.launch(evil);
        server.wait_for(&run, "STOPPED");
        for path in ["/ui/tasks", "/ui/runs"] {
            browser.open(path).await;
            browser.until_shown(evil).await;
        }
        browser.open("/ui/tasks").await;
        browser.click("td .name").await;
        browser.until_shown("</textarea><script>").await;
        let page = browser.path().await;
        for action in ["edit", "launch", "delete"] {
            browser.open(&format!("{page}/{action}")).await;
            browser.until_shown(evil).await;
            assert_ne!(browser.value("document.title").await, "broken", "{action}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_tells_that_the_server_is_away_and_goes_on_when_it_is_back() {
    Browser::visit(async |browser, server| {
        let gate = server.folder().join("gate");
        server.define("outlives", &format!("until test -e {}; do sleep 0.1; done", gate.display()));
        let run = server.launch("outlives");
        browser.open(&format!("/ui/runs/{run}")).await;
        browser.until("document.querySelector('#look .is-running')").await;
        server.kill();
        // Since when, it says only where it has heard the server's time before.
        browser.until_shown("The server has not answered").await;
        server.start_again();
        browser.until("!document.getElementById('away')").await;
        std::fs::write(&gate, "").unwrap();
        browser.until("document.querySelector('#look .is-succeeded')").await;
        // That the server could not be reached is meant, but a browser notes it as an error.
        browser.forget_console().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_a_run_later_appears_on_its_page() {
    Browser::visit(async |browser, server| {
        server.define("parent", "sleep 300");
        server.define("child", "exit 0");
        let parent = server.launch("parent");
        server.wait_for(&parent, "RUNNING");
        browser.open(&format!("/ui/runs/{parent}")).await;
        browser.until("document.querySelector('#look .is-running')").await;
        assert_eq!(browser.value("document.querySelector('#children a')").await, serde_json::Value::Null);
        server.output(&["run", "child", "-e", &format!("PARENT_FLOTILLA_RUN_ID={parent}")]);
        browser.until("document.querySelector('#children .is-succeeded')").await;
        // How long it runs is counted on without the server.
        browser.until("/It has been running for [2-9]\\.\\d s/.test(document.querySelector('#told').innerText)").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_palette_finds_runs_and_clusters_and_the_nearest_task_first() {
    Browser::visit(async |browser, server| {
        for alias in ["a-fail", "fail", "failing"] {
            server.define(alias, "exit 1");
        }
        let run = server.launch("fail");
        server.wait_for(&run, "STOPPED");
        let finds = async |typed: &str, first: &str| {
            browser.open("/ui/clusters").await;
            browser.press(Key::Control + "k").await;
            browser.until("document.activeElement.matches('dialog.palette input')").await;
            browser.press(typed).await;
            browser
                .until(&format!("document.querySelector('[aria-selected=true]')?.textContent.startsWith({first:?})"))
                .await;
        };
        finds("fail", "failtests").await;
        finds("loca", "Cluster local").await;
        finds(&run[run.len() - 8..], &format!("Run {run} of fail")).await;
    })
    .await;
}
