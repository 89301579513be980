//! The binary: the command line.

fn main() -> std::process::ExitCode {
    flotilla::cli::main()
}
