//! The `ledgerhook` program: reads its arguments, runs a command, leaves with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ledgerhook::cli::main()
}
