//! Notifies a reader of output that its container has ended. The daemon should close the stream then, but some
//! versions sometimes don't if a container ends as soon as it starts.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::AttemptId;

/// How long the stream may continue without a message after its container has ended.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long nothing may arrive before the reader checks for a missed end.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);

/// The readers waiting for the end of an attempt.
#[derive(Default)]
pub(super) struct Ends(Mutex<HashMap<AttemptId, watch::Sender<bool>>>);

pub(super) struct EndSignal(watch::Receiver<bool>);

impl Ends {
    /// Must be called before checking whether the attempt runs, so that no end is missed in between.
    pub(super) fn signal(&self, attempt_id: AttemptId) -> EndSignal {
        let mut waiting = self.0.lock();
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        EndSignal(waiting.entry(attempt_id).or_insert_with(|| watch::Sender::new(false)).subscribe())
    }

    pub(super) fn tell(&self, attempt_id: AttemptId) {
        if let Some(sender) = self.0.lock().remove(&attempt_id) {
            sender.send_replace(true);
        }
    }
}

impl EndSignal {
    /// Waits until a message is overdue: the container has ended, or nothing arrived for a long time.
    pub(super) async fn overdue(&mut self) {
        // An error means that the end was signalled and no other reader waits: the value stays.
        let told = async { drop(self.0.wait_for(|has_ended| *has_ended).await) };
        if tokio::time::timeout(LOOK_ANYWAY, told).await.is_ok() {
            tokio::time::sleep(PATIENCE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    #[tokio::test(start_paused = true)]
    async fn a_message_is_overdue_soon_after_the_end_and_long_after_the_last() {
        let (ends, attempt_id) = (Ends::default(), AttemptId { run_id: RunId::generate(), attempt: 1 });
        let mut signal = ends.signal(attempt_id);
        let begin = tokio::time::Instant::now();
        signal.overdue().await;
        assert_eq!(begin.elapsed(), LOOK_ANYWAY);
        ends.tell(attempt_id);
        for _ in 0..2 {
            let begin = tokio::time::Instant::now();
            signal.overdue().await;
            assert!(begin.elapsed() <= PATIENCE * 2);
        }
    }
}
