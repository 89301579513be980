//! The composition root: makes every part from the configuration, joins them, and starts and stops them in order.

use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{self, Config, Database};
use crate::control::{self, Control, Settings};
use crate::engine::local::{LocalConfig, LocalEngine};
use crate::engine::{Engine, EngineError, Pokes};
use crate::http::{self, App, Limits};
use crate::logs::{CappedLog, Logs};
use crate::model::{AttemptId, RunId};
use crate::service::{self, LaunchCheck, Service};
use crate::store::{Store, StoreError};
use crate::wake::Wake;

/// A server that accepts requests and runs tasks, until it is told to stop.
pub struct RunningServer {
    address: SocketAddr,
    database: String,
    clusters: String,
    logs: Arc<Logs>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    loops: JoinSet<()>,
    /// Held as long as the server runs.
    _data_dir: DataDir,
}

/// Starts a server. `stop` ends it in order: it accepts nothing more, finishes the requests in flight and the steps of
/// its loops; local runs go on.
pub async fn start(config: Config, stop: CancellationToken) -> anyhow::Result<RunningServer> {
    let listener = listen_on(config.server.listen).await?;
    let data_dir = DataDir::open(&config.server.data_dir)?;
    let store = Arc::new(open_store(&config.server.database).await?);
    let logs_dir = data_dir.path.join("logs");
    let logs =
        Arc::new(Logs::open(&logs_dir).with_context(|| format!("cannot use the folder {}", logs_dir.display()))?);
    let (wake, clock) = (Wake::default(), Clock::system());

    let settings = Settings {
        grace: config.runs.grace,
        log_cap_bytes: config.logs.max_bytes,
        log_retention: config.logs.retention,
    };
    let mut loops = JoinSet::new();
    let mut clusters = Vec::new();
    for (name, cluster) in &config.clusters {
        let pokes = Pokes::default();
        let engine = make_engine(&cluster.engine, &data_dir.path, pokes.clone())
            .with_context(|| format!("cannot use cluster {name}"))?;
        clusters.push(service::Cluster {
            name: name.clone(),
            engine: engine.kind(),
            check: launch_check(Arc::clone(&engine)),
        });
        let control = Arc::new(Control {
            store: Arc::clone(&store),
            logs: Arc::clone(&logs),
            wake: wake.clone(),
            clock: clock.clone(),
            settings: settings.clone(),
            node: data_dir.node.clone(),
            cluster: name.clone(),
            engine,
            pokes,
            max_running: cluster.max_running.map(std::num::NonZeroU32::get),
            state: control::State::default(),
        });
        control::run_loops(&control, &stop, &mut loops);
    }
    let clusters_line =
        clusters.iter().map(|cluster| format!("{} ({})", cluster.name, cluster.engine)).collect::<Vec<_>>();

    let service = Service::new(store, Arc::clone(&logs), wake, clock, config.launch, clusters);
    let limits = Limits {
        body_bytes: config.server.max_body_bytes,
        list_default: config.lists.default_limit,
        list_most: config.lists.max_limit,
        log_bytes: config.logs.chunk_bytes,
    };
    let router = http::router(App { service: Arc::new(service), limits, stop: stop.clone() });
    let address = listener.local_addr().context("the socket has no address")?;
    Ok(RunningServer {
        address,
        database: config.server.database.to_string(),
        clusters: clusters_line.join(", "),
        logs,
        serving: tokio::spawn(http::serve(listener, router, stop.clone())),
        stop,
        loops,
        _data_dir: data_dir,
    })
}

impl RunningServer {
    /// Where it listens, with the port that the system chose for 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The database, without its password.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The clusters and their engines, for the start-up line.
    #[must_use]
    pub fn clusters_line(&self) -> String {
        self.clusters.clone()
    }

    /// The file that holds the log of an attempt.
    #[must_use]
    pub fn log_path(&self, run_id: RunId, attempt: u32) -> PathBuf {
        self.logs.path(AttemptId { run_id, attempt })
    }

