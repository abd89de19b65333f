//! The plugin host as the API sees it.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rated_plugin::{Error, Method, Request, Response};

use super::backend::{ModuleRoute, Plugins};
use crate::plugin::{PathMatch, PluginHost};
use crate::rating::CallFailure;

impl Plugins for PluginHost {
    fn reload(&self) -> Result<(), String> {
        PluginHost::reload(self).map(drop).map_err(|error| error.to_string())
    }

    fn find_route(&self, module: &str, method: Method, path: &str) -> ModuleRoute {
        let generation = self.generation();
        let Some(module) = generation.module(module) else { return ModuleRoute::NoSuchModule };
        if !module.serves_api() {
            return ModuleRoute::NotConfigurable;
        }
        match module.allows(method, path) {
            PathMatch::Allowed => ModuleRoute::Allowed,
            PathMatch::WrongMethod => ModuleRoute::WrongMethod,
            PathMatch::NotFound => ModuleRoute::NoSuchPath,
        }
    }

    fn handle(
        &self,
        module: &str,
        request: Request,
    ) -> BoxFuture<'_, Result<Response, CallFailure>> {
        // A reload may have taken the module away since its route was found.
        let found = self.generation().module(module).cloned();
        let found = found.ok_or_else(|| {
            Error::unavailable(format!("rating module `{module}` is not loaded any more"))
        });
        async move {
            let response = found?.handle(request).await;
            response.map_err(|error| CallFailure { error: error.error, stopped: error.stopped })
        }
        .boxed()
    }

    fn has_collector(&self, name: &str) -> bool {
        self.generation().collector(name).is_some()
    }
}
