//! Folders shared over virtiofs: the processes that do it. Stand-ins share nothing.

use goloo_testkit::programs::virtiofsd_stand_in;

use super::*;

impl World {
    fn with_virtiofsd(faults: &'static str) -> Self {
        let mut world = Self::with(faults);
        let program = virtiofsd_stand_in();
        // A wrapper hides the name of the process.
        let program =
            if faults.contains("virtiofsd") { world.wrapper("virtiofsd", &program) } else { program };
        world.virtiofsd = VirtiofsdChoice::Program(program.into());
        world
    }

    /// A machine with a folder to write to and one to read.
    fn sharing(&self, name: &str) -> Machine {
        let mut machine = self.machine(name);
        machine.stack.mounts = ["a", "b"]
            .map(|name| {
                let source = self.folder.path().join(name);
                std::fs::create_dir_all(&source).unwrap();
                Mount { source, target: format!("/srv/{name}"), readonly: name == "b" }
            })
            .to_vec();
        machine
    }

    async fn create_sharing(&self, name: &str) -> (Record, Vec<String>) {
        let machine = self.sharing(name);
        let mut work = SuiteWork::default();
        self.qemu().create(&machine, &mut work).await.unwrap();
        (record(&machine), work.said())
    }

    fn shares(&self) -> Vec<u32> {
        common::shares_of(&self.state)
    }

    async fn no_share_is_left(&self, when: &str) {
        until(when, SOON, async || self.shares().is_empty() && supervisors_of(&self.state).is_empty()).await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.vms().remove(0).join("qemu.log")).unwrap()
    }

    fn has_virtiofs(&self) -> bool {
        self.argv().iter().any(|word| word.starts_with("vhost-user-fs-pci,"))
    }

    fn lost(&self) -> Vec<Check> {
        let checks = goloo_qemu::doctor(&self.settings()).into_iter();
        checks.filter(|check| check.what.contains("can't access")).collect()
    }
}

fn command_line(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap().replace('\0', " ")
}

#[tokio::test]
async fn each_folder_has_a_process_that_ends_with_the_machine() {
    let world = World::with_virtiofsd("");
    let (record, said) = world.create_sharing("box").await;
    assert_eq!(said, Vec::<String>::new());
    let lines: Vec<_> = world.shares().into_iter().map(command_line).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (name, line) in ["a", "b"].iter().zip(&lines) {
        let folder = world.folder.path().join(name);
        assert!(line.contains(&format!(" --shared-dir {} ", folder.display())), "{line}");
        assert_eq!(line.contains(" --readonly "), *name == "b", "{line}");
    }
    assert!(world.has_virtiofs());
    assert!(world.argv().iter().any(|word| word.starts_with("local,path=")), "9p stays for other kernels");
    assert_eq!(world.lost(), []);
    stop(&world, &record, StopMode::Graceful).await.unwrap();
    world.no_share_is_left("after a stop").await;
    assert!(!world.log().contains("has ended"), "{}", world.log());

    start(&world, &record).await.unwrap();
    assert_eq!(world.shares().len(), 2);
    kill(&processes_of(&world.state));
    world.no_share_is_left("after QEMU was killed").await;

    start(&world, &record).await.unwrap();
    kill(&supervisors_of(&world.state));
    assert_eq!((state_of(&world, &record).await, world.shares().len()), (LiveState::Running, 2));
    assert_eq!(world.lost(), [], "they don't depend on the supervisor");
    world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    world.no_share_is_left("after a delete").await;
}

#[tokio::test]
async fn a_share_that_qemu_never_connected_to_is_ended() {
    for faults in ["dies", "hangs"] {
        let world = World::with_virtiofsd(faults);
        let created = world.qemu().create(&world.sharing("box"), &mut SuiteWork::default()).await;
        assert!(created.is_err(), "{faults}");
        world.no_share_is_left(faults).await;
    }
    // Nothing but its name shows whose it is.
    let world = World::with_virtiofsd("");
    let (record, _) = world.create_sharing("box").await;
    stop(&world, &record, StopMode::Force).await.unwrap();
    world.no_share_is_left("after a stop").await;
    let folder = world.vms().remove(0);
    let socket = std::os::unix::net::UnixListener::bind(folder.join("left.sock")).unwrap();
    let mut left = std::os::unix::process::CommandExt::arg0(
        &mut Command::new(virtiofsd_stand_in()),
        format!("virtiofsd:{}/share0.sock", folder.display()),
    )
    .arg("--fd=0")
    .stdin(std::os::fd::OwnedFd::from(socket))
    .spawn()
    .unwrap();
    until("it has its name", SOON, async || world.shares().len() == 1).await;
    start(&world, &record).await.unwrap();
    until("it was killed", SOON, async || left.try_wait().unwrap().is_some()).await;
    assert_eq!(world.shares().len(), 2, "those of the machine");
}

