//! A boot as seen by cloud-init and sshd: the stages, and what systemd does between them.

use std::fs::File;
use std::io;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::root::{Call, Finished, GuestRoot, HOME};

/// The files of a NoCloud seed.
#[derive(Debug, Clone, Copy)]
pub struct Seed<'a> {
    /// user-data, byte for byte.
    pub user_data: &'a [u8],
    /// meta-data.
    pub meta_data: &'a str,
    /// vendor-data, if any.
    pub vendor_data: Option<&'a [u8]>,
}

/// The result of one stage of cloud-init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `local`, `network`, `config`, `final`.
    pub name: &'static str,
    /// Its exit status; `None` if it didn't exit within the limit.
    pub status: Option<i32>,
    /// Its standard output and standard error.
    pub output: String,
}

/// The result of a boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boot {
    /// The stages that were run.
    pub stages: Vec<Stage>,
    /// Whether sshd was started; `None` if the boot didn't get that far.
    pub sshd_started: Option<bool>,
    /// goloo's services that were run after the stages, and whether each succeeded.
    pub services: Vec<(String, bool)>,
    /// The call that would have powered off or restarted the machine.
    pub ended_by: Option<Call>,
    /// The output of cloud-init's single process for all stages (25.1).
    pub main_output: String,
}

/// A stage: its name, its unit, and its arguments before 24.3, where all stages became a single process.
const STAGES: [(&str, [&str; 2], &[&str]); 4] = [
    ("local", ["cloud-init-local.service", "cloud-init-local.service"], &["init", "--local"]),
    ("network", ["cloud-init.service", "cloud-init-network.service"], &["init"]),
    ("config", ["cloud-config.service", "cloud-config.service"], &["modules", "--mode=config"]),
    ("final", ["cloud-final.service", "cloud-final.service"], &["modules", "--mode=final"]),
];
const MAIN_UNIT: &str = "cloud-init-main.service";
const SHARE: &str = "/run/cloud-init/share";
const SEED: &str = "/var/lib/cloud/seed/nocloud";

/// The limit for a stage. A document may make it, and thus the boot, hang forever.
const STAGE_LIMIT: Duration = Duration::from_secs(90);
/// How long the single process for all stages may take to start listening, and to exit.
const MAIN_LIMIT: Duration = Duration::from_secs(20);

/// What systemd, its generators and its tmpfiles create before cloud-init runs. The device of the root can't be grown:
/// the image's setting is changed so that cloud-init doesn't complain. There is no network: apt would only wait before
/// it tries again.
const PREPARE: &str = "umount -l /run /tmp 2>/dev/null; \
    mount -t tmpfs -o mode=755,nosuid,nodev tmpfs /run && mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs /tmp && \
    mkdir -p /run/systemd/system /run/cloud-init /run/lock && : > /run/cloud-init/enabled && \
    [ -s /etc/machine-id ] || tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id; \
    echo 'resize_rootfs: false' > /etc/cloud/cloud.cfg.d/95_harness.cfg; \
    echo 'Acquire::Retries \"0\";' > /etc/apt/apt.conf.d/95harness; \
    harness-boot";

impl GuestRoot {
    /// Boots with this seed.
    pub fn boot(&self, seed: &Seed<'_>) -> io::Result<Boot> {
        self.write(&format!("{SEED}/user-data"), seed.user_data)?;
        self.write(&format!("{SEED}/meta-data"), seed.meta_data.as_bytes())?;
        if let Some(vendor_data) = seed.vendor_data {
            self.write(&format!("{SEED}/vendor-data"), vendor_data)?;
        }
        self.boot_again()
    }

    /// Simulates a reboot: running processes are killed, `/run` and `/tmp` are empty.
    pub fn second_boot(&self) -> io::Result<Boot> {
        // Everything except the first process and the shell itself.
        self.exec(&["sh", "-c", "kill -KILL -1"])?;
        self.boot_again()
    }

