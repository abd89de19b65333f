//! The configuration keys of a server, and of what is asked there.

/// The keys of the server are repeated for each component, because serde cannot both flatten one
/// table into another and refuse unknown keys.
macro_rules! settings {
    ($(#[$attribute:meta])* $name:ident {
        $($(#[$field_attribute:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            url: String,
            username: Option<String>,
            password: Option<rated_plugin::access::Secret>,
            password_file: Option<String>,
            bearer_token: Option<rated_plugin::access::Secret>,
            bearer_token_file: Option<String>,
            ca_file: Option<String>,
            cert_file: Option<String>,
            key_file: Option<String>,
            timeout_secs: Option<u64>,
            body_size_max_mib: Option<u64>,
            $($(#[$field_attribute])* $field: $type,)*
        }

        impl $name {
            fn access(&self) -> rated_plugin::Result<rated_plugin::access::Access> {
                rated_plugin::access::Access::new(&rated_plugin::access::Server {
                    username: self.username.as_deref(),
                    password: self.password.as_ref(),
                    password_file: self.password_file.as_deref(),
                    bearer_token: self.bearer_token.as_ref(),
                    bearer_token_file: self.bearer_token_file.as_deref(),
                    ca_file: self.ca_file.as_deref(),
                    cert_file: self.cert_file.as_deref(),
                    key_file: self.key_file.as_deref(),
                    timeout_secs: self.timeout_secs,
                    body_size_max_mib: self.body_size_max_mib,
                    ..rated_plugin::access::Server::at("url", &self.url)
                })
            }
        }
    };
}
pub(crate) use settings;
