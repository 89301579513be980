//! A daemon of a test's own, to be ended and started again, and a registry.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use tempfile::TempDir;

use crate::support::skip;
use crate::world::{IMAGE, docker, eventually, shared_host};

/// A dockerd with its own data, killed with everything it started when it is dropped.
pub struct Daemon {
    folder: TempDir,
    /// The name of the folder of its data.
    pub data: &'static str,
    flags: Vec<String>,
    bridge: Bridge,
    process: Option<Child>,
}

/// The network that a daemon makes anew when it is started.
enum Bridge {
    None,
    /// On this device, which goes with it.
    Device(String),
}

impl Daemon {
    /// `None` after saying why it is not tested here: no daemon can be started, or Docker is not tested at all.
    pub async fn start(flags: &[&str]) -> Option<Self> {
        Self::start_on(Bridge::None, flags).await
    }

    /// One with a network of its own, as daemons have it unless they are told otherwise.
    pub async fn start_with_network() -> Option<Self> {
        // At most 15 characters.
        let device = format!("flt{}", std::process::id());
        Self::start_on(Bridge::Device(device), &[]).await
    }

    async fn start_on(bridge: Bridge, flags: &[&str]) -> Option<Self> {
        let shared = shared_host()?;
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        if !is_root || program("dockerd").is_none() {
            skip("docker", "a daemon of a test's own needs root and dockerd");
            return None;
        }
        // Not in TMPDIR: the path of a socket is short.
        let folder = tempfile::Builder::new().prefix("flt").tempdir_in("/tmp").unwrap();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        if let Bridge::Device(device) = &bridge {
            ip(&["link", "add", device, "type", "bridge"]);
            ip(&["addr", "add", "198.18.0.1/24", "dev", device]);
        }
        let mut daemon = Self { folder, data: "data", flags, bridge, process: None };
        daemon.resume().await;
        daemon.copy_image(&shared);
        Some(daemon)
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.path("docker.sock").display())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it again on the same data.
    pub async fn resume(&mut self) {
        let _ = std::fs::remove_file(self.path("pid"));
        let data = self.data;
        let option = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        let log = std::fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let child = Command::new(program("dockerd").unwrap())
            .arg(format!("--host={}", self.host()))
            .args([option("data-root", data), option("exec-root", "exec"), option("pidfile", "pid")])
            .arg(match &self.bridge {
                Bridge::None => "--bridge=none".to_owned(),
                Bridge::Device(device) => format!("--bridge={device}"),
            })
            .args(["--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .arg(format!("--containerd-namespace={}", self.folder.path().file_name().unwrap().to_str().unwrap()))
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
        let host = self.host();
        eventually("the daemon answers", || {
            Command::new("docker")
                .args(["--host", &host, "version"])
                .output()
                .is_ok_and(|output| output.status.success())
        })
        .await;
    }

    /// Ends it by a signal, and waits for that.
    pub fn end(&mut self, signal: &str) {
        if let Some(mut process) = self.process.take() {
            let _ = Command::new("kill").args(["-s", signal, &process.id().to_string()]).status();
            let _ = process.wait();
            self.wait_for_containerd();
        }
    }

    /// Its containerd ends with it, and is a zombie until the machine's first process looks: a daemon that starts in
    /// between takes that for a running one and waits for it in vain.
    fn wait_for_containerd(&self) {
        let pid_file = self.path("exec/containerd/containerd.pid");
        let Ok(pid) = std::fs::read_to_string(&pid_file) else { return };
        let is_running = || processes_of(self.folder.path().to_str().unwrap()).contains(&pid.trim().parse().unwrap());
        let end = Instant::now() + Duration::from_secs(10);
        while is_running() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_file(pid_file);
    }

    /// Ends it as a loss of power does: with all that it started, and with what only memory held.
    pub fn cut_power(&mut self) {
        self.end("KILL");
        self.end_what_is_left();
        let _ = std::fs::remove_dir_all(self.path("exec"));
    }

    /// What it leaves running (shims, what they run, its containerd) names the folder or is below what does.
    fn end_what_is_left(&self) {
        let marker = self.folder.path().to_str().unwrap().to_owned();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let left = processes_of(&marker);
            if left.is_empty() {
                break;
            }
            let pids: Vec<_> = left.iter().map(u32::to_string).collect();
            let _ = Command::new("kill").args(["-s", "KILL"]).args(pids).stderr(Stdio::null()).status();
            std::thread::sleep(Duration::from_millis(50));
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|path| path.starts_with(&marker));
        let _ = Command::new("umount").arg("-l").args(mounts.collect::<Vec<_>>()).stderr(Stdio::null()).status();
    }

    /// Removes what every test begins with, so that a pull fetches the layers as well.
    pub fn forget_images(&self) {
        docker(&self.host(), &["rmi", IMAGE]);
    }

    fn copy_image(&self, from: &str) {
        let archive = self.path("image.tar");
        docker(from, &["save", "-o", archive.to_str().unwrap(), IMAGE]);
        docker(&self.host(), &["load", "-i", archive.to_str().unwrap()]);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end("KILL");
        self.end_what_is_left();
        if let Bridge::Device(device) = &self.bridge {
            ip(&["link", "del", device]);
        }
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new(program("ip").expect("the program ip")).args(arguments).output().unwrap();
    assert!(output.status.success() || std::thread::panicking(), "ip {arguments:?}: {output:?}");
}

/// The processes whose command line names the folder, and all that descend from them.
fn processes_of(marker: &str) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let processes: Vec<(u32, u32, bool)> = pids
        .filter_map(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let mut fields = stat.rsplit_once(") ")?.1.split(' ');
            let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
            (state != "Z").then(|| (pid, parent, String::from_utf8_lossy(&command).contains(marker)))
        })
        .collect();
    let mut found: Vec<u32> = processes.iter().filter(|process| process.2).map(|process| process.0).collect();
    let mut known = 0;
    while known < found.len() {
        let parents = found[known..].to_vec();
        known = found.len();
        let children = processes.iter().filter(|(pid, parent, _)| parents.contains(parent) && !found.contains(pid));
        let children: Vec<_> = children.map(|(pid, ..)| *pid).collect();
        found.extend(children);
    }
    found
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|folder| PathBuf::from(folder).join(name)).find(|path| path.is_file())
}

