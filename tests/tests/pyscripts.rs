//! Scripts in Python price what the daemon collects, and hurt nobody but who they are for.
#![forbid(unsafe_code)]

use rated_tests::{Config, Daemon, DataSet, Exact, Prometheus, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const SCRIPTS: &str = "/v1/rating/module_config/pyscripts/scripts";

struct Site {
    folder: TempDir,
    data: DataSet,
    _prometheus: Prometheus,
    config: Config,
}

impl Site {
    fn new() -> Site {
        Site::with_scopes(4)
    }

    fn with_scopes(scopes: usize) -> Site {
        let folder = TempDir::new().unwrap();
        let data = DataSet::ending_lately(1, scopes, 2, 3);
        let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
        std::fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
        let config = Config::prometheus(&prometheus.url, data.begin);
        Site { folder, data, _prometheus: prometheus, config }
    }

    fn start(&self, config: &Config) -> Daemon {
        Daemon::start(&config.write(self.folder.path()))
    }
}

fn add(daemon: &Daemon, name: &str, data: &str) -> Value {
    let body = json!({"name": name, "data": data, "start": "2014-01-01"});
    let path = format!("{SCRIPTS}?force=true");
    daemon.call(&Method::POST, &path, Some(&body)).expect(201)
}

fn total(daemon: &Daemon, scope: &str) -> String {
    let total = daemon.get(&format!("/v1/report/total?begin=2014-01-01&tenant_id={scope}"));
    total.as_str().unwrap().to_owned()
}

#[test]
fn a_script_prices_every_scope_but_the_one_it_fails_for() {
    let site = Site::new();
    let daemon = site.start(&site.config.clone().without_scopes());
    let modules = daemon.get("/v1/rating/modules/pyscripts");
    assert_eq!(modules["enabled"], false, "disabled until somebody enables it");
    daemon.set_module("pyscripts", &json!({"module_id": "pyscripts", "enabled": true}));
    let scope = DataSet::scope_id(1);
    let script = format!(
        "for points in data['usage'].values():\n  for point in points:\n    \
         point['rating']['price'] += 1\n    \
         if point['groupby']['project_id'] == '{scope}': 1 / 0\n"
    );
    let failing = add(&daemon, "one", &script);
    daemon.stop();

    let daemon = site.start(&site.config);
    daemon.wait_until_processed(3, site.data.end(), 3600);
    let totals = [0, 2, 3].map(|other| total(&daemon, &DataSet::scope_id(other)));
    assert!(totals.iter().all(|total| total != "0"), "{totals:?}");
    assert_eq!(total(&daemon, &scope), "0", "nothing is rated without a script in force");
    let output = daemon.process.output();
    assert!(output.contains("ZeroDivisionError"), "{output}");
    assert!(output.contains("line 4, in <module>"), "{output}");

    let path = format!("{SCRIPTS}/{}", failing["script_id"].as_str().unwrap());
    daemon.call(&Method::DELETE, &path, None).expect(204);
    add(&daemon, "one", &script.replace("1 / 0", "pass"));
    wait_until("the scope is rated", || (total(&daemon, &scope) != "0").then_some(()));
    daemon.stop();
}

#[test]
fn a_quote_asks_the_scripts() {
    let site = Site::new();
    let daemon = site.start(&site.config.clone().without_scopes());
    daemon.set_module("pyscripts", &json!({"module_id": "pyscripts", "enabled": true}));
    let quote = |flavor: &str| {
        let resource = json!({"service": "instance", "volume": "3", "desc": {"flavor": flavor}});
        daemon.post("/v1/rating/quote", &json!({"resources": [resource]}))
    };
    assert_eq!(quote("small").expect(200), "0");

    add(
        &daemon,
        "by flavor",
        "import decimal\nprices = {'small': decimal.Decimal('0.1')}\n\
         for point in data['usage']['instance']:\n  price = prices[point['groupby']['flavor']]\n  \
         point['rating']['price'] = price * point['vol']['qty']\n",
    );

    assert_eq!(quote("small").expect(200), "0.3000000000000000000000000000");
    let refused = quote("large");
    assert!((400..500).contains(&refused.status), "{refused:?}");
    daemon.stop();
}

/// What each scope's script does, by the number of the scope; the others' only prices.
const HOSTILE: &[(usize, &str)] = &[
    (1, "while True: pass"),
    (2, "'x' * (10 << 30)"),
    (3, "while library.fork() != -1: pass\nraise OSError(ctypes['get_errno'](), 'no fork')"),
    (4, "os._exit(0)"),
    (5, "assert library.kill(-1, 9) == 0, 'nobody to kill'"),
    (6, "while True: os.write(3, b'\\1\\0\\0\\0' * 1000)"),
];

/// Looks for what the daemon has, past the interpreter; it prices if it finds nothing.
const SPY: &str = "\
assert 'RATED_LOG' not in os.environ, os.environ
assert library.access(STATE, 0) == -1
assert library.access(b'/proc/self/environ', 0) == -1
assert library.socket(2, 1, 0) == -1";

/// Branches on the scope; everybody's points cost their quantity.
fn hostile_script(site: &Site) -> String {
    let state = site.folder.path().join("state/ledger");
    let mut script = format!(
        "import os\nSTATE = b'{}'\n\
         loader = [one for one in object.__subclasses__() if one.__name__ == 'CDLL'][0]\n\
         ctypes = loader.__init__.__globals__\n\
         ctypes['_sys'].modules['__main__'].DENIED = ('nothing',)\n\
         library = ctypes['CDLL'](None, use_errno=True)\n\
         for points in data['usage'].values():\n  for point in points:\n    \
         point['rating']['price'] += point['vol']['qty']\n    \
         scope = point['groupby']['project_id']\n",
        state.display()
    );
    for (scope, text) in HOSTILE.iter().copied().chain([(7, SPY)]) {
        let lines = text.replace('\n', "\n  ");
        script += &format!("if scope == '{}':\n  {lines}\n", DataSet::scope_id(scope));
    }
    script
}

#[test]
fn hostile_scripts_hurt_the_periods_of_their_scopes_only() {
    let site = Site::with_scopes(8);
    let limits = "[rating.pyscripts]\nprocesses = 2\nwall_secs = 3\ncpu_secs = 1\n";
    let mut config = site.config.clone();
    config.plugins += limits;
    let daemon = site.start(&config.clone().without_scopes());
    let output = daemon.process.output();
    assert!(output.contains("Scripts are contained by limits and "), "{output}");
    add(&daemon, "hostile", &hostile_script(&site));
    daemon.stop();

    let daemon = site.start(&config);
    daemon.wait_until_processed(2, site.data.end(), 3600);

    for scope in [0, 7] {
        let points = site.data.points().filter(|point| point.scope == scope);
        let found = Exact::parse(&total(&daemon, &DataSet::scope_id(scope)));
        assert_eq!(found, DataSet::total_quantity(points), "scope {scope}");
    }
    wait_until("every hostile script has failed", || {
        let output = daemon.process.output();
        let failed = |scope: &(usize, &str)| {
            output.contains(&format!("A script failed: scope `{}`", DataSet::scope_id(scope.0)))
        };
        HOSTILE.iter().all(failed).then_some(())
    });
    let output = daemon.process.output();
    for told in ["CPU time", "MemoryError", "no fork", "code 0", "nobody to kill", "answered more"]
    {
        assert!(output.contains(told), "{told}: {output}");
    }
    for (scope, _) in HOSTILE {
        assert_eq!(total(&daemon, &DataSet::scope_id(*scope)), "0", "scope {scope}");
    }
    daemon.stop();
}

/// Processes that came from that one and are filtered: runs of scripts; and all that came from it.
fn processes_below(ancestor: u32) -> (usize, Vec<u32>) {
    let mut statuses = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // It may have ended by now.
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        statuses.push((id, status));
    }
    let (mut found, mut runs) = (vec![ancestor], 0);
    for at in 0.. {
        let Some(parent) = found.get(at).map(|id| format!("\nPPid:\t{id}\n")) else { break };
        let children = statuses.iter().filter(|(_, status)| status.contains(&parent));
        for (id, status) in children {
            found.push(*id);
            runs += usize::from(status.contains("\nSeccomp:\t2\n"));
        }
    }
    (runs, found.split_off(1))
}

fn is_alive(id: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"));
    status.is_ok_and(|status| !status.contains("\nState:\tZ"))
}

#[test]
fn a_killed_daemon_leaves_no_process() {
    let site = Site::new();
    let mut config = site.config.clone();
    config.plugins += "[rating.pyscripts]\nwall_secs = 50\n";
    let daemon = site.start(&config.clone().without_scopes());
    add(&daemon, "slow", "import time\ntime.sleep(45)");
    daemon.stop();
    let mut daemon = site.start(&config);
    let processes = wait_until("a script runs", || {
        let (runs, processes) = processes_below(daemon.process.id());
        (runs > 0).then_some(processes)
    });

    daemon.process.kill();

    wait_until("all processes end", || (!processes.iter().any(|id| is_alive(*id))).then_some(()));
}
