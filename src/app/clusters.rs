//! A server's clusters: set up at its start from the configuration, and at its start and while it runs from those
//! stored by requests. The stored ones are read periodically, so that all servers of a database converge.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::engines;
use crate::clock::Clock;
use crate::config::{self, DEFAULT_CLUSTER};
use crate::control::global::{KeptTime, Retries};
use crate::control::{Control, Global, LoopRegistry, Settings, cluster, global};
use crate::engine::Reports;
use crate::engine::kind::Surroundings;
use crate::lease::{Lease, Standing};
use crate::logs::Logs;
use crate::service::{self, SettingsCheck};
use crate::store::{Store, StoreError};
use crate::wake::Wake;

/// How often the stored clusters are read without a wake-up: another server may have changed them.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the last step of a loop may take.
const LAST_STEP_PATIENCE: Duration = Duration::from_secs(10);

/// The limit including the last steps of the loops of removed clusters.
const STEP_PATIENCE: Duration = Duration::from_mins(5);

/// What every cluster of the server shares.
pub(super) struct Shared {
    pub(super) store: Arc<Store>,
    pub(super) logs: Arc<Logs>,
    pub(super) wake: Wake,
    pub(super) clock: Clock,
    pub(super) settings: Settings,
    /// How long the log of an ended run is kept; `None` is no limit.
    pub(super) log_retention: Option<Duration>,
    /// The retries of all clusters.
    pub(super) retries: Retries,
    /// This server's identity: that of its data directory.
    pub(super) server_id: String,
    pub(super) lease: Lease,
    pub(super) data_dir: PathBuf,
    /// The database's identity.
    pub(super) installation_id: String,
    /// Every loop of the server is registered here.
    pub(super) registry: LoopRegistry,
    /// How many files a task may have open; the server may have more.
    pub(super) usual_open_files: Option<u64>,
}

/// All clusters, each with its loops.
pub(super) struct ClusterSet {
    shared: Shared,
    stop: CancellationToken,
    /// The configured clusters, which take precedence over stored ones of the same names.
    configured: BTreeMap<String, config::Cluster>,
    /// The tenure of the lease that the loops belong to.
    generation: u64,
    /// The cluster that `default` stands for.
    default: String,
    members: BTreeMap<String, Member>,
    ending: BTreeMap<String, Ending>,
    /// Ends the loops over the whole database.
    global_stop: CancellationToken,
    loops: JoinSet<()>,
    listed: service::Clusters,
    /// What was wrong with stored clusters, so that each is logged once.
    faults: BTreeMap<String, String>,
}

struct Member {
    settings: config::Cluster,
    listed: service::Cluster,
    control: Arc<Control>,
    stop: CancellationToken,
    /// Neither its loops nor the work they started acts any more.
    ended: CancellationToken,
}

/// A cluster whose loops were asked to end. A new set starts only after they have ended: two sets would launch the
/// same run and write the same log.
struct Ending {
    ended: CancellationToken,
    /// Still listed, because the cluster only changes.
    listed: Option<service::Cluster>,
}

