//! The plugin host and the cycle as the API sees them.

use std::io;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rated_plugin::{Error, Method, Request, Response};

use super::backend::{CycleReport, CycleView, ModuleRoute, Plugins};
use super::dates;
use super::failure::chain;
use crate::cycle::{Cycle, Trouble};
use crate::plugin::{KeptLibrary, PathMatch, PluginHost};
use crate::rating::CallFailure;

impl Plugins for PluginHost {
    fn reload(&self) -> Result<(), String> {
        PluginHost::reload(self).map(drop).map_err(|error| chain(&error))
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

    fn library_sha256(&self, module: &str) -> Option<String> {
        self.generation().module(module).map(|module| module.library_sha256().to_owned())
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
        async move { Ok(found?.handle(request).await?) }.boxed()
    }

    fn api_schemas(&self) -> Vec<(String, String)> {
        let generation = self.generation();
        let modules = generation.modules().filter(|module| module.serves_api());
        modules.map(|module| (module.name().to_owned(), module.api_schema().to_owned())).collect()
    }

    fn has_collector(&self, name: &str) -> bool {
        self.generation().collector(name).is_some()
    }

    fn kept_libraries(&self, sha256s: &[String]) -> Vec<KeptLibrary> {
        PluginHost::kept_libraries(self, sha256s)
    }

    fn read_kept_library(
        &self,
        sha256: &str,
        offset: u64,
        size: usize,
    ) -> Option<io::Result<Vec<u8>>> {
        PluginHost::read_kept_library(self, sha256, offset, size)
    }
}

impl CycleView for Cycle {
    fn report(&self) -> CycleReport {
        let status = self.status();
        CycleReport {
            last_begin: status.begin,
            last_end: status.end,
            furthest_behind: status.furthest_behind,
            troubles: status.troubles.iter().map(trouble_text).collect(),
        }
    }

    fn wake(&self) {
        Cycle::wake(self);
    }
}

fn trouble_text(trouble: &Trouble) -> String {
    let Trouble { subject, since, attempts, reason } = trouble;
    let since = dates::zoned(*since);
    format!("{subject}: {reason} (since {since}, {attempts} attempts)")
}
