//! The process's own log: one line per event, as text or JSON, on standard error. Standard output belongs to the
//! commands.

mod repeats;

use std::fmt;
use std::io::IsTerminal;
use std::str::FromStr;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use repeats::Repeats;

/// How a line is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    #[default]
    Text,
    /// For machines: one object per line, with the fields at its top level.
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
    let repeats = Repeats::default();
    match subscriber(format, filter, std::io::stderr).with(repeats.clone()).try_init() {
        Ok(()) => repeats.start(),
        Err(_) => tracing::debug!("telemetry was started before"),
    }
}

fn subscriber(
    format: LogFormat,
    filter: &LogFilter,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Box<dyn Subscriber + Send + Sync> {
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter.to_env_filter())
        .with_writer(writer)
        // It would report on standard error that standard error can't be written, and panic if it can't.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => {
            Box::new(lines.with_ansi(std::io::stderr().is_terminal()).finish().with(filter_fn(is_discreet)))
        }
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish().with(filter_fn(is_discreet))),
    }
}

/// Whether an event may be written, whatever the filter. Libraries don't know what is secret here: the Docker and
/// Kubernetes clients log whole requests and answers from `debug` on, including the environment of every run.
fn is_discreet(event: &Metadata<'_>) -> bool {
    const OURS: &str = env!("CARGO_CRATE_NAME");
    let is_ours = event.target().strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    is_ours || *event.level() <= Level::INFO
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::sync::Arc;

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
    fn what_libraries_tell_in_detail_is_not_written_whatever_the_filter_says() {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);

        impl std::io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().write(bytes)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        for format in [LogFormat::Text, LogFormat::Json] {
            let (lines, filter) = (Lines::default(), "trace,bollard::docker=trace,kube_client=debug".parse().unwrap());
            let writer = lines.clone();
            tracing::subscriber::with_default(subscriber(format, &filter, move || writer.clone()), || {
                tracing::trace!(target: "bollard::docker", "secret");
                tracing::debug!(target: "bollard::docker", "secret");
                tracing::debug!(target: "kube_client::client", "secret");
                tracing::debug!(target: "tower_http::trace", "secret");
                tracing::trace!(target: "hyper::proto", "secret");
                tracing::debug!(target: "flotilla_of_others", "secret");
                tracing::warn!(target: "hyper_util::client", "theirs");
                tracing::trace!("ours");
            });
            let text = String::from_utf8(lines.0.lock().clone()).unwrap();
            assert!(!text.contains("secret"), "{text}");
            assert!(text.contains("theirs") && text.contains("ours") && text.lines().count() == 2, "{text}");
        }
    }

    #[test]
    fn a_format_is_one_of_two() {
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("JSON".parse::<LogFormat>(), Err("must be `text` or `json`, not \"JSON\"".to_owned()));
    }
}
