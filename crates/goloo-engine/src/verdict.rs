//! The result of a machine's provisioning: the guest's own report, and its interpretation.
//!
//! `cloud-init status` alone is unreliable: a document that cloud-init can't read is dropped entirely
//! while the status is "done". The actual events are in its log.

use std::collections::BTreeSet;

use serde::Deserialize;

use goloo_model::guest::{Output, excerpt};
use goloo_model::record::{Provisioning, ProvisioningResult, Record};
use goloo_model::time::Timestamp;

/// Sets `$s` to the prefix of commands that need root.
pub const AS_ROOT: &str = "PATH=$PATH:/usr/local/bin:/usr/bin:/bin; s=; if sudo -n true 2>/dev/null; then s='sudo -n'; \
    elif doas -n true 2>/dev/null; then s='doas -n'; fi; ";

/// The result of provisioning, or why it is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The result as one value.
    pub result: ProvisioningResult,
    /// Errors, ignored parts, warnings, or why there is no answer; at most [`ERRORS_MAX`] lines of at most
    /// [`LINE_MAX`](goloo_model::guest::LINE_MAX) characters, since the record stores them.
    pub errors: Vec<String>,
    /// The end of the provisioning log, or of the console, if something failed.
    pub log: Vec<String>,
    /// Why the login user can't log in, if the machine reports it.
    pub login_problem: Option<String>,
    /// Whether the result was reported by the machine itself.
    pub is_reported: bool,
}

impl Verdict {
    /// Saves the result of the provisioning in the VM's record.
    pub(crate) fn save_to(&self, record: &mut Record) {
        record.provisioning = Some(self.provisioning());
        self.save_login_to(record);
    }

    /// Saves whether the login user can log in, if the machine reported it. Returns whether that changed.
    pub(crate) fn save_login_to(&self, record: &mut Record) -> bool {
        let Some(ssh) = record.ssh.as_mut().filter(|_| self.is_reported) else { return false };
        let is_changed = ssh.login_problem != self.login_problem;
        ssh.login_problem.clone_from(&self.login_problem);
        is_changed
    }

    /// The result as stored in the record.
    pub fn provisioning(&self) -> Provisioning {
        let known = self.result != ProvisioningResult::Unknown;
        Provisioning {
            result: self.result,
            finished_at: known.then(Timestamp::now),
            errors: self.errors.clone(),
            extra: serde_json::Map::new(),
        }
    }

    /// The history's text about a provisioning that had problems.
    pub(super) fn trouble(&self) -> Option<String> {
        (!self.result.is_good()).then(|| format!("provisioning {}", self.result))
    }

    pub(super) fn unknown(reason: String) -> Self {
        Self::of(ProvisioningResult::Unknown, vec![reason])
    }

    pub(super) fn ended(log: Vec<String>) -> Self {
        let reason = "the machine powered off before its provisioning finished".to_owned();
        Self { log, ..Self::of(ProvisioningResult::Ended, vec![reason]) }
    }

    /// Of a machine that continued from the memory of one that was provisioned without errors, with what then failed.
    pub(super) fn of_copy(problems: Vec<String>) -> Self {
        let result = if problems.is_empty() { ProvisioningResult::Done } else { ProvisioningResult::Failed };
        Self { is_reported: true, ..Self::of(result, problems) }
    }

    fn of(result: ProvisioningResult, errors: Vec<String>) -> Self {
        Self { result, errors: bounded(&errors), log: Vec::new(), login_problem: None, is_reported: false }
    }
}

/// The maximum number of errors, including the line that counts the omitted ones.
pub const ERRORS_MAX: usize = 200;
/// Their maximum total size in bytes; each is also truncated individually.
const ERRORS_SIZE: usize = 64 << 10;

/// A guest's errors up to the limits, and the number of omitted ones.
fn bounded(errors: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut size = 0;
    for error in errors {
        let error = excerpt(error);
        size += error.len();
        if kept.len() + 1 >= ERRORS_MAX || size > ERRORS_SIZE {
            break;
        }
        kept.push(error);
    }
    let left_out = errors.len() - kept.len();
    if left_out > 0 {
        kept.push(format!("... and {left_out} more"));
    }
    kept
}

