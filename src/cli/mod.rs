//! The command line. Each command is a file: its arguments, its help, what it does. They speak to a server through
//! [`crate::client`] and show what they find through `output`; `serve` and `quickstart` start one themselves.

mod clusters;
mod define;
mod follow;
mod logs;
mod output;
mod ps;
mod quickstart;
mod run;
mod serve;
mod show;
mod stop;
mod tasks;
mod terminal;
mod units;
mod words;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use jiff::Timestamp;
use reqwest::Url;

use crate::client::{Client, ClientError};
use crate::clock::Clock;
use output::{Format, Output};

const DEFAULT_SERVER: &str = "http://127.0.0.1:3000";

const HELP: &str = "\
Examples:
  flotilla quickstart                        see all of this happen, with nothing set up
  flotilla serve                             start a server, with its data in ./flotilla-data
  flotilla define -f examples/hello.toml     define a task, or update it
  flotilla run hello -e NAME=you --follow    run it, and see its log as it comes
  flotilla ps -a                             what runs, and what ran

Exit codes: 0 success, 1 failure, 2 wrong usage; `run --follow` exits with the task's own.";

/// Run containerized tasks: server and command line in one.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version, after_help = HELP)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// The server to speak to
    #[arg(
        long,
        global = true,
        env = "FLOTILLA_SERVER",
        hide_env_values = true,
        value_name = "URL",
        default_value = DEFAULT_SERVER
    )]
    server: String,
    /// Print JSON: one document, or one object a line where things come one after another
    #[arg(long, global = true)]
    json: bool,
    /// Print only ids and logs
    #[arg(short, long, global = true, conflicts_with = "json")]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Quickstart(quickstart::Quickstart),
    Define(define::Define),
    Tasks(tasks::Tasks),
    Run(run::RunTask),
    Ps(ps::Ps),
    Show(show::Show),
    Logs(logs::Logs),
    Stop(stop::Stop),
    Clusters(clusters::Clusters),
    Drain(clusters::Drain),
    Resume(clusters::Resume),
    Adopt(clusters::Adopt),
    /// Print a script that completes commands in a shell
    #[command(after_help = "Example:\n  source <(flotilla completions bash)")]
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
}

/// What every command that speaks to a server has at hand.
struct Context {
    client: Client,
    output: Box<dyn Output>,
}

/// Does what the arguments say; the process is to exit with what comes back.
pub fn main() -> ExitCode {
    // Started once a run, and not by people: it comes before everything that takes time.
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == "supervise" {
        return supervise(&arguments.next().unwrap_or_default());
    }
    if first == "release-groups" {
        return release_groups();
    }
    let Cli { global, command } = Cli::parse();
    let done = match command {
        Command::Serve(command) => command.execute(global.format()),
        Command::Quickstart(command) => command.execute(global.format()),
        Command::Completions { shell } => print_completions(shell),
        Command::Define(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Tasks(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Run(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Ps(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Show(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Logs(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Stop(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Clusters(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Drain(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Resume(command) => with_client(&global, async |context| command.execute(context).await),
        Command::Adopt(command) => with_client(&global, async |context| command.execute(context).await),
    };
    done.unwrap_or_else(|error| report(&error))
}

/// The small process beside each local run.
fn supervise(folder: &OsStr) -> ExitCode {
    match crate::app::supervise(Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&anyhow::Error::new(error).context("cannot supervise a run")),
    }
}

/// What a service manager calls after the server has ended, however it ended.
fn release_groups() -> ExitCode {
    match crate::app::release_groups() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&anyhow::Error::new(error).context("cannot release the control groups of local runs")),
    }
}

fn with_client(
    global: &Global,
    command: impl AsyncFnOnce(&mut Context) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    let output = global.format().open();
    // Here, and not where arguments are read, so that a variable that is wrong is in nobody's way who needs no server.
    let server = parse_server(&global.server)
        .unwrap_or_else(|error| Cli::command().error(ErrorKind::ValueValidation, error).exit());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let done = runtime.block_on(async {
        let mut context = Context { client: Client::new(server)?, output };
        command(&mut context).await
    });
    // Do not wait for a name look-up that hangs.
    runtime.shutdown_background();
    done
}

impl Context {
    /// The server's time, from which its times are counted; this machine's clock may be off.
    fn now(&self) -> Timestamp {
        self.client.now(Clock::system().now())
    }
}

impl Global {
    fn format(&self) -> Format {
        match (self.json, self.quiet) {
            (true, _) => Format::Json,
            (false, true) => Format::Quiet,
            (false, false) => Format::Text,
        }
    }
}

/// A server's address; `http://` may be left out.
fn parse_server(text: &str) -> Result<Url, String> {
    let text = if text.is_empty() { DEFAULT_SERVER } else { text };
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    match full.parse::<Url>() {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        // Not the text itself: it may hold a password.
        Ok(url) => Err(format!("--server: `{}` is neither http nor https", url.scheme())),
        Err(error) => Err(format!("--server: {error}; write it like {DEFAULT_SERVER}")),
    }
}

fn print_completions(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "flotilla", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Reports what went wrong and what can be done about it. A reader that closes our output early is no failure.
fn report(error: &anyhow::Error) -> ExitCode {
    // A pipe that broke between us and a server is inside a `ClientError`, which this doesn't look into.
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    // Whatever else is done with files and sockets says what it was.
    let is_output = error.chain().next().is_some_and(<dyn std::error::Error>::is::<io::Error>);
    let place = if is_output { "cannot write the output: " } else { "" };
    let mut stderr = io::stderr().lock();
    // What a server says is among it.
    for (number, line) in words::plain_lines(&format!("{place}{error:#}")).enumerate() {
        let mark = if number == 0 { "error: " } else { "" };
        // Where even this can't be written, the exit code still says it.
        let _ = writeln!(stderr, "{mark}{line}");
    }
    if let Some(hint) = hint(error) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    ExitCode::FAILURE
}

fn hint(error: &anyhow::Error) -> Option<String> {
    match error.downcast_ref()? {
        ClientError::Unreachable { .. } => Some(
            "start a server with `flotilla serve`, or say where it is with --server URL or FLOTILLA_SERVER".to_owned(),
        ),
        ClientError::Unexpected { .. } => {
            Some("is there a flotilla server at this address? --server URL or FLOTILLA_SERVER says where".to_owned())
        }
        ClientError::Refused { status: 404, .. } => {
            Some("`flotilla tasks` lists what is defined, `flotilla ps -a` what runs and ran".to_owned())
        }
        ClientError::NoAnswer { .. } | ClientError::Refused { .. } | ClientError::BadName(_) => None,
    }
}
