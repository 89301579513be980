//! The typed configuration of the server: a file, overridden by `FLOTILLA_…` variables, overridden by flags.
//!
//! Everything has a default, so no file is needed. Everything is checked here, once, and all faults are reported
//! together; later code can't encounter an impossible value. docs/configuration.md describes each key for people.

mod clusters;
mod database;
mod starts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{CorsOrigins, LaunchPolicy, PublicUrl, StartLimits};
use crate::settings::checks::{path, within, word};
use crate::settings::{self, Reader, Section};
use crate::telemetry::{LogFilter, LogFormat};

pub use clusters::{Cluster, DEFAULT_CLUSTER, DOCKER_CLUSTER, DefaultCluster, LOCAL_CLUSTER, default_max_running};
pub use database::{Database, PostgresUrl};

/// The credential that holds the database's address.
const DATABASE_CREDENTIAL: &str = "flotilla-database-url";

/// Settings whose variables are not called `FLOTILLA_SECTION_KEY`: those that are flags too, or are set often.
const SHORT_VARIABLES: [(&str, &str, &str); 6] = [
    ("server", "listen", "FLOTILLA_LISTEN"),
    ("server", "data_dir", "FLOTILLA_DATA_DIR"),
    ("server", "database_url", "FLOTILLA_DATABASE_URL"),
    ("server", "database_url_file", "FLOTILLA_DATABASE_URL_FILE"),
    ("telemetry", "log_format", "FLOTILLA_LOG_FORMAT"),
    ("telemetry", "log_filter", "FLOTILLA_LOG"),
];

/// Read if it exists and no other file is named.
pub const DEFAULT_FILE: &str = "flotilla.toml";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub server: Server,
    pub lists: Lists,
    pub launch: LaunchPolicy,
    pub runs: Runs,
    pub logs: Logs,
    pub telemetry: Telemetry,
    /// By name.
    pub clusters: BTreeMap<String, Cluster>,
    pub default_cluster: DefaultCluster,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub listen: SocketAddr,
    /// The host names that browsers use for it, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// How people reach the server through a proxy.
    pub public_url: Option<PublicUrl>,
    /// The sites whose pages may use the API.
    pub cors_origins: CorsOrigins,
    /// The addresses of proxies whose `X-Forwarded-…` headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Where logs, local runs and an embedded database live; relative to the working directory, as given.
    pub data_dir: PathBuf,
    pub database: Database,
    /// The largest request body that is read.
    pub max_body_bytes: usize,
    /// Whether requests may create, change and delete clusters that are not in the file.
    pub clusters_by_request: bool,
}

/// How many rows a list returns, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists {
    /// For a request without a limit; at most `max_limit`.
    pub default_limit: u32,
    /// For any request.
    pub max_limit: u32,
    /// The time limit of a list that must scan every row.
    pub search_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runs {
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// How long the server tries to start a run.
    pub starts: StartLimits,
}

/// The runs' logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logs {
    /// How much of an attempt's output is stored.
    pub max_bytes: u64,
    /// How much of a log one answer carries.
    pub chunk_bytes: usize,
    /// How long a finished run's log is kept; `None` is no limit.
    pub retention: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    pub format: LogFormat,
    pub filter: LogFilter,
}

/// What takes precedence over the file. No `Debug`: the database's address may hold a password.
#[derive(Clone, Default)]
pub struct Overrides {
    /// The file to read, which must exist. Without it, [`DEFAULT_FILE`] is read if it exists.
    pub file: Option<PathBuf>,
    pub listen: Option<String>,
    pub data_dir: Option<String>,
    pub database_url: Option<String>,
    /// Where the service manager puts secrets, each in a file: systemd's `$CREDENTIALS_DIRECTORY`.
    pub credentials_dir: Option<PathBuf>,
    /// The environment variables whose names begin with `FLOTILLA_`; those that aren't settings are ignored.
    pub variables: BTreeMap<String, String>,
}

