//! What the events of one pod prove about its command: that it may have begun, or that it could not.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use super::facts::{Evidence, Trouble};
use super::names::CONTAINER;
use super::words::clean;

/// Evaluates the events of one pod.
pub(super) fn weigh(events: &[Event]) -> Evidence {
    let own_path = format!("spec.containers{{{CONTAINER}}}");
    let about_ours = || events.iter().filter(|event| event.involved_object.field_path.as_ref() == Some(&own_path));
    let reason = |event: &&Event, reasons: &[&str]| event.reason.as_deref().is_some_and(|own| reasons.contains(&own));
    // Only running containers are killed.
    if about_ours().any(|event| reason(&event, &["Started", "Killing"]) || is_restart(event)) {
        return Evidence::Ran;
    }
    let latest = |reasons: &[&str]| about_ours().filter(|event| reason(event, reasons)).filter_map(time_of).max();
    if about_ours().any(|event| reason(&event, &["Created"])) {
        let made_at = latest(&["Created"]);
        let failed = about_ours().filter(|event| reason(event, &["Failed"]) && time_of(event) >= made_at);
        let failed = failed.filter_map(|event| event.message.as_deref()).find(|words| is_failed_start(words));
        return failed.map_or(Evidence::Made, |words| {
            let words = clean(words.strip_prefix("Error: ").unwrap_or(words));
            Evidence::CouldNotStart(Trouble { is_about_image: false, words, init: None })
        });
    }
    let failures =
        || about_ours().filter(|event| reason(event, &["Failed", "ErrImageNeverPull", "InspectFailed", "BackOff"]));
    let failed_at = failures().filter_map(time_of).max();
    let trouble = trouble_of(about_ours().filter(|event| reason(event, &["Failed", "ErrImageNeverPull"])));
    let trouble = failed_at.map(|_| trouble);
    // Each try with a present image logs `Pulled` first and then, in the same second, the error.
    let (fetching_at, fetched_at) = (latest(&["Pulling"]), latest(&["Pulled"]));
    // A fetch that fails in the second in which it began is over; one that began in the second of a back-off is not.
    let is_fetching = fetching_at >= failed_at
        && fetching_at > failures().filter(|event| !is_back_off(event)).filter_map(time_of).max();
    match trouble {
        trouble if fetched_at > failed_at && fetched_at >= fetching_at => Evidence::MayHaveStarted(trouble),
        _ if is_fetching => Evidence::Fetching,
        Some(trouble) => Evidence::CouldNotStart(trouble),
        None => Evidence::Nothing,
    }
}

/// Whether a runtime reports that it did not start a created container. A runtime that did not answer in time may
/// have started it all the same.
fn is_failed_start(words: &str) -> bool {
    const STARTS: [&str; 6] = [
        "create containerd task",
        "start containerd task",
        "start container",
        "create shim",
        "OCI runtime",
        "PreStartContainer hook failed",
    ];
    const UNDECIDED: [&str; 5] = ["deadline exceeded", "timeout", "timed out", "connection", "transport"];
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    says(&STARTS) && !says(&UNDECIDED)
}

fn is_back_off(event: &Event) -> bool {
    event.reason.as_deref() == Some("BackOff") || event.message.as_deref() == Some("Error: ImagePullBackOff")
}

fn is_restart(event: &Event) -> bool {
    event.message.as_deref().is_some_and(|message| message.starts_with("Back-off restarting"))
}

/// The newest and most specific message: a registry's rather than that of the following back-off.
fn trouble_of<'a>(events: impl Iterator<Item = &'a Event>) -> Trouble {
    const PULL: &str = "Failed to pull image ";
    let mut told: Vec<(u8, Option<Timestamp>, Trouble)> = events
        .filter_map(|event| {
            let message = event.message.as_deref()?;
            let (weight, is_about_image, words) = if let Some(rest) = message.strip_prefix(PULL) {
                (2, true, rest.split_once("\": ").map_or(rest, |(_, words)| words))
            } else if event.reason.as_deref() == Some("ErrImageNeverPull") {
                (2, true, message)
            } else {
                let words = message.strip_prefix("Error: ").unwrap_or(message);
                let is_about_image = matches!(words, "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull");
                (u8::from(!is_about_image) * 2, is_about_image, words)
            };
            Some((weight, time_of(event), Trouble { is_about_image, words: clean(words), init: None }))
        })
        .collect();
    told.sort_by_key(|(weight, at, _)| (*weight, *at));
    let last = told.pop().map(|(_, _, trouble)| trouble);
    let words = || "it is tried again and again".to_owned();
    last.unwrap_or_else(|| Trouble { is_about_image: true, words: words(), init: None })
}

