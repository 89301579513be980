//! Watches the daemon: its events become pokes, and its silence becomes the cluster's state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, StatsOptions};
use futures_util::{StreamExt, stream};

use super::Inner;
use super::container::attempt_of;
use super::link::ApiError;
use super::usage::Use;
use crate::model::{AttemptId, UsageSample};

/// How long after losing the daemon it is contacted again: from the first value, doubling up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// The longest time until a dead connection is noticed.
const PING_PERIOD: Duration = Duration::from_secs(15);
/// How often containers due for a sample are looked up, and how many are sampled at once.
const SAMPLING_PERIOD: Duration = Duration::from_millis(500);
const SAMPLES_AT_ONCE: usize = 4;

/// Events that may change a run's state. `destroy` is an external `docker rm`.
const EVENTS: [&str; 4] = ["start", "die", "oom", "destroy"];

impl Inner {
    /// Turns events into pokes, without end.
    pub(super) async fn watch_events(self: Arc<Self>) {
        let mut pause = PAUSES.0;
        let mut since = None;
        loop {
            let error = match self.follow_events(&mut since, &mut pause).await {
                Ok(()) => ApiError::Away("it closed the stream of events".to_owned()),
                Err(error) => error,
            };
            let error = self.link.missed(error);
            tracing::warn!(cluster = self.identity.cluster, %error, "the Docker daemon's event stream broke off and is opened again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Follows the events until the stream ends. Events since the second of the last one seen, by the daemon's clock,
    /// are delivered again; changes in between that are not among the few events that the daemon remembers are found
    /// by poking all attempts.
    async fn follow_events(&self, since: &mut Option<i64>, pause: &mut Duration) -> Result<(), ApiError> {
        let machine = self.link.refresh_machine().await?;
        let mut filters = self.identity.filters();
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), EVENTS.map(str::to_owned).to_vec());
        let options =
            EventsOptions { since: since.map(|second| second.to_string()), until: None, filters: Some(filters) };
        let mut events = self.link.docker().await?.events(Some(options)).boxed();
        self.report_all().await?;
        tracing::info!(
            cluster = self.identity.cluster,
            machine = machine.name,
            version = machine.version,
            "the Docker daemon is watched"
        );
        if self.config.pids_limit.is_some() && !machine.can_limit_pids {
            let cluster = self.identity.cluster.as_str();
            tracing::warn!(cluster, "the Docker daemon can't limit the number of processes on its machine");
        }
        *pause = PAUSES.0;
        let mut pings = tokio::time::interval_at(tokio::time::Instant::now() + PING_PERIOD, PING_PERIOD);
        loop {
            tokio::select! {
                event = events.next() => match event.transpose()? {
                    Some(event) => *since = self.take_event(&event).or(*since),
                    None => return Ok(()),
                },
                _ = pings.tick() => { self.link.refresh_machine().await?; }
            }
        }
    }

    /// Pokes the event's attempt; returns the event's second.
    fn take_event(&self, event: &EventMessage) -> Option<i64> {
        let attributes = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
        if let Some(attempt_id) = attributes.and_then(attempt_of) {
            if event.action.as_deref() == Some("die") {
                // For a moment the daemon still lists it as running; only an inspection waits for the real state.
                self.seen.mark_ended(attempt_id);
                self.ends.tell(attempt_id);
            }
            self.reports.changed(attempt_id);
        }
        event.time
    }

    async fn report_all(&self) -> Result<(), ApiError> {
        for attempt_id in self.list().await?.into_keys() {
            self.reports.changed(attempt_id);
        }
        Ok(())
    }

    /// Samples what running containers use, without end.
    pub(super) async fn watch_usage(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SAMPLING_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let due = self.seen.due(Instant::now());
            let samples = stream::iter(due).map(|(attempt_id, id)| self.sample(attempt_id, id));
            samples.buffer_unordered(SAMPLES_AT_ONCE).for_each(async |()| {}).await;
        }
    }

    async fn sample(&self, attempt_id: AttemptId, id: String) {
        let options = StatsOptions { stream: false, one_shot: true };
        let stats = self.link.call(async |docker| docker.stats(&id, Some(options)).next().await.transpose()).await;
        // A container that has just ended, or a daemon that is away, yields no sample; nothing can be done about
        // either.
        if let Some(seen) = self.seen.add_look(attempt_id, stats.ok().flatten().as_ref(), Instant::now()) {
            let Use { memory_bytes, cpu_millis } = seen;
            self.reports.sample(attempt_id, UsageSample { at: self.link.now(), memory_bytes, cpu_millis });
        }
    }
}
