//! What the process tells of itself: one line an event, as text or JSON, on standard error. Standard output is the
//! commands' own.

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How a line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    #[default]
    Text,
    /// For machines: an object a line, with the fields at its top level.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("must be `text` or `json`, not {text:?}")),
        }
    }
}

/// Which events are written: a level (`info`), and levels for parts of the program (`info,flotilla::control=debug`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::new(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let example = "`info` or `info,flotilla::control=debug`";
        if text.trim().is_empty() {
            return Err(format!("must not be empty; write `off` for no logs, else levels such as {example}"));
        }
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(format!("must be levels such as {example}, not {text:?} ({error})")),
        }
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Starts writing events. Only the first call in a process has an effect.
pub fn init(format: LogFormat, filter: &LogFilter) {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter.to_env_filter())
        .with_writer(std::io::stderr)
        // It would tell on standard error that standard error can't be written, and panic where it can't.
        .log_internal_errors(false);
    let started = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
    if started.is_err() {
        tracing::debug!("telemetry was started before");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_where_it_is_read() {
        for text in ["off", "debug", "info,flotilla::control=debug", "warn,[launch{run_id}]=trace"] {
            assert_eq!(text.parse::<LogFilter>().unwrap().to_string(), text);
        }
        for text in ["", "  ", "flotilla=loud", "a=b=c"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_format_is_one_of_two() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("JSON".parse::<LogFormat>(), Err("must be `text` or `json`, not \"JSON\"".to_owned()));
    }
}
