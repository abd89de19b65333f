use futures_util::FutureExt as _;
use warp::http::{Method, StatusCode};

use super::router::{BodyUse, Endpoint, Route};
use super::v1::dataframes as frames;
use super::v1::{collector, info, module_config, quote, rating, report};
use super::v2::{completeness, dataframes, modules, reprocess, scope, summary};
use super::{docs, root};

/// Largest body where nothing else is said.
const BODY_SIZE_MAX: usize = 1024 * 1024;

/// Largest body that a module gets: a price list of some ten thousand rules.
const MODULE_BODY_SIZE_MAX: usize = 8 * 1024 * 1024;

/// `endpoint!(GET, file::function)`: an async function as an entry of the table, with its
/// description, which is the function of the same name in `file::describe`.
macro_rules! endpoint {
    ($method:ident, $file:ident :: $function:ident) => {
        Endpoint {
            method: Method::$method,
            handler: |context, call| $file::$function(context, call).boxed(),
            describe: $file::describe::$function,
        }
    };
}

/// Methods of a path; every other one is 405.
macro_rules! route {
    ($pattern:literal, $($method:ident => $file:ident :: $function:ident),+) => {
        Route {
            pattern: $pattern,
            methods: &[$(endpoint!($method, $file::$function)),+],
            otherwise: StatusCode::METHOD_NOT_ALLOWED,
            body: BodyUse::Whole { size_max: BODY_SIZE_MAX },
        }
    };
}

/// A path at which there is nothing: 404 where v1 would say 405.
macro_rules! nothing {
    ($pattern:literal) => {
        Route {
            pattern: $pattern,
            methods: &[],
            otherwise: StatusCode::NOT_FOUND,
            body: BodyUse::Whole { size_max: 0 },
        }
    };
}

/// Every path there is. The first that matches counts.
pub(crate) static ROUTES: &[Route] = &[
    route!("/", GET => root::versions),
    route!("/healthcheck", GET => root::healthcheck),
    route!("/healthz", GET => root::alive),
    route!("/readyz", GET => root::ready),
    route!("/metrics", GET => root::metrics),
    route!("/openapi.json", GET => docs::openapi),
    route!("/docs", GET => docs::page),
    route!("/docs/page.css", GET => docs::style),
    route!("/docs/page.js", GET => docs::script),
    // ---- v1 ----
    route!("/v1/info/config", GET => info::config),
    route!("/v1/info/metrics", GET => info::metrics),
    route!("/v1/info/metrics/{id}", GET => info::metric),
    nothing!("/v1/info/metrics/{id}/{*}"),
    route!("/v1/info/metric", GET => info::metrics),
    route!("/v1/info/metric/{id}", GET => info::metric),
    nothing!("/v1/info/metric/{id}/{*}"),
    route!("/v1/info/services", GET => info::metrics),
    route!("/v1/info/services/{id}", GET => info::metric),
    nothing!("/v1/info/services/{id}/{*}"),
    route!("/v1/info/service", GET => info::metrics),
    route!("/v1/info/service/{id}", GET => info::metric),
    nothing!("/v1/info/service/{id}/{*}"),
    route!("/v1/collector", GET => collector::nothing),
    route!("/v1/collector/mappings",
        GET => collector::mappings,
        POST => collector::create_mapping,
        DELETE => collector::delete_mapping),
    route!("/v1/collector/mappings/{service}",
        GET => collector::mapping,
        DELETE => collector::delete_mapping),
    route!("/v1/collector/mappings/{collector}/{service}",
        POST => collector::create_mapping,
        GET => collector::nowhere),
    nothing!("/v1/collector/mappings/{*}"),
    route!("/v1/collector/states", GET => collector::state, PUT => collector::set_state),
    route!("/v1/collector/states/{name}", GET => collector::state, PUT => collector::set_state),
    route!("/v1/collector/{name}/states", GET => collector::state, PUT => collector::set_state),
    nothing!("/v1/collector/{name}/{*}"),
    route!("/v1/rating/modules", GET => rating::modules, PUT => rating::set_module),
    route!("/v1/rating/modules/{module_id}", GET => rating::module, PUT => rating::set_module),
    nothing!("/v1/rating/modules/{module_id}/{*}"),
    route!("/v1/rating/quote", POST => quote::quote),
    route!("/v1/rating/reload_modules", GET => rating::reload),
    Route {
        body: BodyUse::Whole { size_max: MODULE_BODY_SIZE_MAX },
        ..route!("/v1/rating/module_config/{*}",
            GET => module_config::serve,
            POST => module_config::serve,
            PUT => module_config::serve,
            DELETE => module_config::serve,
            PATCH => module_config::serve)
    },
    route!("/v1/report/total", GET => report::total),
    route!("/v1/report/summary", GET => report::summary),
    route!("/v1/report/tenants", GET => report::tenants),
    route!("/v1/storage/dataframes", GET => frames::dataframes),
    // ---- v2 ----
    route!("/v2/summary", GET => summary::summary),
    Route {
        body: BodyUse::Stream,
        ..route!("/v2/dataframes", GET => dataframes::dataframes, POST => dataframes::push)
    },
    route!("/v2/scope",
        GET => scope::scopes,
        POST => scope::create,
        PATCH => scope::change,
        PUT => scope::reset),
    route!("/v2/completeness", GET => completeness::completeness),
    route!("/v2/task/reprocesses", GET => reprocess::list, POST => reprocess::schedule),
    route!("/v2/task/reprocesses/{scope_id}", GET => reprocess::list_of_scope),
    route!("/v2/rating/modules", GET => modules::modules),
    route!("/v2/rating/modules/{id}", GET => modules::module, PUT => modules::set_module),
];
