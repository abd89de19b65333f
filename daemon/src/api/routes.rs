use futures_util::FutureExt as _;
use warp::http::{Method, StatusCode};

use super::policy;
use super::router::{Access, BodyUse, Endpoint, Route};
use super::v1::dataframes as frames;
use super::v1::{collector, info, module_config, quote, rating, report};
use super::v2::{
    audit, completeness, dataframes, differences, explain, ledger, modules, reprocess, scope,
    summary,
};
use super::{docs, root};

/// Largest body where nothing else is said.
const BODY_SIZE_MAX: usize = 1024 * 1024;

/// Largest body that a module gets: a price list of some ten thousand rules.
const MODULE_BODY_SIZE_MAX: usize = 8 * 1024 * 1024;

/// `endpoint!(GET, file::function, access)`: an async function as an entry of the table, with who
/// gets there and its description, which is the function of the same name in `file::describe`.
macro_rules! endpoint {
    ($method:ident, $file:ident :: $function:ident, $access:expr) => {
        Endpoint {
            method: Method::$method,
            handler: |context, call| $file::$function(context, call).boxed(),
            access: $access,
            describe: $file::describe::$function,
        }
    };
}

/// Who gets to a handler: `public`, `known`, `asked ACTION`, `open ACTION`, or whoever
/// may do `ACTION`.
macro_rules! access {
    (public) => {
        Access::Public
    };
    (known) => {
        Access::Known
    };
    (asked $action:ident) => {
        Access::Asked(&policy::$action)
    };
    (open $action:ident) => {
        Access::Open(&policy::$action)
    };
    ($action:ident) => {
        Access::Allowed(&policy::$action)
    };
}

