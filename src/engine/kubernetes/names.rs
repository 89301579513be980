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
/// Before the name of each label that a launch gives, so that none passes for one of ours, or for one that something else
/// in the cluster acts on, such as the injector of a sidecar. The same as on Docker.
const USER_PREFIX: &str = "flotilla.user/";
/// On every pod of ours: Kubernetes keeps what it knows of the pod until we have read it, whoever deletes it.
pub(super) const FINALIZER: &str = "flotilla/observed";
/// The container that runs the command; others of the pod are the operator's.
pub(super) const CONTAINER: &str = "run";

const PREFIX: &str = "flotilla-";
/// What a label's value, and the part of its name behind the slash, may be long.
const LONGEST_LABEL: usize = 63;
/// The same of a name that gets a number.
const LONGEST_NUMBERED: usize = LONGEST_LABEL - 8;

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
    let [server, cluster] = [&identity.installation_id, &identity.cluster].map(|value| label_value(value));
    format!("{SERVER_LABEL}={server},{CLUSTER_LABEL}={cluster}")
}

/// What lets through the objects of one attempt of ours.
pub(super) fn selector_of(identity: &Identity, attempt_id: AttemptId) -> String {
    let AttemptId { run_id, attempt } = attempt_id;
    format!("{},{RUN_LABEL}={run_id},{ATTEMPT_LABEL}={attempt}", selector(identity))
}

/// Whether labels say that an object is another server's, or another cluster's of this one.
pub(super) fn is_of_others(identity: &Identity, labels: Option<&Texts>) -> bool {
    let [server, cluster] = [&identity.installation_id, &identity.cluster].map(|value| label_value(value));
    let says_otherwise =
        |key: &str, own: &str| labels.and_then(|labels| labels.get(key)).is_some_and(|value| value != own);
    says_otherwise(SERVER_LABEL, &server) || says_otherwise(CLUSTER_LABEL, &cluster)
}

/// The labels by which an attempt's objects are found.
pub(super) fn labels_of(identity: &Identity, attempt_id: AttemptId) -> Texts {
    let AttemptId { run_id, attempt } = attempt_id;
    let labels = [
        (SERVER_LABEL, label_value(&identity.installation_id)),
        (CLUSTER_LABEL, label_value(&identity.cluster)),
        (RUN_LABEL, run_id.to_string()),
        (ATTEMPT_LABEL, attempt.to_string()),
    ];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

/// The labels of an attempt's objects, and as annotations the values that had to be changed to become labels.
pub(super) fn labels_and_annotations(spec: &LaunchSpec, identity: &Identity) -> (Texts, Texts) {
    let AttemptId { run_id, attempt } = spec.attempt_id;
    let ours = [
        (SERVER_LABEL, identity.installation_id.clone()),
        (CLUSTER_LABEL, identity.cluster.clone()),
        (RUN_LABEL, run_id.to_string()),
        (ATTEMPT_LABEL, attempt.to_string()),
        (OWNER_LABEL, spec.execution.user.clone()),
        (DEFINITION_LABEL, spec.origin.definition_id.to_string()),
        (GROUP_LABEL, spec.origin.group_name.clone()),
    ];
    let alias = spec.origin.alias.iter().map(|alias| (ALIAS_LABEL.to_owned(), alias.clone()));
    let users = user_labels(&spec.execution.labels);
    let all = users.into_iter().chain(ours.map(|(key, value)| (key.to_owned(), value))).chain(alias);
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

/// The labels that a launch gives, under names of their own: two that become the same are told apart by a number.
fn user_labels<'a>(given: impl IntoIterator<Item = (&'a String, &'a String)>) -> Texts {
    let mut labels = Texts::new();
    for (raw, value) in given {
        let key = label_key(raw);
        let keys =
            (2..).map(|number| format!("{}-{number}", &key[..key.len().min(USER_PREFIX.len() + LONGEST_NUMBERED)]));
        let free = std::iter::once(key.clone()).chain(keys).find(|key| !labels.contains_key(key));
        labels.insert(free.unwrap_or(key), value.clone());
    }
    labels
}

/// A label's name out of any text, with our prefix.
fn label_key(raw: &str) -> String {
    let name = label_value(raw);
    format!("{USER_PREFIX}{}", if name.is_empty() { "label" } else { &name })
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
            ("example.org/team", "flotilla.user/example.org_team"),
            ("sidecar.istio.io/inject", "flotilla.user/sidecar.istio.io_inject"),
            ("traefik.enable", "flotilla.user/traefik.enable"),
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

    #[test]
    fn labels_that_become_the_same_are_kept_apart() {
        let given =
            BTreeMap::from([("a b", "1"), ("a_b", "2"), ("a/b", "3")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let keys: Vec<_> = user_labels(&given).into_keys().collect();
        assert_eq!(keys, ["flotilla.user/a_b", "flotilla.user/a_b-2", "flotilla.user/a_b-3"]);
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
