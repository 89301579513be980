//! The composition root: builds every part from the configuration, connects them, and starts and stops them in order.

mod clusters;
mod data_dir;
mod engines;
mod handover;
mod lease;
mod open_files;
mod privacy;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use clusters::{ClusterSet, Shared};
use data_dir::DataDir;
use privacy::Others;
pub use privacy::keep_private;

use crate::clock::Clock;
use crate::config::{self, Config, DOCKER_CLUSTER, Database, DefaultCluster, LOCAL_CLUSTER};
use crate::control::global::Retries;
use crate::control::{LOG_PATIENCE, LoopRegistry, LoopReport, LoopTrouble, Settings};
use crate::http::{self, App, Limits, Origins};
use crate::lease::Lease;
use crate::logs::{CappedLog, Logs, note_usage};
use crate::model::{AttemptId, RunId};
use crate::service::{LoopFault, Service};
use crate::store::{Holder, Store, StoreError};
use crate::wake::Wake;

/// A server that accepts requests and runs tasks, until it is asked to stop.
pub struct RunningServer {
    address: SocketAddr,
    database: String,
    clusters_line: String,
    logs: Arc<Logs>,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    clusters: tokio::task::JoinHandle<anyhow::Result<()>>,
    store: Arc<Store>,
    lease: Lease,
    /// Held as long as the server runs.
    _data_dir: DataDir,
    _database_lock: Option<File>,
}

/// Starts a server. `stop` ends it in order: it accepts nothing more, finishes the requests in flight and the steps of
/// its loops; local runs go on.
pub async fn start(config: Config, stop: CancellationToken) -> anyhow::Result<RunningServer> {
    let usual_open_files = open_files::raise_limit();
    let listener = listen_on(config.server.listen).await?;
    let data_dir = DataDir::open(&config.server.data_dir, Others::of(&config.clusters)).await?;
    let address = listener.local_addr().context("the socket has no address")?;
    let holder = holder(&data_dir, address);
    let Opened { store, lease, lock } = open_store(&config.server.database, &holder).await?;
    let store = Arc::new(store.with_search_patience(config.lists.search_timeout));
    if let Database::Postgres { .. } = config.server.database {
        tokio::spawn(lease::keep(Arc::new(store.for_loops()), lease.clone(), holder, stop.clone()));
    }
    let installation_id = store.installation_id().await.context("cannot read the database")?;
    let logs_dir = data_dir.path.join("logs");
    let logs =
        Arc::new(Logs::open(&logs_dir).with_context(|| format!("cannot use the folder {}", logs_dir.display()))?);
    let (wake, clock) = (Wake::default(), Clock::system());

    let (configured, default) = with_what_is_found(config.clusters, config.default_cluster).await;
    let registry = LoopRegistry::default();
    let shared = Shared {
        store: Arc::new(store.for_loops()),
        registry: registry.clone(),
        usual_open_files,
        logs: Arc::clone(&logs),
        wake: wake.clone(),
        clock: clock.clone(),
        settings: Settings {
            grace: config.runs.grace,
            starts: config.runs.starts,
            log_cap_bytes: config.logs.max_bytes,
            log_patience: LOG_PATIENCE,
        },
        log_retention: config.logs.retention,
        retries: Retries::default(),
        server_id: data_dir.server_id.clone(),
        lease: lease.clone(),
        data_dir: data_dir.path.clone(),
        installation_id,
    };
    let by_request = config.server.clusters_by_request;
    let clusters = ClusterSet::start(shared, &configured, default, by_request, stop.clone()).await?;
    let service = Service::new(
        Arc::clone(&store),
        Arc::clone(&logs),
        wake,
        clock,
        config.launch,
        clusters.listed(),
        lease.clone(),
    );
    let service = service.with_server_id(data_dir.server_id.clone());
    let service =
        service.with_loop_faults(Arc::new(move || registry.reports().iter().filter_map(loop_fault).collect()));
    let limits = Limits {
        body_bytes: config.server.max_body_bytes,
        list_default: config.lists.default_limit,
        list_most: config.lists.max_limit,
        log_bytes: config.logs.chunk_bytes,
        log_wait: http::LOG_WAIT,
        follow_wait: http::FOLLOW_WAIT,
    };
    // An IPv4 address may come as an IPv6 one: `[::ffff:127.0.0.1]`.
    let is_loopback = address.ip().to_canonical().is_loopback();
    if !is_loopback {
        tracing::warn!(
            %address,
            "there is no access control: whoever reaches this address can run commands on the clusters"
        );
    }
    let origins = Origins {
        hosts: config.server.hosts,
        is_loopback,
        public_url: config.server.public_url,
        cors: config.server.cors_origins,
        trusted_proxies: config.server.trusted_proxies,
    };
    let router = http::router(App::new(service, limits, stop.clone()), origins);
    Ok(RunningServer {
        address,
        database: config.server.database.to_string(),
        clusters_line: clusters.line(),
        logs,
        serving: tokio::spawn(http::serve(listener, router, stop.clone())),
        clusters: tokio::spawn(clusters.run()),
        stop,
        store,
        lease,
        _data_dir: data_dir,
        _database_lock: lock,
    })
}

