//! What containers use, sampled while they run. A pass costs one small call per container, so it is rare; where the
//! kernel keeps the peak itself (cgroup v1), nothing between two samples is missed.

use std::time::{Duration, Instant};

use bollard::models::ContainerStatsResponse;

/// The peak observed for a container, and its CPU time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Peak {
    pub memory_bytes: Option<i64>,
    pub cpu_millis: Option<i64>,
    pub cpu_time_ms: Option<i64>,
}

/// One sample of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    memory_bytes: Option<i64>,
    max_memory_bytes: Option<i64>,
    cpu_nanos: Option<i64>,
}

/// The usage since the previous sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    pub memory_bytes: Option<i64>,
    pub cpu_millis: Option<i64>,
}

/// The samples of one container, folded into its peak.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampling {
    pub peak: Peak,
    last_cpu: Option<(Instant, i64)>,
    count: u32,
    pub due: Instant,
}

/// An early first sample, for short runs; then less and less often.
const DELAYS: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];

impl Sampling {
    pub(super) fn start(now: Instant) -> Self {
        Self { peak: Peak::default(), last_cpu: None, count: 0, due: now + DELAYS[0] }
    }

    /// Adds one sample and schedules the next.
    pub(super) fn add(&mut self, stats: &ContainerStatsResponse, now: Instant) -> Use {
        let look = Look::read(stats);
        self.peak.memory_bytes = self.peak.memory_bytes.max(look.max_memory_bytes);
        let mut cpu_millis = None;
        if let Some(nanos) = look.cpu_nanos.filter(|nanos| *nanos > 0) {
            self.peak.cpu_time_ms = self.peak.cpu_time_ms.max(Some(nanos / 1_000_000));
            cpu_millis = self.last_cpu.map(|(then, nanos_then)| {
                let elapsed_ms = i64::try_from(now.duration_since(then).as_millis()).unwrap_or(i64::MAX);
                nanos.saturating_sub(nanos_then) / 1000 / elapsed_ms.max(1)
            });
            self.peak.cpu_millis = self.peak.cpu_millis.max(cpu_millis);
            self.last_cpu = Some((now, nanos));
        }
        self.postpone(now);
        Use { memory_bytes: look.memory_bytes, cpu_millis }
    }

    pub(super) fn postpone(&mut self, now: Instant) {
        self.count = self.count.saturating_add(1);
        self.due = now + DELAYS[(self.count as usize).min(DELAYS.len() - 1)];
    }
}

impl Look {
    fn read(stats: &ContainerStatsResponse) -> Self {
        let cpu = stats.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref());
        let cpu_nanos = cpu.and_then(|usage| usage.total_usage).and_then(|nanos| i64::try_from(nanos).ok());
        let (memory_bytes, max_memory_bytes) = memory(stats).unzip();
        Self { memory_bytes, max_memory_bytes, cpu_nanos }
    }
}

/// Current and peak memory, without what the kernel would give back at once: a task does not need page cache.
fn memory(stats: &ContainerStatsResponse) -> Option<(i64, i64)> {
    let memory = stats.memory_stats.as_ref()?;
    let counter = |names: [&str; 2]| {
        let counters = memory.stats.as_ref();
        names.iter().find_map(|name| counters?.get(*name).copied()).unwrap_or(0)
    };
    let now = memory.usage?.saturating_sub(counter(["total_inactive_file", "inactive_file"]));
    let kernel_peak = memory.max_usage.unwrap_or(0).saturating_sub(counter(["total_cache", "cache"]));
    let now = i64::try_from(now).ok().filter(|bytes| *bytes > 0)?;
    Some((now, now.max(i64::try_from(kernel_peak).unwrap_or(i64::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stats(value: serde_json::Value) -> ContainerStatsResponse {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_peak_is_the_kernels_own_where_it_keeps_one() {
        let v1 = stats(json!({ "memory_stats": { "usage": 100, "max_usage": 5000,
            "stats": { "total_inactive_file": 40, "total_cache": 1000 } } }));
        assert_eq!(memory(&v1), Some((60, 4000)));
        let v2 = stats(json!({ "memory_stats": { "usage": 100, "stats": { "inactive_file": 40 } } }));
        assert_eq!(memory(&v2), Some((60, 60)));
        assert_eq!(memory(&stats(json!({ "memory_stats": {} }))), None);
    }

    #[test]
    fn the_peak_of_cpu_is_that_of_the_busiest_interval() {
        let begin = Instant::now();
        let mut sampling = Sampling::start(begin);
        let mut seen = Vec::new();
        for (secs, cpu_ms) in [(1, 1000_u64), (2, 1500), (4, 5500), (6, 6000)] {
            let nanos = cpu_ms * 1_000_000;
            let stats = stats(json!({ "cpu_stats": { "cpu_usage": { "total_usage": nanos } } }));
            seen.push(sampling.add(&stats, begin + Duration::from_secs(secs)).cpu_millis);
        }
        assert_eq!(seen, [None, Some(500), Some(2000), Some(250)]);
        assert_eq!((sampling.peak.cpu_millis, sampling.peak.cpu_time_ms), (Some(2000), Some(6000)));
    }

    #[test]
    fn looks_become_less_frequent() {
        let begin = Instant::now();
        let mut sampling = Sampling::start(begin);
        let mut delays = vec![sampling.due - begin];
        for _ in 0..3 {
            let now = sampling.due;
            sampling.postpone(now);
            delays.push(sampling.due - now);
        }
        assert_eq!(delays, [500, 1000, 2000, 2000].map(Duration::from_millis));
    }
}