impl ClusterSet {
    /// Sets up the configured and the stored clusters. `by_request` says whether requests may add clusters.
    pub(super) async fn start(
        shared: Shared,
        configured: &BTreeMap<String, config::Cluster>,
        default: String,
        by_request: bool,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let creation: Option<SettingsCheck> = match by_request {
            true => {
                Some(Arc::new(|name, settings| Ok(config::Cluster::from_settings(name, settings)?.engine.endpoint())))
            }
            false => None,
        };
        let listed = service::Clusters::new(Vec::new(), creation);
        let (configured, generation) = (configured.clone(), 0);
        let (members, ending, faults, mut loops) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), JoinSet::new());
        let kept_time = KeptTime::new(Arc::clone(&shared.store), shared.clock.clone());
        loops.spawn(kept_time.run(shared.registry.clone(), shared.lease.tenure(), stop.clone()));
        let global_stop = stop.child_token();
        let mut set =
            Self { shared, stop, configured, generation, default, members, ending, global_stop, loops, listed, faults };
        if let Standing::Held { generation } = set.shared.lease.standing() {
            set.generation = generation;
        }
        set.start_global();
        for (name, settings) in &set.configured.clone() {
            set.add(name, settings, true)?;
        }
        set.follow_store().await.context("cannot read the database")?;
        Ok(set)
    }

    /// The same list for as long as the server runs.
    pub(super) fn listed(&self) -> service::Clusters {
        self.listed.clone()
    }

    /// Keeps the clusters in line with the stored ones until the server stops; the loops finish their steps. An error
    /// is a failed loop.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let mut changes = self.shared.wake.on_clusters();
        let registered = self.shared.registry.register("clusters", None, STEP_PATIENCE);
        let mut result = Ok(());
        while result.is_ok() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(ended) = self.loops.join_next() => {
                    result = ended;
                    // A changed cluster starts anew.
                    registered.observe(self.follow()).await;
                }
                Ok(()) = changes.changed() => registered.observe(self.follow()).await,
                () = self.shared.lease.on_change() => registered.observe(self.follow()).await,
                () = tokio::time::sleep(PERIOD) => registered.observe(self.follow()).await,
            }
        }
        // If one has failed, the others still finish their steps.
        self.stop.cancel();
        while let Some(ended) = self.loops.join_next().await {
            result = result.and(ended);
        }
        result.context("a control loop failed")
    }

    async fn follow(&mut self) {
        match self.shared.lease.standing() {
            Standing::Held { generation } if generation == self.generation => {}
            // Another server may have changed anything meanwhile: everything starts anew.
            Standing::Held { generation } => {
                self.end_all();
                self.generation = generation;
                self.start_global();
            }
            Standing::Unconfirmed => return,
            Standing::Lost { .. } => {
                self.global_stop.cancel();
                return self.end_all();
            }
        }
        if let Err(error) = self.follow_store().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "the stored clusters are read again later");
        }
    }

    /// Brings the clusters created by requests in line with the stored ones.
    async fn follow_store(&mut self) -> Result<(), StoreError> {
        let mut wanted = BTreeMap::new();
        for record in self.shared.store.cluster_records().await? {
            let Some(settings) = record.settings else { continue };
            if self.configured.contains_key(&record.name) {
                self.note_fault(&record.name, "the configuration has a cluster of that name, which is used instead");
                continue;
            }
            match config::Cluster::from_settings(&record.name, &settings) {
                Ok(settings) => drop(wanted.insert(record.name, settings)),
                Err(fault) => self.note_fault(&record.name, &fault),
            }
        }
        self.change_limits(&wanted);
        let is_obsolete =
            |name: &String, member: &Member| !member.listed.is_configured && wanted.get(name) != Some(&member.settings);
        let obsolete: Vec<_> = self
            .members
            .iter()
            .filter(|(name, member)| is_obsolete(name, member))
            .map(|(name, _)| name.clone())
            .collect();
        for name in obsolete {
            let comes_back = wanted.contains_key(&name);
            self.end(&name, comes_back);
            let what = if comes_back { "cluster changed; its loops end first" } else { "cluster removed" };
            tracing::info!(cluster = name, "{what}");
        }
        for (name, ending) in &mut self.ending {
            if !wanted.contains_key(name) && !self.configured.contains_key(name) {
                ending.listed = None;
            }
        }
        self.ending.retain(|_, ending| !ending.ended.is_cancelled());
        for (name, settings) in &wanted {
            if self.members.contains_key(name) || self.ending.contains_key(name) {
                continue;
            }
            match self.add(name, settings, false) {
                Ok(()) => {
                    tracing::info!(cluster = name, "cluster added");
                    self.faults.remove(name);
                }
                Err(error) => self.note_fault(name, &format!("{error:#}")),
            }
        }
        for (name, settings) in &self.configured.clone() {
            if self.members.contains_key(name) || self.ending.contains_key(name) {
                continue;
            }
            if let Err(error) = self.add(name, settings, true) {
                self.note_fault(name, &format!("{error:#}"));
            }
        }
        self.publish();
        self.take_over().await
    }

    /// Remains of an earlier server with another data directory on engines that every server reaches.
    async fn take_over(&self) -> Result<(), StoreError> {
        let reached = self.members.iter().filter(|(_, member)| !member.control.engine.is_tied_to_server());
        for (name, _) in reached {
            let number = self.shared.store.take_over_attempts(name, &self.shared.server_id).await?;
            if number > 0 {
                tracing::info!(cluster = name, number, "attempts of another server were taken over");
                self.shared.wake.queue();
            }
        }
        Ok(())
    }

    /// Ends all loops, and no run. The clusters stay listed.
    /// Begins the loops over the whole database anew, for the lease as it is held now.
    fn start_global(&mut self) {
        self.global_stop.cancel();
        self.global_stop = self.stop.child_token();
        let shared = &self.shared;
        let global = Arc::new(Global {
            store: Arc::clone(&shared.store),
            logs: Arc::clone(&shared.logs),
            wake: shared.wake.clone(),
            clock: shared.clock.clone(),
            tenure: shared.lease.tenure(),
            log_retention: shared.log_retention,
            retries: shared.retries.clone(),
        });
        let (stop, mut loops) = (self.global_stop.clone(), JoinSet::new());
        global::run_loops(&global, &shared.registry, &stop, &mut loops);
        self.loops.spawn(async move { finish(&mut loops, &stop).await });
    }

    fn end_all(&mut self) {
        for name in self.members.keys().cloned().collect::<Vec<_>>() {
            self.end(&name, true);
        }
    }

    /// Changes that only limit the number of concurrent runs apply while the loops continue.
    fn change_limits(&mut self, wanted: &BTreeMap<String, config::Cluster>) {
        for (name, member) in &mut self.members {
            let Some(settings) = wanted.get(name) else { continue };
            if settings.engine != member.settings.engine || settings.max_running == member.settings.max_running {
                continue;
            }
            let max_running = settings.max_running.map(NonZeroU32::get);
            member.control.max_running.set(max_running);
            member.listed.max_running = max_running;
            member.settings = settings.clone();
            tracing::info!(cluster = name, max_running, "cluster changed");
            self.shared.wake.queue();
        }
    }

    fn note_fault(&mut self, cluster: &str, fault: &str) {
        if self.faults.insert(cluster.to_owned(), fault.to_owned()).is_none_or(|known| known != fault) {
            tracing::warn!(cluster, fault, "a stored cluster can't be set up");
        }
    }

    fn add(&mut self, name: &str, settings: &config::Cluster, is_configured: bool) -> anyhow::Result<()> {
        let shared = &self.shared;
        let reports = Reports::default();
        let surroundings = Surroundings {
            cluster: name,
            data_dir: &shared.data_dir,
            logs: &shared.logs,
            installation_id: &shared.installation_id,
            clock: &shared.clock,
            usual_open_files: shared.usual_open_files,
        };
        let engine = settings.engine.make(&surroundings, reports.clone());
        let engine = engine.map_err(anyhow::Error::from_boxed).with_context(|| format!("cannot use cluster {name}"))?;
        let max_running = settings.max_running.map(NonZeroU32::get);
        let listed = service::Cluster {
            name: name.to_owned(),
            resolved_name: name.to_owned(),
            engine: engine.kind(),
            max_running,
            is_configured,
            check: engines::launch_check(Arc::clone(&engine)),
            probe: engines::probe(Arc::clone(&engine)),
        };
        let control = Arc::new(Control {
            store: Arc::clone(&shared.store),
            logs: Arc::clone(&shared.logs),
            wake: shared.wake.clone(),
            clock: shared.clock.clone(),
            settings: shared.settings.clone(),
            server_id: shared.server_id.clone(),
            tenure: shared.lease.tenure(),
            cluster: name.to_owned(),
            engine,
            reports,
            retries: shared.retries.clone(),
            max_running: max_running.into(),
            endpoint: (!is_configured).then(|| settings.engine.endpoint()),
            state: cluster::State::default(),
        });
        let (stop, ended) = (self.stop.child_token(), CancellationToken::new());
        let mut loops = JoinSet::new();
        cluster::run_loops(&control, &shared.registry, &stop, &mut loops);
        let (at_end, looping, told) = (ended.clone().drop_guard(), Arc::clone(&control), stop.clone());
        self.loops.spawn(async move {
            let _at_end = at_end;
            finish(&mut loops, &told).await;
            looping.end().await;
        });
        self.members.insert(name.to_owned(), Member { settings: settings.clone(), listed, control, stop, ended });
        Ok(())
    }

    /// Asks a cluster's loops to end; its runs continue and are found again if the cluster comes back.
    fn end(&mut self, name: &str, comes_back: bool) {
        let Some(member) = self.members.remove(name) else { return };
        member.stop.cancel();
        let listed = comes_back.then_some(member.listed);
        self.ending.insert(name.to_owned(), Ending { ended: member.ended, listed });
    }

    fn publish(&self) {
        let ending = self.ending.values().filter_map(|ending| ending.listed.clone());
        let mut list: Vec<_> = self.members.values().map(|member| member.listed.clone()).chain(ending).collect();
        let meant = list.iter().find(|cluster| cluster.name == self.default && self.default != DEFAULT_CLUSTER);
        let meant = meant.map(|meant| service::Cluster { name: DEFAULT_CLUSTER.to_owned(), ..meant.clone() });
        list.extend(meant);
        list.sort_by(|a, b| a.name.cmp(&b.name));
        self.listed.set(list);
    }

    /// Each cluster with its engine, and which of them `default` is, for people.
    pub(super) fn line(&self) -> String {
        let own = self.members.iter().map(|(name, member)| format!("{name} ({})", member.listed.engine));
        let mut shown: Vec<_> = own.collect();
        if self.default != DEFAULT_CLUSTER {
            shown.push(format!("{DEFAULT_CLUSTER} (is {})", self.default));
        }
        shown.sort();
        shown.join(", ")
    }
}

/// Waits until the loops have ended, on request or by a panic, which is propagated. A step that takes too long is
/// aborted, as by a crash.
async fn finish(loops: &mut JoinSet<()>, told: &CancellationToken) {
    let overdue = async {
        told.cancelled().await;
        tokio::time::sleep(LAST_STEP_PATIENCE).await;
    };
    tokio::pin!(overdue);
    let mut is_overdue = false;
    loop {
        let ended = tokio::select! {
            ended = loops.join_next() => ended,
            () = &mut overdue, if !is_overdue => {
                is_overdue = true;
                loops.abort_all();
                continue;
            }
        };
        match ended {
            None => return,
            Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Some(_) => {}
        }
    }
}
