//! What the daemon remembers about a container: its events, the last 256 of all containers since the daemon was
//! started. They show who ended a container. After a crash or a power loss, a daemon records for each container that
//! it had left running its own exit code, 255, and its own start as the end; and a container started in its last
//! moments may be recorded as created and never started. So an end is real if this daemon ran before it, or if it
//! lies well before the daemon's start.
//!
//! A daemon does not report when it was started. But each time it recreates its network `bridge`, right after it has
//! checked the containers, unless some of them still run (live restore) or it is configured without that network.

use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::EventsOptions;
use futures_util::TryStreamExt;
use jiff::{SignedDuration, Timestamp};

use super::Inner;
use super::inspect::{exit_code, finished_at, id_of};
use crate::engine::container::signal::signal_name;

/// A daemon remembers 256 events (<https://github.com/moby/moby/blob/v28.0.0/daemon/events/events.go>). With fewer
/// than this many it has forgotten none, even if a few were added since.
const FEW: usize = 240;
/// How late the daemon may report a signal that it sent.
const LATENESS: SignedDuration = SignedDuration::from_millis(250);
/// How far in the daemon's future its history is asked for at most; the answer comes only then.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_secs(1);
/// How long a daemon may take to create a container before it reports that. Another server's request may be under
/// way.
const MAKING: SignedDuration = SignedDuration::from_secs(30);
/// How long before its network exists a daemon finds containers dead. Half a second was observed.
const FINDING: SignedDuration = SignedDuration::from_secs(5);
/// How long that may be at most, where there are many containers, or the machine has much else to start.
const MOST_FINDING: SignedDuration = SignedDuration::from_mins(10);
/// How long the daemon may take to say what it remembers.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The daemon did not answer, or not in time: it may when asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoAnswer;

/// What the daemon remembers of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// The signals sent to it through the daemon, of those that end a process.
    pub signals: Vec<i64>,
    /// The daemon remembers the start, so it was not restarted since.
    pub has_start: bool,
    pub end: EndSeen,
}

/// Whether a daemon saw the container end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum EndSeen {
    /// The daemon remembers the end, or ran before and after it.
    Yes,
    /// An earlier daemon saw it, well before this one was started.
    Earlier,
    /// This daemon was started after the end, or at that moment; whether it found the container dead is unknown.
    Perhaps,
    /// None did: the container was found dead when this daemon was started.
    No,
    /// The daemon has forgotten what happened at that time, or was not asked.
    #[default]
    Unknown,
}

/// Whether a container that the daemon shows as never started certainly never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unstarted {
    /// This daemon created it.
    Surely,
    /// An earlier daemon created it. A power loss may have erased what that daemon wrote last, such as a start.
    Perhaps,
    /// The daemon can't answer now.
    Unknown,
}

impl EndSeen {
    /// Whether the daemon was restarted since, so that it can't know who ended the container.
    pub(super) const fn is_before_daemon(self) -> bool {
        matches!(self, Self::Earlier | Self::Perhaps | Self::No)
    }
}

impl Inner {
    /// Asks the daemon whether a container that it shows as created and not started may have run.
    pub(super) async fn ask_whether_unstarted(&self, container: &ContainerInspectResponse) -> Unstarted {
        let clock = match self.link.clock() {
            Some(clock) => Some(clock),
            None => self.link.refresh_machine().await.ok().and_then(|machine| machine.clock),
        };
        let Some(now) = clock.map(|clock| clock.at(Instant::now())) else { return Unstarted::Unknown };
        let made_at = container.created.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
        match self.events_until(made_at.map_or(now, |made_at| made_at.max(now))).await.ok().flatten() {
            Some(events) => {
                judge_unstarted(&events, id_of(container), made_at.map(|made_at| now.duration_since(made_at)))
            }
            None => Unstarted::Unknown,
        }
    }

