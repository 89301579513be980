//! `flotilla serve`: a server, until it is asked to stop.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow};

use super::output::Format;
use crate::config::{Config, Overrides};
use crate::{app, shutdown, telemetry};

const HELP: &str = "\
Examples:
  flotilla serve                                        embedded database, in ./flotilla-data
  flotilla serve --listen 0.0.0.0:3000 --data-dir /var/lib/flotilla
  flotilla serve --database-url postgres://flotilla@db/flotilla

An option counts more than a variable, and a variable more than the configuration file.
SIGTERM or Ctrl-C stops the server in order. What runs locally goes on meanwhile, and is found
again at the next start. --json and --quiet are about the server's own log.";

/// How many stores of freed memory all threads share.
#[cfg(target_env = "gnu")]
const ARENAS: nix::libc::c_int = 2;

/// Start a server
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Serve {
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        help = "Address and port to listen on [default: 127.0.0.1:3000] [env: FLOTILLA_LISTEN]"
    )]
    // No `env` for these: the configuration reads the variables, and names them where their value is wrong.
    listen: Option<String>,
    #[arg(
        long,
        value_name = "DIR",
        help = "Where logs, local runs and the embedded database are kept [default: ./flotilla-data] [env: FLOTILLA_DATA_DIR]"
    )]
    data_dir: Option<String>,
    #[arg(
        long,
        value_name = "URL",
        help = "A PostgreSQL database, instead of the embedded one; every user of the machine can see it here [env: FLOTILLA_DATABASE_URL]"
    )]
    database_url: Option<String>,
    /// The configuration file [default: flotilla.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "FLOTILLA_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
}

impl Serve {
    pub fn execute(self, format: Format) -> anyhow::Result<ExitCode> {
        share_memory_among_threads();
        let mut overrides = Overrides {
            file: self.config,
            listen: self.listen,
            data_dir: self.data_dir,
            database_url: self.database_url,
            credentials_dir: env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            variables: variables()?,
        };
        // `--json` and `--quiet` mean the server's own log, which is all that it prints.
        match format {
            Format::Text => {}
            Format::Json => drop(overrides.variables.insert("FLOTILLA_LOG_FORMAT".to_owned(), "json".to_owned())),
            Format::Quiet => drop(overrides.variables.insert("FLOTILLA_LOG".to_owned(), "warn".to_owned())),
        }
        let config = Config::load(&overrides)?;
        telemetry::init(config.telemetry.format, &config.telemetry.filter);
        app::keep_private().context("cannot protect the server from other users of the machine")?;
        let shutdown = shutdown::on_signal().context("cannot listen for signals")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
        let data_dir = config.server.data_dir.clone();
        runtime.block_on(async {
            // It may have to wait: for another server's end, or for a database that does not answer.
            let Some(started) = shutdown.run_until_cancelled(app::start(config, shutdown.clone())).await else {
                return Ok(());
            };
            let server = started?;
            let url = format!("http://{}", server.address());
            tracing::info!(
                data_dir = %data_dir.display(),
                database = server.database(),
                clusters = server.clusters_line(),
                "serving at {url} (API documentation at {url}/api/docs)",
            );
            server.wait().await
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The C library otherwise lets each of many threads keep its own store of freed memory, which a third of what a server
/// holds after some hours would be. Contention does not show: what takes time here is the database and the kernel.
fn share_memory_among_threads() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it sets a number, while no other thread is there yet.
        unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, ARENAS) };
    }
}

/// The variables that can be settings.
fn variables() -> anyhow::Result<BTreeMap<String, String>> {
    let ours = env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    ours.filter(|(name, _)| name.starts_with("FLOTILLA_"))
        .map(|(name, value)| match value.into_string() {
            Ok(value) => Ok((name, value)),
            Err(_) => Err(anyhow!("the value of {name} is not UTF-8")),
        })
        .collect()
}
