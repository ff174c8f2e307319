//! Words hints: this is the only place that knows the command for an operation that a library proposes.

use goloo_model::hint::{Hint, NextStep};
use goloo_model::provider::Observation;
use goloo_model::provider_id::ProviderId;
use goloo_sys::private::in_shell;

/// A hint as a line of its own: a command alone stands there as it is, to be copied.
pub fn text(hint: &Hint) -> String {
    hint.only_step().map_or_else(|| in_sentence(hint), command)
}

/// A hint as a part of a sentence.
pub fn in_sentence(hint: &Hint) -> String {
    hint.render(|step| format!("`{}`", command(step)))
}

/// Why a machine's state is what it is, and what to do about it.
pub fn reason(live: &Observation) -> Option<String> {
    let reason = live.reason.as_ref()?;
    Some(if live.hint.is_empty() { reason.clone() } else { format!("{reason}; {}", in_sentence(&live.hint)) })
}

/// The command line for an operation. Words in capitals are placeholders for what the user has to choose.
fn command(step: &NextStep) -> String {
    match step {
        NextStep::Adopt { name, provider, id } => {
            let id = id.as_ref().map_or_else(String::new, |id| format!(" --id {}", in_shell(id)));
            format!("goloo adopt {name} --provider {provider}{id}")
        }
        NextStep::ArchiveShow(id) => format!("goloo archive show {id}"),
        NextStep::ConfigSchema => "goloo config schema".to_owned(),
        NextStep::ConfigValidate => "goloo config validate".to_owned(),
        NextStep::CopyFrom(vm) => format!("goloo cp {vm}:PATH ."),
        NextStep::CreateInAws { stack, name } => {
            let stack = stack.as_ref().map_or_else(|| "NAME".to_owned(), in_shell);
            let name = name.as_ref().map_or_else(String::new, |name| format!(" --as {name}"));
            format!("goloo create {stack}{name} --aws")
        }
        NextStep::CreateDryRun(provider) => dry_run(*provider),
        NextStep::Delete(vm) => format!("goloo delete {vm}"),
        NextStep::DeleteForget(vm) => format!("goloo delete --forget {vm}"),
        NextStep::DnsRollback(vm) => format!("goloo dns rollback {vm}"),
        NextStep::DnsShow(vm) => format!("goloo dns show {vm}"),
        NextStep::DnsSwap { to, from, force } => {
            let to = to.as_ref().map_or("OTHER", |vm| vm.as_str());
            let from = from.as_ref().map_or_else(String::new, |vm| format!(" --from {vm}"));
            format!("goloo dns swap {to}{from}{}", if *force { " --force" } else { "" })
        }
        NextStep::Doctor => "goloo doctor".to_owned(),
        NextStep::ImageBuild(image) => format!("sudo -E goloo image build {}", in_shell(image)),
        NextStep::ListInAws => "goloo list --aws".to_owned(),
        NextStep::Logs(vm) => format!("goloo logs {vm}"),
        NextStep::Migrate => "goloo migrate".to_owned(),
        NextStep::Reboot(vm) => format!("goloo exec {vm} -- sudo reboot"),
        NextStep::Recreate { vm, name } => format!("goloo recreate {vm} --as {name}"),
        NextStep::Rename { vm, to } => format!("goloo rename {vm} {to}"),
        NextStep::Restart(vm) => format!("goloo restart {vm}"),
        NextStep::Resume(vm) => format!("goloo resume {vm}"),
        NextStep::SettingsSet { key, value } => {
            format!("goloo settings set {} {}", in_shell(key), in_shell(value))
        }
        NextStep::Start(vm) => format!("goloo start {vm}"),
        NextStep::Reprovision(vm) => format!("goloo apply {vm} --reprovision"),
        NextStep::StateMove => "goloo state move ADDRESS".to_owned(),
        NextStep::StatePushOlder => "goloo state push FILE --force".to_owned(),
        NextStep::StateRestore => "goloo state restore FILE".to_owned(),
        NextStep::Status(vm) => format!("goloo status {vm}"),
        NextStep::Stop { vm, force: false } => format!("goloo stop {vm}"),
        NextStep::Stop { vm, force: true } => format!("goloo stop --force {vm}"),
        NextStep::Unprotect(vm) => format!("goloo unprotect {vm}"),
        NextStep::Tags(vm) => format!("goloo tag {vm}"),
        NextStep::Wait(vm) => format!("goloo wait {vm}"),
    }
}