pub(super) fn time_of(event: &Event) -> Option<Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
        .or_else(|| event.first_timestamp.as_ref().map(|time| time.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(reason: &str, message: &str, second: u32) -> Event {
        event_of("run", reason, message, second)
    }

    fn event_of(container: &str, reason: &str, message: &str, second: u32) -> Event {
        serde_json::from_value(json!({
            "metadata": { "name": "e" },
            "involvedObject": { "kind": "Pod", "fieldPath": format!("spec.containers{{{container}}}") },
            "reason": reason, "message": message, "lastTimestamp": format!("2026-11-22T10:00:{second:02}Z"),
        }))
        .unwrap()
    }

    #[test]
    fn only_what_was_said_last_tells_whether_a_container_could_start() {
        let pull = |second| event("Failed", "Failed to pull image \"r/x:1\": no such host", second);
        let back_off = |second| event("Failed", "Error: ImagePullBackOff", second);
        let secret = |second| event("Failed", "Error: secret \"a\" not found", second);
        let pulled = |second| event("Pulled", "Container image is there", second);
        let trouble = |is_about_image, words: &str| Trouble { is_about_image, words: words.to_owned(), init: None };
        let host = trouble(true, "no such host");
        let pulling = |second| event("Pulling", "Pulling image", second);
        let created = |second| event("Created", "Created container run", second);
        let runc =
            "failed to create containerd task: failed to create shim: OCI runtime create failed: runc create failed";
        let late = "failed to start container \"run\": context deadline exceeded";
        let failed = |words: &str, second| event("Failed", &format!("Error: {words}"), second);
        let table = [
            (vec![], Evidence::Nothing),
            (vec![pulling(1)], Evidence::Fetching),
            (vec![pulling(1), pull(1)], Evidence::CouldNotStart(host.clone())),
            (vec![pulling(3), pull(2), back_off(2)], Evidence::Fetching),
            (vec![pulling(3), pull(2), back_off(3)], Evidence::Fetching),
            (vec![pulling(3), pull(3), back_off(4)], Evidence::CouldNotStart(host.clone())),
            (vec![pulling(1), pulled(3)], Evidence::MayHaveStarted(None)),
            (vec![pulled(3), pulling(4)], Evidence::Fetching),
            (vec![pull(1), back_off(2)], Evidence::CouldNotStart(host.clone())),
            (vec![pull(1), pulled(2)], Evidence::MayHaveStarted(Some(host))),
            (vec![pulled(1), secret(1)], Evidence::CouldNotStart(trouble(false, "secret \"a\" not found"))),
            (vec![pull(1), pulled(2), created(2)], Evidence::Made),
            // As reported by 1.20 for a pod that was deleted while its image was being pulled.
            (vec![pull(1), pulled(2), created(2), failed(runc, 2)], Evidence::CouldNotStart(trouble(false, runc))),
            (vec![created(2), failed(late, 2)], Evidence::Made),
            (vec![failed(runc, 1), created(2)], Evidence::Made),
            (vec![secret(2), created(2)], Evidence::Made),
            (vec![created(2), failed(runc, 2), event("Started", "Started container run", 2)], Evidence::Ran),
            (vec![created(2), failed(runc, 2), event("Killing", "Stopping container run", 3)], Evidence::Ran),
            (vec![event("Started", "Container started", 2)], Evidence::Ran),
            (vec![event("BackOff", "Back-off restarting failed container", 2)], Evidence::Ran),
            // The start or failure of another container says nothing about ours.
            (vec![event_of("sidecar", "Started", "Container started", 2)], Evidence::Nothing),
            (vec![event_of("sidecar", "Failed", "Error: x", 2)], Evidence::Nothing),
        ];
        for (events, expected) in table {
            assert_eq!(weigh(&events), expected, "{events:?}");
        }
    }
}