/// Parses the guest's report of its provisioning, line by line. It is preceded by the provisioning log.
#[derive(Debug, Default)]
pub struct GuestReport {
    section: Option<Section>,
    /// The number of bytes so far.
    size: usize,
    status: String,
    /// Whether cloud-init ended without a result.
    incomplete: bool,
    log: Vec<String>,
    configure: Vec<String>,
    sshd: Vec<String>,
    login: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Status,
    Log,
    Configure,
    Sshd,
    Login,
    End,
}

/// The maximum number of bytes that are read of a report.
const REPORT_MAX: usize = 1 << 20;
/// The maximum number of lines kept per section except the status; the guest's own script sends no more.
const ROWS_MAX: usize = 200;

impl Section {
    fn of(line: &str) -> Option<Self> {
        Some(match line {
            "@goloo:status@" => Self::Status,
            "@goloo:log@" => Self::Log,
            "@goloo:configure@" => Self::Configure,
            "@goloo:sshd@" => Self::Sshd,
            "@goloo:login@" => Self::Login,
            "@goloo:end@" => Self::End,
            _ => return None,
        })
    }
}

/// The command that waits in the guest until provisioning has finished, and then reports. With `follow` the
/// provisioning log is streamed first.
pub fn report_command(follow: bool, login: &str) -> String {
    let is_plain = login.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let login = if is_plain { login } else { "" };
    let follow = if follow { "yes" } else { "" };
    let report = goloo_cloudinit::squeezed(include_str!("report.sh"));
    format!("follow={follow}; login={login}\n{AS_ROOT}\n{report}")
}

impl GuestReport {
    /// Parses a line; returns it if it belongs to the provisioning log.
    pub fn take<'l>(&mut self, line: &'l str) -> Option<&'l str> {
        if let Some(section) = Section::of(line) {
            // The report was restarted on a new connection.
            if section == Section::Status {
                *self = Self::default();
            }
            self.section = Some(section);
            return None;
        }
        if self.section.is_some() {
            self.size = self.size.saturating_add(line.len() + 1);
            if self.size > REPORT_MAX {
                return None;
            }
        }
        if line == "@goloo:incomplete@" && self.section == Some(Section::Status) {
            self.incomplete = true;
            return None;
        }
        let rows = match self.section {
            None => return Some(line),
            Some(Section::End) => return None,
            Some(Section::Status) => {
                self.status.push_str(line);
                self.status.push('\n');
                return None;
            }
            Some(Section::Log) => &mut self.log,
            Some(Section::Configure) => &mut self.configure,
            Some(Section::Sshd) => &mut self.sshd,
            Some(Section::Login) => &mut self.login,
        };
        if !line.trim().is_empty() && rows.len() < ROWS_MAX {
            rows.push(excerpt(line));
        }
        None
    }

    /// The resulting verdict. `output` is the result of the command.
    pub fn verdict(&self, output: &Output) -> Verdict {
        if output.status == 64 {
            return Verdict::unknown("the image has no cloud-init".to_owned());
        }
        if self.size > REPORT_MAX {
            return Verdict::unknown(format!("the machine's report is larger than {REPORT_MAX} bytes"));
        }
        // Other programs may print something before it.
        let json = self.status.find('{').map_or("", |start| &self.status[start..]);
        let Ok(status) = serde_json::from_str::<Status>(json) else {
            let said = [self.status.trim(), output.stderr.trim()].join(" ");
            return Verdict::unknown(format!("`cloud-init status` printed: {}", said.trim()));
        };
        let is_over = matches!(status.status.as_str(), "done" | "error" | "disabled") || self.incomplete;
        if !is_over && !self.has_unfinished_stage(&status) && status.errors.is_empty() {
            return Verdict::unknown(format!("cloud-init is \"{}\": {}", status.status, status.detail));
        }
        let dropped = self.messages(is_dropped);
        let failed = self.failures(&status);
        let warnings = self.warnings(&status);
        let mut verdict = if !dropped.is_empty() {
            Verdict::of(ProvisioningResult::Dropped, [dropped, failed].concat())
        } else if !failed.is_empty() {
            Verdict::of(ProvisioningResult::Failed, failed)
        } else if !warnings.is_empty() {
            Verdict::of(ProvisioningResult::DoneWithWarnings, warnings)
        } else {
            Verdict::of(ProvisioningResult::Done, Vec::new())
        };
        verdict.login_problem = self.login.first().cloned();
        verdict.is_reported = true;
        verdict
    }

    /// Messages of one kind in cloud-init's log, without duplicates.
    fn messages(&self, is_kind: fn(&str) -> bool) -> Vec<String> {
        let messages = self.log.iter().map(|line| message_of(line)).filter(|message| is_kind(message));
        let mut known = BTreeSet::new();
        messages.filter(|message| known.insert(*message)).map(str::to_owned).collect()
    }

    /// Whether a stage exited without recording its end: the guest waits for cloud-init's result before it reports,
    /// so a complete report that still says "running" means that.
    fn has_unfinished_stage(&self, status: &Status) -> bool {
        status.status == "running" && !self.incomplete && self.section == Some(Section::End)
    }

    fn failures(&self, status: &Status) -> Vec<String> {
        let mut failures = status.errors.clone();
        failures.extend(self.messages(|message| message.contains("Boothooks script")));
        if failures.is_empty() && status.status == "error" {
            failures.push(status.detail.clone());
        }
        if failures.is_empty() {
            // A command may have terminated cloud-init itself, for which 25.1 reports no error.
            let stages = self.messages(|message| message.starts_with(STAGE));
            failures.extend(stages.iter().filter_map(|line| failed_stage(line)));
        }
        let exited = if self.incomplete {
            Some("cloud-init exited before it finished")
        } else {
            self.has_unfinished_stage(status).then_some("a stage of cloud-init exited before it finished")
        };
        if let Some(exited) = exited {
            failures.insert(0, exited.to_owned());
            failures.extend(self.messages(|message| message.contains("failed stage")));
        }
        // The script's own message is more specific than cloud-init's.
        match self.configure.first().map(String::as_str) {
            None | Some("0") => {}
            Some(code) if code.bytes().all(|byte| byte.is_ascii_digit()) => {
                let why = self.configure.get(1).map_or_else(String::new, |why| format!(": {why}"));
                failures.insert(0, format!("configure.sh failed with exit status {code}{why}"));
            }
            Some(_) => failures.insert(0, "configure.sh did not finish".to_owned()),
        }
        failures
    }

    fn warnings(&self, status: &Status) -> Vec<String> {
        let said = status.recoverable_errors.iter().filter(|(level, _)| *level != "DEPRECATED");
        let said = said.flat_map(|(_, messages)| messages).filter(|message| !is_noise(message));
        let mut warnings: Vec<String> = said.cloned().collect();
        warnings = bounded(&warnings);
        for message in self.messages(|message| !is_noise(message)) {
            // cloud-init repeats parts of its log in its status.
            if !warnings.iter().any(|known| known.contains(&message) || message.contains(known.as_str())) {
                warnings.push(message);
            }
        }
        if let Some(reason) = self.sshd.first() {
            warnings.push(format!("sshd can't use /etc/ssh/sshd_config and is running without it: {reason}"));
        }
        if let Some(reason) = self.login.first() {
            warnings.push(format!("the login user can't log in: {reason}"));
        }
        warnings
    }
}

