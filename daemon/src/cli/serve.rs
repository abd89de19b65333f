//! `rated serve`: puts the parts together, runs them, and stops them in order.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::ledger::FileError;
use super::service::ServiceManager;
use super::waiting::Waiting;
use super::{Environment, Outcome, PrintBill, bill, chain, logging};
use crate::api;
use crate::clock::{Clock, SystemClock};
use crate::config::{Auth, Config};
use crate::cycle::{Cycle, CycleParts, CycleTask, Jitter, UpkeepParts, UpkeepTask};
use crate::fault::{Step, passed};
use crate::ledger::sled::OpenError;
use crate::ledger::{Ledger, LedgerError, ModuleState};
use crate::metrics::Metrics;
use crate::plugin::{HostServices, PluginConfig, PluginHost, PluginHostError};
use crate::rating::Rating;

/// How long threads that hang in a call may hold up the end of the process.
const HANGING_THREADS_TIMEOUT: Duration = Duration::from_millis(200);

/// How long the first bill waits for the end of the first cycle.
const FIRST_BILL_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum ServeError {
    #[error("cannot start threads")]
    Threads(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error(
        "cannot listen on `{address}`\n(hint: is another rated running? `api.listen` in `{}` or \
         RATED__API__LISTEN says where to listen; port 0 takes any free one)",
        config.display()
    )]
    Listen {
        address: SocketAddr,
        config: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(
        "cannot make the state folder `{}`\n(hint: `daemon.state_dir` names it)",
        path.display()
    )]
    StateDir {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("cannot encrypt\n(hint: `api.tls` names the certificate and its key)")]
    Tls(#[source] api::FileError),
    #[error("cannot find out who calls\n(hint: `api.auth` says how)")]
    Authentication(#[source] api::AuthenticationError),
    #[error("cannot use the policy\n(hint: `api.policy` names the file)")]
    Policy(#[source] api::FileError),
    #[error("cannot open the ledger")]
    Open(#[source] OpenError),
    #[error("cannot look for a restore")]
    Restore(#[source] FileError),
    #[error(
        "a restore of the ledger was not finished, `{}` is left of it\n(hint: `rated ledger \
         restore` goes on with it; to begin without, remove that folder)",
        path.display()
    )]
    UnfinishedRestore { path: PathBuf },
    #[error("cannot start the plugins")]
    Plugins(#[source] PluginHostError),
    #[error("cannot start the cycle")]
    Cycle(#[source] LedgerError),
    #[error("a part of the start panicked; please report it")]
    Panicked,
}

/// Runs the daemon until it is told to stop.
pub(super) fn run(path: &Path, print_bill: PrintBill, environment: &Environment) -> Outcome {
    let config = Config::load(path, environment.iter().cloned())?;
    logging::start(&config.daemon, environment)?;
    #[cfg(debug_assertions)]
    super::kill_steps::arm(environment)?;
    if let Some(exposed) = &config.exposed_secret {
        warn!(
            file = %exposed.file.display(),
            field = exposed.field,
            "Everybody on this machine can read a secret of the configuration; `chmod o-r` ends \
             that, or a file of its own."
        );
    }
    let asks = matches!(config.api.auth, Auth::Methods(_));
    if asks && config.api.tls.is_none() && !config.api.listen.ip().is_loopback() {
        warn!(
            listen = %config.api.listen,
            "Passwords and tokens of callers are not encrypted, unless something in front of the \
             daemon does it; `api.tls` would."
        );
    }
    let runtime = Builder::new_multi_thread().enable_all().build().map_err(ServeError::Threads)?;
    let manager = Arc::new(ServiceManager::of(environment));
    let outcome = runtime.block_on(serve(config, print_bill, manager));
    end(runtime);
    Ok(outcome?)
}

/// A plugin that hangs in a call does not hold up the end.
fn end(runtime: Runtime) {
    runtime.shutdown_timeout(HANGING_THREADS_TIMEOUT);
}

async fn serve(
    config: Config,
    print_bill: PrintBill,
    manager: Arc<ServiceManager>,
) -> Result<(), ServeError> {
    let begin = Instant::now();
    let mut signals = Signals::new().map_err(ServeError::Signals)?;
    let listener = listen(&config).await?;
    let address = listener.local_addr().map_err(ServeError::Signals)?;
    let daemon = tokio::select! {
        daemon = Daemon::start(config, listener, &manager) => daemon?,
        name = signals.stop() => {
            info!(signal = name, orderly = true, "Stopped before the start was complete.");
            return Ok(());
        }
    };
    daemon.say_hello(address, begin.elapsed());
    passed(Step::StartServing);
    let signs_of_life = manager.ready();
    let printer = (print_bill == PrintBill::Yes).then(|| daemon.print_bills(address));
    loop {
        match signals.next().await {
            Asked::Reload => daemon.reload(),
            Asked::Stop(name) => {
                info!(signal = name, "Stopping.");
                manager.stopping();
                break;
            }
        }
    }
    tokio::spawn(async move {
        let name = signals.stop().await;
        error!(signal = name, orderly = false, "Stopped at once, at the second signal.");
        std::process::exit(1);
    });
    if let Some(printer) = printer {
        printer.abort();
    }
    daemon.stop().await;
    if let Some(signs) = signs_of_life {
        signs.abort();
    }
    Ok(())
}

async fn listen(config: &Config) -> Result<TcpListener, ServeError> {
    let address = config.api.listen;
    TcpListener::bind(address).await.map_err(|error| {
        let config = config.source.clone();
        ServeError::Listen { address, config, error }
    })
}

/// The running parts.
struct Daemon {
    config: Arc<Config>,
    ledger: Arc<dyn Ledger>,
    plugins: Arc<PluginHost>,
    rating: Rating,
    cycle: Cycle,
    cycle_task: CycleTask,
    upkeep: UpkeepTask,
    context: api::Context,
    api: JoinHandle<()>,
    api_stop: watch::Sender<bool>,
}

impl Daemon {
    async fn start(
        config: Config,
        listener: TcpListener,
        manager: &ServiceManager,
    ) -> Result<Daemon, ServeError> {
        let config = Arc::new(config);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::new(Metrics::new());
        let Doors { policy, tls, authentication } = Doors::load(&config, &clock, &metrics)?;
        let waiting = Waiting { config: &config, listener: &listener, manager };
        let ledger = waiting.open_ledger().await?;
        let services = HostServices {
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            runtime: tokio::runtime::Handle::current(),
            metrics: Arc::clone(&metrics),
        };
        let plugins = PluginHost::new(PluginConfig::from(&*config), services);
        let plugins = Arc::new(plugins.map_err(ServeError::Plugins)?);
        waiting.load_plugins(&plugins).await?;
        passed(Step::StartPluginsLoaded);
        let rating = Rating::new(Arc::clone(&ledger), plugins.clone(), module_defaults(&config));
        let parts = CycleParts {
            ledger: Arc::clone(&ledger),
            sources: plugins.clone(),
            rating: rating.clone(),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            collect: config.collect.clone(),
            static_scopes: config.static_scopes.clone(),
            jitter: Jitter::new(RandomState::new().build_hasher().finish()),
        };
        let (cycle, cycle_task) = Cycle::start(parts).await.map_err(ServeError::Cycle)?;
        let upkeep = UpkeepTask::start(UpkeepParts {
            ledger: Arc::clone(&ledger),
            cycle: cycle.watch(),
            metrics: Arc::clone(&metrics),
            clock: Arc::clone(&clock),
            compaction_percent: config.ledger.compaction_percent,
            retention: config.ledger.retention,
        });
        let context = api::Context::new(api::Parts {
            ledger: Arc::clone(&ledger),
            rating: rating.clone(),
            plugins: plugins.clone(),
            cycle: Arc::new(cycle.clone()),
            config: Arc::clone(&config),
            metrics,
            clock,
            authentication,
            policy,
            tls,
        });
        let (api_stop, mut stopped) = watch::channel(false);
        let stop = async move {
            // A sender that is gone means the same.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let api = tokio::spawn(api::serve(listener, context.clone(), stop));
        Ok(Daemon {
            config,
            ledger,
            plugins,
            rating,
            cycle,
            cycle_task,
            upkeep,
            context,
            api,
            api_stop,
        })
    }

    /// The one line of the start.
    fn say_hello(&self, address: SocketAddr, duration: Duration) {
        let generation = self.plugins.generation();
        let plugins: Vec<String> = generation
            .libraries()
            .iter()
            .map(|library| format!("{} {}", library.name, library.version))
            .collect();
        info!(
            version = env!("CARGO_PKG_VERSION"),
            config = %self.config.source.display(),
            state = %self.config.daemon.state_dir.display(),
            api = %url(&self.config, address),
            plugins = plugins.join(", "),
            duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            "Started.",
        );
    }

    fn reload(&self) {
        let (plugins, cycle) = (Arc::clone(&self.plugins), self.cycle.clone());
        let context = self.context.clone();
        tokio::task::spawn_blocking(move || {
            context.reread_files();
            match plugins.reload() {
                Ok(report) => info!(
                    generation = report.generation,
                    changed = report.changed.len(),
                    removed = report.removed.len(),
                    "Plugins reloaded.",
                ),
                Err(error) => warn!(
                    error = chain(&error),
                    "Plugins were not reloaded, those that run stay in use."
                ),
            }
            cycle.wake();
        });
    }

    /// Prints the bill when there is one, then after each cycle that adds to it.
    fn print_bills(&self, address: SocketAddr) -> JoinHandle<()> {
        let (ledger, config) = (Arc::clone(&self.ledger), Arc::clone(&self.config));
        let mut status = self.cycle.watch();
        tokio::spawn(async move {
            let mut rows_printed = None;
            loop {
                if status.changed().await.is_err() {
                    return;
                }
                if rows_printed.is_none() {
                    // A cycle that catches up with a long past is not waited for.
                    let ended = status.wait_for(|status| !status.is_running);
                    let _ = tokio::time::timeout(FIRST_BILL_TIMEOUT, ended).await;
                }
                let (is_running, rows_stored) = {
                    let status = status.borrow_and_update();
                    (status.is_running, status.rows_stored)
                };
                let is_due = match rows_printed {
                    None => true,
                    Some(printed) => printed < rows_stored && !is_running,
                };
                if is_due {
                    let (ledger, config) = (Arc::clone(&ledger), Arc::clone(&config));
                    let print = move || print_bill(&*ledger, &config, address);
                    match tokio::task::spawn_blocking(print).await {
                        Ok(true) => rows_printed = Some(rows_stored),
                        Ok(false) => {}
                        Err(error) => warn!(%error, "The bill could not be printed."),
                    }
                }
            }
        })
    }

    /// The cycle first, so that nothing new is asked; the ledger last.
    async fn stop(self) {
        passed(Step::StopBegun);
        let begin = Instant::now();
        let grace = Duration::from_secs(self.config.daemon.shutdown_grace_secs.into());
        // Its step in flight is short.
        tokio::join!(self.cycle_task.stop(grace), self.upkeep.stop());
        passed(Step::StopCycleEnded);
        let _ = self.api_stop.send(true);
        let left = grace.saturating_sub(begin.elapsed());
        // The API ends its connections by itself; what hangs there is not waited for.
        let is_api_ended = tokio::time::timeout(left.max(Duration::from_secs(1)), self.api).await;
        passed(Step::StopApiEnded);
        // Rules hold instances, which could not end as they do when they are told to.
        let forget = tokio::task::spawn_blocking(move || self.rating.forget());
        let left = grace.saturating_sub(begin.elapsed());
        let _ = tokio::time::timeout(left.max(Duration::from_secs(1)), forget).await;
        self.plugins.stop(grace.saturating_sub(begin.elapsed())).await;
        passed(Step::StopPluginsEnded);
        let duration_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(orderly = is_api_ended.is_ok(), duration_ms, "Stopped.");
    }
}

/// Who may come in, and what for.
struct Doors {
    policy: api::Policy,
    tls: Option<api::Tls>,
    authentication: api::Authentication,
}

impl Doors {
    fn load(
        config: &Config,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Result<Doors, ServeError> {
        let policy = api::Policy::load(config.api.policy.as_deref());
        let policy = policy.map_err(ServeError::Policy)?;
        let tls = config.api.tls.as_ref().map(|tls| api::Tls::load(tls, Arc::clone(clock)));
        let tls = tls.transpose().map_err(ServeError::Tls)?;
        let authentication = api::Authentication::load(&config.api, clock, metrics);
        let authentication = authentication.map_err(ServeError::Authentication)?;
        Ok(Doors { policy, tls, authentication })
    }
}

fn module_defaults(config: &Config) -> BTreeMap<String, ModuleState> {
    let state = |defaults: &crate::config::ModuleDefaults| ModuleState {
        enabled: defaults.enabled,
        priority: defaults.priority,
    };
    let defaults = config.rating_defaults.iter();
    defaults.map(|(name, defaults)| (name.clone(), state(defaults))).collect()
}

/// Where the API is.
fn url(config: &Config, address: SocketAddr) -> String {
    let scheme = if config.api.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{address}")
}

/// Was there anything to print?
fn print_bill(ledger: &dyn Ledger, config: &Config, address: SocketAddr) -> bool {
    let lines = match bill::read(ledger, &config.collect.metrics) {
        Ok(lines) => lines,
        Err(error) => {
            warn!(error = chain(&error), "The bill could not be read.");
            return false;
        }
    };
    if lines.is_empty() {
        return false;
    }
    let url = url(config, address);
    let group_by = format!("{},type", config.collect.scope_key);
    let text = format!(
        "\n{}API: {url}   e.g. curl '{url}/v2/summary?groupby={group_by}'\n",
        bill::table(&lines)
    );
    // Nobody may be reading any more; that is no reason to stop.
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// What a signal asks for.
enum Asked {
    Stop(&'static str),
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// The name of the next signal that says stop; others are left out.
    async fn stop(&mut self) -> &'static str {
        loop {
            if let Asked::Stop(name) = self.next().await {
                return name;
            }
        }
    }
}
