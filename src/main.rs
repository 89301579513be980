//! The program. For now only what the local engine needs of it.

use std::path::Path;
use std::process::ExitCode;

use flotilla::engine::local::supervise;
use flotilla::logs::CappedLog;
use jiff::Timestamp;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [command, folder] = arguments.as_slice() else { return ExitCode::from(2) };
    if command != "supervise" {
        return ExitCode::from(2);
    }
    match supervise(Path::new(folder), Timestamp::now, CappedLog::append, CappedLog::finish) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