impl Overrides {
    /// This process's own variables, for [`Overrides::variables`]. Invalid Unicode comes out garbled, and its check
    /// reports that.
    #[must_use]
    pub fn environment() -> BTreeMap<String, String> {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        variables.filter(|(name, _)| name.starts_with("FLOTILLA_")).collect()
    }

    /// Variables, and flags over them, by the settings that they set.
    fn settings(&self) -> settings::Overrides {
        let mut overrides = settings::Overrides::default();
        for (name, text) in &self.variables {
            if let Some((section, key)) = setting_of(name) {
                overrides.add(&section, &key, name, text);
            }
        }
        let flags = [
            ("listen", "--listen", &self.listen),
            ("data_dir", "--data-dir", &self.data_dir),
            ("database_url", "--database-url", &self.database_url),
        ];
        for (key, flag, text) in flags {
            if let Some(text) = text {
                overrides.add("server", key, flag, text);
            }
        }
        overrides
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// All faults, one per line, in words for the operator. Never contains a secret.
    #[error("{}", .0.join("\n"))]
    Invalid(Vec<String>),
}

impl Config {
    /// Reads the file, if there is one, and applies `overrides` to it.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let path = overrides.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text, overrides),
            Err(error) if error.kind() == io::ErrorKind::NotFound && overrides.file.is_none() => {
                Self::parse(DEFAULT_FILE, "", overrides)
            }
            Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        }
    }

    /// The configuration from a file's text and `overrides`; `file_name` is for the error texts.
    pub fn parse(file_name: &str, text: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut reader =
            Reader::toml(file_name, text, overrides.settings()).map_err(|fault| ConfigError::Invalid(vec![fault]))?;
        let config = Self::read(&mut reader, overrides.credentials_dir.as_deref());
        reader.finish().map_err(ConfigError::Invalid)?;
        Ok(config)
    }

    /// Every key with its section, default and check. A faulty value is replaced by its default, and reported by
    /// `finish`.
    fn read(reader: &mut Reader, credentials_dir: Option<&Path>) -> Self {
        let mut section = reader.section("server");
        let data_dir = section.text("data_dir", PathBuf::from("flotilla-data"), path);
        let database = read_database(&mut section, credentials_dir)
            .unwrap_or(Database::Sqlite { path: data_dir.join("flotilla.db") });
        let server = Server {
            listen: section.text("listen", SocketAddr::from(([127, 0, 0, 1], 3000)), address),
            hosts: section.read("hosts", Vec::new(), host_names),
            public_url: section.text("public_url", None, |text| text.parse().map(Some)),
            cors_origins: section.read("cors_origins", CorsOrigins::None, CorsOrigins::parse),
            trusted_proxies: section.read("trusted_proxies", Vec::new(), networks),
            database,
            max_body_bytes: section.read("max_body_bytes", 1 << 20, within(1024..=1 << 30)),
            clusters_by_request: section.read("clusters_by_request", false, Ok),
            data_dir,
        };
        let server_mode = section.text("mode", LaunchPolicy::default().server_mode, word);

        let mut section = reader.section("launch");
        let LaunchPolicy { is_owner_required, owner_variable, .. } = LaunchPolicy::default();
        let launch = LaunchPolicy {
            is_owner_required: section.read("require_owner", is_owner_required, Ok),
            owner_variable: section.text("owner_env_name", owner_variable, owner_variable_name),
            server_mode,
        };

        let mut section = reader.section("lists");
        let max_limit = section.read("max_limit", 10_000, within(1..=1_000_000));
        let default_limit = section.read("default_limit", max_limit.min(1024), |limit| {
            within(1..=max_limit.into())(limit).map_err(|message| format!("{message} (`max_limit` is {max_limit})"))
        });
        let search_timeout = Duration::from_secs(section.read("search_timeout_secs", 10, within(1..=600)));
        let lists = Lists { default_limit, max_limit, search_timeout };

        let mut section = reader.section("runs");
        let grace = Duration::from_secs(section.read("grace_secs", 10, within(0..=24 * 3600)));
        let runs = Runs { grace, starts: starts::read(&mut section) };

        let mut section = reader.section("logs");
        let retention_days = section.read("retention_days", 30, within(0..=100 * 366));
        let logs = Logs {
            max_bytes: section.read("max_bytes", 2 << 30, within(1024..=1 << 50)),
            chunk_bytes: section.read("chunk_bytes", 1 << 20, within(1024..=64 << 20)),
            retention: (retention_days > 0).then(|| Duration::from_secs(retention_days * 24 * 3600)),
        };

        let mut section = reader.section("telemetry");
        let telemetry = Telemetry {
            format: section.text("log_format", LogFormat::default(), str::parse),
            filter: section.text("log_filter", LogFilter::default(), str::parse),
        };

        let (clusters, default_cluster) = clusters::read_all(reader);
        Self { server, lists, launch, runs, logs, telemetry, clusters, default_cluster }
    }
}