/// Methods of a path, each with who gets there; every other one is 405.
macro_rules! route {
    (
        $pattern:literal,
        $($method:ident => $file:ident :: $function:ident if $($access:ident)+),+
    ) => {
        Route {
            pattern: $pattern,
            methods: &[$(endpoint!($method, $file::$function, access!($($access)+))),+],
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
    route!("/", GET => root::versions if public),
    route!("/healthcheck", GET => root::healthcheck if public),
    route!("/healthz", GET => root::alive if public),
    route!("/readyz", GET => root::ready if open GET_STATUS),
    route!("/metrics", GET => root::metrics if GET_METRICS),
    route!("/openapi.json", GET => docs::openapi if public),
    route!("/docs", GET => docs::page if public),
    route!("/docs/page.css", GET => docs::style if public),
    route!("/docs/page.js", GET => docs::script if public),
    // ---- v1 ----
    route!("/v1/info/config", GET => info::config if GET_CONFIG),
    route!("/v1/info/metrics", GET => info::metrics if LIST_METRICS_INFO),
    route!("/v1/info/metrics/{id}", GET => info::metric if GET_METRIC_INFO),
    nothing!("/v1/info/metrics/{id}/{*}"),
    route!("/v1/info/metric", GET => info::metrics if LIST_METRICS_INFO),
    route!("/v1/info/metric/{id}", GET => info::metric if GET_METRIC_INFO),
    nothing!("/v1/info/metric/{id}/{*}"),
    route!("/v1/info/services", GET => info::metrics if LIST_SERVICES_INFO),
    route!("/v1/info/services/{id}", GET => info::metric if GET_SERVICE_INFO),
    nothing!("/v1/info/services/{id}/{*}"),
    route!("/v1/info/service", GET => info::metrics if LIST_SERVICES_INFO),
    route!("/v1/info/service/{id}", GET => info::metric if GET_SERVICE_INFO),
    nothing!("/v1/info/service/{id}/{*}"),
    route!("/v1/collector", GET => collector::nothing if known),
    route!("/v1/collector/mappings",
        GET => collector::mappings if LIST_MAPPINGS,
        POST => collector::create_mapping if MANAGE_MAPPING,
        DELETE => collector::delete_mapping if MANAGE_MAPPING),
    route!("/v1/collector/mappings/{service}",
        GET => collector::mapping if GET_MAPPING,
        DELETE => collector::delete_mapping if MANAGE_MAPPING),
    route!("/v1/collector/mappings/{collector}/{service}",
        POST => collector::create_mapping if MANAGE_MAPPING,
        GET => collector::nowhere if known),
    nothing!("/v1/collector/mappings/{*}"),
    route!("/v1/collector/states",
        GET => collector::state if GET_STATE,
        PUT => collector::set_state if UPDATE_STATE),
    route!("/v1/collector/states/{name}",
        GET => collector::state if GET_STATE,
        PUT => collector::set_state if UPDATE_STATE),
    route!("/v1/collector/{name}/states",
        GET => collector::state if GET_STATE,
        PUT => collector::set_state if UPDATE_STATE),
    nothing!("/v1/collector/{name}/{*}"),
    route!("/v1/rating/modules",
        GET => rating::modules if LIST_MODULES,
        PUT => rating::set_module if UPDATE_MODULE),
    route!("/v1/rating/modules/{module_id}",
        GET => rating::module if GET_MODULE,
        PUT => rating::set_module if UPDATE_MODULE),
    nothing!("/v1/rating/modules/{module_id}/{*}"),
    route!("/v1/rating/quote", POST => quote::quote if QUOTE),
    route!("/v1/rating/reload_modules", GET => rating::reload if MODULE_CONFIG),
    Route {
        body: BodyUse::Whole { size_max: MODULE_BODY_SIZE_MAX },
        ..route!("/v1/rating/module_config/{*}",
            GET => module_config::serve if asked MODULE_CONFIG,
            POST => module_config::serve if asked MODULE_CONFIG,
            PUT => module_config::serve if asked MODULE_CONFIG,
            DELETE => module_config::serve if asked MODULE_CONFIG,
            PATCH => module_config::serve if asked MODULE_CONFIG)
    },
    route!("/v1/report/total", GET => report::total if GET_TOTAL),
    route!("/v1/report/summary", GET => report::summary if GET_V1_SUMMARY),
    route!("/v1/report/tenants", GET => report::tenants if LIST_TENANTS),
    route!("/v1/storage/dataframes", GET => frames::dataframes if LIST_DATA_FRAMES),
    // ---- v2 ----
    route!("/v2/summary", GET => summary::summary if GET_SUMMARY),
    Route {
        body: BodyUse::Stream,
        ..route!("/v2/dataframes",
            GET => dataframes::dataframes if GET_DATAFRAMES,
            POST => dataframes::push if ADD_DATAFRAMES)
    },
    route!("/v2/scope",
        GET => scope::scopes if GET_SCOPES,
        POST => scope::create if POST_SCOPE,
        PATCH => scope::change if PATCH_SCOPE,
        PUT => scope::reset if RESET_SCOPES),
    route!("/v2/completeness", GET => completeness::completeness if GET_COMPLETENESS),
    route!("/v2/explain", GET => explain::explain if GET_EXPLAIN),
    route!("/v2/audit", GET => audit::audit if AUDIT),
    route!("/v2/task/reprocesses",
        GET => reprocess::list if GET_REPROCESSES,
        POST => reprocess::schedule if POST_REPROCESSES),
    route!("/v2/task/reprocesses/{scope_id}", GET => reprocess::list_of_scope if GET_REPROCESSES),
    route!("/v2/ledger/generations", GET => differences::generations if GET_REPROCESSES),
    route!("/v2/ledger/differences", GET => differences::differences if GET_REPROCESSES),
    route!("/v2/ledger/verify", GET => ledger::verify if VERIFY_LEDGER),
    route!("/v2/ledger/backups", POST => ledger::begin_backup if BACK_UP_LEDGER),
    route!("/v2/ledger/backups/{id}", DELETE => ledger::end_backup if BACK_UP_LEDGER),
    route!("/v2/ledger/backups/{id}/digest", GET => ledger::digest if BACK_UP_LEDGER),
    route!("/v2/ledger/backups/{id}/records", GET => ledger::records if BACK_UP_LEDGER),
    route!("/v2/ledger/backups/{id}/files/{name}", GET => ledger::file if BACK_UP_LEDGER),
    route!("/v2/ledger/backups/{id}/libraries/{sha256}", GET => ledger::library if BACK_UP_LEDGER),
    route!("/v2/rating/modules", GET => modules::modules if V2_LIST_MODULES),
    route!("/v2/rating/modules/{id}",
        GET => modules::module if V2_GET_MODULE,
        PUT => modules::set_module if V2_UPDATE_MODULE),
];
