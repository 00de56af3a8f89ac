//! `ledgerhook run`.

use super::{Failure, Verdict};
use crate::app::{self, AppError};
use crate::config::Config;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Roles to run [default: all]
    #[arg(long = "role", value_delimiter = ',', value_parser = app::ROLES)]
    roles: Vec<String>,
}

pub(super) async fn execute(config: Config, args: Args) -> Result<Verdict, Failure> {
    let asked = |role: &&'static str| args.roles.is_empty() || args.roles.iter().any(|r| r == role);
    let roles: Vec<&'static str> = app::ROLES.into_iter().filter(asked).collect();
    let stop = super::stop_on_signals()?;
    match app::run(config, &roles, stop).await {
        Ok(()) => Ok(Verdict::Done),
        Err(error @ AppError::NoSources) => Err(Failure::Usage(error.to_string())),
        Err(error) => Err(error.into()),
    }
}
