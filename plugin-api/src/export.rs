//! The macros that turn components into a plugin.

/// Makes the library a plugin: declares its components and exports `rated_plugin_entry`.
///
/// Once in the root of a crate with `crate-type = ["cdylib"]`; each list may be left out, the order
/// is fixed. `requires` names the services without which the plugin cannot work (`kv`, `http`); the
/// daemon refuses it by name when it lacks one.
///
/// Because of the exported symbol at most one crate that calls this can be linked into a program;
/// tests that want several plugins in one program load libraries, or use
/// [`declare!`](crate::declare).
#[macro_export]
macro_rules! export {
    ($($declaration:tt)*) => {
        /// The plugin's declaration, as the daemon gets it.
        pub fn plugin_decl() -> &'static $crate::raw::PluginDecl {
            $crate::declare! { $($declaration)* }
        }

        /// What the daemon looks up in the library.
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn rated_plugin_entry() -> *const $crate::raw::PluginDecl {
            plugin_decl()
        }
    };
}

/// The `&'static PluginDecl` of some components, without the exported symbol: for tests that embed
/// a plugin.
///
/// Takes the same lists as [`export!`](crate::export).
#[macro_export]
macro_rules! declare {
    (
        $(collectors: [$($collector:ty),* $(,)?] $(,)?)?
        $(fetchers: [$($fetcher:ty),* $(,)?] $(,)?)?
        $(rating_modules: [$($rating:ty),* $(,)?] $(,)?)?
        $(requires: [$($feature:ident),* $(,)?] $(,)?)?
    ) => {{
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin must be built with panic = \"unwind\": a panic would end the daemon"
        );
        const COMPONENTS: &[*const $crate::raw::ComponentDecl] = &[
            $($($crate::private::Tables::<$collector>::COLLECTOR,)*)?
            $($($crate::private::Tables::<$fetcher>::FETCHER,)*)?
            $($($crate::private::Tables::<$rating>::RATING,)*)?
        ];
        static DECLARATION: $crate::raw::PluginDecl = $crate::private::plugin_decl(
            ::core::env!("CARGO_PKG_NAME"),
            ::core::env!("CARGO_PKG_VERSION"),
            0 $($(| $crate::feature!($feature))*)?,
            COMPONENTS,
        );
        &DECLARATION
    }};
}

/// The bit of a service named in `requires`.
#[doc(hidden)]
#[macro_export]
macro_rules! feature {
    (kv) => {
        $crate::raw::FEATURE_KV
    };
    (http) => {
        $crate::raw::FEATURE_HTTP
    };
    ($other:ident) => {
        ::core::compile_error!("services are `kv` and `http`")
    };
}
