//! What the tests share: requests by hand, and disks of their own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{PATIENCE, Server};
use crate::support;

/// How much memory the server has (`VmRSS`), or the most that it has had (`VmHWM`).
pub fn memory_kb(server: &Server, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let rest = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    rest.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A connection to a server, on which anything can be said.
pub struct Wire(pub TcpStream);

impl Wire {
    pub fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Says it, as far as the server listens.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.0.write_all(bytes.as_ref());
        self
    }

    /// All that comes until the server closes the connection.
    pub fn hear(&mut self) -> Answer {
        let mut bytes = Vec::new();
        // A server that closes a connection with unread bytes on it resets it; what it said before counts.
        let mut piece = vec![0; 64 * 1024];
        while let Ok(length) = self.0.read(&mut piece)
            && length > 0
        {
            bytes.extend_from_slice(&piece[..length]);
        }
        Answer(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until this was heard.
    pub fn hear_until(&mut self, text: &str) -> String {
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let length = self.0.read(&mut piece).unwrap();
            assert!(length > 0, "closed before {text:?} came: {}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&piece[..length]);
            let heard = String::from_utf8_lossy(&heard);
            if heard.contains(text) {
                return heard.into_owned();
            }
        }
    }
}

#[derive(Debug)]
pub struct Answer(pub String);

impl Answer {
    /// 0 where there was none.
    pub fn status(&self) -> u16 {
        self.0.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok()).unwrap_or(0)
    }

    pub fn json(&self) -> Value {
        let (_, body) = self.0.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {self:?}"));
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn request(server: &Server, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    Wire::open(server).say(head + body).hear()
}

pub fn get(server: &Server, path: &str) -> Answer {
    request(server, "GET", path, "")
}

pub fn launch(server: &Server, alias: &str) -> Answer {
    request(server, "PUT", &format!("/api/v1/task/alias/{alias}/execute"), "{}")
}

/// What `seq` prints.
pub fn seq(last: u32) -> String {
    (1..=last).map(|i| format!("{i}\n")).collect::<Vec<_>>().concat()
}

/// The messages of a run's events.
pub fn story(server: &Server, run_id: &str) -> Vec<(String, String)> {
    let events = get(server, &format!("/api/v1/{run_id}/events")).json();
    let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    let events = events["pod_events"].as_array().unwrap().iter();
    events.map(|event| (text(event, "reason"), text(event, "message"))).collect()
}

/// A file system in memory, with no more room than is said.
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    /// `None`, and said so, where nothing can be mounted here.
    pub fn new(options: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(folder.path()).output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Self { folder }),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        support::skip("disks that are full or read-only", &format!("mounting a small one needs root ({why})"));
        None
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the room there is; dropping it gives it back.
    pub fn fill(&self) -> Filling {
        let path = self.path().join("filling");
        let mut file = std::fs::File::create(&path).unwrap();
        for bytes in [64 * 1024, 4096, 1] {
            while file.write_all(&vec![b'x'; bytes]).is_ok() {}
        }
        Filling(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

pub struct Filling(PathBuf);

impl Drop for Filling {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
