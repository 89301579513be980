//! What Kubernetes 1.36 actually reported, state by state, and what to conclude from it: for a server that observed
//! everything, and for one that was away until any of the states. The first line of each file in
//! `tests/fixtures/kubernetes/1.36` says how the case came about and how often its command really began.

use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event as KubernetesEvent, Pod};
use serde::Deserialize;

use super::cache::Cache;
use super::evidence::weigh;
use super::facts::{FirstOutput, Now};
use super::job::PodMaker;
use super::judge::{Context, Judgement, judge};
use super::names::attempt_of_labels;
use super::view::{JobView, PodView, read_event, refusal_in};
use crate::model::{AttemptId, EndCause, Ended, Event, Observation};

/// How long the recorded server retried an image.
const PULL_GRACE: Duration = Duration::from_secs(8);

#[derive(Deserialize)]
struct Story {
    how: String,
    /// How often the command actually began.
    ran: u32,
}

#[derive(Deserialize)]
struct Step {
    at: f64,
    job: Option<Job>,
    pod: Option<Pod>,
    event: Option<KubernetesEvent>,
}

impl Step {
    fn attempt_id(&self) -> Option<AttemptId> {
        let metadata = self.job.as_ref().map(|job| &job.metadata).or(self.pod.as_ref().map(|pod| &pod.metadata));
        attempt_of_labels(metadata?.labels.as_ref()?)
    }
}

struct Case {
    story: Story,
    steps: Vec<Step>,
    attempt_id: AttemptId,
    began: Timestamp,
    pull_grace: Duration,
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/kubernetes/1.36"))
}

fn case(name: &str) -> Case {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let path =
        files.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{name}-")));
    let text = std::fs::read_to_string(path.unwrap_or_else(|| panic!("{name} is not recorded"))).unwrap();
    let mut lines = text.lines();
    let story = serde_json::from_str(lines.next().unwrap()).unwrap();
    let mut steps: Vec<Step> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    let attempt_id = steps.iter().find_map(Step::attempt_id).unwrap();
    // A further attempt is a separate case.
    steps.retain(|step| step.attempt_id().is_none_or(|other| other == attempt_id));
    steps.retain(|step| step.job.is_some() || step.pod.is_some() || step.event.is_some());
    let created = steps.iter().find_map(|step| step.job.as_ref()?.metadata.creation_timestamp.clone()).unwrap();
    // In these two, what is missing at first is awaited for the default time.
    let pull_grace = if name.starts_with("06") { Duration::from_mins(1) } else { PULL_GRACE };
    Case { story, steps, attempt_id, began: created.0, pull_grace }
}

/// What a server concludes from a case, and what it reports meanwhile.
#[derive(Default)]
struct Conclusion {
    words: String,
    told: Vec<Event>,
    was_running: bool,
}

struct Replay<'a> {
    case: &'a Case,
    cache: Cache,
    /// The events that the API has so far.
    events: Vec<&'a KubernetesEvent>,
    began_at: f64,
    conclusion: Conclusion,
}

impl<'a> Replay<'a> {
    fn now(&self, at: f64) -> Now {
        let wall = self.case.began + SignedDuration::from_secs_f64(at);
        Now { wall, uptime: Duration::from_secs_f64((at - self.began_at).max(0.0)) }
    }

    fn apply(&mut self, step: &'a Step) {
        let (attempt_id, now) = (self.case.attempt_id, self.now(step.at));
        if let Some(job) = &step.job {
            self.cache.apply_job(attempt_id, JobView::read(job));
        }
        if let Some(pod) = &step.pod {
            let told = self.cache.apply_pod(attempt_id, PodView::read(pod), now);
            self.tell(told);
        }
        if let Some(event) = &step.event {
            self.events.push(event);
            if let Some(words) = refusal_in(event, attempt_id) {
                self.cache.refuse(attempt_id, words, now);
            }
            let told = read_event(event);
            self.tell(told);
        }
    }

    fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            if self.cache.is_news(self.case.attempt_id, &event.reason, &event.message) {
                self.conclusion.told.push(event);
            }
        }
    }

    /// Observes as `observe` does. Returns whether that concluded anything.
    fn look(&mut self, at: f64) -> bool {
        let (attempt_id, now) = (self.case.attempt_id, self.now(at));
        let mut context = Context {
            maker: PodMaker::Controller,
            pull_grace: self.case.pull_grace,
            was_asked_for: false,
            was_made: true,
            is_node_lost: false,
            has_last_status: true,
        };
        for _ in 0..8 {
            let entry = self.cache.get(attempt_id).unwrap_or_default();
            match judge(&entry, context, now) {
                Judgement::Seen(Observation::Starting) => return false,
                Judgement::Seen(Observation::Running(_)) => {
                    self.conclusion.was_running = true;
                    return false;
                }
                Judgement::Seen(observation) => {
                    self.conclusion.words = words(&observation);
                    return true;
                }
                Judgement::AskForObjects => context.was_asked_for = true,
                Judgement::AskEvents => {
                    let uid = entry.pod.map(|pod| pod.uid);
                    let about = self.events.iter().filter(|event| event.involved_object.uid == uid);
                    let events: Vec<_> = about.map(|event| (*event).clone()).collect();
                    self.cache.change(attempt_id, |entry| {
                        entry.evidence = weigh(&events);
                        entry.evidence_at = Some(now.uptime);
                    });
                }
                Judgement::AskRefusal => {
                    let words = self.events.iter().filter_map(|event| refusal_in(event, attempt_id)).next_back();
                    if let Some(words) = words {
                        self.cache.refuse(attempt_id, words, now);
                    }
                    self.cache.change(attempt_id, |entry| entry.was_refusal_asked = true);
                }
                Judgement::AskOutput => {
                    self.cache.change(attempt_id, |entry| entry.first_output = FirstOutput::Known(String::new()));
                }
                Judgement::GiveUpPod(verdict) => {
                    self.cache.change(attempt_id, |entry| {
                        entry.verdict.get_or_insert(verdict);
                    });
                    return false;
                }
                Judgement::GiveUpJob(verdict) => self.cache.change(attempt_id, |entry| {
                    entry.refused = Some(verdict);
                    entry.job = None;
                }),
                Judgement::EndSuspended => self.cache.change(attempt_id, |entry| {
                    entry.was_suspended = true;
                    entry.is_job_deleted_by_us = true;
                }),
            }
        }
        panic!("it is asked again and again")
    }
}

/// What a server concludes that starts observing after step `from`; with 0 it was there from the beginning.
fn replay(case: &Case, from: usize) -> Conclusion {
    let began_at = if from == 0 { 0.0 } else { case.steps[from].at };
    let mut replay =
        Replay { case, cache: Cache::default(), events: Vec::new(), began_at, conclusion: Conclusion::default() };
    if from == 0 {
        let launched_at = Some(case.began);
        replay.cache.change(case.attempt_id, |entry| entry.launched_at = launched_at);
    }
    // Of some cases the first states were not recorded: the job existed from the beginning.
    let first_job = case.steps.iter().find_map(|step| step.job.as_ref());
    replay.cache.apply_job(case.attempt_id, JobView::read(first_job.expect("each case has a job")));
    let (before, after) = case.steps.split_at(from);
    // The API lists the newest state of each object, so what happened in between is not observed.
    let uid_of = |step: &Step| {
        let metadata = step.job.as_ref().map(|job| &job.metadata).or(step.pod.as_ref().map(|pod| &pod.metadata));
        metadata.and_then(|metadata| metadata.uid.clone())
    };
    for (i, step) in before.iter().enumerate() {
        let is_newest = !before[i + 1..].iter().any(|later| uid_of(step).is_some() && uid_of(later) == uid_of(step));
        if is_newest {
            replay.apply(step);
        }
    }
    if from > 0 && replay.look(began_at) {
        return replay.conclusion;
    }
    for (i, step) in after.iter().enumerate() {
        replay.apply(step);
        let next_at = after.get(i + 1).map_or(step.at + 120.0, |next| next.at - 0.001);
        if replay.look(step.at) || (next_at > step.at && replay.look(next_at)) {
            return replay.conclusion;
        }
    }
    replay.conclusion.words = "nothing".to_owned();
    replay.conclusion
}

