//! The bake that follows the create of a VM whose stack has `vm.bake`.

use std::time::Duration;

use goloo::actions::{BakeResult, PlannedCreate};
use goloo::stack::Found;
use goloo_engine::Baked;
use goloo_model::events::{Event, Events};
use goloo_model::provider_id::ProviderId;
use goloo_model::spec::{BakeKind, ResolvedStack};

use crate::app::App;
use crate::error::CliError;
use crate::output::{bytes, diagnostic_line};

/// As for `goloo bake`.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// A stack that is to be baked once a VM of it is ready.
pub struct LaterBake<'f> {
    found: &'f Found,
    stack: ResolvedStack,
    provider: ProviderId,
    kind: BakeKind,
}

impl<'f> LaterBake<'f> {
    /// Of a stack, if it says so.
    pub fn of(found: &'f Found, stack: &ResolvedStack, provider: ProviderId) -> Option<Self> {
        Some(Self { found, stack: stack.clone(), provider, kind: stack.bake? })
    }

    /// Whether there is no image yet from which the VM can be made.
    pub fn is_needed(&self, planned: &PlannedCreate) -> bool {
        planned.plan.machine.baked.is_none()
    }

    /// Bakes the stack. The VM is ready, so what goes wrong here is a warning.
    pub fn carry_out(self, app: &App) {
        let name = self.stack.stack.clone();
        app.ui.note(&format!(
            "baking {name} (vm.bake), so that the next VM begins with what is installed; you can interrupt this, and the VM stays as it is"
        ));
        let left = format!(
            "the bake of {name} may be unfinished: run `goloo list`, then `goloo resume NAME` to continue it, or `goloo delete NAME`"
        );
        let memory = self.kind == BakeKind::Memory && self.can_keep_memory(app);
        let baked =
            app.act(LIMIT, &left, |run| app.session.bake(self.found, self.stack, self.provider, memory, run));
        match baked {
            Ok(BakeResult::AlreadyBaked(_)) => {}
            Ok(BakeResult::Ended(Baked::Kept { image, .. })) => {
                app.ui.note(&format!("baked {name} ({}); `goloo create` uses it from now on", bytes(image.size)));
            }
            Ok(BakeResult::Ended(Baked::NotGood(_))) => app.ui.warning(&format!(
                "{name} isn't baked, since its provisioning failed the second time; `goloo bake {name}` shows why"
            )),
            Err(error) => warn(app, &name, &app.suggest(error)),
        }
    }
}

impl LaterBake<'_> {
    fn can_keep_memory(&self, app: &App) -> bool {
        let checked = app.session.check_bake_memory(&self.stack, self.provider);
        if let Err(error) = &checked {
            app.ui.note(&format!("only the disk is baked: {error}"));
        }
        checked.is_ok()
    }
}

fn warn(app: &App, name: &str, error: &CliError) {
    app.ui.warning(&format!("{name} isn't baked: {}", error.in_one_line()));
    error.problems.iter().for_each(|problem| app.ui.say(&format!("  {}", diagnostic_line(problem))));
    app.ui.event(Event::Hint(error.hint.as_str().into()));
}