/// A line of cloud-init's log without its time and module.
fn message_of(line: &str) -> &str {
    line.split_once("]: ").map_or(line, |(_, message)| message)
}

/// Whether cloud-init reports that it ignored the document or a part of it.
fn is_dropped(message: &str) -> bool {
    // The same messages in cloud-init 22.4 and 25.1.
    const WORDS: [&str; 7] = [
        "Failed loading yaml blob",
        "Failed at merging in cloud config part",
        "Ignoring jinja template",
        "Failed calling handler",
        "Failed at registering python file",
        "Unhandled unknown content-type",
        "Unhandled non-multipart (text/x-not-multipart) userdata",
    ];
    // An empty document has nothing to drop; for an unreadable one the log has a more specific message.
    WORDS.iter().any(|word| message.contains(word)) && !message.ends_with("empty cloud config")
}

/// The prefix of cloud-init's log message at the end of a stage.
const STAGE: &str = "finish: ";

fn failed_stage(line: &str) -> Option<String> {
    let (stage, _) = line.strip_prefix(STAGE)?.split_once(": FAIL")?;
    Some(format!("cloud-init's stage {stage} failed"))
}

/// Messages without significance: 22.4 calls every document invalid; and deprecated forms work.
fn is_noise(message: &str) -> bool {
    const WORDS: [&str; 5] = [
        STAGE,
        "Invalid cloud-config provided",
        "Deprecated cloud-config provided",
        "DEPRECAT",
        "is deprecated",
    ];
    WORDS.iter().any(|word| message.contains(word))
}

