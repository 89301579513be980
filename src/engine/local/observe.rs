//! What an attempt's folder says of it.

use std::io;

use super::folder::Folder;
use super::record::{End, Start};
use crate::model::{Observation, StartFault};

/// What is seen of a folder that is there.
#[derive(Debug)]
struct Facts {
    is_supervised: bool,
    /// Nobody has taken the spec yet.
    has_spec: bool,
    start: Option<Start>,
    end: Option<End>,
    is_same_boot: bool,
    complaint: Option<String>,
}

/// What the folder says now; `None` where there is none.
pub(super) fn observe(folder: &Folder, boot_id: &str) -> io::Result<Option<Observation>> {
    if !folder.exists()? {
        return Ok(None);
    }
    // First of all: what is written after this was written by a supervisor that was seen alive.
    let is_supervised = folder.is_supervised()?;
    let end = folder.end()?;
    let is_over = end.is_some();
    let facts = Facts {
        is_supervised,
        has_spec: !is_over && folder.has_spec()?,
        // After a loss of power it may be there and empty.
        start: if is_over { None } else { folder.start().ok().flatten() },
        end,
        is_same_boot: is_supervised || is_over || folder.spec()?.is_some_and(|spec| spec.boot_id == boot_id),
        complaint: if is_supervised || is_over { None } else { folder.complaint() },
    };
    Ok(Some(judge(facts)))
}

fn judge(facts: Facts) -> Observation {
    let Facts { is_supervised, has_spec, start, end, is_same_boot, complaint } = facts;
    let complaint = complaint.map(|text| format!(": {text}")).unwrap_or_default();
    match (end, start) {
        (Some(end), _) => end.into(),
        (None, Some(start)) if is_supervised => Observation::Running(start.started),
        (None, None) if is_supervised => Observation::Starting,
        // What a machine did just before it lost power may not be on its disk; so not even an untouched spec says that
        // the command never ran.
        (None, _) if !is_same_boot => Observation::Gone { reason: "the machine was restarted while it ran".to_owned() },
        (None, None) if has_spec => Observation::NeverRan {
            reason: format!("its supervisor ended before it started the command{complaint}"),
            fault: StartFault::Machine,
        },
        (None, None) => Observation::Gone {
            reason: format!("its supervisor was killed in the moment it started the command{complaint}"),
        },
        (None, Some(start)) => {
            Observation::Gone { reason: format!("its supervisor (pid {}) was killed{complaint}", start.supervisor_pid) }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{Instance, Started, Usage};

    fn facts() -> Facts {
        Facts { is_supervised: false, has_spec: false, start: None, end: None, is_same_boot: true, complaint: None }
    }

    fn start() -> Start {
        let started = Started {
            at: Timestamp::UNIX_EPOCH,
            instance: Instance::default(),
            usage: Usage::default(),
            image_digest: None,
            notes: vec![],
        };
        Start { supervisor_pid: 7, pid: 8, since_ticks: 9, started }
    }

    #[test]
    fn each_state_of_a_folder_has_its_meaning() {
        let gone = |reason: &str| Observation::Gone { reason: reason.into() };
        let never_ran = |reason: &str| Observation::NeverRan { reason: reason.into(), fault: StartFault::Machine };
        let table = [
            (Facts { is_supervised: true, has_spec: true, ..facts() }, Observation::Starting),
            (Facts { is_supervised: true, ..facts() }, Observation::Starting),
            (Facts { is_supervised: true, start: Some(start()), ..facts() }, Observation::Running(start().started)),
            (
                Facts { end: Some(End::NeverRan { reason: "no shell".into(), retry: true }), ..facts() },
                never_ran("no shell"),
            ),
            (Facts { has_spec: true, ..facts() }, never_ran("its supervisor ended before it started the command")),
            (
                Facts { has_spec: true, complaint: Some("no memory".into()), ..facts() },
                never_ran("its supervisor ended before it started the command: no memory"),
            ),
            (facts(), gone("its supervisor was killed in the moment it started the command")),
            (Facts { start: Some(start()), ..facts() }, gone("its supervisor (pid 7) was killed")),
            (
                Facts { start: Some(start()), is_same_boot: false, ..facts() },
                gone("the machine was restarted while it ran"),
            ),
            (Facts { has_spec: true, is_same_boot: false, ..facts() }, gone("the machine was restarted while it ran")),
        ];
        for (facts, expected) in table {
            let text = format!("{facts:?}");
            assert_eq!(judge(facts), expected, "{text}");
        }
    }
}
