//! What a refusal of the API's means for a launch: whether the same can ever succeed, and whether the attempt is to be
//! given up for another. The API's words decide where its status does not.

use super::link::ApiError;
use crate::engine::EngineError;
use crate::model::StartFault;

/// The error for a launch whose job or pod the API did not take, so that nothing was started.
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
        // Room that others take now.
        403 if says("exceeded quota") || says("being terminated") => {
            EngineError::NotStarted { reason: told, fault: StartFault::Machine }
        }
        // The operator's fault: the account that the server uses may not do it, or its namespace is not there. The
        // message names the verb and the resource.
        403 if says(" cannot ") && says("resource") => {
            EngineError::Unavailable(format!("the server's account lacks a right in the cluster: {message}"))
        }
        404 => EngineError::Unavailable(format!("the cluster lacks what a run needs: {message}")),
        // Somebody else is at the same object.
        409 => EngineError::Unavailable(message.to_owned()),
        _ => EngineError::Rejected(told),
    }
}

/// What it means that a job's controller is refused a pod, which it tries again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfPod {
    /// It will be refused for ever: a policy forbids it.
    Final,
    /// Something is missing that may be made.
    MayPass,
    /// Others take the room now.
    Passing,
}

pub(super) fn of_pod(message: &str) -> OfPod {
    match of_refusal(403, message) {
        EngineError::Rejected(_) if message.contains("not found") => OfPod::MayPass,
        EngineError::Rejected(_) if is_forbidden(message) => OfPod::Final,
        // Whatever else went wrong, such as an API that did not answer its own controller.
        EngineError::Rejected(_) => OfPod::MayPass,
        _ => OfPod::Passing,
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
        // As releases from 1.20 on said them.
        let quota = "pods \\\"a\\\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
        let account = "pods \\\"a\\\" is forbidden: error looking up service account default/x: serviceaccount \\\"x\\\" not found";
        let webhook = "admission webhook \\\"v.example.org\\\" denied the request: no images from there";
        let limit = "pods \\\"a\\\" is forbidden: maximum memory usage per Container is 64Mi, but limit is 128Mi";
        let security =
            "pods \\\"a\\\" is forbidden: violates PodSecurity \\\"restricted:latest\\\": runAsNonRoot != true";
        let invalid = "Job.batch \\\"a\\\" is invalid: spec.template.spec.containers[0].image: Required value";
        let table = [
            (403, quota, not_started(quota)),
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
}
