//! The `[api]` section of `rated.toml`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::problem::{ProblemKind, Refusal};
use super::reader::{Field, TableReader};
use super::{ApiConfig, Auth, TlsConfig, auth_section, source};

const DEFAULT_PORT: u16 = 8889;

pub(super) fn read(mut section: TableReader<'_>, folder: &Path) -> ApiConfig {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT));
    let auth = auth_section::read(&mut section, folder);
    let listen = read_listen(&mut section, &auth).unwrap_or(default);
    let tls = section.optional_table("tls").and_then(|table| read_tls(table, folder));
    let policy = section.text("policy").map(|field| source::resolve(folder, &field.value));
    let hint = "`connections_max` is how many connections may be open at once";
    let connections_max = section.integer("connections_max", 1..=100_000, 512_u32, hint);
    let hint = "`head_timeout_secs` is how long the head of a request may take, in seconds";
    let head_timeout_secs = section.integer("head_timeout_secs", 1..=600, 15_u32, hint);
    let hint = "`body_timeout_secs` is how long the body of a request may take, in seconds";
    let body_timeout_secs = section.integer("body_timeout_secs", 1..=3600, 30_u32, hint);
    let hint = "`body_size_max_mib` is how much may be pushed at once, in MiB";
    let body_size_max_mib = section.integer("body_size_max_mib", 1..=1024, 64_u32, hint);
    let body_size_max = usize::try_from(body_size_max_mib).expect("at most 1024") << 20;
    let mut cors = section.table("cors");
    let origins = cors.texts("allowed_origins").map_or(Vec::new(), |list| list.value);
    for origin in &origins {
        check_origin(&cors, origin);
    }
    cors.finish();
    section.finish();
    let cors_allowed_origins = origins.into_iter().map(|origin| origin.value).collect();
    ApiConfig {
        listen,
        tls,
        auth,
        policy,
        connections_max: usize::try_from(connections_max).expect("at most 100000"),
        head_timeout: Duration::from_secs(head_timeout_secs.into()),
        body_timeout: Duration::from_secs(body_timeout_secs.into()),
        body_size_max,
        cors_allowed_origins,
    }
}

fn read_listen(section: &mut TableReader<'_>, auth: &Auth) -> Option<SocketAddr> {
    let allowed = section.boolean("allow_remote_without_auth", false);
    let field = section.text("listen")?;
    let Ok(address) = field.value.parse::<SocketAddr>() else {
        let wanted = "an IP address and a port";
        let kind = ProblemKind::Malformed { wanted, got: field.value.clone() };
        section.refuse(&field, kind, Some(format!("such as `127.0.0.1:{DEFAULT_PORT}`")));
        return None;
    };
    if matches!(auth, Auth::None) && !address.ip().is_loopback() && !allowed {
        let kind = ProblemKind::Refused { reason: Refusal::OpenToTheNetwork };
        let hint = "listen on 127.0.0.1, or set `api.allow_remote_without_auth = true` if \
                    something in front of the daemon checks who calls";
        section.refuse(&field, kind, Some(hint.to_owned()));
    }
    Some(address)
}

fn read_tls(mut section: TableReader<'_>, folder: &Path) -> Option<TlsConfig> {
    let cert_file = section.required_text("cert_file");
    let key_file = section.required_text("key_file");
    section.finish();
    let path = |field: Field<String>| source::resolve(folder, &field.value);
    Some(TlsConfig { cert_file: path(cert_file?), key_file: path(key_file?) })
}

fn check_origin(section: &TableReader<'_>, origin: &Field<String>) {
    let host = ["http://", "https://"].iter().find_map(|scheme| origin.value.strip_prefix(scheme));
    let sound = host.is_some_and(|host| {
        !host.is_empty() && !host.contains(['/', '*', '?', '#', '@']) && host.is_ascii()
    });
    if !sound {
        let wanted = "an origin";
        let kind = ProblemKind::Malformed { wanted, got: origin.value.clone() };
        let hint = "scheme, host and port, no path: `https://dashboard.example:8443`";
        section.refuse(origin, kind, Some(hint.to_owned()));
    }
}
