//! A cluster's capacity: pure reading of nodes, quotas and limits, and the check whether a task can ever fit.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, Namespace, Node, ResourceQuota};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::ListParams;
use parking_lot::{Mutex, MutexGuard};

use super::Inner;
use super::link::ApiError;
use super::quantity::{count, millis_of};
use crate::engine::EngineError;
use crate::model::{Resources, Shortage, TaskSpec};

const MB: i64 = 1024 * 1024;

/// The last observation of a cluster. What the server may not read is `None`, and refuses nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub nodes: Option<BTreeMap<String, NodeRoom>>,
    pub is_namespace_there: Option<bool>,
    /// By quota and resource, in the units of [`Amounts`].
    quotas: Vec<(String, Resources)>,
    limits: Vec<(String, Bounds)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NodeRoom {
    amounts: Resources,
    pub is_ready: bool,
    is_schedulable: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bounds {
    least: Resources,
    most: Resources,
}

type Quantities = BTreeMap<String, Quantity>;

/// The smallest amount that any of several names allows.
fn read(quantities: Option<&Quantities>, names: &[&str], gpu_resource: &str) -> Resources {
    let smallest = |resource: &str, read: fn(&Quantity) -> Option<i64>| {
        let found = names.iter().filter_map(|prefix| read(quantities?.get(&format!("{prefix}{resource}"))?));
        found.min()
    };
    let megabytes: fn(&Quantity) -> Option<i64> = |quantity| count(&quantity.0).map(|bytes| bytes / MB);
    Resources {
        memory_mb: smallest("memory", megabytes),
        cpu_millis: smallest("cpu", millis_of),
        gpus: smallest(gpu_resource, |quantity| count(&quantity.0)),
        storage_mb: smallest("ephemeral-storage", megabytes),
    }
}

impl Room {
    fn set_nodes(&mut self, nodes: &[Node], gpu_resource: &str) {
        let room_of = |node: &Node| {
            let status = node.status.as_ref();
            let mut amounts = read(status.and_then(|status| status.allocatable.as_ref()), &[""], gpu_resource);
            // A node that lists no GPUs has none.
            amounts.gpus = amounts.gpus.or(Some(0));
            let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            let is_ready =
                conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            let is_schedulable = node.spec.as_ref().and_then(|spec| spec.unschedulable) != Some(true);
            NodeRoom { amounts, is_ready, is_schedulable }
        };
        let named = nodes.iter().filter_map(|node| Some((node.metadata.name.clone()?, room_of(node))));
        self.nodes = Some(named.collect());
    }

    fn set_quotas(&mut self, quotas: &[ResourceQuota], gpu_resource: &str) {
        let amounts_of = |quota: &ResourceQuota| {
            let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
            // Our requests equal our limits.
            let amounts = read(hard, &["", "requests.", "limits."], gpu_resource);
            (quota.metadata.name.clone().unwrap_or_default(), amounts)
        };
        // A quota with scopes may not apply to runs at all.
        let is_for_all = |quota: &&ResourceQuota| {
            quota.spec.as_ref().is_some_and(|spec| spec.scopes.is_none() && spec.scope_selector.is_none())
        };
        self.quotas = quotas.iter().filter(is_for_all).map(amounts_of).collect();
    }

    fn set_limits(&mut self, ranges: &[LimitRange], gpu_resource: &str) {
        let bounds = ranges.iter().flat_map(|range| {
            let name = range.metadata.name.clone().unwrap_or_default();
            let items = range.spec.iter().flat_map(|spec| &spec.limits);
            let about_runs = items.filter(|item| matches!(item.type_.as_str(), "Container" | "Pod"));
            about_runs.map(move |item| {
                let least = read(item.min.as_ref(), &[""], gpu_resource);
                let most = read(item.max.as_ref(), &[""], gpu_resource);
                (name.clone(), Bounds { least, most })
            })
        });
        self.limits = bounds.collect();
    }

    /// The total of the nodes that accept runs.
    pub(super) fn capacity(&self) -> Resources {
        let usable = self.nodes.iter().flatten().map(|(_, node)| node);
        let usable = usable.filter(|node| node.is_ready && node.is_schedulable).map(|node| node.amounts);
        // Storage is not counted: the total that runs request is unknown.
        let whole = usable.reduce(Resources::plus).unwrap_or_default();
        Resources { storage_mb: None, ..whole }
    }

    /// Whether a task could ever run on an otherwise empty cluster.
    pub(super) fn check(&self, task: &TaskSpec, namespace: &str) -> Result<(), EngineError> {
        let no = |why: String| Err(EngineError::Rejected(format!("the cluster cannot support running the job: {why}")));
        if self.is_namespace_there == Some(false) {
            return no(format!("it has no namespace `{namespace}`"));
        }
        let asked = task.resources();
        for (name, most) in &self.quotas {
            if let Some(shortage) = asked.shortage(*most) {
                let there = shortage.there;
                return no(format!("{shortage}, the quota `{name}` allows {there} for all runs together"));
            }
        }
        for (name, bounds) in &self.limits {
            if let Some(shortage) = asked.shortage(bounds.most) {
                return no(format!("{shortage}, the limit range `{name}` allows {}", shortage.there));
            }
            if let Some(Shortage { resource, asked: least, there: asked }) = bounds.least.shortage(asked) {
                let unit = resource.unit();
                return no(format!("it asks for {asked} {unit}, the limit range `{name}` asks for {least} at least"));
            }
        }
        let Some(nodes) = self.nodes.as_ref().filter(|nodes| !nodes.is_empty()) else { return Ok(()) };
        // A node that is not ready or is cordoned now may become usable again.
        if nodes.values().any(|node| asked.shortage(node.amounts).is_none()) {
            return Ok(());
        }
        // If no node has enough of one resource, report the largest; otherwise the resources are on different nodes.
        let largest = nodes.values().map(|node| node.amounts).reduce(Resources::max).unwrap_or_default();
        match asked.shortage(largest) {
            Some(shortage) => no(format!("{shortage}, the largest node has {}", shortage.there)),
            None => {
                let all = asked.each().into_iter();
                let all: Vec<_> =
                    all.filter_map(|(resource, amount)| Some(format!("{} {}", amount?, resource.unit()))).collect();
                no(format!("no node has all at once of what it asks for: {}", all.join(", ")))
            }
        }
    }
}

/// The last observation of the cluster.
#[derive(Default)]
pub(super) struct Rooms(Mutex<Option<Room>>);

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, Option<Room>> {
        self.0.lock()
    }

    pub(super) fn get(&self) -> Option<Room> {
        self.lock().clone()
    }

    /// Whether a node is gone or unresponsive; `false` if unknown.
    pub(super) fn is_lost(&self, node: &str) -> bool {
        let room = self.lock();
        let nodes = room.as_ref().and_then(|room| room.nodes.as_ref());
        nodes.is_some_and(|nodes| nodes.get(node).is_none_or(|node| !node.is_ready))
    }
}