impl RunningServer {
    /// The listen address, with the port that the system chose for 0.
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
        self.clusters_line.clone()
    }

    /// The file that holds the log of an attempt.
    #[must_use]
    pub fn log_path(&self, run_id: RunId, attempt: u32) -> PathBuf {
        self.logs.path(AttemptId { run_id, attempt })
    }

    /// Returns when the server has stopped: on request, or because a part of it failed.
    pub async fn wait(mut self) -> anyhow::Result<()> {
        let result = tokio::select! {
            served = &mut self.serving => served.context("the HTTP server failed"),
            // The loops end only on request or by a panic.
            ended = &mut self.clusters => ended.context("the control loops failed").flatten(),
        };
        self.stop.cancel();
        if !self.clusters.is_finished() {
            self.clusters.await.context("the control loops failed")??;
        }
        if !self.serving.is_finished() {
            self.serving.await.context("the HTTP server failed")?;
        }
        lease::resign(&self.store, &self.lease).await;
        result
    }
}

fn loop_fault(report: &LoopReport) -> Option<LoopFault> {
    let late = match report.trouble? {
        LoopTrouble::Late(since) => Some(since),
        LoopTrouble::Panicked => None,
    };
    Some(LoopFault { name: report.name, cluster: report.cluster.clone(), late })
}

/// The life of one local attempt, in a small process of its own. See `engine::local`.
pub fn supervise(folder: &Path) -> io::Result<()> {
    let now = || Clock::system().now();
    let open_log = |path: &Path, cap_bytes| CappedLog::append(path, cap_bytes, now);
    crate::engine::local::supervise(folder, now, open_log, CappedLog::tend, CappedLog::finish, note_usage)
}

/// Allows the next server to be put into the control group of this one, which has ended.
pub fn release_groups() -> io::Result<()> {
    crate::engine::local::release_groups()
}

async fn listen_on(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let is_taken = |result: &io::Result<_>| matches!(result, Err(error) if error.kind() == io::ErrorKind::AddrInUse);
    handover::wait_while(is_taken, async || TcpListener::bind(address).await).await.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "another program does; stop it, or choose another address by --listen",
            io::ErrorKind::AddrNotAvailable => "this machine does not have that address; choose another by --listen",
            io::ErrorKind::PermissionDenied => "it takes more rights; choose a port from 1024 on by --listen",
            _ => return anyhow::Error::new(error).context(format!("cannot listen on {address}")),
        };
        anyhow!("cannot listen on {address}: {hint}")
    })
}

/// The identity under which this server takes the lease on the database. A copy of its data directory on another
/// machine is another server.
fn holder(data_dir: &DataDir, address: SocketAddr) -> Holder {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let path = data_dir.path.display();
    let since = Clock::system().now().strftime("%Y-%m-%d %H:%M:%S UTC");
    let process = std::process::id();
    // So is one beside it.
    let folder = std::fs::metadata(&data_dir.path).map(|folder| folder.ino()).unwrap_or_default();
    Holder {
        id: format!("{}@{host}:{folder}", data_dir.server_id),
        details: format!("on {host} (process {process}, data directory {path}, at http://{address}, since {since})"),
    }
}

struct Opened {
    store: Store,
    lease: Lease,
    lock: Option<File>,
}

/// Opens the database once no other server uses it. Only then is it changed.
async fn open_store(database: &Database, holder: &Holder) -> anyhow::Result<Opened> {
    let url = match database {
        Database::Sqlite { path } => {
            // Before the lock: another user who can open its file could hold the lock.
            privacy::tighten_database(path);
            let lock = lease::lock(path).await?;
            // If nothing can be written there, this error is clearer.
            let store = told(database, Store::open_sqlite(path).await)?;
            let lock = lock.with_context(|| format!("cannot lock the database {database}"))?;
            return Ok(Opened { store, lease: Lease::permanent(), lock: Some(lock) });
        }
        Database::Postgres { url } => url.expose(),
    };
    let store = told(database, Store::connect_postgres(url).await)?;
    let lease = match told(database, store.has_leases().await)? {
        true => Some(lease::take(&store, holder, database).await?),
        false => None,
    };
    told(database, store.migrate().await)?;
    let lease = match lease {
        Some(lease) => lease,
        None => lease::take(&store, holder, database).await?,
    };
    Ok(Opened { store, lease, lock: None })
}

/// The same, with advice on how to resolve an error.
fn told<T>(database: &Database, opened: Result<T, StoreError>) -> anyhow::Result<T> {
    opened.map_err(|error| {
        let hint = match &error {
            StoreError::Corrupt(_) => "; set the file aside, or put a copy in its place that was made before",
            StoreError::Full(_) => "; make room, and start again",
            _ => "",
        };
        anyhow!("cannot use the database {database}: {:#}{hint}", anyhow::Error::new(error))
    })
}

/// If no clusters are configured, a Docker Engine that answers at its usual address becomes one, and the default.
async fn with_what_is_found(
    mut clusters: BTreeMap<String, config::Cluster>,
    default: DefaultCluster,
) -> (BTreeMap<String, config::Cluster>, String) {
    match default {
        DefaultCluster::Named(name) => (clusters, name),
        DefaultCluster::WhatIsFound => match engines::find_docker().await {
            Some(engine) => {
                let max_running = NonZeroU32::new(config::default_max_running());
                clusters.insert(DOCKER_CLUSTER.to_owned(), config::Cluster { engine, max_running });
                (clusters, DOCKER_CLUSTER.to_owned())
            }
            None => (clusters, LOCAL_CLUSTER.to_owned()),
        },
    }
}