    /// What the daemon remembers of an ended container. If it refuses to answer, the end stays unexplained.
    pub(super) async fn memory_of(
        &self,
        container: &ContainerInspectResponse,
        was_asked_to_stop: bool,
    ) -> Result<Memory, NoAnswer> {
        let Some(finished_at) = finished_at(container) else { return Ok(Memory::default()) };
        // The daemon reports a signal right after sending it, and the end right after showing it. Where that matters,
        // because of the exit code or because we requested the end, the event is awaited.
        let is_expected = was_asked_to_stop || [130, 131, 137, 143, 255].contains(&exit_code(container));
        let now = self.link.clock().map(|clock| clock.at(Instant::now()));
        let told = if is_expected { finished_at.saturating_add(LATENESS).ok() } else { None };
        let until = [now, told, Some(finished_at)].into_iter().flatten().max().unwrap_or(finished_at);
        // An end that lies in the daemon's future, because its clock was set back, is not waited for.
        let until = now.and_then(|now| now.saturating_add(LONGEST_WAIT).ok()).map_or(until, |latest| until.min(latest));
        let history = self.events_until(until).await;
        let mut memory = match &history {
            Ok(Some(events)) => recall(events, id_of(container), finished_at, now.is_some()),
            Ok(None) | Err(NoAnswer) => Memory::default(),
        };
        if memory.end == EndSeen::Yes {
            return Ok(memory);
        }
        match self.network_made_at().await? {
            Some(network_made_at) => memory.end = end_seen(finished_at, network_made_at),
            None => drop(history?),
        }
        Ok(memory)
    }

    /// All events that the daemon remembers up to a time of its clock, waiting if that time is in the future; `None`
    /// if it refuses to answer.
    async fn events_until(&self, until: Timestamp) -> Result<Option<Vec<EventMessage>>, NoAnswer> {
        let stamp = |time: Timestamp| format!("{}.{:09}", time.as_second(), time.subsec_nanosecond());
        let options =
            EventsOptions { since: Some(stamp(Timestamp::UNIX_EPOCH)), until: Some(stamp(until)), filters: None };
        self.ask(async |docker| docker.events(Some(options)).try_collect().await).await
    }

    /// When the daemon created its network, at its last start or the one before; `None` if it has none or refuses to
    /// answer.
    async fn network_made_at(&self) -> Result<Option<Timestamp>, NoAnswer> {
        let network = self.ask(async |docker| docker.inspect_network("bridge", None).await).await?;
        Ok(network.and_then(|network| network.created?.parse().ok()))
    }

    /// The daemon's answer, or `None` if it refuses.
    async fn ask<T>(&self, question: impl AsyncFnOnce(&Docker) -> Result<T, Error>) -> Result<Option<T>, NoAnswer> {
        let asking = async {
            let docker = self.link.docker().await.map_err(|_| NoAnswer)?;
            match question(&docker).await {
                Ok(answer) => Ok(Some(answer)),
                // An answer that can't be read will be no other the next time.
                Err(
                    Error::DockerResponseServerError { .. }
                    | Error::JsonDataError { .. }
                    | Error::JsonSerdeError { .. },
                ) => Ok(None),
                Err(_) => Err(NoAnswer),
            }
        };
        tokio::time::timeout(TIMEOUT, asking).await.unwrap_or(Err(NoAnswer))
    }
}

/// `age` is how long ago the container was created, by the daemon's clock.
fn judge_unstarted(events: &[EventMessage], id: &str, age: Option<SignedDuration>) -> Unstarted {
    let is_made = |event: &EventMessage| {
        let of_container = event.actor.as_ref().and_then(|actor| actor.id.as_deref()) == Some(id);
        of_container && event.action.as_deref() == Some("create")
    };
    match age {
        _ if events.iter().any(is_made) => Unstarted::Surely,
        // The daemon may still be creating it.
        Some(age) if age.abs() < MAKING => Unstarted::Unknown,
        _ => Unstarted::Perhaps,
    }
}

/// Whether a daemon saw an end, judged by when it created its network. Both times are the daemon's.
fn end_seen(finished_at: Timestamp, network_made_at: Timestamp) -> EndSeen {
    let before = network_made_at.duration_since(finished_at);
    if before.is_negative() {
        // A daemon was running by then. With live restore this may be another one: such a daemon learns the real end
        // from the process that watched the container.
        EndSeen::Yes
    } else if before <= FINDING {
        EndSeen::No
    } else if before <= MOST_FINDING {
        EndSeen::Perhaps
    } else {
        EndSeen::Earlier
    }
}