fn dry_run(provider: ProviderId) -> String {
    format!("goloo create NAME --provider {provider} --dry-run --json")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsString;

    use goloo_model::name::ArchiveId;
    use goloo_testkit::samples::name;

    use super::*;

    /// One or more of each operation. The match makes the compiler ask for those that are new.
    fn all() -> Vec<NextStep> {
        let (web, other) = (|| name("web"), || name("web-2"));
        let all = vec![
            NextStep::Adopt { name: web(), provider: ProviderId::known("multipass"), id: None },
            NextStep::Adopt {
                name: web(),
                provider: ProviderId::known("aws"),
                id: Some("arn:aws:cloudformation:eu-west-1:123456789012:stack/web/1".to_owned()),
            },
            NextStep::ArchiveShow(ArchiveId::parse("web-20250115T103000Z-3f9c").unwrap()),
            NextStep::ConfigSchema,
            NextStep::ConfigValidate,
            NextStep::CopyFrom(web()),
            NextStep::CreateInAws { stack: None, name: None },
            NextStep::CreateInAws { stack: Some("a stack".to_owned()), name: Some(other()) },
            NextStep::CreateDryRun(ProviderId::known("multipass")),
            NextStep::Delete(web()),
            NextStep::DeleteForget(web()),
            NextStep::DnsRollback(web()),
            NextStep::DnsShow(web()),
            NextStep::DnsSwap { to: None, from: Some(web()), force: false },
            NextStep::DnsSwap { to: Some(web()), from: None, force: true },
            NextStep::Doctor,
            NextStep::ImageBuild("debian-12".to_owned()),
            NextStep::ListInAws,
            NextStep::Logs(web()),
            NextStep::Migrate,
            NextStep::Reboot(web()),
            NextStep::Recreate { vm: web(), name: other() },
            NextStep::Rename { vm: other(), to: web() },
            NextStep::Restart(web()),
            NextStep::Resume(web()),
            NextStep::SettingsSet { key: "stateBackend.region".to_owned(), value: "eu-west-1".to_owned() },
            NextStep::Start(web()),
            NextStep::Reprovision(web()),
            NextStep::StateMove,
            NextStep::StatePushOlder,
            NextStep::StateRestore,
            NextStep::Status(web()),
            NextStep::stop(&web()),
            NextStep::force_stop(&web()),
            NextStep::Unprotect(web()),
            NextStep::Tags(web()),
            NextStep::Wait(web()),
        ];
        for step in &all {
            match step {
                NextStep::Adopt { .. }
                | NextStep::ArchiveShow(_)
                | NextStep::ConfigSchema
                | NextStep::ConfigValidate
                | NextStep::CopyFrom(_)
                | NextStep::CreateInAws { .. }
                | NextStep::CreateDryRun(_)
                | NextStep::Delete(_)
                | NextStep::DeleteForget(_)
                | NextStep::DnsRollback(_)
                | NextStep::DnsShow(_)
                | NextStep::DnsSwap { .. }
                | NextStep::Doctor
                | NextStep::ImageBuild(_)
                | NextStep::ListInAws
                | NextStep::Logs(_)
                | NextStep::Migrate
                | NextStep::Reboot(_)
                | NextStep::Recreate { .. }
                | NextStep::Rename { .. }
                | NextStep::Restart(_)
                | NextStep::Resume(_)
                | NextStep::SettingsSet { .. }
                | NextStep::Start(_)
                | NextStep::Reprovision(_)
                | NextStep::StateMove
                | NextStep::StatePushOlder
                | NextStep::StateRestore
                | NextStep::Status(_)
                | NextStep::Stop { .. }
                | NextStep::Unprotect(_)
                | NextStep::Tags(_)
                | NextStep::Wait(_) => {}
            }
        }
        all
    }

    #[test]
    fn every_proposed_command_is_a_valid_command_line() {
        for step in all() {
            let line = command(&step);
            let words = shlex::split(line.trim_start_matches("sudo -E ")).unwrap();
            let argv: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            assert_eq!(argv[0], "goloo", "{line}");
            if let Err(error) = crate::args::parse(&argv) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn a_command_stands_in_backticks_within_a_sentence_and_alone_without() {
        let status = || NextStep::Status(name("web"));
        assert_eq!(text(&status().into()), "goloo status web");
        assert_eq!(in_sentence(&status().into()), "`goloo status web`");
        let hint = Hint::from("run ").step(status()).text(", then run the command again");
        assert_eq!(text(&hint), "run `goloo status web`, then run the command again");
        assert_eq!(text(&"update goloo".into()), "update goloo");
    }

    #[test]
    fn a_value_is_one_word_for_a_shell() {
        let value = "x; touch /tmp/y".to_owned();
        let step = NextStep::SettingsSet { key: "stateBackend.region".to_owned(), value };
        assert_eq!(command(&step), "goloo settings set stateBackend.region 'x; touch /tmp/y'");
    }

    #[test]
    fn a_reason_is_followed_by_its_hint() {
        let mut live = Observation::unknown("nothing answers");
        assert_eq!(reason(&live).unwrap(), "nothing answers");
        live.hint = NextStep::Doctor.into();
        assert_eq!(reason(&live).unwrap(), "nothing answers; `goloo doctor`");
    }
}
