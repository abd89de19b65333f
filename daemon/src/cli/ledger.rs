//! `rated ledger`: what the ledger keeps, looked at as a whole.

mod audit;

pub(super) use self::audit::AuditUndone;

use super::client::Server;
use super::{Environment, Outcome};
use crate::clock::Clock;

#[derive(Debug, clap::Subcommand)]
pub(super) enum LedgerCommand {
    /// Rate everything in a range again as it was rated, and compare; exit code 1 on any difference
    Audit {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        arguments: audit::AuditArguments,
    },
}

pub(super) fn run(
    command: &LedgerCommand,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    match command {
        LedgerCommand::Audit { server, arguments } => {
            audit::run(arguments, server, clock, environment)
        }
    }
}
