//! What Docker's refusal of a launch means: a permanent fault of the task, or a temporary one of the machine.

use super::link::ApiError;
use crate::engine::EngineError;
use crate::engine::container::refusal::is_final;
use crate::model::StartFault;

/// Whose fault it is that a container was not started. Unknown refusals count as the machine's and are retried for a
/// while.
pub(super) fn fault_of(status: u16, message: &str) -> StartFault {
    if is_final(status, message) { StartFault::Task } else { StartFault::Machine }
}

/// The error for a launch that was refused, so that nothing was started: permanent or temporary. Without an answer
/// the outcome is unknown.
pub(super) fn of_launch(error: ApiError) -> EngineError {
    match error {
        ApiError::Refused { status, message } if is_final(status, &message) => {
            EngineError::Rejected(format!("Docker can't start the container: {message}"))
        }
        ApiError::Refused { message, .. } => {
            let reason = format!("Docker can't start the container now: {message}");
            EngineError::NotStarted { reason, fault: StartFault::Machine }
        }
        ApiError::Away(reason) => EngineError::Unavailable(reason),
    }
}
