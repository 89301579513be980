//! Names and labels: how an attempt is found among a cluster's objects, and what of ours Kubernetes accepts as a label.

use std::collections::BTreeMap;

use crate::engine::{Identity, LaunchSpec};
use crate::model::AttemptId;

pub(super) const SERVER_LABEL: &str = "flotilla/server";
pub(super) const CLUSTER_LABEL: &str = "flotilla/cluster";
const RUN_LABEL: &str = "flotilla/run";
const ATTEMPT_LABEL: &str = "flotilla/attempt";
const OWNER_LABEL: &str = "flotilla/owner";
const DEFINITION_LABEL: &str = "flotilla/definition";
const ALIAS_LABEL: &str = "flotilla/alias";
const GROUP_LABEL: &str = "flotilla/group";
/// Before the names of the user's own labels that have no prefix of their own.
const USER_PREFIX: &str = "flotilla.user/";
/// On every pod of ours: Kubernetes keeps what it knows of the pod until we have read it, whoever deletes it.
pub(super) const FINALIZER: &str = "flotilla/observed";
/// The container that runs the command; others of the pod are the operator's.
pub(super) const CONTAINER: &str = "run";

const PREFIX: &str = "flotilla-";
/// What a label's value, and the part of its name behind the slash, may be long.
const LONGEST_LABEL: usize = 63;

type Texts = BTreeMap<String, String>;

/// The name of an attempt's job, and of its pod where we make that ourselves. It is a label's value too, and so no longer
/// than 63 characters.
pub(super) fn name_of(attempt_id: AttemptId) -> String {
    format!("{PREFIX}{attempt_id}")
}

/// Which attempt an object belongs to by its name, be it the job's own or that of a pod that the job's controller named.
pub(super) fn attempt_of_name(name: &str) -> Option<AttemptId> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.parse().ok().or_else(|| rest.rsplit_once('-')?.0.parse().ok())
}

pub(super) fn attempt_of_labels(labels: &Texts) -> Option<AttemptId> {
    Some(AttemptId { run_id: labels.get(RUN_LABEL)?.parse().ok()?, attempt: labels.get(ATTEMPT_LABEL)?.parse().ok()? })
}

/// What lets through our objects and nobody else's.
pub(super) fn selector(identity: &Identity) -> String {
    let [server, cluster] = [&identity.server_id, &identity.cluster].map(|value| label_value(value));
    format!("{SERVER_LABEL}={server},{CLUSTER_LABEL}={cluster}")
}

/// What lets through the objects of one attempt of ours.
pub(super) fn selector_of(identity: &Identity, attempt_id: AttemptId) -> String {
    let AttemptId { run_id, attempt } = attempt_id;
    format!("{},{RUN_LABEL}={run_id},{ATTEMPT_LABEL}={attempt}", selector(identity))
}

pub(super) fn is_ours(identity: &Identity, labels: &Texts) -> bool {
    labels.get(SERVER_LABEL) == Some(&label_value(&identity.server_id))
        && labels.get(CLUSTER_LABEL) == Some(&label_value(&identity.cluster))
}

/// The labels of an attempt's objects, and as annotations the values that had to be changed to become labels.
pub(super) fn labels_and_annotations(spec: &LaunchSpec, identity: &Identity) -> (Texts, Texts) {
    let AttemptId { run_id, attempt } = spec.attempt_id;
    let ours = [
        (SERVER_LABEL, identity.server_id.clone()),
        (CLUSTER_LABEL, identity.cluster.clone()),
        (RUN_LABEL, run_id.to_string()),
        (ATTEMPT_LABEL, attempt.to_string()),
        (OWNER_LABEL, spec.execution.user.clone()),
        (DEFINITION_LABEL, spec.origin.definition_id.to_string()),
        (GROUP_LABEL, spec.origin.group_name.clone()),
    ];
    let alias = spec.origin.alias.iter().map(|alias| (ALIAS_LABEL.to_owned(), alias.clone()));
    let users = spec.execution.labels.iter().map(|(key, value)| (label_key(key), value.clone()));
    // Ours come last, so that no label of the user's can pass for one of them.
    let all = users.chain(ours.map(|(key, value)| (key.to_owned(), value))).chain(alias);
    let (mut labels, mut annotations) = (Texts::new(), Texts::new());
    for (key, raw) in all {
        let value = label_value(&raw);
        if value == raw {
            annotations.remove(&key);
        } else {
            annotations.insert(key.clone(), raw);
        }
        labels.insert(key, value);
    }
    (labels, annotations)
}

