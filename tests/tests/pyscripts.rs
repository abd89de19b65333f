//! Scripts in Python price what the daemon collects, and hurt nobody but who they are for.
#![forbid(unsafe_code)]

use rated_tests::{Config, Daemon, DataSet, Prometheus, wait_until};
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
        let folder = TempDir::new().unwrap();
        let data = DataSet::ending_lately(1, 4, 2, 3);
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
