use std::sync::Arc;

use chrono::{DateTime, Utc};
use rated_plugin::AsOf;

use super::{Chain, Rating, RatingError, RatingModule};
use crate::ledger::RatedBy;

/// The chain that rated something before: the same modules in the same order, with the rules that
/// they had then, from the same libraries as far as those are still there.
#[derive(Debug, Clone)]
pub struct KeptChain {
    pub chain: Arc<Chain>,
    /// What the ledger says.
    pub kept: Arc<[RatedBy]>,
}

impl KeptChain {
    /// Whether each module is from the very library that rated: only then do equal prices prove
    /// anything.
    pub fn is_of_same_libraries(&self) -> bool {
        let used = self.chain.rated_by();
        self.kept.iter().zip(used.iter()).all(|(kept, used)| kept.library == used.library)
    }

    /// Whether each module is told by `rated.toml` what it was told then, as far as that was kept:
    /// only then do other prices prove anything.
    pub fn is_of_same_configuration(&self) -> bool {
        let used = self.chain.rated_by();
        let is_same = |(kept, used): (&RatedBy, &RatedBy)| {
            kept.config.is_empty() || kept.config == used.config
        };
        self.kept.iter().zip(used.iter()).all(is_same)
    }
}

impl Rating {
    /// The chain that the ledger kept beside rows, for a period that begins at `at`. A module that
    /// is not there is an error, whatever library is. Blocks when a library is loaded for it: for
    /// threads that may.
    pub async fn chain_as_kept(
        &self,
        at: DateTime<Utc>,
        kept: &Arc<[RatedBy]>,
    ) -> Result<KeptChain, RatingError> {
        let set = self.plugins.modules_for_replay();
        let (mut raters, mut used) = (Vec::new(), Vec::new());
        for by in kept.iter() {
            let newest = set.modules.iter().find(|module| module.name() == by.module);
            let is_it = |module: &&Arc<dyn RatingModule>| module.library_sha256() == by.library;
            let module = match newest.filter(is_it) {
                Some(module) => Some(Arc::clone(module)),
                None => match self.plugins.kept_module(&by.module, &by.library) {
                    Some(module) => Some(module),
                    None => newest.map(Arc::clone),
                },
            };
            let module = module.ok_or_else(|| RatingError::NoModule(by.module.clone()))?;
            let rater = module
                .prepare(AsOf { at, revision: by.revision })
                .await
                .map_err(|failure| RatingError::Call { module: by.module.clone(), failure })?;
            raters.push((by.module.clone(), rater));
            let library = module.library_sha256().to_owned();
            let config = module.config_sha256().to_owned();
            used.push(RatedBy { library, config, ..by.clone() });
        }
        let chain = Arc::new(Chain { raters, rated_by: used.into() });
        Ok(KeptChain { chain, kept: Arc::clone(kept) })
    }
}