impl Inner {
    /// Reads the cluster's capacity. What the server may not read, or what is not served, is left unknown.
    pub(super) async fn refresh_room(&self) -> Result<Room, ApiError> {
        let gpu = self.config.gpu_resource.clone();
        let mut room = Room::default();
        let nodes = self.link.call(async |client| Api::<Node>::all(client).list(&ListParams::default()).await).await;
        if let Some(nodes) = unless_refused(nodes)? {
            room.set_nodes(&nodes.items, &gpu);
        }
        let namespace =
            self.link.call(async |client| Api::<Namespace>::all(client).get_opt(&self.config.namespace).await).await;
        room.is_namespace_there = unless_refused(namespace)?.map(|namespace| namespace.is_some());
        let quotas =
            self.link.call(async |client| self.api::<ResourceQuota>(client).list(&ListParams::default()).await).await;
        if let Some(quotas) = unless_refused(quotas)? {
            room.set_quotas(&quotas.items, &gpu);
        }
        let limits =
            self.link.call(async |client| self.api::<LimitRange>(client).list(&ListParams::default()).await).await;
        if let Some(limits) = unless_refused(limits)? {
            room.set_limits(&limits.items, &gpu);
        }
        *self.rooms.lock() = Some(room.clone());
        Ok(room)
    }
}

