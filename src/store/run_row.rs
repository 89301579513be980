//! A run as a row of its table.

use super::StoreError;
use super::row::{FromRow, Row};
use crate::model::{DefinitionId, Instance, Run, StopCause, StopRequest, Usage};

/// In the order in which a run is read from them.
pub(super) const RUN_COLUMNS: &str = "run_id, definition_id, alias, group_name, task, execution, status, outcome, exit_code, exit_reason,
    queued_at, started_at, seen_running_at, finished_at, due_at, failed_starts, stop_at, stop_cause, stop_sent_at, stop_words, attempt_count, instance_id, instance_dns_name,
    max_memory_bytes, max_cpu_millis, cpu_time_ms, memory_limit_bytes, cpu_limit_millis, image_digest, run_exceptions, is_log_complete";

impl FromRow for Run {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self {
            run_id: row.parsed()?,
            definition_id: DefinitionId::from_text(row.text()?),
            alias: row.maybe_text()?,
            group_name: row.text()?,
            task: row.json()?,
            execution: row.json()?,
            status: row.parsed()?,
            outcome: row.maybe_parsed()?,
            exit_code: row.maybe_int()?,
            exit_reason: row.maybe_text()?,
            queued_at: row.time()?,
            started_at: row.maybe_time()?,
            seen_running_at: row.maybe_time()?,
            finished_at: row.maybe_time()?,
            due_at: row.maybe_time()?,
            failed_starts: row.maybe_json()?.unwrap_or_default(),
            stop: read_stop(row)?,
            attempt_count: row.u32()?,
            instance: Instance { instance_id: row.text()?, dns_name: row.text()? },
            usage: Usage {
                max_memory_bytes: row.maybe_int()?,
                max_cpu_millis: row.maybe_int()?,
                cpu_time_ms: row.maybe_int()?,
                memory_limit_bytes: row.maybe_int()?,
                cpu_limit_millis: row.maybe_int()?,
            },
            image_digest: row.maybe_text()?,
            run_exceptions: row.maybe_parsed()?,
            is_log_complete: row.boolean()?,
        })
    }
}

/// The stop in the next columns of a row.
fn read_stop(row: &mut Row) -> Result<Option<StopRequest>, StoreError> {
    let (at, cause) = (row.maybe_time()?, row.maybe_parsed()?);
    let (sent_at, words) = (row.maybe_time()?, row.maybe_text()?);
    let (Some(at), Some(cause)) = (at, cause) else { return Ok(None) };
    let cause = if words.is_some() { StopCause::SlowStart } else { cause };
    Ok(Some(StopRequest { at, cause, sent_at, words }))
}
