//! Dispatch: claims waiting runs for the free places of a cluster, and hands them to its engine.

use std::sync::Arc;

use super::Control;
use super::ages::Phase;
use crate::engine::Capacity;
use crate::model::RunId;
use crate::store::{Claimant, QueuedRun, StoreError};

/// What a cluster has room for, and what is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    pub max_running: Option<u32>,
    pub capacity: Capacity,
    /// Runs that are with the engine, and what they asked for.
    pub running: u64,
    pub memory_mb: i64,
    pub cpu_millis: i64,
}

/// Which of the waiting runs can start now: the longest beginning of the queue that fits, so that a large run is not
/// overtaken for ever by small ones. An empty cluster takes any run: if it can't, its engine says so.
#[must_use]
pub fn choose(queue: &[QueuedRun], load: Load) -> Vec<RunId> {
    let mut taken = load;
    let mut chosen = Vec::new();
    for run in queue {
        let after = Load {
            running: taken.running + 1,
            memory_mb: taken.memory_mb.saturating_add(run.memory_mb.unwrap_or(0)),
            cpu_millis: taken.cpu_millis.saturating_add(run.cpu_millis.unwrap_or(0)),
            ..taken
        };
        let has_place = load.max_running.is_none_or(|most| after.running <= u64::from(most));
        let has_memory = load.capacity.memory_mb.is_none_or(|most| after.memory_mb <= most);
        let has_cpu = load.capacity.cpu_millis.is_none_or(|most| after.cpu_millis <= most);
        let is_empty = taken.running == 0;
        if !(has_place && (is_empty || (has_memory && has_cpu))) {
            break;
        }
        chosen.push(run.run_id);
        taken = after;
    }
    chosen
}

impl Control {
    /// Starts what can be started.
    pub async fn dispatch(self: &Arc<Self>) -> Result<(), StoreError> {
        while self.dispatch_batch().await? {}
        Ok(())
    }

    /// Whether there may be more to start.
    async fn dispatch_batch(self: &Arc<Self>) -> Result<bool, StoreError> {
        // No more is claimed than can be handed over at once: the rest waits in the queue, where it can be seen waiting.
        let places = u32::try_from(self.state.work.launches.available_permits()).unwrap_or(u32::MAX);
        if places == 0 {
            return Ok(false);
        }
        let queue = self.store.next_queued(&self.cluster, places).await?;
        if queue.is_empty() {
            return Ok(false);
        }
        let reserved = self.store.reserved(&self.cluster).await?;
        let load = Load {
            max_running: self.max_running.get(),
            capacity: self.engine.capacity(),
            running: reserved.runs,
            memory_mb: reserved.memory_mb,
            cpu_millis: reserved.cpu_millis,
        };
        let chosen = choose(&queue, load);
        if chosen.is_empty() {
            return Ok(false);
        }
        let max_running = load.max_running.unwrap_or(u32::MAX);
        // Nothing is claimed for an engine of which nobody knows which it is: the runs wait in the queue instead.
        let Ok(answers) = self.here().await else { return Ok(false) };
        let claimant = Claimant { node: &self.node, engine_id: answers.id(), endpoint: self.endpoint.as_deref() };
        let claimed = self.store.claim(&self.cluster, &chosen, max_running, claimant, self.clock.now()).await?;
        for run in &claimed {
            self.wake.changed(run.run_id);
            self.state.ages.begin(run.attempt_id(), Phase::Starting, &self.clock);
            self.begin_launch(run);
        }
        Ok(!claimed.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(sizes: &[(i64, i64)]) -> Vec<QueuedRun> {
        let run = |&(memory, cpu): &(i64, i64)| QueuedRun {
            run_id: RunId::generate(),
            memory_mb: Some(memory).filter(|memory| *memory > 0),
            cpu_millis: Some(cpu).filter(|cpu| *cpu > 0),
        };
        sizes.iter().map(run).collect()
    }

    fn capacity(memory_mb: i64, cpu_millis: i64) -> Capacity {
        Capacity { memory_mb: Some(memory_mb), cpu_millis: Some(cpu_millis), gpus: None }
    }

    #[test]
    fn no_more_start_than_there_are_places() {
        let queue = queue(&[(0, 0); 5]);
        for (running, expected) in [(0, 3), (2, 1), (3, 0), (9, 0)] {
            let load = Load { max_running: Some(3), running, ..Load::default() };
            assert_eq!(choose(&queue, load).len(), expected, "{running} running");
        }
        assert_eq!(choose(&queue, Load::default()).len(), 5);
    }

    #[test]
    fn a_run_that_does_not_fit_now_is_not_overtaken() {
        let queue = queue(&[(400, 0), (700, 0), (100, 0)]);
        let load = Load { capacity: capacity(1000, 4000), ..Load::default() };
        assert_eq!(choose(&queue, load), [queue[0].run_id]);
    }

    #[test]
    fn reserved_cpu_holds_back_as_memory_does() {
        let queue = queue(&[(0, 1500), (0, 1500), (0, 1500)]);
        let load = Load { capacity: capacity(1000, 4000), running: 1, cpu_millis: 1000, ..Load::default() };
        assert_eq!(choose(&queue, load).len(), 2);
    }

    #[test]
    fn an_empty_cluster_takes_any_run() {
        let queue = queue(&[(9999, 0), (1, 0)]);
        let load = Load { capacity: capacity(1000, 4000), ..Load::default() };
        assert_eq!(choose(&queue, load), [queue[0].run_id]);
    }
}