fn words(observation: &Observation) -> String {
    match observation {
        Observation::Ended(Ended { exit_code, cause, killed_for_memory, .. }) => {
            let memory = if *killed_for_memory { ", killed for memory" } else { "" };
            match cause {
                EndCause::Outside { by: words } | EndCause::Forgotten { why: words } => {
                    format!("exit {exit_code}{memory}: {words}")
                }
                EndCause::Deadline => format!("exit {exit_code}{memory}: deadline"),
                EndCause::GivenUp { why } => format!("exit {exit_code}{memory}: given up: {why}"),
                EndCause::Exited | EndCause::Signal { .. } | EndCause::Stopped => format!("exit {exit_code}{memory}"),
            }
        }
        Observation::NeverRan { reason, fault } if fault.is_retried() => format!("again ({fault}): {reason}"),
        Observation::NeverRan { reason, .. } => format!("rejected: {reason}"),
        Observation::Lost { reason, .. } => format!("lost: {reason}"),
        Observation::Gone { reason } => format!("gone: {reason}"),
        other => format!("{other:?}"),
    }
}

const DELETED: &str = "exit 143: its pod was deleted";
const SUSPENDED: &str = "exit 143: its job was suspended";
const PREEMPTED: &str = "exit 143: its pod was taken away: default-scheduler: preempting";
const EVICTED: &str = "exit 143: its pod was taken away: Eviction API: evicting";
const AGAIN_DELETED: &str = "again (displaced): its pod was deleted, before its command started";
const AGAIN_PREEMPTED: &str = "again (displaced): its pod was taken away: default-scheduler: preempting to accommodate a higher priority pod, before";
const LOST_CONTAINER: &str = "lost: its node lost the container after it was started";
const NOT_KNOWN: &str =
    "lost: its pod was deleted, and its node has no trace of its container: whether its command ran is not known";
const RESTARTED: &str = "lost: its node restarted while it ran, so that how it ended is not known";

/// Each case, the conclusion of a server that observed all of it, and the other possible conclusions of one that was
/// away at first.
const CASES: [(&str, &str, &[&str]); 43] = [
    (
        "01",
        "again (image): image `registry.invalid/x:1` can't be pulled: failed to pull and unpack image",
        &[
            "again (displaced): its pod was deleted, before its command started (image `registry.invalid/x:1` can't be pulled",
        ],
    ),
    (
        "02a",
        "rejected: image `registry.invalid/nope:1` can't be pulled: rpc error: code = NotFound",
        &["rejected: image `registry.invalid/nope:1` can't be pulled: "],
    ),
    (
        "02b",
        "rejected: image `nope:1` is not on the node",
        &["rejected: image `nope:1` can't be pulled: Container image"],
    ),
    (
        "03",
        "rejected: its container can't be made: secret \"not-there\" not found",
        &[
            "again (displaced): its pod was deleted, before its command started (its container could not be made: secret \"not-there\" not found)",
        ],
    ),
    (
        "04a",
        "again (displaced): its pod was deleted, before its command started (image `registry.invalid/slow:1` can't be pulled",
        &[],
    ),
    ("04c", DELETED, &[]),
    ("05a", AGAIN_PREEMPTED, &[]),
    ("05b", AGAIN_PREEMPTED, &[]),
    ("05c", PREEMPTED, &[]),
    ("06a", "rejected: Kubernetes refuses the run's pod: pods \"flotilla-", &[]),
    ("06b", "exit 0", &[]),
    (
        "06c",
        "rejected: Kubernetes refuses the run's pod: pods \"flotilla-01a21a3b-137b-71c2-ac0c-1c8fab089f54-1\" is forbidden: violates PodSecurity",
        &[],
    ),
    (
        "06d",
        "rejected: Kubernetes refuses the run's pod: pods \"flotilla-01a21a3b-1392-72e6-ba04-1a013860ef17-1\" is forbidden: ValidatingAdmissionPolicy",
        &[],
    ),
    ("07a", SUSPENDED, &[DELETED]),
    (
        "07b",
        "again (displaced): its job was suspended, before its command started (image `registry.invalid/slow:1` can't be pulled",
        &[AGAIN_DELETED],
    ),
    ("07c", SUSPENDED, &[DELETED]),
    ("07d", SUSPENDED, &[DELETED]),
    ("07e", "exit 0", &[]),
    ("08a", RESTARTED, &[]),
    ("08b", "again (machine): its node restarted before its command started", &[]),
    ("08d", RESTARTED, &[]),
    ("08e", LOST_CONTAINER, &[]),
    ("08f", LOST_CONTAINER, &[]),
    ("08g", NOT_KNOWN, &[]),
    ("08h", LOST_CONTAINER, &[]),
    ("08i", DELETED, &[]),
    ("09a", AGAIN_DELETED, &[]),
    ("09b", AGAIN_PREEMPTED, &[]),
    ("10a", EVICTED, &[]),
    ("10b", PREEMPTED, &[]),
    ("10c", "exit 0", &[]),
    ("10d", DELETED, &[]),
    ("11a", "exit 0", &[]),
    ("11b", "exit 3", &[]),
    ("11c", "exit 0, killed for memory", &[]),
    ("11d", "exit 143: deadline", &[]),
    ("11e", "exit 143: deadline", &[]),
    ("11g", "exit 137, killed for memory", &[]),
    ("12a", "exit 0", &[]),
    ("12b", AGAIN_DELETED, &[]),
    ("13b", "exit 0", &[]),
    ("14a", EVICTED, &[]),
    ("14b", "again (displaced): its pod was taken away: Eviction API: evicting, before its command started", &[]),
];

