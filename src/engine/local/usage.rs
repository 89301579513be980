//! What a task uses: peak memory, CPU time, and the busiest second.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::cgroup::{Groups, Limits};
use crate::model::Usage;

/// Over how long CPU use is averaged before its peak is taken.
const WINDOW: Duration = Duration::from_secs(1);

pub(super) struct Meter {
    started: Instant,
    limits: Limits,
    /// Whether there are groups that count.
    is_live: bool,
    window_start: Instant,
    window_cpu: Duration,
    peak_millis: Option<i64>,
    peak_bytes: u64,
}

impl Meter {
    pub fn new(now: Instant, limits: Limits, groups: &Groups) -> Self {
        Self {
            started: now,
            limits,
            is_live: groups.cpu_time().is_some(),
            window_start: now,
            window_cpu: Duration::ZERO,
            peak_millis: None,
            peak_bytes: 0,
        }
    }

    /// When the window is over; `None` where nothing can be measured while the task runs.
    pub fn due(&self) -> Option<Instant> {
        self.is_live.then(|| self.window_start + WINDOW)
    }

    /// Ends a window that is over.
    pub fn sample(&mut self, now: Instant, groups: &Groups) {
        let elapsed = now.saturating_duration_since(self.window_start);
        if elapsed < WINDOW || !self.is_live {
            return;
        }
        self.peak_bytes = self.peak_bytes.max(groups.memory_peak_bytes().unwrap_or(0));
        if let Some(cpu) = groups.cpu_time() {
            let millis = rate_millis(cpu.saturating_sub(self.window_cpu), elapsed);
            self.peak_millis = self.peak_millis.max(Some(millis));
            self.window_cpu = cpu;
        }
        self.window_start = now;
    }

    /// What was used in all. Without control groups it is what the kernel counted of the processes that were waited
    /// for, and the peak is that of the largest process, not of all together.
    pub fn finish(mut self, now: Instant, groups: &Groups) -> Usage {
        self.sample(now, groups);
        let waited_for = getrusage(UsageWho::RUSAGE_CHILDREN).ok();
        let cpu_time = groups.cpu_time().or_else(|| {
            let usage = waited_for.as_ref()?;
            let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
            u64::try_from(micros).ok().map(Duration::from_micros)
        });
        let peak_bytes = match groups.memory_peak_bytes() {
            Some(bytes) => Some(bytes.max(self.peak_bytes)),
            None => waited_for.and_then(|usage| u64::try_from(usage.max_rss()).ok()).map(|kb| kb * 1024),
        };
        let lifetime = now.saturating_duration_since(self.started);
        Usage {
            max_memory_bytes: peak_bytes.map(signed),
            max_cpu_millis: self.peak_millis.or_else(|| cpu_time.map(|cpu| rate_millis(cpu, lifetime))),
            cpu_time_ms: cpu_time.map(|cpu| i64::try_from(cpu.as_millis()).unwrap_or(i64::MAX)),
            ..limits_in_force(self.limits)
        }
    }
}

pub(super) fn limits_in_force(limits: Limits) -> Usage {
    Usage { memory_limit_bytes: limits.memory_bytes, cpu_limit_millis: limits.cpu_millis, ..Usage::default() }
}

/// CPU time per time, in thousandths of a core.
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
    fn without_control_groups_only_the_whole_is_measured() {
        let now = Instant::now();
        let meter = Meter::new(now, Limits::default(), &Groups::default());
        assert_eq!(meter.due(), None);
        let usage = meter.finish(now + Duration::from_secs(5), &Groups::default());
        assert!(usage.max_memory_bytes.is_some() && usage.cpu_time_ms.is_some() && usage.max_cpu_millis.is_some());
        assert_eq!(usage.memory_limit_bytes, None);
    }
}
