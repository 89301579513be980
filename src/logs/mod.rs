//! A run's log: one file an attempt, append-only, read by byte offset. The only user of log files.

mod capped;

pub use capped::CappedLog;
