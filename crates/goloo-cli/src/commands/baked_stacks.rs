//! Whether stacks have changed since images were baked of them.

use std::collections::{BTreeMap, BTreeSet};

use goloo::registry::Registry;
use goloo_model::provider_id::ProviderId;
use goloo_model::record::Digest;

use super::remembered;
use crate::app::App;

/// The keys of the images that would be baked of these stacks now, of those for which it can be told.
pub(super) fn keys(app: &App, provider: ProviderId, stacks: BTreeSet<&str>) -> BTreeMap<String, Digest> {
    if stacks.is_empty() {
        return BTreeMap::new();
    }
    let known = remembered::stacks(app, &Registry::new(&app.session.paths.state));
    let key = |stack: &str| {
        let found = app.session.find_stack(stack, None, &known).ok()?;
        let resolved = found.resolve(&app.session, stack, None).ok()?;
        app.session.bake_key(&resolved, provider).ok()?
    };
    stacks.into_iter().filter_map(|stack| Some((stack.to_owned(), key(stack)?))).collect()
}

/// The word in tables.
pub(super) fn word(changed: Option<bool>) -> String {
    match changed {
        Some(true) => "yes",
        Some(false) => "no",
        None => "",
    }
    .to_owned()
}
