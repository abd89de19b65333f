//! A small cloud: three projects with two instances each, and what they should pay.

use std::collections::BTreeMap;
use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use rated_tests::{
    ArchivePolicy, Config, Daemon, DataSet, Exact, Gnocchi, Keystone, KeystoneApi, Measures, Point,
    REGION, Target, User, actual_bill,
};
use serde_json::json;
use tempfile::TempDir;

use crate::prices::{enter_price_list, price};

const PROJECTS: [&str; 3] = ["blue", "green", "red"];
/// Where the service user is an administrator.
const SERVICE_PROJECT: &str = "billing";
const INSTANCES: usize = 2;
pub const FLAVORS: [&str; INSTANCES] = ["m1.small", "m1.large"];
/// The metric of each of the data set's numbers.
const CPU: usize = 0;
pub const TRAFFIC: usize = 1;

/// Quantity and price of each (scope, metric type).
pub type Bill = BTreeMap<(String, String), (Exact, Exact)>;

/// Everything ends with it.
#[derive(Debug)]
pub struct Cloud {
    // Fields are dropped from top to bottom: who asks before who is asked.
    pub gnocchi: Gnocchi,
    identity: Option<Identity>,
    /// The ids, in the order of [`PROJECTS`].
    pub projects: Vec<String>,
    /// The hours, and the numbers of each of them.
    pub data: DataSet,
    pub folder: TempDir,
}

#[derive(Debug)]
struct Identity {
    keystone: Keystone,
    service_user: User,
}

impl Cloud {
    pub fn new(hours: usize) -> Cloud {
        let folder = TempDir::new().unwrap();
        let keystone = Keystone::start(folder.path());
        let gnocchi = Gnocchi::with_keystone(folder.path(), &keystone);
        println!("Keystone {}, Gnocchi {}", keystone.server.version(), gnocchi.server.version());
        let projects = PROJECTS.map(|name| keystone.api.create_project(name));
        let service_user = create_service_user(&keystone, &projects);
        let data = DataSet::ending_lately(2, PROJECTS.len(), INSTANCES, hours);
        let identity = Some(Identity { keystone, service_user });
        let cloud = Cloud { gnocchi, identity, projects: projects.to_vec(), data, folder };
        cloud.fill_gnocchi();
        cloud
    }

    /// Gnocchi alone, with its basic authentication.
    pub fn without_keystone(hours: usize) -> Cloud {
        let folder = TempDir::new().unwrap();
        let gnocchi = Gnocchi::with_basic_authentication(folder.path());
        println!("Gnocchi {}", gnocchi.server.version());
        let projects = PROJECTS.map(str::to_owned).to_vec();
        let data = DataSet::ending_lately(2, PROJECTS.len(), INSTANCES, hours);
        let cloud = Cloud { gnocchi, identity: None, projects, data, folder };
        cloud.fill_gnocchi();
        cloud
    }

    pub fn keystone(&mut self) -> &mut Keystone {
        &mut self.identity.as_mut().expect("made with a Keystone").keystone
    }

    /// For requests to Keystone.
    pub fn identity(&self) -> &KeystoneApi {
        &self.identity.as_ref().expect("made with a Keystone").keystone.api
    }

    /// The service user has the role `admin` in the project `billing`, and `rating` in each of the
    /// three.
    pub fn service_user(&self) -> &User {
        &self.identity.as_ref().expect("made with a Keystone").service_user
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

    /// Of all hours.
    pub fn expected_bill(&self) -> Bill {
        self.expected_bill_of(|_| true)
    }

    /// Of some of the points.
    pub fn expected_bill_of(&self, is_wanted: impl Fn(Point) -> bool) -> Bill {
        let mut bill = Bill::new();
        for point in self.points().filter(|point| is_wanted(*point)) {
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
        let login = self.password_login();
        let keys = format!("{login}region_name = \"{REGION}\"\ninterface = \"internal\"\n");
        self.config_with(&keys, "keystone", &login)
    }

    /// With keys of the collector, the fetcher and its keys.
    pub fn config_with(&self, collector_keys: &str, fetcher: &str, fetcher_keys: &str) -> Config {
        Config {
            daemon: "shutdown_grace_secs = 10\n".to_owned(),
            collect: format!(
                "collector = \"gnocchi\"\nfetchers = [\"{fetcher}\"]\nmetrics = \"metrics.toml\"\n\
                 period_secs = 3600\nwait_periods = 2\nscope_key = \"project_id\"\n\
                 start = \"{}\"\n",
                self.data.begin.format("%Y-%m-%dT%H:%M:%SZ")
            ),
            plugins: format!(
                "[collectors.gnocchi]\n{collector_keys}\n[fetchers.{fetcher}]\n{fetcher_keys}"
            ),
        }
    }

    /// Keys of the plugin for the service user.
    pub fn password_login(&self) -> String {
        let User { name, password, .. } = self.service_user();
        format!(
            "auth_type = \"password\"\nauth_url = \"{}\"\nusername = \"{name}\"\n\
             password = \"{password}\"\nproject_name = \"{SERVICE_PROJECT}\"\n",
            self.identity().url
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
        enter_price_list(&daemon, self);
        daemon.stop();
        Daemon::start(&config.write(self.folder.path()))
    }

    pub fn wait_until_rated(&self, daemon: &Daemon) {
        daemon.wait_until_processed(self.projects.len(), self.data.end(), 3600);
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

fn id_of(metric: usize, project: usize, instance: usize) -> String {
    format!("{metric:08}-{project:04}-4000-8000-{instance:012}")
}

fn create_service_user(keystone: &Keystone, projects: &[String]) -> User {
    let billing = keystone.api.create_project(SERVICE_PROJECT);
    let user = keystone.api.create_user("rated", "service-secret");
    keystone.api.assign(&user, "admin", Target::Project(&billing));
    for project in projects {
        keystone.api.assign(&user, "rating", Target::Project(project));
    }
    user
}