    /// Returns when the server has stopped: because it was told to, or because a part of it failed.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let result = tokio::select! {
            served = &mut self.serving => served.context("the HTTP server failed"),
            // The loops end only when they are told to, or by a panic.
            Some(ended) = self.loops.join_next() => match ended {
                Ok(()) => Ok(()),
                Err(error) => Err(error).context("a control loop failed"),
            },
        };
        self.stop.cancel();
        while let Some(ended) = self.loops.join_next().await {
            ended.context("a control loop failed")?;
        }
        if !self.serving.is_finished() {
            self.serving.await.context("the HTTP server failed")?;
        }
        result
    }
}

/// The life of one local attempt, in a small process of its own. See `engine::local`.
pub fn supervise(folder: &Path) -> io::Result<()> {
    crate::engine::local::supervise(folder, || Clock::system().now(), CappedLog::append, CappedLog::finish)
}

async fn listen_on(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "another program does; stop it, or choose another address by --listen",
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address; choose another by --listen",
            io::ErrorKind::PermissionDenied => "it takes more rights; choose a port from 1024 on by --listen",
            _ => return anyhow::Error::new(error).context(format!("cannot listen on {address}")),
        };
        anyhow!("cannot listen on {address}: {hint}")
    })
}

/// The folder of all that this server keeps, locked against a second server.
struct DataDir {
    path: PathBuf,
    /// Tells this folder from that of any other server.
    node: String,
    _lock: File,
}

impl DataDir {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if path.exists() && !path.is_dir() {
            bail!("cannot use the data directory {shown}: it is not a directory");
        }
        std::fs::create_dir_all(path).with_context(|| format!("cannot make the data directory {shown}"))?;
        let path = path.canonicalize().with_context(|| format!("cannot use the data directory {shown}"))?;
        let lock_path = path.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.with_context(|| format!("cannot write to the data directory {shown}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another flotilla server uses the data directory {shown}; stop it, or give this one another by --data-dir"
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", lock_path.display()));
            }
        }
        let node =
            node_id(&path.join("node")).with_context(|| format!("cannot write to the data directory {shown}"))?;
        Ok(Self { path, node, _lock: lock })
    }
}

/// Reads the identity in this file, or makes one that is there after a crash as well.
fn node_id(path: &Path) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(node) if !node.trim().is_empty() => Ok(node.trim().to_owned()),
        Ok(_) => make_node_id(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_node_id(path),
        Err(error) => Err(error),
    }
}

fn make_node_id(path: &Path) -> io::Result<String> {
    let node = uuid::Uuid::new_v4().to_string();
    let new = path.with_extension("new");
    std::fs::write(&new, format!("{node}\n"))?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(node)
}

async fn open_store(database: &Database) -> anyhow::Result<Store> {
    let opened = match database {
        Database::Sqlite { path } => Store::open_sqlite(path).await,
        Database::Postgres { url } => Store::open_postgres(url.expose()).await,
    };
    opened.map_err(|error| {
        let hint = match &error {
            StoreError::Corrupt(_) => "; set the file aside, or put a copy in its place that was made before",
            StoreError::Full(_) => "; make room, and start again",
            _ => "",
        };
        anyhow!("cannot use the database {database}: {:#}{hint}", anyhow::Error::new(error))
    })
}

fn make_engine(engine: &config::Engine, data_dir: &Path, pokes: Pokes) -> anyhow::Result<Arc<dyn Engine>> {
    match engine {
        config::Engine::Local { shell } => {
            let runs_dir = data_dir.join("runs");
            let shown = runs_dir.display().to_string();
            let local = LocalConfig { shell: shell.clone(), ..LocalConfig::new(runs_dir) };
            Ok(Arc::new(LocalEngine::new(local, pokes).with_context(|| format!("cannot use the folder {shown}"))?))
        }
    }
}

/// What the engine refuses for good is the client's fault; what it can't say now is found out when the run starts.
fn launch_check(engine: Arc<dyn Engine>) -> LaunchCheck {
    Arc::new(move |task| {
        let engine = Arc::clone(&engine);
        Box::pin(async move {
            match engine.check(&task).await {
                Err(EngineError::Rejected(reason)) => Err(reason),
                Ok(()) | Err(EngineError::Unavailable(_) | EngineError::NotStarted(_) | EngineError::Gone(_)) => Ok(()),
            }
        })
    })
}
