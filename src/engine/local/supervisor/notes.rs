//! Notes for users about a task that was written for a container and runs as a plain process.

use jiff::Timestamp;

use crate::model::{Event, TaskSpec};

/// One event for each request that this engine does not fulfil as asked.
pub(in crate::engine::local) fn notes(
    task: &TaskSpec,
    unmet_limits: &[String],
    ignored_user: Option<String>,
    at: Timestamp,
) -> Vec<Event> {
    let mut notes = vec![Event::normal(
        at,
        "ImageNotUsed",
        format!("the local engine runs the command on the server's machine; the image `{}` is not used", task.image),
    )];
    notes.extend(unmet_limits.iter().map(|reason| Event::warning(at, "LimitNotEnforced", reason.as_str())));
    if let Some(mb) = task.ephemeral_storage_mb {
        let message = format!("the local engine does not limit disk space; {mb} MB were asked for");
        notes.push(Event::warning(at, "LimitNotEnforced", message));
    }
    if let Some(reason) = ignored_user {
        notes.push(Event::warning(at, "UserNotUsed", reason));
    }
    if task.privileged == Some(true) {
        let message = "the local engine knows no privileged mode; the command has the rights of its user";
        notes.push(Event::normal(at, "PrivilegedNotUsed", message));
    }
    notes.into_iter().map(|note| note.from_source("local")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_can_not_be_honoured_is_told() {
        let task = TaskSpec {
            image: "busybox:1".into(),
            ephemeral_storage_mb: Some(10),
            privileged: Some(true),
            ..TaskSpec::default()
        };
        let notes = notes(&task, &["memory is not limited: no".into()], Some("no such".into()), Timestamp::UNIX_EPOCH);
        let reasons: Vec<&str> = notes.iter().map(|note| note.reason.as_str()).collect();
        let expected = ["ImageNotUsed", "LimitNotEnforced", "LimitNotEnforced", "UserNotUsed", "PrivilegedNotUsed"];
        assert_eq!(reasons, expected);
        assert!(notes[0].message.contains("`busybox:1`"));
    }
}