#[tokio::test]
async fn folders_are_shared_over_9p_alone_if_virtiofs_fails() {
    for (faults, reason) in
        [("virtiofsd-dies", "Error entering sandbox"), ("no-virtiofs", "is not a valid device model name")]
    {
        let world = World::with_virtiofsd(faults);
        let (record, said) = world.create_sharing("box").await;
        let [said] = &said[..] else { panic!("{said:?}") };
        assert!(said.contains(reason) && said.contains("GOLOO_VIRTIOFSD=off"), "{said}");
        assert!(!world.has_virtiofs());
        assert_eq!((world.shares(), world.lost()), (vec![], vec![]));
        world.qemu().delete(&record, &mut SuiteWork::default()).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_changes_without_a_usable_virtiofsd_and_doctor_says_why() {
    let mut none = World::new();
    none.virtiofsd = VirtiofsdChoice::Program("no-such-virtiofsd".into());
    for (world, reason) in [
        (World::with_virtiofsd("old-virtiofsd"), "is older than version 1.13"),
        (World::new(), "GOLOO_VIRTIOFSD is off"),
        (none, "no-such-virtiofsd isn't installed"),
    ] {
        let (_, said) = world.create_sharing("box").await;
        assert_eq!(said, Vec::<String>::new());
        assert!(!world.has_virtiofs() && world.shares().is_empty());
        let checks = goloo_qemu::doctor(&world.settings());
        assert!(checks.iter().any(|check| check.what.contains(reason)), "{checks:?}");
        assert!(checks.iter().all(|check| check.level != CheckLevel::Wrong), "{checks:?}");
    }
}

#[tokio::test]
async fn a_machine_of_an_earlier_version_has_9p_alone_until_its_mounts_change() {
    let world = World::with_virtiofsd("");
    let (record, _) = world.create_sharing("old").await;
    stop(&world, &record, StopMode::Force).await.unwrap();
    let note = world.vms().remove(0).join("machine.json");
    let mut noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&note).unwrap()).unwrap();
    assert_eq!(noted.as_object_mut().unwrap().remove("virtiofs"), Some("used".into()));
    std::fs::write(&note, noted.to_string()).unwrap();
    start(&world, &record).await.unwrap();
    assert!(!world.has_virtiofs() && world.shares().is_empty());
}

#[tokio::test]
async fn a_machine_whose_virtiofsd_was_killed_is_reported_with_a_way_out() {
    let world = World::with_virtiofsd("");
    let (record, _) = world.create_sharing("box").await;
    kill(&world.shares()[1..]);
    until("it is reported", SOON, async || world.lost().len() == 1).await;
    let lost = world.lost().remove(0);
    let folder = world.folder.path().join("b");
    assert!(lost.what.contains(&format!("box can't access {} ", folder.display())), "{}", lost.what);
    assert_eq!(lost.level, CheckLevel::Wrong);
    let hint = lost.hint.debug_text();
    assert!(hint.contains("Stop") && hint.contains("Start"), "{hint}");
    let said = "virtiofsd (goloo1) has ended: signal: 9";
    until("the log has it", SOON, async || world.log().contains(said)).await;
    stop(&world, &record, StopMode::Graceful).await.unwrap();
    start(&world, &record).await.unwrap();
    assert_eq!((world.lost(), world.shares().len()), (vec![], 2));
}

#[tokio::test]
async fn a_machine_with_virtiofs_is_not_suspended_even_by_a_qemu_that_would_save_it() {
    let world = World::with_virtiofsd("");
    let (record, _) = world.create_sharing("box").await;
    let refused = text(&stop(&world, &record, StopMode::Suspend).await.unwrap_err());
    assert!(refused.contains("vm.mounts") && refused.contains("Stop"), "{refused}");
    assert_eq!(state_of(&world, &record).await, LiveState::Running);
}

#[tokio::test]
async fn a_kernel_without_9p_can_have_folders_where_virtiofs_is_possible() {
    let plan = |world: &World| {
        let mut machine = world.sharing("alma");
        machine.stack.image = ImageRef::Alias("almalinux-10".to_owned());
        world.qemu().plan(&machine)
    };
    let planned = plan(&World::with_virtiofsd("")).unwrap();
    assert!(planned.steps.iter().any(|step| step.contains("(virtiofs or 9p, read-only)")), "{planned:?}");
    let refused = text(&plan(&World::new()).unwrap_err());
    assert!(refused.contains("lacks the 9p file system") && refused.contains("virtiofsd 1.13"), "{refused}");
}
