//! What Docker shows of a container, field by field.

use bollard::models::ContainerInspectResponse;
use jiff::Timestamp;

pub(super) fn id_of(container: &ContainerInspectResponse) -> &str {
    container.id.as_deref().unwrap_or_default()
}

pub(super) fn started_at(container: &ContainerInspectResponse) -> Option<Timestamp> {
    time(container.state.as_ref()?.started_at.as_deref())
}

/// When a container ended; `None` while it runs.
pub(super) fn finished_at(container: &ContainerInspectResponse) -> Option<Timestamp> {
    time(container.state.as_ref()?.finished_at.as_deref())
}

pub(super) fn exit_code(container: &ContainerInspectResponse) -> i64 {
    container.state.as_ref().and_then(|state| state.exit_code).unwrap_or_default()
}

/// Docker writes "not yet" as the first day of year 1.
fn time(text: Option<&str>) -> Option<Timestamp> {
    text?.parse::<Timestamp>().ok().filter(|time| time.as_second() > 0)
}
