//! What an API refusal means for a launch: whether the same request can ever succeed, and whether to give up the
//! attempt for another. Where the status is not conclusive, the API's message decides.

use super::link::ApiError;
use crate::engine::EngineError;
use crate::engine::container::refusal::is_final;
use crate::model::StartFault;

/// The error for a launch whose job or pod the API rejected, so that nothing was started.
pub(super) fn of_launch(error: ApiError) -> EngineError {
    match error {
        ApiError::Away(reason) => EngineError::Unavailable(reason),
        ApiError::Refused { status, message } => of_refusal(status, &message),
    }
}

fn of_refusal(status: u16, message: &str) -> EngineError {
    let says = |words: &str| message.contains(words);
    let told = format!("Kubernetes refuses the run: {message}");
    match status {
        403 if is_passing(message) || is_hiccup(message) => {
            EngineError::NotStarted { reason: told, fault: StartFault::Machine }
        }
        // The operator's fault: the server's account lacks the right, or its namespace does not exist. The message
        // names the verb and the resource.
        403 if says(" cannot ") && says("resource") => {
            EngineError::Unavailable(format!("the server's account lacks a right in the cluster: {message}"))
        }
        404 => EngineError::Unavailable(format!("the cluster lacks what a run needs: {message}")),
        // Someone else is changing the same object.
        409 => EngineError::Unavailable(message.to_owned()),
        _ => EngineError::Rejected(told),
    }
}

/// Capacity that others use now, or an API that is not ready: just after it started, or before it has computed the
/// usage of a new quota.
fn is_passing(message: &str) -> bool {
    ["exceeded quota", "being terminated", "status unknown for quota", "not yet ready to handle request"]
        .iter()
        .any(|words| message.contains(words))
}

/// A component that admission depends on did not answer. An invalid object may have a field with "timeout" in its
/// name.
fn is_hiccup(message: &str) -> bool {
    !message.contains("is invalid") && !is_final(403, message)
}

/// What it means that a job's controller is refused a pod, which it keeps retrying.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfPod {
    /// It will always be refused: a policy forbids it.
    Final,
    /// Something is missing that may still be created.
    Missing,
    /// A component that admission depends on did not answer.
    Hiccup,
    /// Others use the capacity now.
    Passing,
}

pub(super) fn of_pod(message: &str) -> OfPod {
    if is_passing(message) {
        OfPod::Passing
    } else if is_hiccup(message) || message.contains("failed calling webhook") {
        OfPod::Hiccup
    } else if message.contains("not found") {
        OfPod::Missing
    } else if is_forbidden(message) {
        OfPod::Final
    } else {
        // Anything else, such as an API that did not answer its own controller.
        OfPod::Hiccup
    }
}

fn is_forbidden(message: &str) -> bool {
    ["is forbidden", "denied the request", "is invalid", "unknown field"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_consequence() {
        let rejected = |message: &str| format!("Rejected(\"Kubernetes refuses the run: {message}\")");
        let not_started = |message: &str| {
            format!("NotStarted {{ reason: \"Kubernetes refuses the run: {message}\", fault: Machine }}")
        };
        // As worded by releases from 1.20 on.
        let quota = "pods \\\"a\\\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
        let account = "pods \\\"a\\\" is forbidden: error looking up service account default/x: serviceaccount \\\"x\\\" not found";
        let webhook = "admission webhook \\\"v.example.org\\\" denied the request: no images from there";
        let limit = "pods \\\"a\\\" is forbidden: maximum memory usage per Container is 64Mi, but limit is 128Mi";
        let security =
            "pods \\\"a\\\" is forbidden: violates PodSecurity \\\"restricted:latest\\\": runAsNonRoot != true";
        let invalid = "Job.batch \\\"a\\\" is invalid: spec.template.spec.containers[0].image: Required value";
        // Just after a quota was created, and just after an API started.
        let uncounted = "pods \\\"a\\\" is forbidden: status unknown for quota: q";
        let early = "pods \\\"a\\\" is forbidden: not yet ready to handle request";
        let slow = "jobs.batch \\\"a\\\" is forbidden: error looking up the namespace: etcdserver: request timed out";
        let field =
            "Job.batch \\\"a\\\" is invalid: spec.containers[0].livenessProbe.timeoutSeconds: Invalid value: -1";
        let table = [
            (403, quota, not_started(quota)),
            (403, uncounted, not_started(uncounted)),
            (403, early, not_started(early)),
            (403, slow, not_started(slow)),
            (403, field, rejected(field)),
            (403, account, rejected(account)),
            (403, webhook, rejected(webhook)),
            (400, webhook, rejected(webhook)),
            (403, limit, rejected(limit)),
            (403, security, rejected(security)),
            (422, invalid, rejected(invalid)),
        ];
        for (status, message, expected) in table {
            assert_eq!(format!("{:?}", of_refusal(status, &message.replace("\\\"", "\""))), expected);
        }
        let rbac = "jobs.batch is forbidden: User \"x\" cannot create resource \"jobs\" in API group \"batch\" in the namespace \"n\"";
        assert!(
            matches!(of_refusal(403, rbac), EngineError::Unavailable(text) if text.contains("cannot create resource \"jobs\""))
        );
        assert!(matches!(of_refusal(404, "namespaces \"n\" not found"), EngineError::Unavailable(_)));
        assert!(matches!(of_launch(ApiError::Away("x".into())), EngineError::Unavailable(_)));
    }

    #[test]
    fn what_a_controller_is_refused_passes_or_does_not() {
        let table = [
            ("pods \"a\" is forbidden: exceeded quota: q, requested: pods=1", OfPod::Passing),
            ("pods \"a\" is forbidden: status unknown for quota: q", OfPod::Passing),
            ("pods \"a\" is forbidden: not yet ready to handle request", OfPod::Passing),
            (
                "pods \"a\" is forbidden: unable to create new content in namespace n because it is being terminated",
                OfPod::Passing,
            ),
            (
                "pods \"a\" is forbidden: error looking up service account n/x: serviceaccount \"x\" not found",
                OfPod::Missing,
            ),
            (
                "Internal error occurred: failed calling webhook \"w\": Post \"https://w\": dial tcp 10.0.0.1:443: connect: connection refused",
                OfPod::Hiccup,
            ),
            ("Timeout: request did not complete within requested timeout", OfPod::Hiccup),
            ("pods \"a\" is forbidden: the namespace could not be looked up: timed out", OfPod::Hiccup),
            ("Internal error occurred: failed calling webhook \"w\": service \"w\" not found", OfPod::Hiccup),
            ("etcdserver: leader changed", OfPod::Hiccup),
            ("pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\"", OfPod::Final),
            ("admission webhook \"w\" denied the request: no images from there", OfPod::Final),
            ("Pod \"a\" is invalid: spec.containers[0].livenessProbe.timeoutSeconds: Invalid value: -1", OfPod::Final),
        ];
        for (message, expected) in table {
            assert_eq!(of_pod(message), expected, "{message}");
        }
    }
}
