//! URLs of pages, for links to them. Every URL on a page is made here or by the layout.

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

/// The page of a task. A task's id begins with its group, which may contain any character but a slash.
pub fn task(id: &DefinitionId) -> String {
    let Ok(segment) = urlencode_strict(id.as_str());
    at(&format!("/ui/tasks/{segment}"))
}

/// The list of tasks, with a notice that the task of this name was deleted.
pub fn tasks_without(name: &str) -> String {
    tasks().with("deleted", [name]).to_string()
}

pub fn run(id: RunId) -> String {
    at(&format!("/ui/runs/{id}"))
}

/// The form that launches a run's task again, prefilled with the run's values.
pub fn launch_again(definition_id: &DefinitionId, run_id: RunId) -> String {
    format!("{}/launch?from={run_id}", task(definition_id))
}

/// The name of a cluster may contain any character, and `.` and `..` would otherwise change the path.
pub fn cluster(name: &str) -> String {
    let Ok(segment) = urlencode_strict(name);
    at(&format!("/ui/clusters/{segment}"))
}

/// A run's log as stored.
pub fn raw_log(id: RunId) -> String {
    at(&format!("/api/v1/{id}/logs?raw_text=true"))
}

/// The page that shows only a run's log.
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