/// A label's name out of any text: `PREFIX/NAME` where both are what Kubernetes accepts, else with our prefix. None of
/// the user's is taken for one of ours, nor for one of Kubernetes' own.
fn label_key(raw: &str) -> String {
    if let Some((prefix, name)) = raw.split_once('/')
        && is_dns_name(prefix)
        && label_value(name) == name
        && !name.is_empty()
        && !is_reserved(prefix)
    {
        return raw.to_owned();
    }
    let name = label_value(raw);
    format!("{USER_PREFIX}{}", if name.is_empty() { "label" } else { &name })
}

fn is_reserved(prefix: &str) -> bool {
    let below = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    prefix == "flotilla" || below("kubernetes.io") || below("k8s.io")
}

fn is_dns_name(text: &str) -> bool {
    let is_part = |part: &str| {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty()
            && part.len() <= 63
            && part.chars().all(is_allowed)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_part)
}

/// A label's value out of any text: letters, digits, `-`, `_` and `.`, at most 63, beginning and ending with a letter or
/// digit. What is nothing of these becomes `_`.
pub(super) fn label_value(raw: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text: String = raw.chars().map(|c| if is_allowed(c) { c } else { '_' }).take(LONGEST_LABEL).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::RunId;

    #[test]
    fn an_attempt_is_found_by_the_name_of_its_job_and_of_its_pod() {
        let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 12 };
        let name = name_of(attempt_id);
        assert_eq!(attempt_of_name(&name), Some(attempt_id));
        assert_eq!(attempt_of_name(&format!("{name}-x7kq2")), Some(attempt_id));
        for other in ["", "flotilla-", "flotilla-x", "nginx-7", &name[PREFIX.len()..]] {
            assert_eq!(attempt_of_name(other), None, "{other}");
        }
        assert!(name_of(AttemptId { attempt: u32::MAX, ..attempt_id }).len() <= LONGEST_LABEL);
    }

    #[test]
    fn values_become_what_kubernetes_accepts() {
        let table = [
            ("ada", "ada"),
            ("ada@example.org", "ada_example.org"),
            ("-x-", "x"),
            ("größe", "gr__e"),
            ("", ""),
            ("@", ""),
        ];
        for (raw, value) in table {
            assert_eq!(label_value(raw), value, "{raw}");
        }
        assert_eq!(label_value(&"x".repeat(64)).len(), 63);
    }

    #[test]
    fn names_of_the_users_labels_never_pass_for_others() {
        let table = [
            ("team", "flotilla.user/team"),
            ("example.org/team", "example.org/team"),
            ("flotilla/run", "flotilla.user/flotilla_run"),
            ("batch.kubernetes.io/job-name", "flotilla.user/batch.kubernetes.io_job-name"),
            ("Bad Domain/x", "flotilla.user/Bad_Domain_x"),
            ("job-name", "flotilla.user/job-name"),
            ("é", "flotilla.user/label"),
        ];
        for (raw, key) in table {
            assert_eq!(label_key(raw), key, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_label(raw in "\\PC{0,100}") {
            let value = label_value(&raw);
            let is_edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
            prop_assert!(value.len() <= 63 && is_edge(value.chars().next()) && is_edge(value.chars().last()));
            prop_assert_eq!(label_value(&value), value);
        }
    }
}
