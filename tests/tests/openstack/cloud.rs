//! A small cloud: three projects with two instances each, and what they should pay.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rated_tests::{
    Answer, ArchivePolicy, Config, Daemon, DataSet, Exact, Gnocchi, Keystone, Measures, Point,
    REGION, Target, User, actual_bill,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROJECTS: [&str; 3] = ["blue", "green", "red"];
const INSTANCES: usize = 2;
const FLAVORS: [&str; INSTANCES] = ["m1.small", "m1.large"];
/// The project with a price of its own.
const GREEN: usize = 1;
/// The metric of each of the data set's numbers.
const CPU: usize = 0;
const TRAFFIC: usize = 1;

const HASHMAP: &str = "/v1/rating/module_config/hashmap";

/// Quantity and price of each (scope, metric type).
pub type Bill = BTreeMap<(String, String), (Exact, Exact)>;

/// Everything ends with it.
#[derive(Debug)]
pub struct Cloud {
    // Fields are dropped from top to bottom: who asks before who is asked.
    pub gnocchi: Gnocchi,
    pub keystone: Keystone,
    /// The ids, in the order of [`PROJECTS`].
    pub projects: Vec<String>,
    /// Has the role `admin` in the project `billing`, and `rating` in each of the three.
    pub service_user: User,
    /// The hours, and the numbers of each of them.
    pub data: DataSet,
    pub folder: TempDir,
}

impl Cloud {
    pub fn new(hours: usize) -> Cloud {
        Cloud::with_token_lifetime(hours, Duration::from_hours(1))
    }

    pub fn with_token_lifetime(hours: usize, lifetime: Duration) -> Cloud {
        let folder = TempDir::new().unwrap();
        let keystone = Keystone::with_token_lifetime(folder.path(), lifetime);
        let gnocchi = Gnocchi::with_keystone(folder.path(), &keystone);
        println!("Keystone {}, Gnocchi {}", keystone.server.version(), gnocchi.server.version());
        let projects = PROJECTS.map(|name| keystone.api.create_project(name)).to_vec();
        let service_user = create_service_user(&keystone, &projects);
        let data = DataSet::ending_lately(2, PROJECTS.len(), INSTANCES, hours);
        let cloud = Cloud { gnocchi, keystone, projects, service_user, data, folder };
        cloud.fill_gnocchi();
        cloud
    }

    fn fill_gnocchi(&self) {
        self.gnocchi.create_archive_policy(ArchivePolicy {
            name: "hourly",
            methods: &["mean", "max"],
            granularities: &[(3600, 1000)],
        });
        self.gnocchi.create_resource_type("instance", &["flavor_name"]);
        self.gnocchi.create_resource_type("instance_network_interface", &["name"]);
        for (project, project_id) in self.projects.iter().enumerate() {
            for (instance, flavor) in FLAVORS.iter().enumerate() {
                let attributes = json!({
                    "id": id_of(CPU, project, instance),
                    "project_id": project_id,
                    "flavor_name": flavor,
                });
                self.gnocchi.create_resource("instance", &attributes, &[("cpu", "hourly")]);
                let attributes = json!({
                    "id": id_of(TRAFFIC, project, instance),
                    "project_id": project_id,
                    "name": "tap0",
                });
                let metrics = [("network.incoming.bytes", "hourly")];
                self.gnocchi.create_resource("instance_network_interface", &attributes, &metrics);
                for metric in [CPU, TRAFFIC] {
                    let id = id_of(metric, project, instance);
                    // Gnocchi has just been told of them, but they were there before.
                    self.gnocchi.set_revision_start(&id, self.data.begin - TimeDelta::days(1));
                }
                self.gnocchi.push(&[
                    self.cpu_measures(project, instance),
                    self.traffic_measures(project, instance),
                ]);
            }
        }
    }

    /// Two measures in each hour that has any.
    fn cpu_measures(&self, project: usize, instance: usize) -> Measures {
        let points = self.points_of(CPU, project, instance).flat_map(|point| {
            let begin = self.data.hour(point.hour);
            let times = [13, 47].map(|minutes| begin + TimeDelta::minutes(minutes));
            times.into_iter().zip(DataSet::sample_texts(point))
        });
        let points = points.collect();
        Measures { resource: id_of(CPU, project, instance), metric: "cpu".to_owned(), points }
    }

