//! The two-stage stop. The first SIGTERM or SIGINT asks for an orderly end; the second ends the process at once.
//!
//! ```text
//! running ──signal──→ stopping (token cancelled) ──all done──→ exit 0
//!                         └──────signal──→ exit 128 + signal
//! ```
//!
//! Signals are awaited on a thread and a runtime of their own, so that the second one also works where the server's own
//! runtime hangs, which is when a person sends it.

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// From now on the first SIGTERM or SIGINT cancels the returned token, and the second exits the process.
/// Neither any longer ends the process by itself. Call it once, in `main` or close to it.
pub fn on_signal() -> io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? }
    };
    let stopping = token.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let first = signals.next().await;
            tracing::info!(signal = %first, "stopping in an orderly way; a second signal ends the process at once");
            stopping.cancel();
            let second = signals.next().await;
            tracing::warn!(signal = %second, "ending at once, on the second signal");
            std::process::exit(128 + second as i32);
        });
    })?;
    Ok(token)
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.interrupt.recv() => Signal::SIGINT,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use nix::sys::signal::kill;
    use nix::unistd::Pid;

    use super::*;

    const ROLE: &str = "FLOTILLA_TEST_SHUTDOWN";

    /// Not a test by itself: the process that `the_first_signal_…` starts. It never comes to an orderly end.
    #[test]
    fn a_process_that_hangs_in_its_orderly_end() {
        if std::env::var_os(ROLE).is_none() {
            return;
        }
        let token = on_signal().unwrap();
        println!("\nready");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(token.cancelled());
        println!("\nstopping");
        loop {
            std::thread::park();
        }
    }

    #[test]
    fn the_first_signal_asks_for_an_orderly_end_and_the_second_exits_at_once() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["shutdown::tests::a_process_that_hangs_in_its_orderly_end", "--exact", "--nocapture"])
            .env(ROLE, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line == "ready"));
        kill(pid, Signal::SIGTERM).unwrap();
        assert!(lines.any(|line| line == "stopping"));
        kill(pid, Signal::SIGINT).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}