/// The relevant part of cloud-init's JSON status.
#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    recoverable_errors: std::collections::BTreeMap<String, Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: i32) -> Output {
        Output { status, stdout: String::new(), stderr: "boom".to_owned() }
    }

    fn report(text: &str) -> GuestReport {
        let mut report = GuestReport::default();
        for line in text.lines() {
            report.take(line);
        }
        report
    }

    fn verdict(status: &str, rest: &str) -> Verdict {
        report(&format!("@goloo:status@\n{status}\n{rest}")).verdict(&output(0))
    }

    const DONE: &str = r#"{"status":"done","errors":[],"recoverable_errors":{}}"#;

    #[test]
    fn the_error_lists_decide_the_result_rather_than_the_exit_status() {
        assert_eq!(verdict(DONE, "").result, ProvisioningResult::Done);
        let recovered = r#"{"status":"done","errors":[],"recoverable_errors":{"WARNING":["old key"]}}"#;
        let warned = verdict(recovered, "");
        assert_eq!(warned.result, ProvisioningResult::DoneWithWarnings);
        assert_eq!(warned.errors, ["old key"]);
        let failed = r#"{"status":"error","errors":["('scripts_user', RuntimeError())"]}"#;
        assert_eq!(verdict(failed, "").result, ProvisioningResult::Failed);
        let old = r#"{"status":"done","errors":["x"]}"#;
        assert_eq!(verdict(old, "").result, ProvisioningResult::Failed);
    }

    #[test]
    fn a_document_ignored_by_cloud_init_is_reported_as_dropped() {
        let log = "@goloo:log@\n2026-11-28 10:00:00,000 - util.py[WARNING]: Failed loading yaml blob. unhashable\n@goloo:end@\n";
        let dropped = verdict(DONE, log);
        assert_eq!(dropped.result, ProvisioningResult::Dropped);
        assert_eq!(dropped.errors, ["Failed loading yaml blob. unhashable"]);
    }

    #[test]
    fn a_failed_configure_sh_fails_the_provisioning() {
        let failed = verdict(DONE, "@goloo:configure@\n3\n@goloo:end@\n");
        assert_eq!(failed.result, ProvisioningResult::Failed);
        assert_eq!(failed.errors, ["configure.sh failed with exit status 3"]);
        assert_eq!(verdict(DONE, "@goloo:configure@\n0\n").result, ProvisioningResult::Done);
    }

    #[test]
    fn schema_messages_are_ignored_and_other_warnings_are_reported() {
        let log = "@goloo:log@\nx - schema.py[WARNING]: Invalid cloud-config provided: x\n";
        assert_eq!(verdict(DONE, log).result, ProvisioningResult::Done);
        let log = "@goloo:log@\nx - cc_y.py[WARNING]: no such host\nx - cc_y.py[WARNING]: no such host\n";
        assert_eq!(verdict(DONE, log).errors, ["no such host"]);
    }

    #[test]
    fn a_missing_login_user_is_a_warning() {
        let warned = verdict(DONE, "@goloo:login@\nthere is no such user\n@goloo:end@\n");
        assert_eq!(warned.result, ProvisioningResult::DoneWithWarnings);
        assert_eq!(warned.login_problem.as_deref(), Some("there is no such user"));
    }

    #[test]
    fn a_stage_that_failed_without_an_error_fails_the_provisioning() {
        let log =
            "@goloo:log@\nx - handlers.py[DEBUG]: finish: modules-final: FAIL: running modules for final\n";
        assert_eq!(verdict(DONE, log).errors, ["cloud-init's stage modules-final failed"]);
        let known = r#"{"status":"error","errors":["('scripts_user', RuntimeError())"]}"#;
        assert_eq!(verdict(known, log).errors, ["('scripts_user', RuntimeError())"]);
    }

    #[test]
    fn a_stage_without_an_end_fails_the_provisioning() {
        let running = r#"{"status":"running","errors":[],"detail":"DataSourceNoCloud"}"#;
        let log = "@goloo:log@\nx - util.py[WARNING]: failed stage init\n@goloo:configure@\n0\n";
        let failed = verdict(running, &format!("{log}@goloo:end@\n"));
        assert_eq!(failed.result, ProvisioningResult::Failed);
        assert_eq!(failed.errors, ["a stage of cloud-init exited before it finished", "failed stage init"]);
        // Without its end, the report says nothing about cloud-init.
        assert_eq!(verdict(running, log).result, ProvisioningResult::Unknown);
    }

    #[test]
    fn a_missing_report_is_unknown_with_the_reason() {
        assert_eq!(report("").verdict(&output(64)).errors, ["the image has no cloud-init"]);
        let verdict = report("@goloo:status@\nTraceback").verdict(&output(1));
        assert_eq!(verdict.result, ProvisioningResult::Unknown);
        assert!(verdict.errors[0].contains("Traceback boom"), "{verdict:?}");
    }

    fn size(verdict: &Verdict) -> usize {
        verdict.errors.iter().map(String::len).sum()
    }

    #[test]
    fn guest_output_kept_in_a_record_is_bounded() {
        let long = format!(r#"{{"status":"error","errors":["{}","x"]}}"#, "A".repeat(900_000));
        let failed = verdict(&long, "");
        assert_eq!(failed.result, ProvisioningResult::Failed);
        assert!(size(&failed) < 2_000 && failed.errors[1] == "x", "{} bytes", size(&failed));

        let many = format!(r#"{{"status":"error","errors":[{}"x"]}}"#, r#""é","#.repeat(100_000));
        let failed = verdict(&many, "");
        assert_eq!(failed.errors.len(), ERRORS_MAX);
        assert_eq!(failed.errors.last().map(String::as_str), Some("... and 99802 more"));

        let wide = format!("\"{}\",", "A".repeat(1000)).repeat(500);
        let wide = format!(r#"{{"status":"done","recoverable_errors":{{"WARNING":[{wide}"x"]}}}}"#);
        let warned = verdict(&wide, "");
        assert_eq!(warned.result, ProvisioningResult::DoneWithWarnings);
        assert!(size(&warned) <= ERRORS_SIZE + 100, "{} bytes", size(&warned));

        let log = "@goloo:log@\n".to_owned() + &"x - y[WARNING]: no such host\n".repeat(30_000);
        assert_eq!(verdict(DONE, &log).errors, ["no such host"]);
        let login = format!("@goloo:login@\n{}\n", "A".repeat(500_000));
        assert!(verdict(DONE, &login).login_problem.is_some_and(|problem| problem.len() < 2_000));
    }

    #[test]
    fn an_oversized_report_is_unknown() {
        let log = "@goloo:log@\n".to_owned() + &"x - y[WARNING]: A\n".repeat(100_000);
        let endless = verdict(DONE, &log);
        assert_eq!(endless.result, ProvisioningResult::Unknown);
        assert!(endless.errors[0].contains("larger than 1048576 bytes"), "{endless:?}");
        let status = verdict(&"A".repeat(2_000_000), "");
        assert_eq!(status.result, ProvisioningResult::Unknown);
    }

    /// Invalid status JSON yields an unknown result with a reason.
    #[test]
    fn a_malformed_status_is_unknown_with_a_reason() {
        let deep = "[".repeat(100_000);
        let deep_error =
            format!(r#"{{"status":"done","errors":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
        let nested = format!("{}1", r#"{"status":"#.repeat(50_000));
        for json in [
            deep.as_str(),
            &deep_error,
            &nested,
            "{",
            "{}",
            "null",
            r#"{"status": NaN}"#,
            r#"{"status": {"status": "done"}}"#,
            r#"{"status": "done", "errors": "none"}"#,
            r#"{"status": "done", "errors": [1]}"#,
            r#"{"status": "done", "errors": {"0": "x"}}"#,
            r#"{"status": "done", "recoverable_errors": []}"#,
            r#"{"status": "done", "status": "done"}"#,
            r#"{"status": "done"} {"status": "error"}"#,
            r#"{"status": "\ud800"}"#,
        ] {
            let start: String = json.chars().take(40).collect();
            let verdict = verdict(json, "@goloo:end@\n");
            assert_eq!(verdict.result, ProvisioningResult::Unknown, "{start}");
            assert!(!verdict.errors[0].is_empty() && size(&verdict) < 5_000, "{start}");
        }
    }

    #[test]
    fn lines_before_the_report_are_log_lines() {
        let mut report = GuestReport::default();
        assert_eq!(report.take("Cloud-init v. 22.4"), Some("Cloud-init v. 22.4"));
        assert_eq!(report.take("@goloo:status@"), None);
        assert_eq!(report.take("{}"), None);
    }

    #[test]
    fn an_unsafe_login_name_is_omitted_from_the_report_command() {
        assert!(report_command(false, "ann").contains("login=ann\n"));
        assert!(report_command(false, "ann; reboot").contains("login=\n"));
    }
}
