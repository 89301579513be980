//! Resource usage of runs: sampled by one request for the whole cluster (metrics.k8s.io), or one for each node with
//! runs (the kubelet's own summary), whichever is available to us; otherwise unknown.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::core::Request;
use kube::core::params::{GetParams, ListParams};
use serde::Deserialize;

use super::Inner;
use super::link::ApiError;
use super::names::{CONTAINER, selector};
use super::quantity::{bytes_of, millis_of};
use super::view::PodView;
use crate::model::{AttemptId, Usage, UsageSample};

const SAMPLING_PERIOD: Duration = Duration::from_secs(5);
/// How long a cluster that serves neither is not asked again.
const PAUSE_WITHOUT: Duration = Duration::from_mins(10);

/// One sample of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    memory_bytes: Option<i64>,
    cpu_millis: Option<i64>,
    cpu_time_ms: Option<i64>,
}

/// The samples of one container, folded into its peak.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sampling {
    pub peak: Usage,
}

impl Sampling {
    pub(super) fn add(&mut self, sample: Sample) {
        let peak = &mut self.peak;
        peak.max_memory_bytes = peak.max_memory_bytes.max(sample.memory_bytes);
        peak.max_cpu_millis = peak.max_cpu_millis.max(sample.cpu_millis);
        peak.cpu_time_ms = peak.cpu_time_ms.max(sample.cpu_time_ms);
    }
}

#[derive(Deserialize)]
struct PodMetricsList {
    items: Vec<PodMetrics>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: PodName,
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct PodName {
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    usage: HashMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
}

#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    pods: Vec<PodSummary>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSummary {
    pod_ref: PodRef,
    #[serde(default)]
    containers: Vec<ContainerSummary>,
}

#[derive(Deserialize)]
struct PodRef {
    uid: String,
}

#[derive(Deserialize)]
struct ContainerSummary {
    name: String,
    #[serde(default)]
    cpu: CpuSummary,
    #[serde(default)]
    memory: MemorySummary,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CpuSummary {
    usage_nano_cores: Option<i64>,
    usage_core_nano_seconds: Option<i64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MemorySummary {
    working_set_bytes: Option<i64>,
}

type Running = HashMap<String, (AttemptId, PodView)>;
type Samples = Vec<(AttemptId, Sample)>;

/// The samples of our running pods from the metrics server's list of all pods.
fn of_metrics(list: &PodMetricsList, running: &Running) -> Samples {
    let by_name: HashMap<_, _> = running.values().map(|(attempt_id, pod)| (pod.name.as_str(), *attempt_id)).collect();
    let samples = list.items.iter().filter_map(|pod| {
        let attempt_id = *by_name.get(pod.metadata.name.as_str())?;
        let usage = &pod.containers.iter().find(|container| container.name == CONTAINER)?.usage;
        let sample = Sample {
            memory_bytes: usage.get("memory").and_then(bytes_of),
            cpu_millis: usage.get("cpu").and_then(millis_of),
            cpu_time_ms: None,
        };
        Some((attempt_id, sample))
    });
    samples.collect()
}

/// The same from a kubelet's summary.
fn of_summary(summary: &Summary, running: &Running) -> Samples {
    let samples = summary.pods.iter().filter_map(|pod| {
        let (attempt_id, _) = running.get(&pod.pod_ref.uid)?;
        let container = pod.containers.iter().find(|container| container.name == CONTAINER)?;
        let sample = Sample {
            memory_bytes: container.memory.working_set_bytes,
            cpu_millis: container.cpu.usage_nano_cores.map(|nanos| nanos / 1_000_000),
            cpu_time_ms: container.cpu.usage_core_nano_seconds.map(|nanos| nanos / 1_000_000),
        };
        Some((*attempt_id, sample))
    });
    samples.collect()
}

impl Inner {
    /// Samples the usage of running pods, without end.
    pub(super) async fn watch_usage(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SAMPLING_PERIOD).await;
            let running = self.cache.running();
            if running.is_empty() {
                continue;
            }
            match self.samples(&running).await {
                Ok(samples) => {
                    for (attempt_id, sample) in samples {
                        let now = self.link.now().wall;
                        self.cache.add_sample(attempt_id, sample, now);
                        let Sample { memory_bytes, cpu_millis, .. } = sample;
                        self.reports.sample(attempt_id, UsageSample { at: now, memory_bytes, cpu_millis });
                    }
                }
                Err(ApiError::Refused { message, .. }) => {
                    tracing::debug!(
                        cluster = self.identity.cluster,
                        reason = message,
                        "what runs use is not to be had"
                    );
                    tokio::time::sleep(PAUSE_WITHOUT).await;
                }
                // The watches report it.
                Err(ApiError::Away(_)) => {}
            }
        }
    }

