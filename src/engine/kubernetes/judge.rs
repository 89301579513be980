//! What to conclude about one attempt, or which step must come first: a pure function of what is known of it.

use std::time::Duration;

use super::cache::Entry;
use super::facts::{Facts, Now, Verdict};
use super::job::PodMaker;
use super::read::{read, read_vanished};
use super::reading::Reading;
use super::refusal;
use super::unstarted::NEWS_PATIENCE;
use crate::model::{Observation, StartFault};

/// What is known besides an attempt's entry.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and they come in any combination")]
pub(super) struct Context {
    pub maker: PodMaker,
    pub pull_grace: Duration,
    /// Whether the API was just queried for the attempt's objects, so that missing objects do not exist.
    pub was_asked_for: bool,
    /// Whether the launch completed, so that the attempt has a handle.
    pub was_made: bool,
    /// The pod's node no longer exists, or does not answer the cluster.
    pub is_node_lost: bool,
    /// The nodes of this release write how a deleted pod ended before they release it.
    pub has_last_status: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly always the large one, and used up at once")]
pub(super) enum Judgement {
    Seen(Observation),
    /// Nothing can be concluded before the API was queried for the attempt's objects.
    AskForObjects,
    AskEvents,
    /// Query whether the job's events say that admission refuses its pod.
    AskRefusal,
    AskOutput,
    /// Delete the pod; it is reported as given up only once its node has released it.
    GiveUpPod(Verdict),
    /// Delete the job, which gets no pod.
    GiveUpJob(Verdict),
    /// Someone has suspended the job: delete it, so that it can't be resumed and run its command again.
    EndSuspended,
}

pub(super) fn judge(entry: &Entry, context: Context, now: Now) -> Judgement {
    if entry.is_removed {
        return Judgement::Seen(Observation::Gone { reason: "it was removed".to_owned() });
    }
    let is_suspended = entry.job.as_ref().is_some_and(|job| job.is_suspended && !job.is_deleting);
    match &entry.pod {
        Some(_) if is_suspended && !entry.was_suspended => Judgement::EndSuspended,
        Some(pod) if !entry.has_vanished => of_reading(read(pod, &facts(entry, context, now), now)),
        _ if !context.was_asked_for && may_be_there(entry, context) => Judgement::AskForObjects,
        Some(pod) => of_reading(read_vanished(pod, &facts(entry, context, now), now)),
        None => without_pod(entry, context, now, is_suspended),
    }
}

/// Whether the API may know more than the watches have reported. A job without a pod is not worth a query each time.
fn may_be_there(entry: &Entry, context: Context) -> bool {
    let is_waiting = entry.job.is_some() && context.maker == PodMaker::Controller;
    !is_waiting || entry.pod.is_some()
}

fn of_reading(reading: Reading) -> Judgement {
    match reading {
        Reading::Seen(observation) => Judgement::Seen(observation),
        Reading::GiveUp(verdict) => Judgement::GiveUpPod(verdict),
        Reading::AskEvents => Judgement::AskEvents,
        Reading::AskOutput => Judgement::AskOutput,
    }
}

/// An attempt without a pod. Because of our finalizer, it never had one, unless someone removed the finalizer.
fn without_pod(entry: &Entry, context: Context, now: Now, is_suspended: bool) -> Judgement {
    let gone = |reason: &str| Judgement::Seen(Observation::Gone { reason: reason.to_owned() });
    let never = |reason: &str, fault| Judgement::Seen(Observation::NeverRan { reason: reason.to_owned(), fault });
    if let (None, Some(verdict)) = (&entry.job, &entry.refused) {
        return never(&verdict.reason, verdict.fault);
    }
    match (&entry.job, context.maker) {
        (None, PodMaker::Controller) if entry.was_asked_to_stop => {
            never("stopped before it started", StartFault::Displaced)
        }
        // This process has watched it since its launch, and there never was a pod. Its controller may have been about
        // to create one.
        (None, PodMaker::Controller) if context.was_made && entry.launched_at.is_some() => {
            let absent_for = entry.absent_at.map_or(Duration::ZERO, |at| now.uptime.saturating_sub(at));
            if absent_for < NEWS_PATIENCE {
                return Judgement::Seen(Observation::Starting);
            }
            never("its job was deleted from outside of flotilla before it had a pod", StartFault::Displaced)
        }
        (None, _) if context.was_made => gone("its job was removed from outside of flotilla"),
        (None, _) => gone("it has no job"),
        (Some(_), PodMaker::Flotilla) if context.was_made => gone("its pod was removed from outside of flotilla"),
        (Some(_), PodMaker::Flotilla) => gone("its job was made, and its pod was not"),
        (Some(job), PodMaker::Controller) if job.is_deleting => Judgement::Seen(Observation::Starting),
        (Some(job), PodMaker::Controller) => match &job.failure {
            Some(failure) => gone(&format!("its job failed without a pod: {failure}")),
            None if is_suspended => Judgement::Seen(Observation::Starting),
            // A server that was away, or that may not watch events, learns from the job's events why there is no pod.
            None if entry.refusal.is_none() && !entry.was_refusal_asked && is_long_launched(entry, now) => {
                Judgement::AskRefusal
            }
            None => refused(entry, context, now),
        },
    }
}

fn is_long_launched(entry: &Entry, now: Now) -> bool {
    entry.launched_at.is_none_or(|at| now.wall.duration_since(at).unsigned_abs() > NEWS_PATIENCE)
}

/// A job whose controller creates no pod: admission refuses it, temporarily or permanently.
fn refused(entry: &Entry, context: Context, now: Now) -> Judgement {
    let starting = Judgement::Seen(Observation::Starting);
    let Some(refusal) = &entry.refusal else { return starting };
    let waited = now.uptime.saturating_sub(refusal.at);
    let fault = match refusal::of_pod(&refusal.words) {
        refusal::OfPod::Final => StartFault::Task,
        refusal::OfPod::Missing if waited >= context.pull_grace => StartFault::Task,
        refusal::OfPod::Hiccup if waited >= context.pull_grace => StartFault::Machine,
        refusal::OfPod::Missing | refusal::OfPod::Hiccup | refusal::OfPod::Passing => return starting,
    };
    let reason = format!("Kubernetes refuses the run's pod: {}", refusal.words);
    Judgement::GiveUpJob(Verdict { reason, fault })
}

fn facts(entry: &Entry, context: Context, now: Now) -> Facts {
    let since = |at: Option<Duration>| at.map_or(Duration::ZERO, |at| now.uptime.saturating_sub(at));
    Facts {
        was_asked_to_stop: entry.was_asked_to_stop,
        verdict: entry.verdict.clone(),
        running_since: entry.running_since,
        running_seen_at: entry.running_seen_at,
        last_seen_at: entry.last_seen_at,
        launched_at: entry.launched_at,
        end_seen_at: entry.end_seen_at,
        trouble: entry.trouble.clone(),
        troubled_for: since(entry.troubled_at),
        pull_grace: context.pull_grace,
        deleting_for: since(entry.deleting_at),
        released_for: since(entry.released_at),
        failed_for: since(entry.failed_at),
        had_grace: entry.had_grace,
        has_last_status: context.has_last_status,
        is_node_lost: context.is_node_lost,
        was_suspended: entry.was_suspended,
        is_job_gone: entry.job.is_none() && !entry.is_job_deleted_by_us,
        is_job_past_deadline: entry.job.as_ref().is_some_and(|job| job.is_past_deadline),
        evidence: entry.evidence.clone(),
        evidence_age: since(entry.evidence_at),
        first_output: entry.first_output.clone(),
        peak: entry.sampling.peak,
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::engine::kubernetes::cache::Cache;
    use crate::engine::kubernetes::view::JobView;
    use crate::model::{AttemptId, RunId};

    const QUOTA: &str = "pods \"a\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
    const HICCUP: &str =
        "Internal error occurred: failed calling webhook \"w\": dial tcp 10.0.0.1:443: connect: connection refused";
    const MISSING: &str =
        "pods \"a\" is forbidden: error looking up service account n/x: serviceaccount \"x\" not found";

    /// A job whose controller creates no pod, launched by this process.
    struct World {
        cache: Cache,
        attempt_id: AttemptId,
    }

    impl World {
        fn new() -> Self {
            let attempt_id = AttemptId { run_id: RunId::generate(), attempt: 1 };
            let cache = Cache::default();
            cache.change(attempt_id, |entry| entry.launched_at = Some(Timestamp::UNIX_EPOCH));
            cache.apply_job(attempt_id, JobView::default());
            Self { cache, attempt_id }
        }

        fn now(second: u64) -> Now {
            let wall = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second.try_into().unwrap());
            Now { wall, uptime: Duration::from_secs(second) }
        }

        fn refuse(&self, second: u64, words: &str) {
            self.cache.refuse(self.attempt_id, words.to_owned(), Self::now(second));
        }

        fn judge(&self, second: u64) -> Judgement {
            let context = Context {
                maker: PodMaker::Controller,
                pull_grace: Duration::from_mins(1),
                was_asked_for: false,
                was_made: true,
                is_node_lost: false,
                has_last_status: true,
            };
            judge(&self.cache.get(self.attempt_id).unwrap(), context, Self::now(second))
        }
    }

    fn given_up(words: &str, fault: StartFault) -> Judgement {
        Judgement::GiveUpJob(Verdict { reason: format!("Kubernetes refuses the run's pod: {words}"), fault })
    }

    #[test]
    fn each_kind_of_refusal_has_a_time_of_its_own() {
        let starting = Judgement::Seen(Observation::Starting);
        let world = World::new();
        world.refuse(1, QUOTA);
        assert_eq!(world.judge(1200), starting, "a quota is waited for");
        world.refuse(1200, HICCUP);
        assert_eq!(world.judge(1200), starting);
        world.refuse(1210, QUOTA);
        world.refuse(1215, HICCUP);
        assert_eq!(world.judge(1274), starting);
        assert_eq!(world.judge(1275), given_up(HICCUP, StartFault::Machine), "what does not answer is no task's fault");
        world.refuse(1276, MISSING);
        world.refuse(1300, MISSING);
        assert_eq!(world.judge(1335), starting);
        assert_eq!(world.judge(1336), given_up(MISSING, StartFault::Task));
        let policy = "pods \"a\" is forbidden: violates PodSecurity \"restricted:latest\"";
        world.refuse(1337, policy);
        assert_eq!(world.judge(1337), given_up(policy, StartFault::Task));
    }

    #[test]
    fn a_job_that_gets_no_pod_is_asked_about_once_although_no_event_was_seen() {
        let world = World::new();
        assert_eq!(world.judge(10), Judgement::Seen(Observation::Starting));
        assert_eq!(world.judge(11), Judgement::AskRefusal);
        world.cache.change(world.attempt_id, |entry| entry.was_refusal_asked = true);
        assert_eq!(world.judge(12), Judgement::Seen(Observation::Starting));
    }
}