fn unless_refused<T>(answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(ApiError::Refused { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const GPU: &str = "nvidia.com/gpu";

    fn read<T: serde::de::DeserializeOwned>(items: &[Value]) -> Vec<T> {
        items.iter().map(|item| serde_json::from_value(item.clone()).unwrap()).collect()
    }

    fn node(name: &str, memory: &str, cpu: &str, gpus: Option<&str>) -> Value {
        let mut allocatable = json!({ "memory": memory, "cpu": cpu, "ephemeral-storage": "10Gi", "pods": "110" });
        if let Some(gpus) = gpus {
            allocatable[GPU] = json!(gpus);
        }
        json!({
            "metadata": { "name": name },
            "status": {
                "allocatable": allocatable,
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        })
    }

    fn room() -> Room {
        let mut room = Room::default();
        let nodes = [node("a", "2Gi", "2", None), node("b", "1048576Ki", "4000m", Some("1"))];
        room.set_nodes(&read::<Node>(&nodes), GPU);
        room
    }

    fn refused(room: &Room, task: &TaskSpec) -> String {
        room.check(task, "n").unwrap_err().to_string()
    }

    #[test]
    fn what_fits_no_node_is_refused_with_the_numbers() {
        let room = room();
        let text = refused(&room, &TaskSpec { memory_mb: Some(2049), ..TaskSpec::default() });
        assert!(text.ends_with("it asks for 2049 MB of memory, the largest node has 2048"), "{text}");
        let text = refused(&room, &TaskSpec { gpu: Some(2), ..TaskSpec::default() });
        assert!(text.ends_with("it asks for 2 GPUs, the largest node has 1"), "{text}");
        let text = refused(&room, &TaskSpec { memory_mb: Some(2000), cpu_millis: Some(4000), ..TaskSpec::default() });
        assert!(text.ends_with("at once of what it asks for: 2000 MB of memory, 4000 thousandths of a core"), "{text}");
        room.check(
            &TaskSpec { memory_mb: Some(2048), cpu_millis: Some(2000), gpu: Some(0), ..TaskSpec::default() },
            "n",
        )
        .unwrap();
        Room::default().check(&TaskSpec { memory_mb: Some(1 << 40), ..TaskSpec::default() }, "n").unwrap();
    }

    #[test]
    fn what_quota_or_limits_forbid_is_refused_with_their_names() {
        let mut room = room();
        let quota = json!({ "metadata": { "name": "q" }, "spec": { "hard": { "limits.memory": "1Gi", "requests.cpu": "3", "pods": "4" } } });
        let scoped =
            json!({ "metadata": { "name": "s" }, "spec": { "hard": { "memory": "1Mi" }, "scopes": ["BestEffort"] } });
        room.set_quotas(&read::<ResourceQuota>(&[quota, scoped]), GPU);
        let text = refused(&room, &TaskSpec { memory_mb: Some(1025), ..TaskSpec::default() });
        assert!(
            text.ends_with("it asks for 1025 MB of memory, the quota `q` allows 1024 for all runs together"),
            "{text}"
        );
        let range = json!({ "metadata": { "name": "r" }, "spec": { "limits": [
            { "type": "Container", "max": { "cpu": "1" }, "min": { "memory": "64Mi" } },
            { "type": "PersistentVolumeClaim", "max": { "memory": "1" } },
        ] } });
        room.set_limits(&read::<LimitRange>(&[range]), GPU);
        let text = refused(&room, &TaskSpec { cpu_millis: Some(1500), ..TaskSpec::default() });
        assert!(text.ends_with("it asks for 1500 thousandths of a core, the limit range `r` allows 1000"), "{text}");
        let text = refused(&room, &TaskSpec { memory_mb: Some(32), ..TaskSpec::default() });
        assert!(text.ends_with("it asks for 32 MB of memory, the limit range `r` asks for 64 at least"), "{text}");
        room.check(&TaskSpec::default(), "n").unwrap();
        room.is_namespace_there = Some(false);
        assert!(refused(&room, &TaskSpec::default()).ends_with("it has no namespace `n`"));
    }

    #[test]
    fn the_capacity_is_that_of_all_nodes_that_take_runs() {
        let mut room = room();
        assert_eq!(
            room.capacity(),
            Resources { memory_mb: Some(3072), cpu_millis: Some(6000), gpus: Some(1), storage_mb: None }
        );
        let nodes: &mut BTreeMap<_, _> = room.nodes.as_mut().unwrap();
        nodes.get_mut("a").unwrap().is_ready = false;
        assert_eq!(room.capacity().memory_mb, Some(1024));
        room.nodes = Some(BTreeMap::new());
        assert_eq!(room.capacity(), Resources::default());
    }
}
