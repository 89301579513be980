//! Invented values for tests, such as the samples that pages make of themselves.

use jiff::{SignedDuration, Timestamp};

use super::{
    Cluster, ClusterRecord, ClusterStatus, Condition, Definition, DefinitionId, DefinitionSummary, EnvVar,
    LaunchPolicy, LaunchRequest, Load, Outcome, QueueDepth, Resources, Run, RunBrief, RunId, RunSummary, Status,
    Target, TaskSpec, UsageSample, plan_launch,
};

pub(crate) fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().expect("it is a time")
}

pub(crate) fn definition() -> Definition {
    Definition {
        definition_id: DefinitionId::from_text("science-1"),
        alias: Some("train <model>".to_owned()),
        group_name: "science".to_owned(),
        task: TaskSpec {
            image: "trainer:1".to_owned(),
            command: "echo '<script>'".to_owned(),
            memory_mb: Some(64),
            env: vec![EnvVar::new("A<", "1\n\"2\"")],
            tags: ["nightly", "gpu", "a&b", "more"].map(str::to_owned).to_vec(),
            ..TaskSpec::default()
        },
        task_type: "task".to_owned(),
        created_at: now(),
        updated_at: now(),
    }
}

pub(crate) fn definition_summary() -> DefinitionSummary {
    let definition = definition();
    DefinitionSummary {
        definition_id: definition.definition_id,
        alias: definition.alias,
        group_name: definition.group_name,
        image: definition.task.image,
        tags: definition.task.tags,
        updated_at: definition.updated_at,
    }
}

/// A brief of one of its runs that ended.
pub(crate) fn brief(outcome: Outcome) -> RunBrief {
    RunBrief {
        run_id: RunId::generate(),
        definition_id: definition().definition_id,
        status: Status::Stopped,
        outcome: Some(outcome),
        queued_at: now(),
        started_at: Some(now()),
        finished_at: Some(now()),
    }
}

/// A waiting run.
pub(crate) fn run() -> Run {
    let target = Target { cluster: "default", resolved_cluster: "batch", engine: "docker" };
    let request = LaunchRequest {
        active_deadline_secs: Some(60),
        labels: [("a<b".to_owned(), "\"c\"".to_owned())].into(),
        description: Some("<i>why</i>".to_owned()),
        ..LaunchRequest::default()
    };
    plan_launch(&definition(), request, &LaunchPolicy::default(), target, RunId::generate(), now())
        .expect("the sample can be launched")
}

/// The same as a row of a list.
pub(crate) fn run_summary() -> RunSummary {
    let run = run();
    RunSummary {
        run_id: run.run_id,
        definition_id: run.definition_id,
        alias: run.alias,
        group_name: run.group_name,
        user: run.execution.user,
        resolved_cluster: run.execution.resolved_cluster,
        status: run.status,
        outcome: run.outcome,
        exit_reason: run.exit_reason,
        queued_at: run.queued_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
    }
}

pub(crate) fn cluster() -> Cluster {
    let mut record = ClusterRecord::new("batch & <b>", now());
    record.status = ClusterStatus::Maintenance;
    record.status_reason = "new <i>disks</i>".to_owned();
    record.details.region = "\"north\"".to_owned();
    record.details.capabilities = vec!["gpu<>".to_owned()];
    Cluster {
        record,
        engine: Some("docker"),
        is_default: true,
        max_running: Some(3),
        condition: Condition {
            capacity: Resources { memory_mb: Some(1024), ..Resources::default() },
            ..Condition::default()
        },
        load: Load {
            queued: 2,
            running: 1,
            reserved: Resources { memory_mb: Some(64), ..Resources::default() },
            ..Load::default()
        },
    }
}

pub(crate) fn depths() -> Vec<QueueDepth> {
    vec![QueueDepth::now(7, now())]
}

/// What a run used from [`now`] on.
pub(crate) fn usage() -> Vec<UsageSample> {
    let sample = |second| UsageSample {
        at: now() + SignedDuration::from_secs(second),
        memory_bytes: Some(second << 20),
        cpu_millis: Some(100 * second),
    };
    (1..=5).map(sample).collect()
}