/// A registry on loopback, with its data in a folder that goes with it.
pub struct Registry {
    process: Child,
    pub address: String,
    folder: TempDir,
}

/// Who may use a registry that asks. The encoded form of the password holds characters that two alphabets of base64
/// write differently.
pub const USER: &str = "ada";
pub const PASSWORD: &str = ">>>???~~~";
/// As `htpasswd -B` writes it.
const PASSWORD_HASH: &str = "$2b$04$Swo.iAMVBn11i6Si26bLKuBSiYPBJe2R/ZbbO.ic5vM0pmCiiqXne";

impl Registry {
    pub async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    /// One that is only for [`USER`].
    pub async fn start_for_user() -> Option<Self> {
        Self::start_with("auth: {htpasswd: {realm: test, path: users}}\n").await
    }

    async fn start_with(settings: &str) -> Option<Self> {
        let Some(program) = program("docker-registry") else {
            skip("registry", "pulls need the program docker-registry");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = folder.path().join("config.yml");
        let root = folder.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n{settings}",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        std::fs::write(folder.path().join("users"), format!("{USER}:{PASSWORD_HASH}\n")).unwrap();
        let process = Command::new(program)
            .current_dir(folder.path())
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { process, address, folder };
        eventually("the registry answers", || std::net::TcpStream::connect(&registry.address).is_ok()).await;
        Some(registry)
    }

    /// Puts the test image there under a name, and forgets it on the machine.
    pub fn push(&self, daemon: &Daemon, name: &str) -> String {
        let image = format!("{}/{name}", self.address);
        docker(&daemon.host(), &["tag", IMAGE, &image]);
        let credentials = self.credentials_file();
        let config = credentials.parent().unwrap().to_str().unwrap();
        docker(&daemon.host(), &["--config", config, "push", "-q", &image]);
        docker(&daemon.host(), &["rmi", &image]);
        image
    }

    /// What `docker login` writes.
    pub fn credentials_file(&self) -> PathBuf {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let file = self.folder.path().join("config.json");
        std::fs::write(&file, serde_json::json!({"auths": {&self.address: {"auth": auth}}}).to_string()).unwrap();
        file
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address on loopback where nobody listens.
pub fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
