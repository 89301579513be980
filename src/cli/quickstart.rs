//! `flotilla quickstart`: the whole journey of one task, on a server of its own, with nothing set up.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::output::{Format, Output};
use super::{define, follow, show};
use crate::app::{self, RunningServer};
use crate::client::Client;
use crate::clock::Clock;
use crate::config::{Config, LOCAL_CLUSTER, Overrides};
use crate::wire::{EnvVarBody, LaunchBody, Run};
use crate::{shutdown, telemetry};

const EXAMPLE: &str = include_str!("../../examples/hello.toml");

const HELP: &str = "\
Examples:
  flotilla quickstart
  flotilla quickstart --data-dir ./flotilla-data    keep what it made, for `flotilla serve`";

/// See a task defined, launched, followed and finished, within seconds
///
/// Starts a server of its own on a free port, with its data in a temporary folder, and stops it at the end.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Quickstart {
    /// Keep the server's data here
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Quickstart {
    pub fn execute(self, format: Format) -> anyhow::Result<ExitCode> {
        let folder = Folder::new(self.data_dir)?;
        let config = config(folder.path())?;
        telemetry::init(config.telemetry.format, &config.telemetry.filter);
        app::keep_private().context("cannot protect the server from other users of the machine")?;
        let interrupt = shutdown::on_signal().context("cannot listen for signals")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
        runtime.block_on(async {
            let stop = CancellationToken::new();
            let server = app::start(config, stop.clone()).await.context("cannot start the server")?;
            let mut journey = Journey { server: &server, output: format.open(), interrupt };
            let gone = journey.go(format, &folder).await;
            stop.cancel();
            server.wait().await.context("the server did not stop in order")?;
            Ok(follow::exit_code(&gone?).into())
        })
    }
}

/// Nothing of the surroundings: no file, no variables, a free port, and only what goes wrong in the server's log.
fn config(data_dir: &Path) -> anyhow::Result<Config> {
    let data_dir = data_dir.to_str().context("the name of the data folder is not UTF-8")?;
    // The example's image can't be had everywhere; the machine itself is always there.
    let variables = [("FLOTILLA_LOG", "warn"), ("FLOTILLA_LAUNCH_DEFAULT_CLUSTER", LOCAL_CLUSTER)];
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".to_owned()),
        data_dir: Some(data_dir.to_owned()),
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..Overrides::default()
    };
    Ok(Config::parse("the defaults", "", &overrides)?)
}

struct Journey<'a> {
    server: &'a RunningServer,
    output: Box<dyn Output>,
    interrupt: CancellationToken,
}

impl Journey<'_> {
    /// From the definition to what to type next.
    async fn go(&mut self, format: Format, folder: &Folder) -> anyhow::Result<Run> {
        let run = self.run_example().await?;
        if format == Format::Text && !self.interrupt.is_cancelled() {
            self.tell(&run, folder)?;
            print_next(folder)?;
        }
        Ok(run)
    }

    async fn run_example(&mut self) -> anyhow::Result<Run> {
        let url = format!("http://{}", self.server.address());
        self.output.note(&format!("A server is up at {url}, with {}.", self.server.clusters_line()))?;
        let client = Client::new(url.parse()?)?;

        let body = define::parse(EXAMPLE).context("the example is not a definition")?;
        let (definition, _) = define::define(&client, &body).await.context("cannot define the example task")?;
        let alias = definition.alias;
        self.output.note(&format!("The task `{alias}` is defined, as examples/hello.toml says."))?;

        let name = std::env::var("USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "you".to_owned());
        let env = vec![EnvVarBody { name: "NAME".to_owned(), value: Some(name.clone()) }];
        let launch = LaunchBody { env: Some(env), ..LaunchBody::default() };
        let run = client.launch_by_alias(&alias, &launch).await.context("cannot launch the example task")?;
        self.output.note(&format!("It is launched with NAME={name}. This is its log, as it comes:\n"))?;
        let output = self.output.as_mut();
        let run = follow::launched(&client, run, output, &self.interrupt).await?;
        show::run_with_events(&client, &run.run_id).await.context("cannot read what became of the run")
    }

    fn tell(&mut self, run: &Run, folder: &Folder) -> anyhow::Result<()> {
        self.output.note(&format!("\nThis is its story, as `flotilla show {}` would tell it:\n", run.run_id))?;
        self.output.run(run, Clock::system().now())?;
        let log = self.server.log_path(run.run_id.parse()?, run.attempt_count);
        let fate = match folder {
            Folder::Given(_) => "",
            Folder::Temporary(_) => ", in a temporary folder that is removed now",
        };
        self.output.note(&format!("\nIts log is {}{fate}.", log.display()))?;
        Ok(())
    }
}

fn print_next(folder: &Folder) -> anyhow::Result<()> {
    // As it was called, so that it can be typed again.
    let program = std::env::args().next().unwrap_or_else(|| "flotilla".to_owned());
    let data_dir = match folder {
        Folder::Given(path) => format!(" --data-dir {}", path.display()),
        Folder::Temporary(_) => String::new(),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nWhat to type next:")?;
    for (command, meaning) in [
        (format!("serve{data_dir}"), "start a server; the rest in another terminal"),
        ("define -f examples/hello.toml".to_owned(), "define the task there, or one of your own"),
        ("run hello -e NAME=you --follow".to_owned(), "run it; the exit code is the task's"),
        ("ps -a".to_owned(), "see what ran"),
        ("--help".to_owned(), "and all the rest"),
    ] {
        writeln!(out, "  {program} {command:<40} # {meaning}")?;
    }
    out.flush()?;
    Ok(())
}

/// Where the server keeps its data.
enum Folder {
    Given(PathBuf),
    /// Removed when it is dropped.
    Temporary(TempDir),
}

impl Folder {
    fn new(given: Option<PathBuf>) -> anyhow::Result<Self> {
        if let Some(path) = given {
            return Ok(Self::Given(path));
        }
        let folder = tempfile::Builder::new().prefix("flotilla-quickstart-").tempdir();
        Ok(Self::Temporary(folder.context("cannot make a temporary folder")?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }
}
