//! The supervisor's loop while its task runs: a single thread that sleeps in poll(2).
//!
//! It writes output to the log, receives stop requests and reaps children. All descendants of the task become the
//! supervisor's children, because it is their "child subreaper" (prctl(2)); so once it has no child left, nothing of
//! the task is left.
//!
//! ```text
//!            stop, deadline             the grace is over
//!   running ───────────────→ ending ────────────────────────→ killing ──→ no process left
//!      └────────────── the shell ended ──────────────────────────↗
//! ```
//!
//! A shell that ends while its task is being stopped does not shorten the grace period of the other processes.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, read};

use super::sink::Sink;
use super::task::Task;
use super::usage::{Meter, Seen};
use crate::engine::local::cgroup::{Groups, Limits};
use crate::engine::local::record::Spec;
use crate::engine::local::run_clock::RunClock;
use crate::engine::local::{living, processes};
use crate::model::{EndCause, Ended, Event, Started, UsageSample};

/// How much output is read at once: as much as a pipe holds.
const CHUNK_BYTES: usize = 64 * 1024;
/// How soon to look for processes that were started while others were killed; doubles up to the second value, for a
/// process that hangs in the kernel.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How much of an incomplete request is kept. A complete one is `stop` and a number.
const REQUEST_BYTES: usize = 64;

fn parse_request(line: &[u8]) -> Option<Duration> {
    let millis = std::str::from_utf8(line).ok()?.strip_prefix("stop ")?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Running,
    /// The processes were asked to end, and are killed at this time.
    Ending {
        kill_at: Instant,
    },
    Killing {
        again_at: Instant,
        pause: Duration,
    },
}

pub(in crate::engine::local) struct Supervisor<'a, L> {
    groups: &'a Groups,
    grace: Duration,
    shell: Pid,
    output: Option<PipeReader>,
    sink: Sink<L>,
    signals: SignalFd,
    clock: RunClock,
    meter: Meter,
    /// Kept here because the kernel forgets it together with the groups' controllers, which a server restart may
    /// remove for a while.
    oom_kills: u64,
    deadline: Option<Instant>,
    phase: Phase,
    /// Why the supervisor began to end the task, if it did.
    cause: Option<EndCause>,
    /// How the shell ended, and when.
    exit: Option<(ExitStatus, Timestamp)>,
    request: Vec<u8>,
}