    fn boot_again(&self) -> io::Result<Boot> {
        self.exec(&["sh", "-c", PREPARE])?.expect_success("preparing the boot")?;
        let mut boot = Boot::default();
        let main = self.exists(&format!("/usr/lib/systemd/system/{MAIN_UNIT}"));
        self.set_state(&STAGES.map(|(_, units, _)| units[usize::from(main)]), "queued")?;
        let mut process = None;
        for (name, units, arguments) in STAGES {
            let unit = units[usize::from(main)];
            if self.exists("/etc/cloud/cloud-init.disabled") {
                self.set_state(&[unit], "inactive")?;
            } else {
                self.set_state(&[unit], "activating")?;
                if main && process.is_none() {
                    process = Some(self.start_main()?);
                }
                let stage = if main { self.shim(name)? } else { self.stage(name, arguments)? };
                self.set_state(&[unit], if stage.status == Some(0) { "active" } else { "failed" })?;
                let hangs = stage.status.is_none();
                boot.stages.push(stage);
                self.exec(&["harness-after", unit])?;
                if hangs {
                    // Units ordered after this stage never start.
                    break;
                }
            }
            if name == "network" {
                boot.sshd_started = Some(self.start_unit("ssh.service")?);
            }
        }
        if let Some((child, log)) = process {
            boot.main_output = end_of_main(child, log)?;
        }
        if boot.stages.last().is_none_or(|stage| stage.status.is_some()) {
            self.start_services(&mut boot)?;
        }
        self.wait_for_watchers()?;
        boot.ended_by = self.calls().into_iter().find(Call::ends_the_machine);
        Ok(boot)
    }

    fn stage(&self, name: &'static str, arguments: &[&str]) -> io::Result<Stage> {
        let words = [&["cloud-init"], arguments].concat();
        Ok(Stage::of(name, self.exec_within(&words, STAGE_LIMIT)?))
    }

    /// Starts `cloud-init --all-stages` and waits until it is listening.
    fn start_main(&self) -> io::Result<(Child, File)> {
        let log = tempfile::tempfile()?;
        let mut command = self.command(&["cloud-init", "--all-stages"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        let mut child = command.spawn()?;
        let end = Instant::now() + MAIN_LIMIT;
        while !self.exists(&format!("{SHARE}/final.sock")) && Instant::now() < end {
            if child.try_wait()?.is_some() {
                break;
            }
        }
        Ok((child, log))
    }

    /// Does what a stage's unit does in newer versions: tells the single process to start the stage, and waits.
    fn shim(&self, name: &'static str) -> io::Result<Stage> {
        let script =
            format!("echo start | nc -Uu -W1 {SHARE}/{name}.sock -s {SHARE}/{name}-return.sock | sh");
        Ok(Stage::of(name, self.exec_within(&["sh", "-c", &script], STAGE_LIMIT)?))
    }

    /// Starts goloo's services that something asked systemd to start, or that start at each boot. They are ordered
    /// after cloud-init's last stage.
    fn start_services(&self, boot: &mut Boot) -> io::Result<()> {
        let list = "cd /etc/systemd/system && for unit in goloo-*.service; do \
                    [ -f \"$unit\" ] || continue; \
                    if grep -q activating \"$0/units/$unit\" 2>/dev/null || ls ./*.wants/\"$unit\" >/dev/null 2>&1; \
                    then echo \"$unit\"; fi; done";
        let listed = self.exec(&["sh", "-c", list, HOME])?;
        for unit in listed.stdout.lines() {
            let succeeded = self.start_unit(unit)?;
            boot.services.push((unit.to_owned(), succeeded));
        }
        Ok(())
    }

    /// `power_state` leaves a process behind that waits for cloud-init to exit before it acts.
    fn wait_for_watchers(&self) -> io::Result<()> {
        let script = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -qx /usr/bin/cloud-init";
        let end = Instant::now() + MAIN_LIMIT;
        while self.exec(&["sh", "-c", script])?.status == Some(0) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn start_unit(&self, unit: &str) -> io::Result<bool> {
        Ok(self.exec(&["harness-start", unit])?.status == Some(0))
    }

    /// Sets the state of these units as reported by the `systemctl` script.
    fn set_state(&self, units: &[&str], state: &str) -> io::Result<()> {
        let script = "state=$1; shift; mkdir -p \"$0\"; for unit; do \
                      printf '{\"ActiveState\": \"%s\", \"MainPID\": 0}' \"$state\" > \"$0/$unit\"; done";
        let folder = format!("{HOME}/units");
        let words = [&["sh", "-c", script, &folder, state], units].concat();
        self.exec(&words)?.expect_success("setting a unit's state")
    }

    fn exists(&self, path: &str) -> bool {
        self.exec(&["test", "-e", path]).is_ok_and(|done| done.status == Some(0))
    }
}

impl Stage {
    fn of(name: &'static str, done: Finished) -> Self {
        Self { name, status: done.status, output: done.stdout + &done.stderr }
    }
}

fn end_of_main(mut child: Child, mut log: File) -> io::Result<String> {
    let end = Instant::now() + MAIN_LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    super::root::read_from_start(&mut log)
}
