//! Where pages are, for those that lead to them. Every address that a page holds is made here or by the layout.

use askama::filters::urlencode_strict;

use super::pager::Address;
use crate::http::base::at;
use crate::http::ui::HOME;
use crate::model::{DefinitionId, RunId};

/// The first page.
pub fn home() -> Address {
    Address::new(at(HOME))
}

/// The list of tasks.
pub fn tasks() -> Address {
    Address::new(at("/ui/tasks"))
}

/// The form of a new task.
pub fn new_task() -> Address {
    Address::new(at("/ui/tasks/new"))
}

/// The list of runs.
pub fn runs() -> Address {
    Address::new(at("/ui/runs"))
}

/// The page of a task. A group, with which its id begins, may hold anything but a slash.
pub fn task(id: &DefinitionId) -> String {
    let Ok(segment) = urlencode_strict(id.as_str());
    at(&format!("/ui/tasks/{segment}"))
}

/// The list of tasks, where it says that the task of this name was deleted.
pub fn tasks_without(name: &str) -> String {
    tasks().with("deleted", [name]).to_string()
}

pub fn run(id: RunId) -> String {
    at(&format!("/ui/runs/{id}"))
}

/// Launches a run's task again, with the run's own values to begin with.
pub fn launch_again(definition_id: &DefinitionId, run_id: RunId) -> String {
    format!("{}/launch?from={run_id}", task(definition_id))
}

/// The name of a cluster may hold anything, and `.` and `..` would lead elsewhere.
pub fn cluster(name: &str) -> String {
    let Ok(segment) = urlencode_strict(name);
    at(&format!("/ui/clusters/{segment}"))
}

/// A run's log as it is stored.
pub fn raw_log(id: RunId) -> String {
    at(&format!("/api/v1/{id}/logs?raw_text=true"))
}

/// The log of a run alone.
pub fn log(id: RunId) -> String {
    at(&format!("/ui/runs/{id}/log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment_of_the_path_whatever_it_holds() {
        assert_eq!(task(&DefinitionId::from_text("a b?#%-1")), "/ui/tasks/a%20b%3F%23%25-1");
    }
}