impl<'a, L: Write> Supervisor<'a, L> {
    pub(super) fn new(
        spec: &'a Spec,
        groups: &'a Groups,
        limits: Limits,
        task: Task,
        sink: Sink<L>,
        signals: SignalFd,
        clock: RunClock,
    ) -> Self {
        let now = Instant::now();
        let deadline = spec.deadline_secs.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs);
        Self {
            groups,
            grace: Duration::from_millis(spec.grace_ms),
            shell: task.pid,
            output: Some(task.output),
            sink,
            signals,
            clock,
            meter: Meter::new(now, limits),
            oom_kills: 0,
            deadline: deadline.and_then(|deadline| now.checked_add(deadline)),
            phase: Phase::Running,
            cause: None,
            exit: None,
            request: Vec::new(),
        }
    }

    /// Returns when no process of the task is left and all its output is read. Meanwhile reports its usage, and tends
    /// the log at the same interval.
    pub fn run(
        &mut self,
        mut tell_usage: impl FnMut(UsageSample),
        tend_log: impl Fn(&mut L) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        while self.reap()? {
            if let Some(Seen { memory_bytes, cpu_millis }) = self.meter.sample(Instant::now(), self.groups) {
                tell_usage(UsageSample { at: self.clock.now(), memory_bytes, cpu_millis });
                self.sink.tend(&tend_log);
                self.note_oom_kills();
            }
            self.advance(Instant::now());
            let (has_output, has_request, has_signal) = self.wait()?;
            if has_output {
                self.read_output(&mut chunk)?;
            }
            if has_request {
                self.read_requests()?;
            }
            if has_signal {
                self.read_signals()?;
            }
        }
        // A process that still holds the pipe open without belonging to the task got it from one of the task's
        // processes; it is not waited for.
        while self.read_output(&mut chunk)? {}
        self.sink.tend(&tend_log);
        self.note_oom_kills();
        Ok(())
    }

    fn note_oom_kills(&mut self) {
        self.oom_kills = self.oom_kills.max(self.groups.oom_kills());
    }

    /// Kills a task that can't be supervised any more.
    pub fn abandon(&mut self) {
        while self.reap().unwrap_or(false) {
            self.kill(Instant::now(), FIRST_PAUSE);
            std::thread::sleep(FIRST_PAUSE);
        }
    }

    /// The result of the task. All output is in the log when this returns.
    pub fn finish(self, started: Started, finish_log: impl FnOnce(L) -> io::Result<()>) -> Ended {
        let usage = self.meter.finish(Instant::now(), self.groups);
        let lost = self.sink.finish(finish_log);
        let (status, finished_at) = self.exit.unwrap_or((ExitStatus::default(), started.at));
        let exit_code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let cause = match (self.cause, status.signal()) {
            (Some(cause), _) => cause,
            (None, Some(signal)) => EndCause::Signal { name: signal_name(signal) },
            (None, None) => EndCause::Exited,
        };
        let killed_for_memory = self.oom_kills > 0;
        let notes = lost.map(|message| Event::warning(finished_at, "OutputLost", message)).into_iter().collect();
        Ended {
            started,
            finished_at,
            exit_code: i64::from(exit_code),
            cause,
            killed_for_memory,
            usage,
            is_log_complete: true,
            notes,
        }
    }

    /// Reaps ended children; `false` if there is no child any more, and so no descendant.
    fn reap(&mut self) -> io::Result<bool> {
        loop {
            let mut status = 0;
            // nix's own wrapper loses the status of a child that ended by a real-time signal.
            // SAFETY: the pointer is valid for the call, which keeps nothing of it.
            match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
                Ok(0) => return Ok(true),
                Ok(pid) if pid == self.shell.as_raw() => {
                    self.exit = Some((ExitStatus::from_raw(status), self.clock.now()));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Performs the actions that are due.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Running if self.exit.is_some() => self.kill(now, FIRST_PAUSE),
            Phase::Running if self.deadline.is_some_and(|deadline| deadline <= now) => {
                self.end(EndCause::Deadline, self.grace, now);
            }
            Phase::Ending { kill_at } if kill_at <= now => self.kill(now, FIRST_PAUSE),
            Phase::Killing { again_at, pause } if again_at <= now => self.kill(now, (pause * 2).min(LONGEST_PAUSE)),
            Phase::Running | Phase::Ending { .. } | Phase::Killing { .. } => {}
        }
    }

    /// Sleeps until there is something to do; returns whether there is output, a request, a signal.
    fn wait(&self) -> io::Result<(bool, bool, bool)> {
        let stdin = io::stdin();
        let mut sources =
            vec![PollFd::new(stdin.as_fd(), PollFlags::POLLIN), PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        sources.extend(self.output.as_ref().map(|output| PollFd::new(output.as_fd(), PollFlags::POLLIN)));
        match poll(&mut sources, self.timeout()) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |i: usize| sources.get(i).is_some_and(|source| source.any().unwrap_or(true));
        Ok((is_ready(2), is_ready(0), is_ready(1)))
    }

    fn timeout(&self) -> PollTimeout {
        let due = match self.phase {
            Phase::Running => self.deadline,
            Phase::Ending { kill_at } => Some(kill_at),
            Phase::Killing { again_at, .. } => Some(again_at),
        };
        let due = due.into_iter().fold(self.meter.due(), Instant::min);
        // Rounded up, or it would wake just before and spin.
        let wait = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }

    /// Reads a chunk of output; `false` if none is available now.
    fn read_output(&mut self, chunk: &mut [u8]) -> io::Result<bool> {
        let Some(output) = &mut self.output else { return Ok(false) };
        match output.read(chunk) {
            Ok(0) => {
                self.output = None;
                Ok(false)
            }
            Ok(length) => {
                self.sink.write(&chunk[..length]);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn read_requests(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        let length = match read(io::stdin().as_fd(), &mut bytes) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for &byte in &bytes[..length] {
            if byte != b'\n' {
                self.request.truncate(REQUEST_BYTES);
                self.request.push(byte);
            } else if let Some(grace) = parse_request(&std::mem::take(&mut self.request)) {
                self.end(EndCause::Stopped, grace, Instant::now());
            }
        }
        Ok(())
    }

    fn read_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            // The others are SIGCHLD, and children are reaped anyway.
            if signal.ssi_signo == Signal::SIGTERM as u32 {
                let grace = living::grace_of(&signal).unwrap_or(self.grace);
                self.end(EndCause::Stopped, grace, Instant::now());
            }
        }
        Ok(())
    }

    /// Asks all processes to end. A repeated request can only bring the time of the kill forward.
    fn end(&mut self, cause: EndCause, grace: Duration, now: Instant) {
        // A grace period beyond the clock's range counts as ten years.
        let kill_at = now.checked_add(grace).unwrap_or(now + Duration::from_hours(10 * 366 * 24));
        match self.phase {
            Phase::Running => {
                self.phase = Phase::Ending { kill_at };
                if self.exit.is_none() {
                    self.cause = Some(cause);
                }
                let asked = self.members();
                processes::terminate(&asked);
                // Processes that were started and orphaned meanwhile. A child of a process that was asked is left to
                // that process, which may need it to clean up.
                let orphans = processes::all().into_iter().filter(|process| process.parent == Pid::this());
                let missed: Vec<Pid> = orphans.map(|process| process.pid).filter(|pid| !asked.contains(pid)).collect();
                processes::terminate(&missed);
            }
            Phase::Ending { kill_at: before } => self.phase = Phase::Ending { kill_at: before.min(kill_at) },
            Phase::Killing { .. } => {}
        }
    }

    fn kill(&mut self, now: Instant, pause: Duration) {
        self.groups.kill();
        processes::kill_all(&self.members());
        self.phase = Phase::Killing { again_at: now + pause, pause };
    }

    /// Every process of the task: its descendants, and the members of its groups.
    fn members(&self) -> Vec<Pid> {
        let mut members = processes::descendants(&processes::all(), Pid::this());
        members.extend(self.groups.pids());
        members.sort_unstable();
        members.dedup();
        members
    }
}

fn signal_name(number: i32) -> String {
    match Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) => format!("SIGRTMIN+{}", number - libc::SIGRTMIN()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_reads_back_and_anything_else_is_none() {
        let request = crate::engine::local::record::stop_request(Duration::from_millis(1500));
        assert_eq!(parse_request(request.trim_end().as_bytes()), Some(Duration::from_millis(1500)));
        for line in ["", "stop", "stop x", "stop -1", "start 1", "stop 99999999999999999999"] {
            assert_eq!(parse_request(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
    }
}