    async fn samples(&self, running: &Running) -> Result<Samples, ApiError> {
        match self.metrics(running).await {
            Err(ApiError::Refused { .. }) => {}
            // For a metrics server that is installed but away, the API returns 503; the kubelets may still answer.
            Err(ApiError::Away(_)) if self.cache.is_fresh() => {}
            result => return result,
        }
        let nodes: HashSet<_> = running.values().filter_map(|(_, pod)| pod.node.clone()).collect();
        let mut samples = Vec::new();
        for node in nodes {
            samples.extend(self.summary(&node, running).await?);
        }
        Ok(samples)
    }

    async fn metrics(&self, running: &Running) -> Result<Samples, ApiError> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods", self.config.namespace);
        let labels = selector(&self.identity);
        let list: PodMetricsList = self
            .link
            .call(async |client| {
                let request = Request::new(path).list(&ListParams::default().labels(&labels));
                client.request(request.map_err(kube::Error::BuildRequest)?).await
            })
            .await?;
        Ok(of_metrics(&list, running))
    }

    async fn summary(&self, node: &str, running: &Running) -> Result<Samples, ApiError> {
        let path = format!("/api/v1/nodes/{node}/proxy/stats");
        let summary: Summary = self
            .link
            .call(async |client| {
                let request = Request::new(path).get("summary", &GetParams::default());
                client.request(request.map_err(kube::Error::BuildRequest)?).await
            })
            .await?;
        Ok(of_summary(&summary, running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;
    use serde_json::json;

    fn running() -> (AttemptId, Running) {
        let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 1 };
        let pod = PodView { uid: "u".into(), name: "p".into(), ..PodView::default() };
        (attempt_id, HashMap::from([("u".to_owned(), (attempt_id, pod))]))
    }

    #[test]
    fn samples_are_read_from_the_metrics_server() {
        let (attempt_id, running) = running();
        let list = json!({ "items": [
            { "metadata": { "name": "other" }, "containers": [] },
            { "metadata": { "name": "p" }, "containers": [
                { "name": "sidecar", "usage": { "cpu": "1", "memory": "1Gi" } },
                { "name": "run", "usage": { "cpu": "186497213n", "memory": "2048Ki" } },
            ] },
        ] });
        let sample = Sample { memory_bytes: Some(2 << 20), cpu_millis: Some(186), cpu_time_ms: None };
        assert_eq!(of_metrics(&serde_json::from_value(list).unwrap(), &running), [(attempt_id, sample)]);
    }

    #[test]
    fn samples_are_read_from_a_kubelets_summary() {
        let (attempt_id, running) = running();
        let summary = json!({ "node": {}, "pods": [
            { "podRef": { "uid": "other" }, "containers": [] },
            { "podRef": { "name": "p", "uid": "u" }, "containers": [
                { "name": "run", "cpu": { "usageNanoCores": 5_000_000, "usageCoreNanoSeconds": 90_000_000 },
                  "memory": { "workingSetBytes": 4096 } },
            ] },
        ] });
        let sample = Sample { memory_bytes: Some(4096), cpu_millis: Some(5), cpu_time_ms: Some(90) };
        assert_eq!(of_summary(&serde_json::from_value(summary).unwrap(), &running), [(attempt_id, sample)]);
    }

    #[test]
    fn the_peak_is_the_most_of_each() {
        let mut sampling = Sampling::default();
        for (memory, cpu) in [(5, 1), (9, 7), (2, 3)] {
            sampling.add(Sample { memory_bytes: Some(memory), cpu_millis: Some(cpu), cpu_time_ms: None });
        }
        assert_eq!((sampling.peak.max_memory_bytes, sampling.peak.max_cpu_millis), (Some(9), Some(7)));
    }
}
