//! Taking over from a server that was killed a moment ago.
//!
//! Its resources (socket, lock) are free once their last copy is closed. A process that it was just starting holds
//! copies until it executes its program, which under load takes some milliseconds longer than the server's own end.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a predecessor may take to let go.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Retries while the result is "in use", for at most [`PATIENCE`].
pub(super) async fn wait_while<T>(is_taken: impl Fn(&T) -> bool, take: impl AsyncFn() -> T) -> T {
    let begun = Instant::now();
    loop {
        let result = take().await;
        if !is_taken(&result) || begun.elapsed() > PATIENCE {
            return result;
        }
        sleep(PAUSE).await;
    }
}
