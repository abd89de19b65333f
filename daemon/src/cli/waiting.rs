//! Opens the ledger and loads the plugins, and waits for room when the disk is full: a start that
//! gives up does not come back when there is room again, and whoever started it gives up after some
//! attempts.
//!
//! While it waits, the log and the service manager say so, and callers are answered 503 (or, with
//! encryption, cut off), never a figure. Whatever else is wrong ends the start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tracing::{error, info};

use super::chain;
use super::ledger::{LEDGER_DIR, unfinished_restore};
use super::serve::ServeError;
use super::service::ServiceManager;
use crate::config::Config;
use crate::ledger::sled::SledOpener;
use crate::ledger::{Ledger, ReopeningLedger, is_disk_full};
use crate::plugin::PluginHost;

/// The first pause, and by how much each one is longer than the one before.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long a caller may take to ask and to listen.
const CALLER_TIMEOUT: Duration = Duration::from_secs(1);
/// As much of a request as is read before it is answered.
const REQUEST_SIZE_MAX: usize = 16 << 10;

const ANSWER: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n",
    "retry-after: 5\r\nconnection: close\r\ncontent-length: 81\r\n\r\n",
    "{\"message\":\"the daemon's disk is full; it starts as soon as there is room again\"}"
);

/// What a start can wait with.
pub(super) struct Waiting<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) listener: &'a TcpListener,
    pub(super) manager: &'a ServiceManager,
}

impl Waiting<'_> {
    /// The ledger, as soon as it can be opened.
    pub(super) async fn open_ledger(&self) -> Result<Arc<dyn Ledger>, ServeError> {
        let config = Arc::clone(self.config);
        self.for_room(move || open(&config)).await
    }

    /// Returns as soon as the plugins are loaded.
    pub(super) async fn load_plugins(&self, host: &Arc<PluginHost>) -> Result<(), ServeError> {
        let host = Arc::clone(host);
        self.for_room(move || host.load().map_err(ServeError::Plugins)).await
    }

    /// Tries again what finds no room.
    async fn for_room<T: Send + 'static>(
        &self,
        attempt: impl Fn() -> Result<T, ServeError> + Clone + Send + 'static,
    ) -> Result<T, ServeError> {
        let mut attempts = 0;
        loop {
            let made = tokio::task::spawn_blocking(attempt.clone()).await;
            let failure = match made.map_err(|_| ServeError::Panicked)? {
                Ok(made) => {
                    if attempts > 0 {
                        info!(attempts, "There is room on the disk again, the start goes on.");
                    }
                    return Ok(made);
                }
                Err(failure) => failure,
            };
            if !is_disk_full(&failure) {
                return Err(failure);
            }
            attempts += 1;
            self.say(attempts, &failure);
            let pause = (PAUSE * attempts).min(PAUSE_MAX);
            self.manager.waiting("Waiting for room on the disk, which is full.", pause);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = refuse_callers(self.config, self.listener) => {}
            }
        }
    }

    /// Not each time.
    fn say(&self, attempts: u32, failure: &ServeError) {
        if u32::is_power_of_two(attempts) {
            let listen = self.listener.local_addr();
            let listen = listen.map_or(self.config.api.listen, |address| address);
            error!(
                attempts,
                %listen,
                error = chain(failure),
                "The disk is full, the start waits until there is room."
            );
        }
    }
}

fn open(config: &Config) -> Result<Arc<dyn Ledger>, ServeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let state_dir = &config.daemon.state_dir;
    // What people pay is for nobody else to read.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state_dir);
    made.map_err(|error| {
        let path: PathBuf = state_dir.clone();
        ServeError::StateDir { path, error }
    })?;
    if let Some(path) = unfinished_restore(state_dir).map_err(ServeError::Restore)? {
        return Err(ServeError::UnfinishedRestore { path });
    }
    let options = config.ledger.options();
    let opener = SledOpener { path: state_dir.join(LEDGER_DIR), options };
    Ok(Arc::new(ReopeningLedger::open(opener).map_err(ServeError::Open)?))
}

/// Never ends. One after the other: nobody is kept waiting for longer than that takes.
async fn refuse_callers(config: &Config, listener: &TcpListener) {
    loop {
        match listener.accept().await {
            Ok((caller, _)) if config.api.tls.is_none() => {
                // Who does not listen to it is not told.
                let _ = tokio::time::timeout(CALLER_TIMEOUT, refuse(caller)).await;
            }
            Ok(_) => {}
            // Too many open files, for example.
            Err(_) => tokio::time::sleep(CALLER_TIMEOUT).await,
        }
    }
}

async fn refuse(mut caller: TcpStream) -> std::io::Result<()> {
    let mut request = vec![0; REQUEST_SIZE_MAX];
    let _ = caller.read(&mut request).await?;
    caller.write_all(ANSWER.as_bytes()).await?;
    caller.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::LedgerError;
    use crate::plugin::{KeysError, PluginHostError};

    #[test]
    fn the_answer_says_how_long_it_is() {
        let (head, body) = ANSWER.split_once("\r\n\r\n").unwrap();

        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
    }

    #[test]
    fn a_full_disk_is_told_from_whatever_else_is_wrong() {
        use std::io::ErrorKind;
        let state = |kind: ErrorKind| ServeError::StateDir {
            path: PathBuf::from("/state"),
            error: kind.into(),
        };
        let plugins = |kind: ErrorKind| {
            let (path, error) = (PathBuf::from("/state/plugins"), kind.into());
            ServeError::Plugins(PluginHostError::StateDir { path, error })
        };
        let keys = |error: LedgerError| {
            let (kind, name) = (crate::plugin::Kind::Rating, "acme".to_owned());
            let failed = Box::new(KeysError { kind, name, error });
            ServeError::Plugins(PluginHostError::NoRoomForKeys(failed))
        };
        let ledger = |error: sled::Error| {
            let error = LedgerError::Store(Box::new(error));
            ServeError::Open(crate::ledger::sled::OpenError::Read(error))
        };

        assert!(is_disk_full(&state(ErrorKind::StorageFull)));
        assert!(is_disk_full(&state(ErrorKind::QuotaExceeded)));
        assert!(is_disk_full(&ledger(sled::Error::Io(ErrorKind::StorageFull.into()))));
        assert!(is_disk_full(&plugins(ErrorKind::StorageFull)));
        assert!(is_disk_full(&plugins(ErrorKind::QuotaExceeded)));
        assert!(is_disk_full(&keys(LedgerError::DiskFull { free_mib: 1, reserve_mib: 2 })));
        assert!(!is_disk_full(&state(ErrorKind::PermissionDenied)));
        assert!(!is_disk_full(&plugins(ErrorKind::PermissionDenied)));
        assert!(!is_disk_full(&ledger(sled::Error::Io(ErrorKind::Other.into()))));
    }
}
