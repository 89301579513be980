//! Resources: what runs ask for and what clusters have, in one type.

use std::fmt;

/// Amounts of each resource. `None` means nothing for a run's request, and "no limit known" for a cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resources {
    pub memory_mb: Option<i64>,
    /// In thousandths of a core.
    pub cpu_millis: Option<i64>,
    pub gpus: Option<i64>,
    /// What a run writes outside its volumes.
    pub storage_mb: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    Memory,
    Cpu,
    Gpus,
    Storage,
}

impl Resource {
    /// The unit shown after an amount of it.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Memory => "MB of memory",
            Self::Cpu => "thousandths of a core",
            Self::Gpus => "GPUs",
            Self::Storage => "MB of ephemeral storage",
        }
    }
}

/// A resource of which more is requested than available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    pub resource: Resource,
    pub asked: i64,
    pub there: i64,
}

/// `it asks for 2 GPUs`
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it asks for {} {}", self.asked, self.resource.unit())
    }
}

impl Resources {
    #[must_use]
    pub const fn each(self) -> [(Resource, Option<i64>); 4] {
        [
            (Resource::Memory, self.memory_mb),
            (Resource::Cpu, self.cpu_millis),
            (Resource::Gpus, self.gpus),
            (Resource::Storage, self.storage_mb),
        ]
    }

    /// Combines two values, resource by resource.
    #[must_use]
    pub fn zip(self, other: Self, with: impl Fn(Option<i64>, Option<i64>) -> Option<i64>) -> Self {
        Self {
            memory_mb: with(self.memory_mb, other.memory_mb),
            cpu_millis: with(self.cpu_millis, other.cpu_millis),
            gpus: with(self.gpus, other.gpus),
            storage_mb: with(self.storage_mb, other.storage_mb),
        }
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, |one, other| match (one, other) {
            (Some(one), Some(other)) => Some(one.saturating_add(other)),
            (one, other) => one.or(other),
        })
    }

    /// What remains of this after subtracting `taken`: never negative, and unknown if the whole is.
    #[must_use]
    pub fn minus(self, taken: Self) -> Self {
        self.zip(taken, |whole, taken| Some(whole?.saturating_sub(taken.unwrap_or(0)).max(0)))
    }

    /// The larger of both, resource by resource.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        self.zip(other, Option::max)
    }

    /// The first resource of which this asks for more than there is. Resources that it does not ask for are ignored.
    #[must_use]
    pub fn shortage(self, there: Self) -> Option<Shortage> {
        let pairs = self.each().into_iter().zip(there.each());
        pairs.into_iter().find_map(|((resource, asked), (_, there))| {
            let (asked, there) = (asked.filter(|asked| *asked > 0)?, there?);
            (asked > there).then_some(Shortage { resource, asked, there })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_of_what_is_asked_for_and_known() {
        let asked = Resources { memory_mb: Some(100), gpus: Some(2), cpu_millis: Some(0), ..Resources::default() };
        assert_eq!(asked.shortage(Resources::default()), None, "no limit is known");
        let there = Resources { memory_mb: Some(100), gpus: Some(1), cpu_millis: Some(-1), storage_mb: Some(0) };
        let shortage = asked.shortage(there).unwrap();
        assert_eq!(shortage, Shortage { resource: Resource::Gpus, asked: 2, there: 1 });
        assert_eq!(shortage.to_string(), "it asks for 2 GPUs");
    }

    #[test]
    fn amounts_are_added_and_taken_away() {
        let one = Resources { memory_mb: Some(i64::MAX), gpus: Some(1), ..Resources::default() };
        let other = Resources { memory_mb: Some(1), cpu_millis: Some(5), gpus: Some(3), ..Resources::default() };
        let both = Resources { memory_mb: Some(i64::MAX), cpu_millis: Some(5), gpus: Some(4), storage_mb: None };
        assert_eq!(one.plus(other), both);
        let left = Resources { memory_mb: Some(i64::MAX - 1), gpus: Some(0), ..Resources::default() };
        assert_eq!(one.minus(other), left, "unknown stays unknown, and nothing is the least");
    }
}