/// What the events say about a container; `are_all` if they are all that the daemon remembers.
fn recall(events: &[EventMessage], id: &str, finished_at: Timestamp, are_all: bool) -> Memory {
    const ENDING: [&str; 4] = ["SIGINT", "SIGQUIT", "SIGKILL", "SIGTERM"];
    let of_container = |event: &&EventMessage| event.actor.as_ref().and_then(|actor| actor.id.as_deref()) == Some(id);
    let signals = events.iter().filter(of_container).filter(|event| event.action.as_deref() == Some("kill"));
    let signals = signals.filter_map(|event| {
        let signal = event.actor.as_ref()?.attributes.as_ref()?.get("signal")?.parse().ok()?;
        signal_name(signal).is_some_and(|name| ENDING.contains(&name)).then_some(signal)
    });
    let has = |action: &str| events.iter().filter(of_container).any(|event| event.action.as_deref() == Some(action));
    // Both times are the daemon's.
    let reaches_back = events.first().and_then(time_of).is_some_and(|oldest| oldest <= finished_at);
    let end = match has("die") || reaches_back {
        true => EndSeen::Yes,
        false if are_all && events.len() < FEW => EndSeen::Perhaps,
        false => EndSeen::Unknown,
    };
    Memory { signals: signals.collect(), has_start: has("start"), end }
}

fn time_of(event: &EventMessage) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(event.time_nano?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const END_NANOS: i64 = 1_800_000_000_000_000_000;

    fn event(id: &str, action: &str, nanos: i64) -> EventMessage {
        let value = json!({ "Type": "container", "Action": action, "timeNano": nanos,
            "Actor": { "ID": id, "Attributes": { "signal": "15" } } });
        serde_json::from_value(value).unwrap()
    }

    fn recalled(events: &[EventMessage]) -> Memory {
        recall(events, "a", Timestamp::from_nanosecond(END_NANOS.into()).unwrap(), true)
    }

    #[test]
    fn what_a_daemon_before_made_may_have_been_started() {
        let made = [event("b", "create", 1), event("a", "create", 2)];
        let judge = |events: &[EventMessage], age| judge_unstarted(events, "a", Some(SignedDuration::from_secs(age)));
        assert_eq!(judge(&made, 1000), Unstarted::Surely);
        assert_eq!(judge(&made[..1], 1000), Unstarted::Perhaps);
        assert_eq!(judge(&made[..1], 5), Unstarted::Unknown);
        assert_eq!(judge(&[event("a", "attach", 2)], -1000), Unstarted::Perhaps, "its machine's clock was wrong");
        assert_eq!(judge_unstarted(&[], "a", None), Unstarted::Perhaps);
    }

    #[test]
    fn a_daemon_that_was_started_after_the_end_does_not_remember_it() {
        assert_eq!(recalled(&[]).end, EndSeen::Perhaps);
        assert_eq!(recalled(&[event("b", "die", END_NANOS + 1)]).end, EndSeen::Perhaps);
        // It reports an end a moment after the container shows it.
        assert_eq!(recalled(&[event("a", "start", END_NANOS - 1)]).end, EndSeen::Yes);
        let remembered = recalled(&[event("a", "start", 1), event("a", "kill", 2), event("a", "die", END_NANOS)]);
        assert_eq!(remembered, Memory { signals: vec![15], has_start: true, end: EndSeen::Yes });
    }

    #[test]
    fn a_daemon_that_has_forgotten_the_time_of_the_end_says_nothing_about_it() {
        let later: Vec<_> = (0..FEW).map(|_| event("b", "die", END_NANOS + 1)).collect();
        assert_eq!(recalled(&later).end, EndSeen::Unknown);
        let mut around = later;
        around[0] = event("b", "die", END_NANOS - 1);
        assert_eq!(recalled(&around).end, EndSeen::Yes);
        let end = recall(&[], "a", Timestamp::from_nanosecond(END_NANOS.into()).unwrap(), false).end;
        assert_eq!(end, EndSeen::Unknown);
    }

    #[test]
    fn only_what_ended_when_the_daemon_was_started_was_found_dead() {
        let finished_at = Timestamp::from_nanosecond(END_NANOS.into()).unwrap();
        let table = [
            (-100_000, EndSeen::Yes),
            (-1, EndSeen::Yes),
            (0, EndSeen::No),
            (500, EndSeen::No),
            (20_000, EndSeen::Perhaps),
            (600_000, EndSeen::Perhaps),
            (600_001, EndSeen::Earlier),
        ];
        for (millis, expected) in table {
            assert_eq!(
                end_seen(finished_at, finished_at + SignedDuration::from_millis(millis)),
                expected,
                "{millis} ms"
            );
        }
    }
}
