//! What a service manager is told: that the daemon serves, that it still lives, that it stops.
//!
//! The protocol is systemd's `sd_notify`: datagrams to the socket that `NOTIFY_SOCKET` names, a
//! path, or a name without a file when it begins with `@`. Without it nobody is told. Nobody is
//! waited for either: whoever does not listen loses what is said.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::task::JoinHandle;
use tracing::warn;

use super::Environment;

const SOCKET: &str = "NOTIFY_SOCKET";
/// How long the manager waits for a sign of life, microseconds.
const WATCHDOG: &str = "WATCHDOG_USEC";
/// For whom the other one is meant; not there = for everybody.
const WATCHDOG_PROCESS: &str = "WATCHDOG_PID";

/// Signs of life for each time that the manager waits.
const SIGNS: u32 = 3;

/// How long what is tried between two pauses of a start may take.
const WAITING_MARGIN: Duration = Duration::from_mins(1);

/// Who started the daemon, if it wants to know.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    pub(super) fn of(environment: &Environment) -> ServiceManager {
        let variable = |wanted: &str| {
            let found =
                environment.iter().find(|(name, value)| name == wanted && !value.is_empty());
            found.map(|(_, value)| value.as_str())
        };
        let socket = variable(SOCKET).and_then(|name| {
            let opened = address(name).and_then(|address| Ok((UnixDatagram::unbound()?, address)));
            let opened = opened.and_then(|(socket, address)| {
                socket.set_nonblocking(true)?;
                Ok((socket, address))
            });
            opened.inspect_err(|error| warn!(%error, "The service manager cannot be told.")).ok()
        });
        let is_for_us = variable(WATCHDOG_PROCESS)
            .is_none_or(|process| process == std::process::id().to_string());
        let watchdog = variable(WATCHDOG).filter(|_| is_for_us && socket.is_some());
        let watchdog = watchdog.and_then(|micros| micros.parse().ok()).filter(|micros| *micros > 0);
        ServiceManager { socket, watchdog: watchdog.map(Duration::from_micros) }
    }

    /// From now on the daemon serves. Signs of life follow, for as long as the async threads get
    /// their turn; they end when the task is aborted.
    pub(super) fn ready(self: &std::sync::Arc<ServiceManager>) -> Option<JoinHandle<()>> {
        self.tell("READY=1\nSTATUS=Serving.");
        let pause = self.watchdog? / SIGNS;
        let manager = std::sync::Arc::clone(self);
        Some(tokio::spawn(async move {
            loop {
                manager.tell("WATCHDOG=1");
                tokio::time::sleep(pause).await;
            }
        }))
    }

    /// The start goes on to wait for something, for that long at least: it is not to be given up
    /// meanwhile.
    pub(super) fn waiting(&self, status: &str, pause: Duration) {
        let micros = (pause + WAITING_MARGIN).as_micros();
        self.tell(&format!("STATUS={status}\nEXTEND_TIMEOUT_USEC={micros}"));
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Ending what is under way.");
    }

    fn tell(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            warn!(%error, "The service manager could not be told.");
        }
    }
}

fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn environment(name: &str, watchdog: &[(&str, &str)]) -> Vec<(String, String)> {
        let variables = watchdog.iter().copied().chain([(SOCKET, name)]);
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn received(listener: &UnixDatagram) -> String {
        let mut bytes = [0; 100];
        let size = listener.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..size]).into_owned()
    }

    #[tokio::test]
    async fn a_socket_without_a_file_is_told() {
        let name = format!("rated-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        let environment = environment(&format!("@{name}"), &[(WATCHDOG, "3000000")]);
        let manager = Arc::new(ServiceManager::of(&environment));

        let signs = manager.ready().unwrap();
        tokio::task::yield_now().await;
        signs.abort();
        manager.waiting("Waiting for room.", Duration::from_secs(5));
        manager.stopping();

        assert!(received(&listener).starts_with("READY=1\n"));
        assert_eq!(received(&listener), "WATCHDOG=1");
        let waits = "STATUS=Waiting for room.\nEXTEND_TIMEOUT_USEC=65000000";
        assert_eq!(received(&listener), waits);
        assert!(received(&listener).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn a_watchdog_that_waits_for_another_process_gets_nothing() {
        let name = "@rated-test-nobody";
        let of =
            |variables: &[(&str, &str)]| ServiceManager::of(&environment(name, variables)).watchdog;

        assert_eq!(of(&[(WATCHDOG, "5")]), Some(Duration::from_micros(5)));
        assert_eq!(of(&[(WATCHDOG, "5"), (WATCHDOG_PROCESS, "1")]), None);
        assert_eq!(of(&[(WATCHDOG, "soon")]), None);
        assert_eq!(ServiceManager::of(&[]).watchdog, None);
    }
}
