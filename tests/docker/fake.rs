//! What answers as a Docker daemon does, for what a real one can't be made to do: answers that don't end, connections
//! that break, a clock of its own, lines that take minutes. It has at most one container.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const ID: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What happens when a container is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnCreate {
    Answer,
    /// It is made, and the answer waits for [`FakeDaemon::go_on`].
    Hold,
    /// It is made, and the connection breaks.
    Break,
    /// The same, and it runs all the same.
    BreakRunning,
}

pub struct FakeDaemon {
    folder: TempDir,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    world: Mutex<Daemon>,
    go_on: Notify,
}

#[expect(clippy::struct_excessive_bools, reason = "each is something else that a daemon can do")]
pub struct Daemon {
    pub has_image: bool,
    pub on_create: OnCreate,
    /// How far its clock is before ours.
    pub clock: SignedDuration,
    /// Whether an answer with output ends.
    pub ends_output: bool,
    /// Whether it answers at all when it is asked for output.
    pub sends_output: bool,
    /// Whether it answers when it is asked about an image.
    pub knows_images: bool,
    /// Standard output is 1, standard error 2.
    pub output: Vec<(u8, Timestamp, String)>,
    pub container: Option<Value>,
    /// When it made its network; `None` where it has none.
    pub network_made_at: Option<Timestamp>,
    pub requests: Vec<String>,
    events: Vec<Value>,
}

impl FakeDaemon {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("fltfake").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let world = Daemon {
            has_image: true,
            on_create: OnCreate::Answer,
            clock: SignedDuration::ZERO,
            ends_output: true,
            sends_output: true,
            knows_images: true,
            output: Vec::new(),
            container: None,
            network_made_at: None,
            requests: Vec::new(),
            events: Vec::new(),
        };
        let state = Arc::new(State { world: Mutex::new(world), go_on: Notify::new() });
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(Arc::clone(&serving), stream));
            }
        });
        Self { folder, state, task }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Daemon) -> T) -> T {
        change(&mut self.state.world.lock().unwrap())
    }

    pub fn go_on(&self) {
        self.state.go_on.notify_one();
    }

    /// How often it was asked so.
    pub fn count(&self, request: &str) -> usize {
        self.with(|daemon| daemon.requests.iter().filter(|known| known.starts_with(request)).count())
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Daemon {
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + self.clock
    }

    /// Ends the container as another client does that sends a signal, or as its command does.
    pub fn end(&mut self, exit_code: i64, signal: Option<i64>) {
        let now = self.now();
        if let Some(signal) = signal {
            self.add_event("kill", json!({ "signal": signal.to_string() }));
        }
        self.add_event("die", json!({}));
        let state = &mut self.container.as_mut().unwrap()["State"];
        state["Running"] = json!(false);
        state["Status"] = json!("exited");
        state["ExitCode"] = json!(exit_code);
        state["FinishedAt"] = json!(now.to_string());
    }

    /// Forgets what a daemon forgets that is started anew.
    pub fn forget(&mut self) {
        self.events.clear();
    }

    #[expect(clippy::needless_pass_by_value, reason = "the request is used up by its answer")]
    fn add_event(&mut self, action: &str, attributes: Value) {
        let time = self.now();
        let nanos = i64::try_from(time.as_nanosecond()).unwrap();
        let actor = json!({ "ID": ID, "Attributes": attributes });
        self.events.push(json!({ "Type": "container", "Action": action, "Actor": actor,
            "time": time.as_second(), "timeNano": nanos }));
    }

    fn create(&mut self, name: &str, body: &Value) {
        self.container = Some(json!({
            "Id": ID,
            "Name": format!("/{name}"),
            "Image": "sha256:1",
            "Config": { "Labels": body["Labels"], "Image": body["Image"] },
            "State": { "Status": "created", "Running": false, "StartedAt": NEVER, "FinishedAt": NEVER, "Error": "" },
        }));
        self.add_event("create", json!({}));
    }

    fn start(&mut self) {
        let now = self.now();
        let state = &mut self.container.as_mut().unwrap()["State"];
        state["Running"] = json!(true);
        state["Status"] = json!("running");
        state["StartedAt"] = json!(now.to_string());
        self.add_event("start", json!({}));
    }

    fn summaries(&self) -> Value {
        let summaries = self.container.iter().map(|container| {
            json!({ "Id": ID, "Names": [container["Name"]], "ImageID": "sha256:1", "Created": 1,
                "Labels": container["Config"]["Labels"], "State": container["State"]["Status"] })
        });
        summaries.collect()
    }

    fn output_for(&self, query: &HashMap<String, String>) -> Vec<u8> {
        let since: i64 = query.get("since").and_then(|text| text.parse().ok()).unwrap_or(0);
        let sent: Vec<_> = self.output.iter().filter(|(_, stamp, _)| stamp.as_second() >= since).collect();
        let tail = query.get("tail").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
        let sent = &sent[sent.len().saturating_sub(tail)..];
        let frames = sent.iter().flat_map(|(stream, stamp, text)| {
            let message = format!("{stamp:.9} {text}");
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&[*stream, 0, 0, 0][..], &length, message.as_bytes()].concat()
        });
        frames.collect()
    }
}

/// What is sent back; `ends` where the connection is closed behind it.
struct Answer {
    status: u16,
    body: Vec<u8>,
    ends: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "an answer may also be none")]
fn ok(value: &Value) -> Option<Answer> {
    Some(Answer { status: 200, body: value.to_string().into_bytes(), ends: true })
}

