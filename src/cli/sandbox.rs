//! `ledgerhook sandbox`.

use std::net::SocketAddr;

use super::{Failure, Verdict};
use crate::config::Config;
use crate::simulate;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Address to listen on [default: sandbox.listen]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) async fn execute(config: &Config, args: Args) -> Result<Verdict, Failure> {
    let mut sandbox = config.sandbox.clone();
    if let Some(listen) = args.listen {
        sandbox.listen = listen;
    }
    let stop = super::stop_on_signals()?;
    let bound = |address| {
        eprintln!("sandbox: deliveries to http://{address}/, what came at http://{address}/_sandbox/requests")
    };
    simulate::sandbox(sandbox, stop, bound).await?;
    Ok(Verdict::Done)
}
