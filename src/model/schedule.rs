//! Schedule: which of the waiting runs start now, and why the others wait. The same code decides and explains.

use jiff::Timestamp;

use super::{Cluster, ClusterStatus, Resource, Resources, Run, RunId, Shortage, Status};

/// A waiting run, reduced to what the decision needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub run_id: RunId,
    pub asked: Resources,
}

/// A cluster's limits and capacity, and how much is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    pub max_running: Option<u32>,
    pub capacity: Resources,
    /// Runs that are with the engine, and the resources they asked for.
    pub running: u64,
    pub reserved: Resources,
}

/// Why a run waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// The cluster has reached its maximum number of runs.
    Place,
    /// Less is free than it asks for.
    Lacks(Shortage),
    /// This many runs wait before it.
    Turn(u64),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub start: Vec<RunId>,
    pub waiting: Vec<(RunId, Wait)>,
}

/// Which of the waiting runs can start now, in their order. A run is overtaken only by runs that ask for nothing of what
/// it lacks, so that small ones can't keep it waiting for ever, and one that waits for a GPU holds up only runs that want
/// one as well. An empty cluster takes any run: if it can't, its engine says so.
#[must_use]
pub fn plan(queue: &[Candidate], room: Room) -> Plan {
    let mut plan = Plan::default();
    let mut room = room;
    let (mut is_full, mut lacking) = (false, Vec::new());
    for run in queue {
        let wants =
            |resource: &Resource| run.asked.each().iter().any(|(asked, amount)| asked == resource && amount.is_some());
        let wait = if is_full || lacking.iter().any(wants) {
            Some(Wait::Turn(u64::try_from(plan.waiting.len()).unwrap_or(u64::MAX)))
        } else {
            room.wait_of(run.asked)
        };
        match wait {
            Some(Wait::Place) => is_full = true,
            Some(Wait::Lacks(shortage)) => lacking.push(shortage.resource),
            Some(Wait::Turn(_)) | None => {}
        }
        match wait {
            Some(wait) => plan.waiting.push((run.run_id, wait)),
            None => {
                plan.start.push(run.run_id);
                room.running += 1;
                room.reserved = room.reserved.plus(run.asked);
            }
        }
    }
    plan
}

impl Room {
    /// Why a run that asks for these resources can't be the next to start.
    fn wait_of(&self, asked: Resources) -> Option<Wait> {
        if self.max_running.is_some_and(|most| self.running >= u64::from(most)) {
            return Some(Wait::Place);
        }
        if self.running == 0 {
            return None;
        }
        asked.shortage(self.capacity.minus(self.reserved)).map(Wait::Lacks)
    }
}

impl Cluster {
    #[must_use]
    pub fn room(&self) -> Room {
        Room {
            max_running: self.max_running,
            capacity: self.condition.capacity,
            running: self.load.taken(),
            reserved: self.load.reserved,
        }
    }

    /// Why a waiting run has not started, in words for its owner; `None` for a run that does not wait. `ahead` is how
    /// many runs wait before it.
    #[must_use]
    pub fn why_waiting(&self, run: &Run, ahead: u64) -> Option<String> {
        if run.status != Status::Queued || run.stop.is_some() {
            return None;
        }
        let name = &self.record.name;
        let text = if self.engine.is_none() {
            format!("the server's configuration has no cluster {name}")
        } else if self.record.status != ClusterStatus::Active {
            let reason = match self.record.status_reason.as_str() {
                "" => String::new(),
                reason => format!(": {reason}"),
            };
            let since = minute(self.record.status_since);
            match self.record.status {
                ClusterStatus::Maintenance => format!("the cluster {name} is in maintenance since {since}{reason}"),
                _ => format!("the cluster {name} is offline since {since}{reason}"),
            }
        } else if let Some((since, reason)) = &self.condition.unreachable {
            format!("the cluster {name} can't be reached since {}: {reason}", minute(*since))
        } else if ahead > 0 {
            format!("{} waits before it for the cluster {name}, {}", runs(ahead), self.what_is_taken())
        } else {
            let next = format!("it is the next for the cluster {name}, {}", self.what_is_taken());
            match self.room().wait_of(run.task.resources()) {
                Some(Wait::Lacks(shortage)) => format!("{next}; {shortage}, {} are free", shortage.there),
                _ => next,
            }
        };
        Some(text)
    }

    fn what_is_taken(&self) -> String {
        let taken = self.load.taken();
        let mut text = match self.max_running {
            Some(most) => format!("which has {taken} of at most {most} runs"),
            None => format!("which has {}", runs(taken)),
        };
        let (capacity, reserved) = (self.condition.capacity, self.load.reserved);
        if let Some(memory) = capacity.memory_mb {
            text.push_str(&format!(", {} of {memory} MB", reserved.memory_mb.unwrap_or(0)));
        }
        if let Some(cpu) = capacity.cpu_millis {
            text.push_str(&format!(", {} of {cpu} thousandths of a core", reserved.cpu_millis.unwrap_or(0)));
        }
        // Most clusters have none, so that is not worth a mention.
        if let Some(gpus) = capacity.gpus.filter(|gpus| *gpus > 0) {
            text.push_str(&format!(", {} of {gpus} GPUs", reserved.gpus.unwrap_or(0)));
        }
        text
    }
}