#[expect(clippy::unnecessary_wraps, reason = "an answer may also be none")]
fn refused(status: u16, message: &str) -> Option<Answer> {
    Some(Answer { status, body: json!({ "message": message }).to_string().into_bytes(), ends: true })
}

#[expect(clippy::unnecessary_wraps, reason = "an answer may also be none")]
fn done() -> Option<Answer> {
    Some(Answer { status: 204, body: Vec::new(), ends: true })
}

async fn answer(state: Arc<State>, stream: UnixStream) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
        if head.is_empty() {
            head = line;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query: HashMap<_, _> = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let path = match path[1..].split_once('/') {
        Some((version, rest)) if version.starts_with("v1.") => format!("/{rest}"),
        _ => path.to_owned(),
    };
    state.world.lock().unwrap().requests.push(format!("{method} {path}"));
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    // No answer is a broken connection.
    let Some(answer) = answer_to(&state, method, &path, &query, &body).await else { return };
    let head = format!("HTTP/1.1 {} x\r\nContent-Type: application/json\r\nConnection: close\r\n", answer.status);
    let length = if answer.ends { format!("Content-Length: {}\r\n", answer.body.len()) } else { String::new() };
    let sent = [head.as_bytes(), length.as_bytes(), b"\r\n", &answer.body].concat();
    if stream.write_all(&sent).await.is_ok() && !answer.ends {
        // Until whoever asked goes away.
        let _ = stream.read_u8().await;
    }
}

async fn answer_to(
    state: &State,
    method: &str,
    path: &str,
    query: &HashMap<String, String>,
    body: &Value,
) -> Option<Answer> {
    let parts: Vec<_> = path[1..].split('/').collect();
    if (method, path) == ("POST", "/containers/create") {
        return create(state, query, body).await;
    }
    let mut daemon = state.world.lock().unwrap();
    if parts[0] == "containers" && parts.len() > 1 && parts[1] != "json" {
        let name = daemon.container.as_ref().map(|container| container["Name"].as_str().unwrap()[1..].to_owned());
        if name.is_none_or(|name| parts[1] != name && parts[1] != ID) {
            return refused(404, "No such container");
        }
    }
    let is_running = daemon.container.as_ref().is_some_and(|container| container["State"]["Running"] == true);
    match (method, parts.as_slice()) {
        ("GET", ["version"]) => ok(&json!({ "ApiVersion": "1.41", "Version": "20.10.24" })),
        ("GET", ["info"]) => {
            ok(&json!({ "Name": "fake", "NCPU": 2, "MemTotal": 1_i64 << 34, "SystemTime": daemon.now().to_string() }))
        }
        ("GET", ["events"]) => {
            let text: String = daemon.events.iter().map(|event| format!("{event}\n")).collect();
            // A time that has not come is waited for.
            let until = query.get("until").and_then(|text| text.split('.').next()?.parse::<i64>().ok());
            let ends = until.is_some_and(|until| until <= daemon.now().as_second() + 1);
            let body = if query.contains_key("until") { text.into_bytes() } else { Vec::new() };
            Some(Answer { status: 200, body, ends })
        }
        ("GET", ["networks", "bridge"]) => match daemon.network_made_at {
            Some(at) => ok(&json!({ "Name": "bridge", "Created": at.to_string() })),
            None => refused(404, "network bridge not found"),
        },
        ("GET", ["containers", "json"]) => ok(&daemon.summaries()),
        ("GET", ["containers", _, "json"]) => ok(daemon.container.as_ref().unwrap()),
        ("GET", ["containers", _, "logs"]) if !daemon.sends_output => {
            Some(Answer { status: 200, body: Vec::new(), ends: false })
        }
        ("GET", ["containers", _, "logs"]) => {
            let is_whole = !query.contains_key("tail") || query["tail"] == "all";
            let ends = if is_whole { daemon.ends_output && !is_running } else { true };
            Some(Answer { status: 200, body: daemon.output_for(query), ends })
        }
        ("POST", ["containers", _, "start"]) => {
            daemon.start();
            done()
        }
        ("POST", ["containers", _, "stop"]) => {
            daemon.end(143, Some(15));
            done()
        }
        ("DELETE", ["containers", _]) if is_running && query.get("force").is_none_or(|force| force != "true") => {
            refused(409, "You cannot remove a running container")
        }
        ("DELETE", ["containers", _]) => {
            daemon.container = None;
            done()
        }
        ("POST", ["images", "create"]) => {
            daemon.has_image = true;
            ok(&json!({ "status": "done" }))
        }
        ("GET", ["images", ..]) if !daemon.knows_images => Some(Answer { status: 200, body: Vec::new(), ends: false }),
        ("GET", ["images", ..]) if daemon.has_image => ok(&json!({ "Id": "sha256:1", "Size": 1 })),
        _ => refused(404, "not there"),
    }
}

async fn create(state: &State, query: &HashMap<String, String>, body: &Value) -> Option<Answer> {
    let on_create = {
        let mut daemon = state.world.lock().unwrap();
        if !daemon.has_image {
            return refused(404, "No such image");
        }
        daemon.create(&query["name"], body);
        if daemon.on_create == OnCreate::BreakRunning {
            daemon.start();
        }
        daemon.on_create
    };
    match on_create {
        OnCreate::Answer => {}
        OnCreate::Hold => state.go_on.notified().await,
        OnCreate::Break | OnCreate::BreakRunning => return None,
    }
    ok(&json!({ "Id": ID, "Warnings": [] }))
}
