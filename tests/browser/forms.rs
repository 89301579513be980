//! What forms do for a person beyond what they do without scripts.

use serde_json::json;
use thirtyfour::prelude::Key;

use crate::browser::Browser;

/// Whether a person who leaves the page now would be asked first.
async fn is_kept(browser: &Browser) -> bool {
    browser.value("!dispatchEvent(new Event('beforeunload', {cancelable: true}))").await == json!(true)
}

async fn fill_new_task(browser: &Browser, alias: &str) {
    browser.open("/ui/tasks/new").await;
    browser.fill("#f-alias", alias).await;
    browser.fill("#f-group_name", "tests").await;
    browser.fill("#f-image", "debian:stable-slim").await;
    browser.fill("#f-command", "exit 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_as_it_is_typed_and_found_at_once_after_a_refusal() {
    Browser::visit(async |browser, server| {
        server.define("taken", "exit 0");
        fill_new_task(browser, "taken").await;
        browser.until("document.querySelector('#e-alias').textContent.includes('is taken')").await;
        browser.fill("#f-alias", "free").await;
        browser.press(Key::Tab).await;
        browser.until("document.querySelector('#e-alias').textContent === ''").await;

        // The first fault may be folded away.
        browser.click("details.more summary").await;
        browser.fill("#f-ports", "http").await;
        browser.click("details.more summary").await;
        browser.click(".bar .primary").await;
        browser.until("document.querySelector('.notice.is-bad')").await;
        browser.until("document.activeElement.id === 'f-ports'").await;
        // Nor is it the last one.
        browser.fill("#f-image", "has space").await;
        browser.click(".bar .primary").await;
        browser.until("document.activeElement.id === 'f-image' && document.querySelector('.notice.is-bad')").await;
        browser.forget_console().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_typed_is_not_lost_by_leaving_nor_while_the_server_is_away() {
    Browser::visit(async |browser, _| {
        browser.open("/ui/tasks/new").await;
        browser.until("document.querySelector('[data-moving]:not([hidden])')").await;
        assert!(!is_kept(browser).await, "nothing was typed yet");
        fill_new_task(browser, "kept").await;
        assert!(is_kept(browser).await);

        browser.offline(true).await;
        browser.click(".bar .primary").await;
        browser.until_shown("The server does not answer; nothing was sent. Try again.").await;
        assert_eq!(browser.value("document.querySelector('#f-alias').value").await, "kept");
        assert!(is_kept(browser).await);
        browser.offline(false).await;
        // That it was away is an error of the console.
        browser.forget_console().await;

        // A form that was refused holds what is stored nowhere.
        browser.fill("#f-group_name", " ").await;
        browser.click(".bar .primary").await;
        browser.until("document.querySelector('.notice.is-bad')").await;
        browser.until("document.activeElement.id === 'f-group_name'").await;
        assert!(is_kept(browser).await);
        browser.forget_console().await;

        browser.fill("#f-group_name", "tests").await;
        browser.click(".bar .primary").await;
        browser.until("document.querySelector('h1').textContent === 'kept'").await;
        assert!(!is_kept(browser).await);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pasted_env_file_becomes_a_row_for_each_variable() {
    Browser::visit(async |browser, _| {
        let rows = async || {
            let rows = "[...document.querySelectorAll('.row')].map((row) => [...row.querySelectorAll('input, textarea')].map((field) => field.value))";
            browser.value(rows).await
        };
        let paste = async |css: &str, text: &str| {
            let paste = format!(
                "((text) => {{ const data = new DataTransfer(); data.setData('text/plain', text); \
                 return document.querySelector({css:?}).dispatchEvent(new ClipboardEvent('paste', {{clipboardData: data, bubbles: true, cancelable: true}})); }})({})",
                json!(text)
            );
            // What is not taken over is pasted by the browser as ever.
            browser.value(&paste).await == json!(false)
        };
        browser.open("/ui/tasks/new").await;
        browser.until("document.querySelector('[data-moving]:not([hidden])')").await;
        let file = "# of the service\r\nA=1\r\n\r\n  export B = \"two words\"\nC='it''s'\nURL=http://x/?a=b#c\nEMPTY=\n";
        assert!(paste("[name=env_value]", file).await);
        let expected = json!([["A", "1"], ["B", "two words"], ["C", "it''s"], ["URL", "http://x/?a=b#c"], ["EMPTY", ""], ["", ""]]);
        assert_eq!(rows().await, expected);

        let last = ".row:nth-of-type(6) [name=env_name]";
        assert!(!paste(last, "just a word").await);
        assert!(!paste(last, "A=1\nno assignment").await);
        assert!(!paste(".row:nth-of-type(6) [name=env_value]", "KEY=value").await, "it may be the value");
        assert!(!paste("[name=env_name]", "KEY=value").await, "the row is not empty");
        assert!(paste(last, "KEY=value=more").await);
        // A name that is there already is changed where it stands.
        assert!(paste(".row:nth-of-type(7) [name=env_name]", "A=other\nNEW=1").await);
        let rows = rows().await;
        assert_eq!((&rows[0], &rows[5]), (&json!(["A", "other"]), &json!(["KEY", "value=more"])));
        assert_eq!((&rows[6], &rows[7], rows.as_array().unwrap().len()), (&json!(["NEW", "1"]), &json!(["", ""]), 8));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_variables_are_edited_launched_and_pasted_without_losing_one() {
    Browser::visit(async |browser, server| {
        let env: Vec<_> = (1..=600).map(|number| json!({"name": format!("V{number}"), "value": format!("{number}\r\n ")})).collect();
        let body = json!({"alias": "many", "group_name": "tests", "image": "none", "command": "true", "env": env});
        let file = server.folder().join("many.json");
        std::fs::write(&file, body.to_string()).unwrap();
        server.text(&["define", "-f", file.to_str().unwrap()]);
        let task = || server.json(&["show", "many"])["definition"].take();
        let id = task()["definition_id"].as_str().unwrap().to_owned();

        browser.open(&format!("/ui/tasks/{id}/edit")).await;
        browser.fill("#f-memory", "128").await;
        browser.click(".bar .primary").await;
        browser.until("document.querySelector('h1').textContent === 'many'").await;
        assert_eq!((&task()["memory"], &task()["env"]), (&json!(128), &json!(env)));

        browser.open(&format!("/ui/tasks/{id}/launch")).await;
        browser.until("document.querySelectorAll('[name=env_name]').length === 601").await;
        browser.value("document.querySelectorAll('[name=env_value]')[599].value = 'changed'").await;
        browser.click(".bar .primary").await;
        browser.until("/^.ui.runs.[^/]+$/.test(location.pathname)").await;
        let path = browser.path().await;
        let run = server.json(&["show", path.strip_prefix("/ui/runs/").unwrap()]);
        let launched = run["env"].as_array().unwrap();
        assert_eq!(launched[..599], env[..599]);
        assert_eq!(launched[599], json!({"name": "V600", "value": "changed"}));

        let lines: String = (1..=600).map(|number| format!("P{number}={number}\n")).collect();
        browser.open("/ui/tasks/new").await;
        browser.until("document.querySelector('[data-moving]:not([hidden])')").await;
        browser
            .value(&format!(
                "((text) => {{ const data = new DataTransfer(); data.setData('text/plain', text); \
                 document.querySelector('[name=env_name]').dispatchEvent(new ClipboardEvent('paste', {{clipboardData: data, bubbles: true, cancelable: true}})); }})({})",
                json!(lines)
            ))
            .await;
        browser.until("document.querySelectorAll('[name=env_name]').length === 601").await;
        let last = browser.value("document.querySelectorAll('[name=env_value]')[599].value").await;
        assert_eq!(last, "600");
    })
    .await;
}
