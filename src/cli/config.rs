//! `ledgerhook config`.

use super::{Failure, Verdict, print};
use crate::config::DEFAULT_TOML;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the embedded default file: every option, its text, unit and limits
    Default,
}

pub(super) fn execute(command: &Command) -> Result<Verdict, Failure> {
    match command {
        Command::Default => print::text(DEFAULT_TOML),
    }
    Ok(Verdict::Done)
}
