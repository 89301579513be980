//! The binary: the command line, and the small process beside each local run.

use std::env;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Started once a run, and not by people: it comes before everything that takes time.
    let mut arguments = env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "supervise") {
        let folder = arguments.next().unwrap_or_default();
        return match flotilla::app::supervise(Path::new(&folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    flotilla::cli::main()
}
