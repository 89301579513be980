//! What a task uses, sampled while it runs: its peak memory, its CPU time, and its busiest second.
//!
//! Control groups count what the task uses. Without them, its processes are sampled one by one: shared memory then
//! counts for each process, and one that began and ended between two samples appears only in the CPU time.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::engine::local::cgroup::{Groups, Limits};
use crate::engine::local::processes;
use crate::model::Usage;

/// The sampling interval, and so the time over which CPU use is averaged before its peak is taken.
const WINDOW: Duration = Duration::from_secs(1);
/// Sampling a task with very many processes takes long; all samples together take at most this fraction of a core.
const MOST_OF_A_CORE: u32 = 100;

pub(in crate::engine::local) struct Meter {
    started: Instant,
    limits: Limits,
    window: Duration,
    window_start: Instant,
    window_cpu: Option<Duration>,
    peak_millis: Option<i64>,
    peak_bytes: Option<u64>,
}

/// A shorter run's CPU use is computed as if it had lasted this long.
const SHORTEST_LIFETIME: Duration = Duration::from_millis(100);

/// Usage in a completed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::local) struct Seen {
    pub memory_bytes: Option<i64>,
    pub cpu_millis: Option<i64>,
}

impl Meter {
    pub fn new(now: Instant, limits: Limits) -> Self {
        Self {
            started: now,
            limits,
            window: WINDOW,
            window_start: now,
            window_cpu: Some(Duration::ZERO),
            peak_millis: None,
            peak_bytes: None,
        }
    }

    /// When the current window ends.
    pub fn due(&self) -> Instant {
        self.window_start + self.window
    }

    /// Closes the window if it has ended.
    pub fn sample(&mut self, now: Instant, groups: &Groups) -> Option<Seen> {
        if now < self.due() {
            return None;
        }
        let looking = Instant::now();
        let (memory, cpu) = look(groups);
        self.window = WINDOW.max(looking.elapsed() * MOST_OF_A_CORE);
        self.peak_bytes = self.peak_bytes.max(groups.memory_peak_bytes()).max(memory);
        let elapsed = now.saturating_duration_since(self.window_start);
        let cpu_millis = cpu.zip(self.window_cpu).map(|(cpu, before)| rate_millis(cpu.saturating_sub(before), elapsed));
        self.peak_millis = self.peak_millis.max(cpu_millis);
        (self.window_cpu, self.window_start) = (cpu, now);
        Some(Seen { memory_bytes: memory.map(signed), cpu_millis })
    }

    /// Total usage. Without control groups it is what the kernel counted for the processes that were waited for, and
    /// the peak is the highest sample, at least that of the largest process.
    pub fn finish(self, now: Instant, groups: &Groups) -> Usage {
        let cpu_time = groups.cpu_time().or_else(waited_for);
        let largest = || {
            let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
            u64::try_from(usage.max_rss()).ok().map(|kb| kb * 1024)
        };
        let peak_bytes = self.peak_bytes.max(groups.memory_peak_bytes().or_else(largest));
        // Over a shorter time the clocks are too coarse to compute a rate.
        let lifetime = now.saturating_duration_since(self.started).max(SHORTEST_LIFETIME);
        Usage {
            max_memory_bytes: peak_bytes.map(signed),
            max_cpu_millis: self.peak_millis.or_else(|| cpu_time.map(|cpu| rate_millis(cpu, lifetime))),
            cpu_time_ms: cpu_time.map(|cpu| i64::try_from(cpu.as_millis()).unwrap_or(i64::MAX)),
            ..limits_in_force(self.limits)
        }
    }
}

/// Current memory use, and the CPU time since the start.
fn look(groups: &Groups) -> (Option<u64>, Option<Duration>) {
    let (memory, cpu) = (groups.memory_bytes(), groups.cpu_time());
    if memory.is_some() && cpu.is_some() {
        return (memory, cpu);
    }
    let (resident, living) = processes::usage_of_descendants();
    // Zero means that the kernel lists no children, so nothing was measured.
    let resident = Some(resident).filter(|bytes| *bytes > 0);
    let is_seen = resident.is_some();
    let cpu = cpu.or_else(|| waited_for().filter(|_| is_seen).map(|ended| ended + living));
    (memory.or(resident), cpu)
}

/// The CPU time of ended processes.
fn waited_for() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    u64::try_from(micros).ok().map(Duration::from_micros)
}

pub(in crate::engine::local) fn limits_in_force(limits: Limits) -> Usage {
    Usage { memory_limit_bytes: limits.memory_bytes, cpu_limit_millis: limits.cpu_millis, ..Usage::default() }
}

/// CPU time per elapsed time, in thousandths of a core.
fn rate_millis(cpu: Duration, elapsed: Duration) -> i64 {
    let millis = cpu.as_micros().saturating_mul(1000) / elapsed.as_micros().max(1);
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_cpu_time_per_time() {
        let ms = Duration::from_millis;
        assert_eq!(rate_millis(ms(1500), ms(1000)), 1500);
        assert_eq!(rate_millis(ms(1), ms(4)), 250);
        assert_eq!(rate_millis(ms(0), ms(0)), 0);
    }

    #[test]
    fn without_control_groups_the_processes_are_looked_at() {
        let groups = Groups::default();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let now = Instant::now();
        let mut meter = Meter::new(now, Limits::default());
        assert_eq!(meter.sample(now, &groups), None);
        let seen = meter.sample(meter.due(), &groups).unwrap();
        assert!(seen.memory_bytes > Some(0) && seen.cpu_millis.is_some(), "{seen:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        let usage = meter.finish(now + Duration::from_secs(5), &groups);
        assert!(usage.max_memory_bytes >= seen.memory_bytes && usage.cpu_time_ms.is_some(), "{usage:?}");
        assert_eq!((usage.max_cpu_millis, usage.memory_limit_bytes), (seen.cpu_millis, None));
    }

    #[test]
    fn a_task_that_was_never_looked_at_is_known_by_its_end() {
        let meter = Meter::new(Instant::now(), Limits::default());
        let usage = meter.finish(Instant::now() + Duration::from_millis(5), &Groups::default());
        assert!(usage.max_memory_bytes.is_some() && usage.cpu_time_ms.is_some() && usage.max_cpu_millis.is_some());
    }
}