impl Default for Config {
    /// The configuration of a server without any settings.
    fn default() -> Self {
        Self::parse(DEFAULT_FILE, "", &Overrides::default()).expect("the defaults are valid")
    }
}

/// The configured database, if any: its address, a file that contains it, or a credential from the service manager.
fn read_database(section: &mut Section<'_>, credentials_dir: Option<&Path>) -> Option<Database> {
    let given = section.secret("database_url", None, |text| Database::parse(text).map(Some));
    let in_file = section.text("database_url_file", None, |text| Database::read_file(&path(text)?).map(Some));
    match (given, in_file) {
        (Some(_), Some(_)) => {
            section.fault(
                "has both `database_url` and `database_url_file`, from here or by variables or flags; leave one out",
            );
            None
        }
        (Some(database), None) | (None, Some(database)) => Some(database),
        (None, None) => {
            let path = credentials_dir?.join(DATABASE_CREDENTIAL);
            // A file that can't be inspected is read anyway, and the failure reported.
            if !path.try_exists().unwrap_or(true) {
                return None;
            }
            let read = Database::read_file(&path);
            read.map_err(|message| section.fault(&format!("credential `{DATABASE_CREDENTIAL}` {message}"))).ok()
        }
    }
}

/// The section and the key that a variable sets. No section's name has an underscore.
fn setting_of(variable: &str) -> Option<(String, String)> {
    if let Some((section, key, _)) = SHORT_VARIABLES.iter().find(|(_, _, name)| *name == variable) {
        return Some(((*section).to_owned(), (*key).to_owned()));
    }
    let name = variable.strip_prefix("FLOTILLA_").filter(|name| !name.contains(char::is_lowercase))?.to_lowercase();
    let (section, key) = name.split_once('_')?;
    let has_short_name = SHORT_VARIABLES.iter().any(|(of_section, of_key, _)| (*of_section, *of_key) == (section, key));
    (!has_short_name).then(|| (section.to_owned(), key.to_owned()))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let needed = "must be an IP address and a port such as 127.0.0.1:3000, 0.0.0.0:80 or [::1]:3000";
    text.parse().map_err(|_| format!("{needed}, not {text:?}"))
}

fn host_names(names: Vec<String>) -> Result<Vec<String>, String> {
    let is_name = |name: &String| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    match names.iter().find(|name| !is_name(name)) {
        Some(name) => Err(format!("must be names such as flotilla.example.org, without a port, not {name:?}")),
        None => Ok(names),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of a check")]
fn networks(texts: Vec<String>) -> Result<Vec<IpNet>, String> {
    let network = |text: &String| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let needed = || format!("must be networks or addresses such as 10.0.0.0/8 or ::1, not {text:?}");
        text.parse::<IpNet>().or_else(|_| address()).map_err(|_| needed())
    };
    texts.iter().map(network).collect()
}

fn owner_variable_name(text: &str) -> Result<String, String> {
    let is_name =
        text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !text.starts_with(|c: char| c.is_ascii_digit());
    if text.is_empty() || !is_name {
        return Err(format!("must be a variable's name (letters, digits and `_`), not {text:?}"));
    }
    if ["FLOTILLA_RUN_ID", "FLOTILLA_SERVER_MODE"].contains(&text) {
        return Err(format!("must not be {text}, which carries something else"));
    }
    Ok(text.to_owned())
}
