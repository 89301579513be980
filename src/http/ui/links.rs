//! Where pages are, for those that lead to them.

use askama::filters::urlencode_strict;

use super::pager::Address;
use crate::model::{DefinitionId, RunId};

/// The page of a task. A group, with which its id begins, may hold anything but a slash.
pub(super) fn task(id: &DefinitionId) -> String {
    let Ok(segment) = urlencode_strict(id.as_str());
    format!("/ui/tasks/{segment}")
}

/// The list of tasks, where it says that the task of this name was deleted.
pub(super) fn tasks_without(name: &str) -> String {
    Address::new("/ui/tasks").with("deleted", [name]).to_string()
}

pub(super) fn run(id: RunId) -> String {
    format!("/ui/runs/{id}")
}

/// Launches a run's task again, with the run's own values to begin with.
pub(super) fn launch_again(definition_id: &DefinitionId, run_id: RunId) -> String {
    format!("{}/launch?from={run_id}", task(definition_id))
}

/// The name of a cluster may hold anything, and `.` and `..` would lead elsewhere.
pub(super) fn cluster(name: &str) -> String {
    let Ok(segment) = urlencode_strict(name);
    format!("/ui/clusters/{segment}")
}

/// The log of a run alone.
pub(super) fn log(id: RunId) -> String {
    format!("/ui/runs/{id}/log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_of_the_path_whatever_it_holds() {
        assert_eq!(task(&DefinitionId::from_text("a b?#%-1")), "/ui/tasks/a%20b%3F%23%25-1");
    }
}
