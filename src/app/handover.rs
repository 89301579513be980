//! Taking over from a server that was killed a moment ago.
//!
//! What it held (its socket, its lock) is free when its last copy is closed. A process that it was just starting has
//! copies until it runs its program, which under load takes some milliseconds longer than the server's own end.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a predecessor may take to let go.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// Tries until the result is another than "somebody has it", at most for [`PATIENCE`].
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