    /// A counter that begins an hour early. It counts ten-thousandths of a unit, so that the
    /// server's floating point numbers are whole and exact.
    fn traffic_measures(&self, project: usize, instance: usize) -> Measures {
        let half_past = |begin: DateTime<Utc>| begin + TimeDelta::minutes(30);
        let mut counter = 0;
        let mut points = vec![(half_past(self.data.begin - TimeDelta::hours(1)), counter)];
        for point in self.points_of(TRAFFIC, project, instance) {
            counter += DataSet::quantity(point).replace('.', "").parse::<u64>().unwrap();
            points.push((half_past(self.data.hour(point.hour)), counter));
        }
        Measures {
            resource: id_of(TRAFFIC, project, instance),
            metric: "network.incoming.bytes".to_owned(),
            points: points.into_iter().map(|(time, count)| (time, count.to_string())).collect(),
        }
    }

    /// One instance has no `cpu` in each seventh hour.
    fn points(&self) -> impl Iterator<Item = Point> {
        let is_gap = |point: &Point| {
            (point.metric, point.scope, point.resource, point.hour % 7) == (CPU, 2, 1, 6)
        };
        self.data.points().filter(move |point| !is_gap(point))
    }

    fn points_of(
        &self,
        metric: usize,
        project: usize,
        instance: usize,
    ) -> impl Iterator<Item = Point> {
        self.points().filter(move |point| {
            (point.metric, point.scope, point.resource) == (metric, project, instance)
        })
    }

    pub fn expected_bill(&self, hours: std::ops::Range<usize>) -> Bill {
        let mut bill = Bill::new();
        for point in self.points().filter(|point| hours.contains(&point.hour)) {
            let kind = ["instance", "traffic"][point.metric].to_owned();
            let entry = bill.entry((self.projects[point.scope].clone(), kind)).or_default();
            entry.0 = entry.0 + Exact::parse(&DataSet::quantity(point));
            entry.1 = entry.1 + price(point);
        }
        bill
    }

    pub fn actual_bill(&self, daemon: &Daemon) -> Bill {
        actual_bill(daemon, self.data.begin, self.data.end())
    }

    /// Keystone says who is billed, Gnocchi what was used, and both are asked as the service user.
    pub fn config(&self) -> Config {
        Config {
            daemon: "shutdown_grace_secs = 10\n".to_owned(),
            collect: format!(
                "collector = \"gnocchi\"\nfetchers = [\"keystone\"]\nmetrics = \"metrics.toml\"\n\
                 period_secs = 3600\nwait_periods = 2\nscope_key = \"project_id\"\n\
                 start = \"{}\"\n",
                self.data.begin.format("%Y-%m-%dT%H:%M:%SZ")
            ),
            plugins: format!(
                "[collectors.gnocchi]\n{login}region_name = \"{REGION}\"\n\
                 interface = \"internal\"\n\n[fetchers.keystone]\n{login}",
                login = self.password_login()
            ),
        }
    }

    /// Keys of the plugin for the service user.
    pub fn password_login(&self) -> String {
        format!(
            "auth_type = \"password\"\nauth_url = \"{}\"\nusername = \"{}\"\npassword = \"{}\"\n\
             project_name = \"billing\"\n",
            self.keystone.api.url, self.service_user.name, self.service_user.password
        )
    }

    /// A daemon that knows the prices and rates as the configuration says.
    pub fn start_daemon(&self, config: &Config) -> Daemon {
        fs::write(self.folder.path().join("metrics.toml"), METRICS).unwrap();
        // Without anybody to bill, rules can be entered before the first period is rated.
        let mut nobody = config.clone();
        nobody.collect = nobody
            .collect
            .lines()
            .map(|line| if line.starts_with("fetchers") { "fetchers = []" } else { line })
            .fold(String::new(), |text, line| text + line + "\n");
        let daemon = Daemon::start(&nobody.write(self.folder.path()));
        self.enter_price_list(&daemon);
        daemon.stop();
        Daemon::start(&config.write(self.folder.path()))
    }

