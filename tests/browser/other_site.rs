//! A page of another site in the same browser: what it may do where the operator lets it in, and where not.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::browser::Browser;
use crate::program::Server;

/// A site of one empty page; returns its port.
async fn other_site() -> u16 {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = client.read(&mut request).await;
                let page = "<!doctype html><link rel=icon href=data:,><title>another site</title>";
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    page.len()
                );
                let _ = client.write_all(format!("{head}{page}").as_bytes()).await;
            });
        }
    });
    port
}

/// What a client in a page does: everything from a definition to a stopped run.
fn client(server: &str, definition: &Value) -> String {
    format!(
        "async () => {{
            const ask = async (method, path, body) => {{
                const answer = await fetch('{server}/api/' + path, {{
                    method, headers: body && {{ 'content-type': 'application/json' }}, body: body && JSON.stringify(body),
                }});
                if (!answer.ok) throw new Error(`${{method}} ${{path}}: ${{answer.status}} ${{await answer.text()}}`);
                return answer.json();
            }};
            const before = await ask('GET', 'v1/task');
            const task = await ask('POST', 'v1/task', {definition});
            const run = await ask('PUT', `v4/task/${{task.definition_id}}/execute`, {{ cluster: 'local', owner_id: 'ada', env: [] }});
            let log = '';
            const stream = new EventSource(`{server}/api/v1/${{run.run_id}}/logs/stream`);
            await new Promise((resolve, reject) => {{
                stream.onerror = () => reject(new Error('the stream broke'));
                const take = ({{ data }}) => {{ log += data; if (log.includes('hello from afar')) resolve(); }};
                for (const kind of ['message', 'log']) stream.addEventListener(kind, take);
            }});
            stream.close();
            const read = await ask('GET', `v1/${{run.run_id}}/logs`);
            await ask('DELETE', `v1/task/${{task.definition_id}}/history/${{run.run_id}}`);
            let ended;
            do ended = await ask('GET', `v1/history/${{run.run_id}}`); while (ended.status !== 'STOPPED');
            return {{ before: before.total, log: read.log, ended: ended.status }};
        }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_is_let_in_uses_the_api_and_no_other_does() {
    let (port, stranger) = (other_site().await, other_site().await);
    // To a browser `localhost` and an address are two sites.
    let origin = format!("http://localhost:{port}");
    let mut server = Server::with_config(&format!("[server]\ncors_origins = [{origin:?}]\n"));
    let url = server.url.clone();
    let definition = |alias: &str| json!({"alias": alias, "group_name": "tests", "image": "none", "command": "echo hello from afar; sleep 300"});
    Browser::visit_at(&origin, &mut server, async |browser, server| {
        browser.open("/").await;
        let done = browser.called(&client(&url, &definition("from-afar"))).await;
        let value = &done["value"];
        assert_eq!((&value["before"], &value["ended"]), (&json!(0), &json!("STOPPED")), "{done}");
        assert!(value["log"].as_str().unwrap().contains("hello from afar"), "{done}");
        assert!(server.text(&["ps", "--all"]).contains("from-afar"));
    })
    .await;
    for stranger in [format!("http://localhost:{stranger}"), format!("http://127.0.0.1:{stranger}")] {
        Browser::visit_at(&stranger, &mut server, async |browser, server| {
            browser.open("/").await;
            let refused = browser.called(&client(&url, &definition("planted"))).await;
            assert!(refused["error"].as_str().is_some_and(|error| error.contains("fetch")), "it reads nothing: {refused}");
            // What needs no leave of the server to be sent is sent, and refused.
            let body = definition("planted").to_string();
            browser.called(&format!("() => fetch('{url}/api/v1/task', {{ method: 'POST', mode: 'no-cors', body: {body:?} }})")).await;
            let form = format!("const form = document.createElement('form'); form.method = 'post'; form.action = '{url}/api/v1/task';
                form.enctype = 'text/plain'; form.append(Object.assign(document.createElement('input'), {{ name: {body:?}, value: '' }}));
                document.body.append(form); form.submit()");
            browser.value(&format!("(() => {{ {form} }})()")).await;
            browser.until("document.body.innerText.includes('a page of another site')").await;
            assert!(!server.text(&["tasks"]).contains("planted"));
            browser.forget_console().await;
        })
        .await;
    }
}
