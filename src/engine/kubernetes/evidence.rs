//! What the events of one pod prove about its command: that it may have begun, or that it could not.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;

use super::facts::{Evidence, Trouble};
use super::names::CONTAINER;
use super::words::clean;

/// Weighs the events of one pod.
pub(super) fn weigh(events: &[Event]) -> Evidence {
    let own_path = format!("spec.containers{{{CONTAINER}}}");
    let about_ours = || events.iter().filter(|event| event.involved_object.field_path.as_ref() == Some(&own_path));
    let reason = |event: &&Event, reasons: &[&str]| event.reason.as_deref().is_some_and(|own| reasons.contains(&own));
    // A container that is made is started right away, and only what was made can be killed.
    if about_ours().any(|event| reason(&event, &["Created", "Started", "Killing"]) || is_restart(event)) {
        return Evidence::Ran;
    }
    let latest = |reasons: &[&str]| about_ours().filter(|event| reason(event, reasons)).filter_map(time_of).max();
    let Some(failed_at) = latest(&["Failed", "ErrImageNeverPull", "InspectFailed", "BackOff"]) else {
        return Evidence::Nothing;
    };
    let trouble = trouble_of(about_ours().filter(|event| reason(event, &["Failed", "ErrImageNeverPull"])));
    // Each try with an image that is there says `Pulled` first, and then, in the same second, what is wrong.
    match latest(&["Pulled"]) {
        Some(pulled_at) if pulled_at > failed_at => Evidence::MayHaveStarted(trouble),
        _ => Evidence::CouldNotStart(trouble),
    }
}

fn is_restart(event: &Event) -> bool {
    event.message.as_deref().is_some_and(|message| message.starts_with("Back-off restarting"))
}

/// The newest words that say most: those of a registry rather than those of the back-off that follows.
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
            Some((weight, time_of(event), Trouble { is_about_image, words: clean(words) }))
        })
        .collect();
    told.sort_by_key(|(weight, at, _)| (*weight, *at));
    let last = told.pop().map(|(_, _, trouble)| trouble);
    last.unwrap_or_else(|| Trouble { is_about_image: true, words: "it is tried again and again".to_owned() })
}

fn time_of(event: &Event) -> Option<Timestamp> {
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
        let trouble = |is_about_image, words: &str| Trouble { is_about_image, words: words.to_owned() };
        let host = trouble(true, "no such host");
        let table = [
            (vec![], Evidence::Nothing),
            (vec![event("Pulling", "Pulling image", 1)], Evidence::Nothing),
            (vec![pull(1), back_off(2)], Evidence::CouldNotStart(host.clone())),
            (vec![pull(1), pulled(2)], Evidence::MayHaveStarted(host)),
            (vec![pulled(1), secret(1)], Evidence::CouldNotStart(trouble(false, "secret \"a\" not found"))),
            (vec![pull(1), pulled(2), event("Created", "Container created", 2)], Evidence::Ran),
            (vec![event("Started", "Container started", 2)], Evidence::Ran),
            (vec![event("BackOff", "Back-off restarting failed container", 2)], Evidence::Ran),
            // Another container's start, and another one's failure, say nothing about ours.
            (vec![event_of("sidecar", "Started", "Container started", 2)], Evidence::Nothing),
            (vec![event_of("sidecar", "Failed", "Error: x", 2)], Evidence::Nothing),
        ];
        for (events, expected) in table {
            assert_eq!(weigh(&events), expected, "{events:?}");
        }
    }
}