    pub fn wait_until_rated(&self, daemon: &Daemon) {
        daemon.wait_until_processed(self.projects.len(), self.data.end(), 3600);
    }

    fn enter_price_list(&self, daemon: &Daemon) {
        let start = self.data.begin.format("%Y-%m-%dT%H:%M:%S").to_string();
        let create = |list: &str, key: &str, body: &Value| -> String {
            let answer: Answer = daemon.post(&format!("{HASHMAP}/{list}"), body);
            answer.expect(201)[key].as_str().unwrap().to_owned()
        };
        let mapping = |mut rule: Value| {
            rule["start"] = json!(start);
            create("mappings?force=true", "mapping_id", &rule);
        };
        let extra = create("groups", "group_id", &json!({"name": "extra"}));
        let instance = create("services", "service_id", &json!({"name": "instance"}));
        let field = json!({"name": "flavor_name", "service_id": instance});
        let flavor = create("fields", "field_id", &field);
        for (name, cost) in FLAVORS.iter().zip(FLAVOR_COSTS) {
            mapping(json!({"field_id": flavor, "value": name, "cost": cost}));
        }
        mapping(json!({"service_id": instance, "group_id": extra, "cost": EXTRA_COST}));
        mapping(json!({
            "service_id": instance, "group_id": extra, "cost": GREEN_COST,
            "tenant_id": self.projects[GREEN]
        }));
        let traffic = create("services", "service_id", &json!({"name": "traffic"}));
        mapping(json!({"service_id": traffic, "cost": TRAFFIC_COST}));
        let level = json!({
            "service_id": traffic, "level": MANY, "cost": MANY_RATE, "type": "rate"
        });
        create("thresholds", "threshold_id", &level);
        daemon.set_module("hashmap", &json!({"module_id": "hashmap", "enabled": true}));
    }
}

const METRICS: &str = r#"
[[metric]]
name = "cpu"
alt_name = "instance"
unit = "instance"
groupby = ["id"]
metadata = ["flavor_name"]
[metric.extra_args]
resource_type = "instance"
aggregation_method = "max"

[[metric]]
name = "network.incoming.bytes"
alt_name = "traffic"
unit = "10kB"
groupby = ["id"]
factor = "1/10000"
[metric.extra_args]
resource_type = "instance_network_interface"
aggregation_method = "mean"
re_aggregation_method = "rate:mean"
"#;

const FLAVOR_COSTS: [&str; INSTANCES] = ["0.0125", "0.045"];
const EXTRA_COST: &str = "0.001";
const GREEN_COST: &str = "0.002";
const TRAFFIC_COST: &str = "0.0005";
/// From so many units on …
const MANY: &str = "500";
/// … they cost this part.
const MANY_RATE: &str = "0.9";

/// What the price list says of one number.
fn price(point: Point) -> Exact {
    let quantity = Exact::parse(&DataSet::quantity(point));
    if point.metric == TRAFFIC {
        let is_many = quantity >= Exact::parse(MANY);
        let rate = Exact::parse(if is_many { MANY_RATE } else { "1" });
        return Exact::parse(TRAFFIC_COST) * quantity * rate;
    }
    let extra = if point.scope == GREEN { GREEN_COST } else { EXTRA_COST };
    (Exact::parse(FLAVOR_COSTS[point.resource]) + Exact::parse(extra)) * quantity
}

fn id_of(metric: usize, project: usize, instance: usize) -> String {
    format!("{metric:08}-{project:04}-4000-8000-{instance:012}")
}

fn create_service_user(keystone: &Keystone, projects: &[String]) -> User {
    let billing = keystone.api.create_project("billing");
    let user = keystone.api.create_user("rated", "service-secret");
    keystone.api.assign(&user, "admin", Target::Project(&billing));
    for project in projects {
        keystone.api.assign(&user, "rating", Target::Project(project));
    }
    user
}
