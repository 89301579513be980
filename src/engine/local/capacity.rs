//! What can never run on this machine.

use crate::model::TaskSpec;

/// The machine's resources that tasks have to fit on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub memory_mb: i64,
    pub cpus: i64,
}

impl Machine {
    /// Unknown resources count as unlimited.
    pub fn of_this_server() -> Self {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cpus = std::thread::available_parallelism().ok().and_then(|cpus| i64::try_from(cpus.get()).ok());
        Self { memory_mb: memory_mb(&meminfo).unwrap_or(i64::MAX), cpus: cpus.unwrap_or(i64::MAX) }
    }

    /// `Err` explains why the task can never run here.
    pub fn check(self, task: &TaskSpec) -> Result<(), String> {
        let refuse = |reason: String| Err(format!("the cluster cannot support running the job: {reason}"));
        if let Some(memory) = task.memory_mb.filter(|memory| *memory > self.memory_mb) {
            return refuse(format!("it asks for {memory} MB of memory, the machine has {} MB", self.memory_mb));
        }
        if let Some(millis) = task.cpu_millis.filter(|millis| *millis > self.cpus.saturating_mul(1000)) {
            let (cores, rest) = (millis / 1000, millis % 1000);
            let asked = if rest == 0 { cores.to_string() } else { format!("{cores}.{rest:03}") };
            return refuse(format!("it asks for {asked} CPUs, the machine has {}", self.cpus));
        }
        if let Some(gpus) = task.gpu.filter(|gpus| *gpus > 0) {
            return refuse(format!("it asks for {gpus} GPUs, the local engine has no GPUs"));
        }
        Ok(())
    }
}

fn memory_mb(meminfo: &str) -> Option<i64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: i64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_table() {
        assert_eq!(memory_mb("MemTotal:       24683588 kB\nMemFree:        20000000 kB\n"), Some(24105));
        assert_eq!(memory_mb("MemFree: 1 kB\n"), None);
        assert!(Machine::of_this_server().memory_mb > 0);
    }

    #[test]
    fn only_what_can_never_fit_is_refused() {
        let machine = Machine { memory_mb: 1000, cpus: 2 };
        let all = TaskSpec { memory_mb: Some(1000), cpu_millis: Some(2000), gpu: Some(0), ..TaskSpec::default() };
        assert_eq!(machine.check(&all), Ok(()));
        let table = [
            (TaskSpec { memory_mb: Some(1001), ..all.clone() }, "1001 MB of memory, the machine has 1000 MB"),
            (TaskSpec { cpu_millis: Some(2500), ..all.clone() }, "2.500 CPUs, the machine has 2"),
            (TaskSpec { cpu_millis: Some(3000), ..all.clone() }, "3 CPUs, the machine has 2"),
            (TaskSpec { gpu: Some(1), ..all }, "1 GPUs, the local engine has no GPUs"),
        ];
        for (task, reason) in table {
            let expected = format!("the cluster cannot support running the job: it asks for {reason}");
            assert_eq!(machine.check(&task), Err(expected));
        }
    }
}
