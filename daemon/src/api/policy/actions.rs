/// Something that a caller may be allowed to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Action {
    /// As `policy.toml` and clients know it.
    pub(crate) name: &'static str,
    /// The rule when nobody has written another one.
    pub(crate) rule: &'static str,
    pub(crate) subject: Subject,
}

/// What an action is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Figures or states of scopes: a caller who sees none has no business there.
    Scopes,
    /// The daemon, its rules or its modules.
    Daemon,
}

const ADMIN: &str = "role:admin";
const READER_OR_ADMIN: &str = "rule:project_reader_or_admin";
/// Whoever has said who they are.
const UNPROTECTED: &str = "";

/// Rules that others refer to, with the texts they have by default.
pub(super) const SHARED_RULES: [(&str, &str); 5] = [
    (super::IS_ADMIN, "role:admin"),
    ("project_member_api", "role:member and project_id:%(project_id)s"),
    ("project_reader_api", "role:reader and project_id:%(project_id)s"),
    ("project_member_or_admin", "rule:project_member_api or rule:context_is_admin"),
    ("project_reader_or_admin", "rule:project_reader_api or rule:context_is_admin"),
];

macro_rules! actions {
    ($($constant:ident = $name:literal, $rule:ident, $subject:ident;)+) => {
        $(pub(crate) static $constant: Action = Action {
            name: $name,
            rule: $rule,
            subject: Subject::$subject,
        };)+

        /// Every action there is.
        pub(crate) static ACTIONS: &[&Action] = &[$(&$constant),+];
    };
}

actions! {
    LIST_SERVICES_INFO = "info:list_services_info", UNPROTECTED, Daemon;
    GET_SERVICE_INFO = "info:get_service_info", UNPROTECTED, Daemon;
    LIST_METRICS_INFO = "info:list_metrics_info", UNPROTECTED, Daemon;
    GET_METRIC_INFO = "info:get_metric_info", UNPROTECTED, Daemon;
    GET_CONFIG = "info:get_config", UNPROTECTED, Daemon;
    LIST_MAPPINGS = "collector:list_mappings", ADMIN, Daemon;
    GET_MAPPING = "collector:get_mapping", ADMIN, Daemon;
    MANAGE_MAPPING = "collector:manage_mapping", ADMIN, Daemon;
    GET_STATE = "collector:get_state", ADMIN, Daemon;
    UPDATE_STATE = "collector:update_state", ADMIN, Daemon;
    LIST_MODULES = "rating:list_modules", ADMIN, Daemon;
    GET_MODULE = "rating:get_module", ADMIN, Daemon;
    UPDATE_MODULE = "rating:update_module", ADMIN, Daemon;
    QUOTE = "rating:quote", UNPROTECTED, Daemon;
    MODULE_CONFIG = "rating:module_config", ADMIN, Daemon;
    LIST_TENANTS = "report:list_tenants", ADMIN, Scopes;
    GET_TOTAL = "report:get_total", READER_OR_ADMIN, Scopes;
    GET_V1_SUMMARY = "report:get_summary", READER_OR_ADMIN, Scopes;
    LIST_DATA_FRAMES = "storage:list_data_frames", READER_OR_ADMIN, Scopes;
    GET_SUMMARY = "summary:get_summary", READER_OR_ADMIN, Scopes;
    GET_DATAFRAMES = "dataframes:get", READER_OR_ADMIN, Scopes;
    ADD_DATAFRAMES = "dataframes:add", ADMIN, Scopes;
    GET_SCOPES = "scope:get_state", ADMIN, Scopes;
    POST_SCOPE = "scope:post_state", ADMIN, Scopes;
    PATCH_SCOPE = "scope:patch_state", ADMIN, Scopes;
    RESET_SCOPES = "scope:reset_state", ADMIN, Scopes;
    GET_REPROCESSES = "schedule:get_task_reprocesses", ADMIN, Scopes;
    POST_REPROCESSES = "schedule:task_reprocesses", ADMIN, Scopes;
    V2_LIST_MODULES = "v2_rating:list_modules", ADMIN, Daemon;
    V2_GET_MODULE = "v2_rating:get_module", ADMIN, Daemon;
    V2_UPDATE_MODULE = "v2_rating:update_module", ADMIN, Daemon;
    GET_COMPLETENESS = "completeness:get_completeness", READER_OR_ADMIN, Scopes;
    GET_EXPLAIN = "explain:get_explain", READER_OR_ADMIN, Scopes;
    AUDIT = "ledger:audit", ADMIN, Scopes;
    VERIFY_LEDGER = "ledger:verify", ADMIN, Scopes;
    BACK_UP_LEDGER = "ledger:back_up", ADMIN, Scopes;
    GET_STATUS = "daemon:get_status", ADMIN, Daemon;
    GET_METRICS = "daemon:get_metrics", MONITORING, Daemon;
}

/// Whoever watches the daemon: a token of its own for the server that asks, or an administrator.
const MONITORING: &str = "role:monitoring or rule:context_is_admin";
