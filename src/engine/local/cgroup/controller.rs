//! The controllers of control groups that are used here.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Controller {
    Memory,
    Cpu,
    /// A separate controller in version 1; version 2 always counts.
    CpuTime,
}

pub(super) fn controllers<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Controller> {
    let known = |name| match name {
        "memory" => Some(Controller::Memory),
        "cpu" => Some(Controller::Cpu),
        "cpuacct" => Some(Controller::CpuTime),
        _ => None,
    };
    names.filter_map(known).collect()
}