#[test]
fn each_recorded_case_is_concluded_as_it_was_from_whatever_state_on_it_is_seen() {
    let mut wrong = Vec::new();
    for (name, expected, else_allowed) in CASES {
        let case = case(name);
        for from in 0..case.steps.len() {
            let conclusion = replay(&case, from);
            let is_right = conclusion.words.starts_with(expected)
                || from > 0 && else_allowed.iter().any(|words| conclusion.words.starts_with(words));
            // A command that ran is never retried, and one reported as run did run.
            let (is_tried_again, has_ended) =
                (conclusion.words.starts_with("again"), conclusion.words.starts_with("exit"));
            let is_safe = !(is_tried_again && case.story.ran > 0 || has_ended && case.story.ran == 0);
            if !is_right || !is_safe {
                wrong.push(format!("{name} from step {from} ({}): {}", case.story.how, conclusion.words));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recorded_file_is_a_case() {
    let count = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(count, CASES.len());
}

#[test]
fn what_may_have_run_twice_is_told() {
    for (name, reason) in [("07c", "SecondPod"), ("07d", "SecondPod"), ("08i", "StartedTwice")] {
        let case = case(name);
        assert_eq!(case.story.ran, 2, "{name}");
        // Every state is applied, even after the conclusion.
        let mut replay = Replay {
            case: &case,
            cache: Cache::default(),
            events: Vec::new(),
            began_at: 0.0,
            conclusion: Conclusion::default(),
        };
        for step in &case.steps {
            replay.apply(step);
        }
        let count = replay.conclusion.told.iter().filter(|event| event.reason == reason).count();
        assert_eq!(count, 1, "{name}: {:?}", replay.conclusion.told);
    }
}

#[test]
fn what_keeps_a_pod_waiting_is_told_once_however_often_it_is_repeated() {
    for (name, reason, words) in [
        ("06a", "FailedCreate", "service account default/not-there"),
        ("06c", "FailedCreate", "violates PodSecurity"),
        ("06d", "FailedCreate", "ValidatingAdmissionPolicy 'need-team'"),
        ("12a", "SchedulingGated", "scheduling gates"),
        ("05b", "Unschedulable", "Insufficient cpu"),
    ] {
        let told = replay(&case(name), 0).told;
        let about = told.iter().filter(|event| event.reason == reason && event.message.contains(words));
        assert_eq!(about.count(), 1, "{name}: {told:?}");
    }
}

#[test]
fn what_starts_although_it_was_deleted_is_seen_to_run() {
    for name in ["04c", "05c"] {
        assert!(replay(&case(name), 0).was_running, "{name}");
    }
}