fn runs(count: u64) -> String {
    match count {
        1 => "1 run".to_owned(),
        _ => format!("{count} runs"),
    }
}

/// `2026-01-02 03:04 UTC`
fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(memory_mb: i64, cpu_millis: i64, gpus: i64) -> Resources {
        let some = |amount: i64| Some(amount).filter(|amount| *amount > 0);
        Resources { memory_mb: some(memory_mb), cpu_millis: some(cpu_millis), gpus: some(gpus), storage_mb: None }
    }

    fn queue<const N: usize>(sizes: [(i64, i64, i64); N]) -> [Candidate; N] {
        sizes.map(|(memory, cpu, gpus)| Candidate { run_id: RunId::generate(), asked: amounts(memory, cpu, gpus) })
    }

    fn room(running: u64, reserved: Resources) -> Room {
        Room { max_running: None, capacity: amounts(1000, 4000, 4), running, reserved }
    }

    fn lacks(resource: Resource, asked: i64, there: i64) -> Wait {
        Wait::Lacks(Shortage { resource, asked, there })
    }

    #[test]
    fn no_more_start_than_there_are_places() {
        let queue = queue([(0, 0, 0); 5]);
        for (running, expected) in [(0, 3), (2, 1), (3, 0), (9, 0)] {
            let plan = plan(&queue, Room { max_running: Some(3), running, ..Room::default() });
            assert_eq!(plan.start.len(), expected, "{running} running");
            let waits: Vec<_> = plan.waiting.iter().map(|(_, wait)| *wait).collect();
            let turns = (1..).map(Wait::Turn);
            assert_eq!(waits, [Wait::Place].into_iter().chain(turns).take(5 - expected).collect::<Vec<_>>());
        }
        assert_eq!(plan(&queue, Room::default()).start.len(), 5);
    }

    #[test]
    fn a_run_that_does_not_fit_now_is_not_overtaken() {
        let queue = queue([(400, 0, 0), (700, 0, 0), (100, 0, 0)]);
        let plan = plan(&queue, room(0, Resources::default()));
        assert_eq!(plan.start, [queue[0].run_id]);
        let waiting = [(queue[1].run_id, lacks(Resource::Memory, 700, 600)), (queue[2].run_id, Wait::Turn(1))];
        assert_eq!(plan.waiting, waiting);
    }

    #[test]
    fn reserved_cpu_holds_back_as_memory_does() {
        let queue = queue([(0, 1500, 0), (0, 1500, 0), (0, 1500, 0)]);
        let plan = plan(&queue, room(1, amounts(0, 1000, 0)));
        assert_eq!(plan.start.len(), 2);
        assert_eq!(plan.waiting, [(queue[2].run_id, lacks(Resource::Cpu, 1500, 0))]);
    }

    #[test]
    fn reserved_gpus_hold_back_as_memory_does() {
        let queue = queue([(0, 0, 1), (0, 0, 2), (0, 0, 1)]);
        let chosen = plan(&queue, room(1, amounts(0, 0, 2)));
        assert_eq!(chosen.start, [queue[0].run_id]);
        let waiting = [(queue[1].run_id, lacks(Resource::Gpus, 2, 1)), (queue[2].run_id, Wait::Turn(1))];
        assert_eq!(chosen.waiting, waiting);
        let unknown =
            Room { capacity: Resources { gpus: None, ..amounts(1000, 4000, 0) }, ..room(1, amounts(0, 0, 2)) };
        assert_eq!(plan(&queue, unknown).start.len(), 3, "how many there are is not known");
    }

    #[test]
    fn one_that_waits_for_a_gpu_holds_up_only_runs_that_want_one() {
        let queue = queue([(100, 0, 3), (100, 0, 0), (100, 0, 1), (0, 0, 0)]);
        let chosen = plan(&queue, room(1, amounts(0, 0, 2)));
        assert_eq!(chosen.start, [queue[1].run_id, queue[3].run_id]);
        let waiting = [(queue[0].run_id, lacks(Resource::Gpus, 3, 2)), (queue[2].run_id, Wait::Turn(1))];
        assert_eq!(chosen.waiting, waiting);
        let full = Room { max_running: Some(1), ..room(1, amounts(0, 0, 2)) };
        assert_eq!(plan(&queue, full).start, [], "a place is what all of them need");
    }

    #[test]
    fn what_a_run_does_not_ask_for_does_not_hold_it_back() {
        // The cluster accepted any run while it was empty, or has become smaller since.
        let queue = queue([(0, 500, 0), (1, 0, 0)]);
        let plan = plan(&queue, room(1, amounts(9999, 0, 9)));
        assert_eq!(plan.start, [queue[0].run_id]);
        assert_eq!(plan.waiting, [(queue[1].run_id, lacks(Resource::Memory, 1, 0))]);
    }

    #[test]
    fn an_empty_cluster_takes_any_run() {
        let queue = queue([(9999, 0, 9), (1, 0, 0)]);
        let plan = plan(&queue, room(0, Resources::default()));
        assert_eq!(plan.start, [queue[0].run_id]);
    }
}
