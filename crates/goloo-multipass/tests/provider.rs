//! The provider against the Multipass stand-in and its faults.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{SuiteWork, World, endpoint, record, text, until};
use goloo_model::hint::NextStep;
use goloo_model::name::OperationId;
use goloo_model::provider::{
    Clones, GuestRequest, LiveState, Machine, Provider, ProviderError, Snapshots, StopMode, resource,
};
use goloo_model::record::{Record, Trust};
use goloo_model::spec::{ImageRef, Mount, Size};
use goloo_model::usage::Share;
use goloo_multipass::{LAUNCH, Mark, MultipassProvider, RESOURCE, Settings};
use goloo_testkit::provider_suite::{Bench, proven};

/// Short enough to wait for, long enough for a loaded machine to respond within.
const MOMENT: Duration = Duration::from_millis(300);

async fn live(provider: &MultipassProvider, record: &Record) -> (LiveState, Option<String>) {
    let seen = provider.observe(&[record]).await.remove(0);
    (seen.state, seen.reason)
}

async fn delete(world: &World, record: &Record) -> Result<(), ProviderError> {
    world.multipass().delete(record, &mut SuiteWork::default()).await
}

fn launches(world: &World) -> usize {
    world.file("ledger").lines().filter(|line| line.starts_with("launch")).count()
}

/// A create that is dropped once `so` holds, as if goloo had died; the returned work contains what it had recorded.
async fn die_when(world: &World, machine: &Machine, so: impl AsyncFnMut() -> bool) -> SuiteWork {
    let mut work = SuiteWork::default();
    let provider = world.multipass();
    tokio::select! {
        made = provider.create(machine, &mut work) => panic!("it ended: {made:?}"),
        () = until("the right moment", so) => {}
    }
    work
}

// ---- creating ----

#[tokio::test]
async fn launch_gets_the_document_on_stdin_and_the_settings_as_options() {
    let world = World::stand_in();
    let (machine, record) = world.create("new").await;
    let name = machine.name.as_str();
    let launch = world.calls().into_iter().find(|call| call.starts_with("launch")).unwrap();
    assert_eq!(
        launch,
        format!("launch 24.04 --name {name} --cpus 1 --memory 1024M --disk 5120M --cloud-init -")
    );
    assert_eq!(world.instance(name)["userData"].as_str().unwrap().as_bytes(), machine.user_data);
    assert_eq!(record.resource(RESOURCE), Some(name));
    assert_eq!(record.ssh_port(), Some(22));
    // While a client is alive, its file stays because of the lock.
    for file in std::fs::read_dir(world.path().join("state/multipass")).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().len(), 0, "the document is gone from the state folder");
    }
}

#[tokio::test]
async fn a_create_succeeds_when_the_launch_fails_but_the_machine_is_running() {
    let world = World::with(&["never-initialized"]);
    let (_, record) = world.create("up").await;
    assert_eq!(live(&world.multipass(), &record).await.0, LiveState::Running);
}

#[tokio::test]
async fn a_create_does_not_wait_for_cloud_init() {
    let world = World::with(&["initializes"]);
    let (machine, _) = world.create("early").await;
    assert_eq!(world.instance(machine.name.as_str())["state"], "Running");
}

#[tokio::test]
async fn a_guest_without_user_data_yet_is_not_treated_as_foreign() {
    let world = World::with(&["initializes", "late-user-data"]);
    let machine = world.machine("late");
    let looked_into = async {
        let so = async || world.calls().iter().any(|call| call.starts_with("exec"));
        until("it is looked into", so).await;
        world.faults(&["initializes"]);
        std::future::pending::<()>().await;
    };
    let (provider, mut work) = (world.multipass(), SuiteWork::default());
    tokio::select! {
        made = provider.create(&machine, &mut work) => { made.unwrap(); }
        () = looked_into => unreachable!(),
    }
}

#[tokio::test]
async fn an_unresponsive_machine_is_kept_and_reported_and_its_create_can_be_resumed() {
    let world = World::with(&["no-ssh"]);
    let machine = world.machine("mute");
    let provider = world.multipass();
    let mut work = SuiteWork::default();
    let began = Instant::now();
    let error = provider.create(&machine, &mut work).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15), "what Multipass gave up isn't waited for");
    assert!(matches!(error, ProviderError::Unfinished { .. }), "{error:?}");
    assert!(text(&error).contains("SSH in the instance hasn't answered"), "{}", text(&error));
    let record = record(&machine, &work);
    let (state, reason) = live(&provider, &record).await;
    assert_eq!(state, LiveState::Unknown);
    assert!(reason.unwrap().contains("failed to boot"));
    world.faults(&[]);
    provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    provider.create(&machine, &mut SuiteWork::after(&work)).await.unwrap();
    assert_eq!(launches(&world), 1);
    delete(&world, &record).await.unwrap();
    assert!(world.ledger().await.is_empty());
}

#[tokio::test]
async fn a_launch_that_created_nothing_reports_why_and_leaves_nothing() {
    let world = World::stand_in();
    let mut machine = world.machine("odd");
    machine.user_data = b"#cloud-config\nhostname: b: c\n".to_vec();
    let mut work = SuiteWork::default();
    let error = world.multipass().create(&machine, &mut work).await.unwrap_err();
    assert!(text(&error).contains("yaml-cpp: error at line 2"), "{}", text(&error));
    delete(&world, &record(&machine, &work)).await.unwrap();
    assert_eq!(world.calls().iter().filter(|call| call.starts_with("delete")).count(), 0);
}

#[tokio::test]
async fn an_image_that_multipass_lacks_is_unsupported() {
    let world = World::stand_in();
    let mut machine = world.machine("odd");
    machine.stack.image = ImageRef::Alias("ubuntu-6.06".to_owned());
    let error = world.multipass().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
    assert!(text(&error).contains("multipass find"), "{}", text(&error));
}

#[tokio::test]
async fn a_create_interrupted_while_fetching_the_image_can_be_resumed() {
    let world = World::with(&["prepares"]);
    let machine = world.machine("later");
    let mut work = SuiteWork::default();
    let stopper = work.stopper();
    let provider = world.multipass();
    let stop = async {
        until("it is launched", async || launches(&world) == 1).await;
        stopper.send_replace(true);
        std::future::pending::<()>().await;
    };
    let error = tokio::select! {
        made = provider.create(&machine, &mut work) => made.unwrap_err(),
        () = stop => unreachable!(),
    };
    assert!(matches!(error, ProviderError::Interrupted), "{error:?}");
    let record = record(&machine, &work);
    let (state, reason) = live(&provider, &record).await;
    assert_eq!(state, LiveState::Unknown, "it must not be called missing");
    assert!(reason.unwrap().contains("preparing"));
    let mut again = SuiteWork::after(&work);
    let made = tokio::select! {
        made = provider.create(&machine, &mut again) => made.unwrap(),
        () = faults_pass_when_asked(&world) => unreachable!(),
    };
    assert_eq!(endpoint(made).address.unwrap(), "127.0.0.2");
    assert_eq!(launches(&world), 1, "it is found, not made again");
}

/// Waits until the daemon receives a request, turns the faults off, and then waits forever.
async fn faults_pass_when_asked(world: &World) {
    let asked = world.calls().len();
    until("it is looked for", async || world.calls().len() > asked + 2).await;
    world.faults(&[]);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_create_killed_while_fetching_the_image_can_be_deleted() {
    for faults in [&["prepares"][..], &["prepares", "client-dies"]] {
        let world = World::with(faults);
        let machine = world.machine("died");
        let work = die_when(&world, &machine, async || launches(&world) == 1).await;
        let record = record(&machine, &work);
        assert_eq!(record.resource(RESOURCE), None);
        let provider = world.multipass();
        let mut deleting = SuiteWork::default();
        tokio::select! {
            deleted = provider.delete(&record, &mut deleting) => deleted.unwrap(),
            () = faults_pass_when_asked(&world) => unreachable!(),
        }
        assert!(world.ledger().await.is_empty(), "{faults:?}: it was waited for and purged");
    }
}

#[tokio::test]
async fn waiting_for_an_image_download_times_out() {
    let world = World::with(&["prepares"]);
    let machine = world.machine("endless");
    let mut work = SuiteWork::default();
    let provider = world.limited(|limits| limits.launch = MOMENT);
    let error = provider.create(&machine, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unfinished { .. }), "{error:?}");
    let error = provider.create(&machine, &mut SuiteWork::after(&work)).await.unwrap_err();
    assert!(text(&error).contains("still preparing"), "{}", text(&error));
    let record = record(&machine, &work);
    let error = provider.delete(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("still preparing"), "{}", text(&error));
    assert_eq!(launches(&world), 1);
}

#[tokio::test]
async fn a_launch_continues_when_its_client_dies() {
    let world = World::with(&["client-dies", "boots"]);
    let machine = world.machine("orphan");
    let provider = world.multipass();
    let go_on = async {
        let name = machine.name.as_str();
        until("it boots", async || world.instance(name)["state"] == "Starting").await;
        world.faults(&[]);
        std::future::pending::<()>().await;
    };
    let mut work = SuiteWork::default();
    tokio::select! {
        made = provider.create(&machine, &mut work) => { made.unwrap(); }
        () = go_on => unreachable!(),
    }
    assert_eq!(launches(&world), 1);
}

#[tokio::test]
async fn an_aborted_launch_preparation_is_started_again() {
    let world = World::with(&["prepares"]);
    let machine = world.machine("anew");
    let work = die_when(&world, &machine, async || launches(&world) == 1).await;
    // If the client dies while the image is being downloaded, the download is aborted.
    world.faults(&["aborts"]);
    world.by_hand(&["list"]);
    world.faults(&[]);
    world.multipass().create(&machine, &mut SuiteWork::after(&work)).await.unwrap();
    assert_eq!(launches(&world), 2);
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn a_resumed_create_starts_a_machine_that_is_off() {
    let world = World::stand_in();
    let (machine, record) = world.create("off").await;
    world.crash(&record).await;
    let mut work = SuiteWork::default();
    work.made.push((RESOURCE.to_owned(), machine.name.to_string()));
    world.multipass().create(&machine, &mut work).await.unwrap();
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn a_create_that_loses_the_daemon_does_not_roll_back() {
    let world = World::with(&["boots"]);
    let machine = world.machine("lost");
    let work = die_when(&world, &machine, async || launches(&world) == 1).await;
    world.faults(&["daemon-down"]);
    let error = world.multipass().create(&machine, &mut SuiteWork::after(&work)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unfinished { .. }), "{error:?}");
    assert!(text(&error).contains("its daemon isn't running"), "{}", text(&error));
}

#[tokio::test]
async fn a_machine_trashed_during_its_create_is_not_recovered_automatically() {
    let world = World::stand_in();
    let (machine, record) = world.create("x").await;
    let name = machine.name.as_str();
    world.by_hand(&["delete", name]);
    let mut work = SuiteWork::default();
    work.made.push((RESOURCE.to_owned(), name.to_owned()));
    let error = world.multipass().create(&machine, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unfinished { .. }), "{error:?}");
    assert!(text(&error).contains(&format!("multipass recover {name}")), "{}", text(&error));
    delete(&world, &record).await.unwrap();
}

#[tokio::test]
async fn folders_are_mounted_once() {
    let world = World::stand_in();
    let mut machine = world.machine("mounts");
    machine.stack.mounts =
        vec![Mount { source: world.path().into(), target: "/srv/code".to_owned(), readonly: false }];
    for _ in 0..2 {
        world.multipass().create(&machine, &mut SuiteWork::default()).await.unwrap();
    }
    let mounts = &world.instance(machine.name.as_str())["mounts"];
    assert_eq!(mounts["/srv/code"], world.path().display().to_string());
    assert_eq!(world.calls().iter().filter(|call| call.starts_with("mount")).count(), 1);
}

#[tokio::test]
async fn disabled_mounts_fail_with_the_name_of_the_setting() {
    let world = World::with(&["no-mounts"]);
    let mut machine = world.machine("mounts");
    machine.stack.mounts =
        vec![Mount { source: world.path().into(), target: "/srv".to_owned(), readonly: false }];
    let error = world.multipass().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("multipass set local.privileged-mounts=true"), "{}", text(&error));
}

#[tokio::test]
async fn the_document_in_the_state_folder_is_readable_only_by_its_owner() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with(&["prepares"]);
    let machine = world.machine("private");
    die_when(&world, &machine, async || launches(&world) == 1).await;
    let folder = world.path().join("state/multipass");
    let file = folder.join(format!("{}.user-data", machine.id));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
}

// ---- refusals before anything is created ----

async fn refused(world: &World, machine: &Machine) -> String {
    let mut work = SuiteWork::default();
    let error = world.multipass().create(machine, &mut work).await.unwrap_err();
    assert_eq!(work.made, [], "nothing was made");
    assert_eq!(launches(world), 0);
    text(&error)
}

#[tokio::test]
async fn the_plan_refuses_values_that_multipass_would_refuse() {
    let world = World::stand_in();
    let plan = |change: &dyn Fn(&mut Machine)| {
        let mut machine = world.machine("planned");
        change(&mut machine);
        world.multipass().plan(&machine).map_err(|error| text(&error))
    };
    let small = plan(&|machine| machine.stack.memory = Size::bytes(127 << 20)).unwrap_err();
    assert_eq!(
        small,
        "vm.memory is 127M, but Multipass requires at least 128M\nhint: write \"memory\": \"128M\" or more"
    );
    let small = plan(&|machine| machine.stack.disk = Size::bytes(511 << 20)).unwrap_err();
    assert!(small.contains("vm.disk is 511M"), "{small}");
    plan(&|machine| machine.stack.memory = Size::bytes(128 << 20)).unwrap();
    plan(&|machine| machine.stack.disk = Size::bytes(512 << 20)).unwrap();
    let debian = plan(&|machine| machine.stack.image = ImageRef::Alias("debian-12".to_owned())).unwrap_err();
    assert!(debian.contains("Multipass has no image debian-12") && debian.contains("24.04"), "{debian}");
    let image = |image: ImageRef| {
        let plan = plan(&|machine| machine.stack.image = image.clone()).unwrap();
        (plan.detail["argv"][2].as_str().unwrap().to_owned(), plan.warnings)
    };
    let url = "https://images.example/x.img";
    assert_eq!(image(ImageRef::Url(url.to_owned())).0, url);
    let (argument, warnings) = image(ImageRef::Path("/srv/x.img".into()));
    assert_eq!((argument.as_str(), warnings.len()), ("file:///srv/x.img", 0));
    let (_, warnings) = image(ImageRef::Path("/home/ann/.vms/x.img".into()));
    assert_eq!(warnings.len(), usize::from(cfg!(target_os = "linux")), "{warnings:?}");
    assert_eq!(world.calls(), [""; 0], "a plan asks nobody");
}

#[tokio::test]
async fn a_name_that_would_mount_the_home_folder_is_refused() {
    let world = World::stand_in();
    let mut machine = world.machine("x");
    machine.name = goloo_model::name::VmName::parse("primary").unwrap();
    machine.machine_name = machine.name.clone();
    let error = refused(&world, &machine).await;
    assert!(error.contains("primary instance") && error.contains("--as"), "{error}");
}

#[tokio::test]
async fn a_missing_folder_is_refused() {
    let world = World::stand_in();
    let mut machine = world.machine("mounts");
    machine.stack.mounts =
        vec![Mount { source: "/no/such".into(), target: "/srv".to_owned(), readonly: false }];
    assert!(refused(&world, &machine).await.contains("mkdir -p /no/such"));
}

#[tokio::test]
async fn a_read_only_folder_is_refused_since_the_machine_could_write_there() {
    let world = World::stand_in();
    let mut machine = world.machine("mounts");
    machine.stack.mounts =
        vec![Mount { source: world.path().into(), target: "/srv".to_owned(), readonly: true }];
    assert!(refused(&world, &machine).await.contains("read-only (vm.mounts)"));
    let error = world.provider().plan(&machine).unwrap_err();
    assert!(error.to_string().contains("read-only (vm.mounts)"), "{error}");
}

#[test]
fn multipass_accepts_every_valid_vm_name() {
    let longest = "a".repeat(63);
    for name in ["a", "a1", "web-1", "x--y", &longest] {
        let name = goloo_model::name::VmName::parse(name).unwrap();
        let world = World::stand_in();
        world.foreign(name.as_str());
    }
}

// ---- a daemon that is down, hanging or missing ----

#[tokio::test]
async fn a_missing_multipass_is_unavailable_with_an_install_hint() {
    let world = World::stand_in();
    let mut settings = world.settings();
    settings.program = "no-such-multipass".into();
    let provider = MultipassProvider::new(settings);
    let machine = world.machine("none");
    let mut work = SuiteWork::default();
    let error = provider.create(&machine, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
    assert!(text(&error).contains("install"), "{}", text(&error));
    assert_eq!(work.made, []);
    let (state, reason) = live(&provider, &record(&machine, &work)).await;
    assert_eq!(state, LiveState::Unknown);
    assert!(reason.unwrap().contains("isn't installed"));
}

#[tokio::test]
async fn a_stopped_or_hanging_daemon_is_reported_without_blocking() {
    for fault in ["daemon-down", "hangs"] {
        let world = World::stand_in();
        let (machine, record) = world.create("there").await;
        world.faults(&[fault]);
        let began = Instant::now();
        let provider = world.limited(|limits| {
            limits.answer = MOMENT;
            limits.busy = 2 * MOMENT;
            limits.act = MOMENT;
        });
        let many: Vec<&Record> = std::iter::repeat_n(&record, 50).collect();
        for seen in provider.observe(&many).await {
            assert_eq!(seen.state, LiveState::Unknown, "{fault}");
            assert!(!seen.hint.is_empty(), "{fault}");
        }
        let work = &mut SuiteWork::after(&SuiteWork::default());
        let errors = [
            provider.start(&record, work).await.unwrap_err(),
            provider.stop(&record, StopMode::Graceful, work).await.unwrap_err(),
            provider.delete(&record, work).await.unwrap_err(),
            provider.create(&machine, work).await.unwrap_err(),
            provider.orphans(&[]).await.unwrap_err(),
            provider.adopt(&machine.name, None).await.unwrap_err(),
            Snapshots::list(&provider, &record).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, ProviderError::Unavailable { .. }), "{fault}: {error:?}");
            assert!(
                text(&error).contains("restart") || text(&error).contains("kickstart"),
                "{}",
                text(&error)
            );
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{fault}: {:?}", began.elapsed());
        world.faults(&[]);
        let (state, _) = live(&world.multipass(), &record).await;
        assert_eq!(state, LiveState::Running, "{fault}: it was left as it is");
    }
}

#[tokio::test]
async fn an_unresponsive_client_process_is_killed() {
    let world = World::with(&["hangs"]);
    let provider = world.limited(|limits| limits.answer = MOMENT);
    provider.orphans(&[]).await.unwrap_err();
    let folder = world.daemon().display().to_string();
    until("the client is gone", async || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        !all.filter(|entry| entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())).any(
            |entry| {
                let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
                String::from_utf8_lossy(&environment).contains(&folder)
            },
        )
    })
    .await;
}

#[tokio::test]
async fn a_launch_survives_a_daemon_that_hangs_briefly() {
    let world = World::with(&["boots"]);
    let machine = world.machine("patient");
    let provider = world.limited(|limits| limits.answer = Duration::from_secs(1));
    let faults = async {
        until("it is launched", async || launches(&world) == 1).await;
        world.faults(&["boots", "hangs-at info"]);
        let asked = world.calls().len();
        until("it was asked in vain", async || world.calls().len() > asked + 1).await;
        world.faults(&[]);
        std::future::pending::<()>().await;
    };
    let mut work = SuiteWork::default();
    tokio::select! {
        made = provider.create(&machine, &mut work) => { made.unwrap(); }
        () = faults => unreachable!(),
    }
    assert_eq!(launches(&world), 1);
}

#[tokio::test]
async fn every_supported_version_of_multipass_works() {
    for era in [&[][..], &["era-1.13"], &["era-1.17"]] {
        let world = World::with(era);
        let (_, record) = world.create("era").await;
        let provider = world.multipass();
        assert_eq!(live(&provider, &record).await, (LiveState::Running, None));
        provider.stop(&record, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap();
        provider.take(&record, "first").await.unwrap();
        provider.take(&record, "second").await.unwrap();
        let snapshots = Snapshots::list(&provider, &record).await.unwrap();
        let labels: Vec<&str> = snapshots.iter().map(|one| one.label.as_str()).collect();
        assert_eq!(labels, ["first", "second"]);
        assert!(snapshots.iter().all(|one| one.created_at.is_some()), "{era:?}: {snapshots:?}");
        delete(&world, &record).await.unwrap();
    }
}

// ---- instances not created by goloo are never touched: dropping the world checks for violations ----

#[tokio::test]
async fn a_name_in_use_is_refused_in_every_state_and_the_rollback_changes_nothing() {
    for (state, prepare) in [
        ("Running", &[][..]),
        ("Stopped", &["stop"][..]),
        ("Suspended", &["suspend"]),
        ("Deleted", &["delete"]),
    ] {
        let world = World::stand_in();
        let machine = world.machine("taken");
        let name = machine.name.as_str();
        world.foreign(name);
        for word in prepare {
            world.by_hand(&[word, name]);
        }
        let error = refused_foreign(&world, &machine).await;
        assert!(error.contains("is already in use in Multipass"), "{state}: {error}");
        assert!(error.contains("Adopt { name: "), "{state}: {error}");
        assert!(world.instance(name).is_object(), "{state}: it is left");
    }
}

async fn refused_foreign(world: &World, machine: &Machine) -> String {
    let mut work = SuiteWork::default();
    let error = world.multipass().create(machine, &mut work).await.unwrap_err();
    assert_eq!(work.made, []);
    delete(world, &record(machine, &work)).await.unwrap();
    text(&error)
}

#[tokio::test]
async fn a_name_being_prepared_by_a_foreign_launch_is_refused() {
    let world = World::with(&["prepares"]);
    let machine = world.machine("taken");
    let other = std::process::Command::new(world.program())
        .env("GOLOO_STAND_IN_BY", "someone")
        .args(["launch", "24.04", "--name", machine.name.as_str()])
        .stdout(std::process::Stdio::null())
        .spawn();
    until("it is being prepared", async || launches(&world) == 1).await;
    let error = refused_foreign(&world, &machine).await;
    assert!(error.contains("being prepared"), "{error}");
    world.faults(&[]);
    other.unwrap().wait().unwrap();
}

/// Simulates another user taking the name between the durable intent and the launch.
fn intent(machine: &Machine) -> SuiteWork {
    let mut work = SuiteWork::default();
    work.made.push((LAUNCH.to_owned(), machine.name.to_string()));
    work
}

#[tokio::test]
async fn a_foreign_machine_created_under_the_intended_name_is_left_unchanged() {
    let world = World::stand_in();
    let machine = world.machine("raced");
    world.foreign(machine.name.as_str());
    let error = world.multipass().create(&machine, &mut intent(&machine)).await.unwrap_err();
    assert!(text(&error).contains("the instance wasn't created by goloo"), "{}", text(&error));
    let mut work = SuiteWork::default();
    world.multipass().delete(&record(&machine, &intent(&machine)), &mut work).await.unwrap();
    assert!(work.said()[0].contains("left unchanged"), "{:?}", work.said());
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn a_machine_that_cannot_be_inspected_is_neither_used_nor_deleted() {
    for fault in ["no-sshd", "no-user-data", "hangs-at exec"] {
        let world = World::stand_in();
        let machine = world.machine("raced");
        world.foreign(machine.name.as_str());
        world.faults(&[fault]);
        let provider = world.limited(|limits| {
            limits.settle = MOMENT;
            limits.answer = Duration::from_secs(1);
        });
        let error = provider.create(&machine, &mut intent(&machine)).await.unwrap_err();
        assert!(matches!(error, ProviderError::Unfinished { .. }), "{fault}: {error:?}");
        let record = record(&machine, &intent(&machine));
        let error = provider.delete(&record, &mut SuiteWork::default()).await.unwrap_err();
        assert!(text(&error).contains("it's unknown whether goloo created it"), "{fault}: {}", text(&error));
        assert_eq!(world.running().await, 1);
    }
}

#[tokio::test]
async fn a_stopped_machine_of_unknown_origin_is_not_started_for_inspection() {
    let world = World::stand_in();
    let machine = world.machine("raced");
    let name = machine.name.as_str();
    world.foreign(name);
    world.by_hand(&["stop", name]);
    let error = world.multipass().create(&machine, &mut intent(&machine)).await.unwrap_err();
    assert!(text(&error).contains(&format!("multipass start {name}")), "{}", text(&error));
    delete(&world, &record(&machine, &intent(&machine))).await.unwrap_err();
    assert_eq!(world.instance(name)["state"], "Stopped");
}

#[tokio::test]
async fn a_foreign_machine_that_reuses_the_name_is_not_deleted() {
    let world = World::stand_in();
    let (machine, record) = world.create("again").await;
    let name = machine.name.as_str();
    world.by_hand(&["delete", "--purge", name]);
    world.foreign(name);
    let mut work = SuiteWork::default();
    world.multipass().delete(&record, &mut work).await.unwrap();
    assert!(work.said()[0].contains("isn't the one that goloo created"), "{:?}", work.said());
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn starting_a_missing_machine_does_not_launch_one() {
    let world = World::stand_in();
    let mut machine = world.machine("x");
    // Multipass's `start` would launch this instance.
    machine.name = goloo_model::name::VmName::parse("primary").unwrap();
    machine.machine_name = machine.name.clone();
    let mut work = SuiteWork::default();
    work.made.push((RESOURCE.to_owned(), "primary".to_owned()));
    let record = record(&machine, &work);
    let error = world.multipass().start(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("Delete(VmName(\"primary\"))"), "{}", text(&error));
    assert_eq!(launches(&world), 0);
}

#[tokio::test]
async fn purge_is_never_called() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    world.foreign("someone-s");
    world.by_hand(&["delete", "someone-s"]);
    delete(&world, &record).await.unwrap();
    assert!(world.instance("someone-s").is_object(), "the trash of others is left");
    let calls = world.calls();
    assert!(calls.iter().all(|call| !call.starts_with("purge")));
    assert!(calls.contains(&format!("delete --purge {}", record.name)));
}

// ---- power ----

#[tokio::test]
async fn a_suspended_machine_is_reported_as_such_and_can_be_started() {
    let world = World::stand_in();
    let (_, record) = world.create("asleep").await;
    let provider = world.multipass();
    assert!(provider.capabilities().suspend);
    for _ in 0..2 {
        provider.stop(&record, StopMode::Suspend, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(live(&provider, &record).await, (LiveState::Suspended, None));
    }
    let mut work = SuiteWork::default();
    provider.stop(&record, StopMode::Graceful, &mut work).await.unwrap();
    assert!(work.said()[0].contains("its memory is kept"), "{:?}", work.said());
    assert_eq!(world.instance(record.name.as_str())["state"], "Suspended", "its memory isn't lost");
    provider.start(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(world.running().await, 1);
    provider.stop(&record, StopMode::Suspend, &mut SuiteWork::default()).await.unwrap();
    provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(world.instance(record.name.as_str())["state"], "Stopped", "force powers it off");
}

#[tokio::test]
async fn a_guest_that_ignores_power_down_is_forced_off_with_a_notice() {
    let world = World::stand_in();
    let (_, record) = world.create("deaf").await;
    world.faults(&["deaf"]);
    world.shutdown_limit(Duration::from_secs(2));
    let provider = world.limited(|limits| {
        limits.power_down = MOMENT;
        limits.act = Duration::from_secs(1);
    });
    let mut work = SuiteWork::default();
    provider.stop(&record, StopMode::Graceful, &mut work).await.unwrap();
    let said = &work.said()[0];
    assert!(said.contains("Multipass waits 5 minutes for it and blocks until then"), "{said}");
    assert_eq!(world.running().await, 0);
}

/// Another user's `stop`, which the guest ignores: it keeps the daemon busy.
async fn unheard_stop(world: &World, record: &Record) -> std::process::Child {
    world.faults(&["deaf"]);
    world.shutdown_limit(Duration::from_secs(2));
    let stop = std::process::Command::new(world.program())
        .env("GOLOO_STAND_IN_BY", "someone")
        .args(["stop", record.name.as_str()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    until("the daemon is busy", async || !world.file("busy").is_empty()).await;
    stop.unwrap()
}

#[tokio::test]
async fn a_forced_stop_and_a_delete_wait_for_a_pending_stop_with_a_notice() {
    for deletes in [false, true] {
        let world = World::stand_in();
        let (_, record) = world.create("deaf").await;
        let mut other = unheard_stop(&world, &record).await;
        let provider = world.limited(|limits| limits.answer = MOMENT);
        let mut work = SuiteWork::default();
        match deletes {
            true => provider.delete(&record, &mut work).await.unwrap(),
            false => provider.stop(&record, StopMode::Force, &mut work).await.unwrap(),
        }
        assert!(work.said()[0].contains("it may be waiting for a guest to power off"), "{:?}", work.said());
        assert_eq!(world.running().await, 0);
        other.wait().unwrap();
    }
}

#[tokio::test]
async fn waiting_for_a_busy_daemon_can_be_interrupted() {
    let world = World::stand_in();
    let (_, record) = world.create("deaf").await;
    let mut other = unheard_stop(&world, &record).await;
    let mut work = SuiteWork::default();
    work.stopper().send_replace(true);
    let error = world.multipass().stop(&record, StopMode::Force, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Interrupted), "{error:?}");
    other.wait().unwrap();
}

#[tokio::test]
async fn a_power_down_can_be_interrupted() {
    let world = World::stand_in();
    let (_, record) = world.create("deaf").await;
    world.faults(&["deaf"]);
    let mut work = SuiteWork::default();
    work.stopper().send_replace(true);
    let error = world.multipass().stop(&record, StopMode::Graceful, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Interrupted), "{error:?}");
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn a_failed_start_reports_the_current_state_of_the_machine() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    world.crash(&record).await;
    world.faults(&["no-ssh"]);
    let error = world.multipass().start(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(
        text(&error).contains("it is unknown") && text(&error).contains("force: true"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn a_trashed_machine_is_stopped_with_a_recover_hint_and_purged_by_delete() {
    let world = World::stand_in();
    let (machine, record) = world.create("trashed").await;
    let name = machine.name.as_str();
    world.by_hand(&["delete", name]);
    let provider = world.multipass();
    let (state, reason) = live(&provider, &record).await;
    assert_eq!(state, LiveState::Stopped, "its disk is there");
    assert!(reason.unwrap().contains(&format!("multipass recover {name}")));
    let mut work = SuiteWork::default();
    let error = provider.start(&record, &mut work).await.unwrap_err();
    assert!(text(&error).contains(&format!("multipass recover {name}")), "{}", text(&error));
    provider.stop(&record, StopMode::Force, &mut work).await.unwrap_err();
    delete(&world, &record).await.unwrap();
    assert!(world.instance(name).is_null());
}

// ---- a booting machine: Multipass reports it as Unknown until it has a lease ----

/// A machine that was started manually and has no lease yet, as long as the fault `no-lease` is on.
async fn booting(world: &World, name: &str) -> (Machine, Record, std::process::Child) {
    let (machine, record) = world.create(name).await;
    world.crash(&record).await;
    world.faults(&["no-lease"]);
    let start = std::process::Command::new(world.program())
        .env("GOLOO_STAND_IN_BY", "someone")
        .args(["start", machine.name.as_str()])
        .stdout(std::process::Stdio::null())
        .spawn();
    is_unknown(world, &machine).await;
    (machine, record, start.unwrap())
}

async fn is_unknown(world: &World, machine: &Machine) {
    until("it has no lease yet", async || {
        world.by_hand(&["list", "--no-ipv4"]);
        world.instance(machine.name.as_str())["state"] == "Unknown"
    })
    .await;
}

/// A create that died while its machine had no lease; its ownership hadn't been determined.
async fn died_while_booting(world: &World, machine: &Machine) -> SuiteWork {
    world.faults(&["no-lease"]);
    let work =
        die_when(world, machine, async || world.instance(machine.name.as_str())["state"] == "Unknown").await;
    assert!(work.made.iter().all(|(kind, _)| kind != RESOURCE), "{:?}", work.made);
    work
}

#[tokio::test]
async fn a_booting_machine_is_unknown_with_a_harmless_reason() {
    let world = World::stand_in();
    let (_, record, mut start) = booting(&world, "early").await;
    let (state, reason) = live(&world.multipass(), &record).await;
    assert_eq!(state, LiveState::Unknown);
    assert!(reason.unwrap().starts_with("it is booting, and Multipass has no address for it yet"));
    world.faults(&[]);
    start.wait().unwrap();
    assert_eq!(live(&world.multipass(), &record).await, (LiveState::Running, None));
}

#[tokio::test]
async fn a_start_waits_for_a_machine_that_is_already_booting() {
    let world = World::stand_in();
    let (_, record, mut start) = booting(&world, "early").await;
    let (provider, mut work) = (world.multipass(), SuiteWork::default());
    tokio::select! {
        made = provider.start(&record, &mut work) => { made.unwrap(); }
        () = faults_pass_when_asked(&world) => unreachable!(),
    }
    let started = world.calls().into_iter().filter(|call| call.starts_with("start")).count();
    assert_eq!(started, 1, "Multipass would refuse a second start");
    start.wait().unwrap();
}

#[tokio::test]
async fn a_start_fails_at_once_when_multipass_has_given_up() {
    for fault in ["no-ssh", "ends-while-starting"] {
        let world = World::stand_in();
        let (_, record) = world.create("mute").await;
        world.crash(&record).await;
        world.faults(&[fault]);
        let began = Instant::now();
        let error = world.multipass().start(&record, &mut SuiteWork::default()).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(15), "{fault}");
        assert!(
            text(&error).contains(&format!("{:?}", NextStep::force_stop(&record.name))),
            "{}",
            text(&error)
        );
    }
}

#[tokio::test]
async fn a_graceful_stop_waits_until_the_guest_is_reachable() {
    let world = World::stand_in();
    let (machine, record, mut start) = booting(&world, "early").await;
    let stops = || {
        world.calls().into_iter().filter(|call| call.starts_with("stop") && !call.contains("--force")).count()
    };
    let lease = async {
        let asked = world.calls().len();
        until("it is looked at", async || world.calls().len() > asked + 2).await;
        assert_eq!(stops(), 0, "a guest that boots doesn't hear it, and the daemon would wait for it");
        world.faults(&[]);
        std::future::pending::<()>().await;
    };
    let (provider, mut work) = (world.multipass(), SuiteWork::default());
    tokio::select! {
        stopped = provider.stop(&record, StopMode::Graceful, &mut work) => stopped.unwrap(),
        () = lease => unreachable!(),
    }
    assert_eq!((stops(), &world.instance(machine.name.as_str())["state"]), (1, &"Stopped".into()));
    start.wait().unwrap();
}

#[tokio::test]
async fn a_forced_stop_and_a_delete_do_not_wait_for_a_dhcp_lease() {
    for deletes in [false, true] {
        let world = World::stand_in();
        let (machine, record, mut start) = booting(&world, "early").await;
        let (provider, mut work) = (world.multipass(), SuiteWork::default());
        match deletes {
            true => provider.delete(&record, &mut work).await.unwrap(),
            false => provider.stop(&record, StopMode::Force, &mut work).await.unwrap(),
        }
        let state = world.instance(machine.name.as_str())["state"].clone();
        assert_eq!(state, if deletes { serde_json::Value::Null } else { "Stopped".into() });
        start.kill().unwrap();
        start.wait().unwrap();
    }
}

#[tokio::test]
async fn a_create_killed_while_its_machine_booted_can_be_resumed() {
    let world = World::stand_in();
    let machine = world.machine("early");
    let work = died_while_booting(&world, &machine).await;
    let mut again = SuiteWork::after(&work);
    let provider = world.multipass();
    tokio::select! {
        made = provider.create(&machine, &mut again) => { made.unwrap(); }
        () = faults_pass_when_asked(&world) => unreachable!(),
    }
    assert_eq!(launches(&world), 1);
}

#[tokio::test]
async fn a_create_killed_while_its_machine_booted_can_be_deleted() {
    let world = World::stand_in();
    let machine = world.machine("early");
    let record = record(&machine, &died_while_booting(&world, &machine).await);
    let (provider, mut work) = (world.multipass(), SuiteWork::default());
    tokio::select! {
        deleted = provider.delete(&record, &mut work) => deleted.unwrap(),
        () = faults_pass_when_asked(&world) => unreachable!(),
    }
    assert!(world.ledger().await.is_empty());
}

#[tokio::test]
async fn a_create_killed_before_user_data_exists_is_resumed_or_deleted_later() {
    for (fault, resumes) in
        [("no-user-data", true), ("no-user-data", false), ("late-user-data", true), ("late-user-data", false)]
    {
        let world = World::with(&["initializes", fault]);
        let machine = world.machine("early");
        let looked_into = async || world.calls().iter().any(|call| call.starts_with("exec"));
        let died = die_when(&world, &machine, looked_into).await;
        let (provider, mut work) = (world.multipass(), SuiteWork::after(&died));
        let record = record(&machine, &died);
        let written = async {
            let asked = world.calls().len();
            let again =
                async || world.calls()[asked..].iter().filter(|call| call.starts_with("exec")).count() > 1;
            until("it is looked into again", again).await;
            world.faults(&["initializes"]);
            std::future::pending::<()>().await;
        };
        let ended = async {
            match resumes {
                true => provider.create(&machine, &mut work).await.map(drop),
                false => provider.delete(&record, &mut work).await,
            }
        };
        tokio::select! {
            ended = ended => ended.unwrap(),
            () = written => unreachable!(),
        }
        assert_eq!(world.ledger().await.len(), usize::from(resumes), "{fault}");
    }
}

#[tokio::test]
async fn a_machine_without_a_running_launch_has_the_shorter_timeout() {
    let world = World::with(&["no-ssh"]);
    let machine = world.machine("mute");
    world.by_hand(&["launch", "24.04", "--name", machine.name.as_str()]);
    let provider = world.limited(|limits| limits.settle = MOMENT);
    let record = record(&machine, &intent(&machine));
    let began = Instant::now();
    let error = provider.delete(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15));
    let name = &machine.name;
    let wanted = format!("multipass stop --force {name} and multipass start {name}");
    assert!(text(&error).contains(&wanted), "{}", text(&error));
}

#[tokio::test]
async fn a_machine_that_shut_down_during_its_start_is_kept_and_reported_at_once() {
    let world = World::with(&["ends-while-starting"]);
    let machine = world.machine("ended");
    let mut work = SuiteWork::default();
    let began = Instant::now();
    let error = world.multipass().create(&machine, &mut work).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(matches!(error, ProviderError::Unfinished { .. }), "{error:?}");
    assert!(text(&error).contains("powered off while it was starting"), "{}", text(&error));
    delete(&world, &record(&machine, &work)).await.unwrap();
    assert!(world.ledger().await.is_empty(), "it is known to be ours");
}

// ---- unresponsive guests ----

#[tokio::test]
async fn states_are_queried_without_entering_guests() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    let provider = world.multipass();
    live(&provider, &record).await;
    provider.orphans(&[]).await.unwrap();
    provider.adopt(&record.name, None).await.unwrap();
    provider.stop(&record, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap();
    provider.take(&record, "one").await.unwrap();
    Snapshots::list(&provider, &record).await.unwrap();
    provider.start(&record, &mut SuiteWork::default()).await.unwrap();
    delete(&world, &record).await.unwrap();
    let calls = world.calls();
    let into_guests = |call: &&String| {
        call.starts_with("info")
            && !call.contains("--no-runtime-information")
            && !call.contains("--snapshots")
    };
    assert_eq!(calls.iter().filter(into_guests).collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test]
async fn a_machine_without_sshd_can_be_observed_stopped_and_deleted() {
    for mode in [StopMode::Graceful, StopMode::Force] {
        let world = World::stand_in();
        let (_, record) = world.create("x").await;
        world.faults(&["no-sshd"]);
        let provider = world.multipass();
        let seen = provider.observe(&[&record]).await.remove(0);
        assert_eq!((seen.state, seen.ip.as_deref()), (LiveState::Running, record.ip()));
        provider.stop(&record, mode, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(world.running().await, 0);
        delete(&world, &record).await.unwrap();
    }
}

/// An address that never responds, like that of a halted machine.
const SILENT: &str = "255.255.255.255";

/// A machine whose process is halted.
async fn frozen(world: &World) -> Record {
    let (machine, mut record) = world.create("frozen").await;
    record.endpoint.address = SILENT.parse().ok();
    record.prove_again(&goloo_testkit::samples::here());
    world.faults(&[&format!("frozen {}", machine.name)]);
    record
}

#[tokio::test]
async fn a_guest_is_asked_for_its_figures_only_while_it_runs_and_answers() {
    let world = World::stand_in();
    let (_, record) = world.create("asked").await;
    let provider = world.multipass();
    let guest = async |record: &Record| provider.usage().unwrap().guest(record).await;
    let usage = guest(&record).await.unwrap().unwrap();
    assert_eq!(usage.memory, Some(Share { used: 60_817_408, total: 1_503_238_554 }));
    provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    assert!(guest(&record).await.is_err());
    assert_eq!(live(&provider, &record).await.0, LiveState::Stopped, "it was started by the question");
    let frozen = frozen(&world).await;
    let begun = Instant::now();
    assert!(guest(&frozen).await.is_err());
    assert!(begun.elapsed() < world.settings().limits.busy, "it waited for the frozen guest");
    let asks_guest = |call: &String| *call == format!("info {} --format json", frozen.name);
    assert!(!world.calls().iter().any(asks_guest), "the daemon was asked to contact a frozen guest");
}

#[tokio::test]
async fn a_frozen_machine_can_be_observed_stopped_and_deleted_without_blocking() {
    for deletes in [false, true] {
        let world = World::stand_in();
        let (_, other) = world.create("other").await;
        let record = frozen(&world).await;
        let provider = world.limited(|limits| limits.answer = Duration::from_secs(2));
        let seen = provider.observe(&[&other, &record]).await;
        assert_eq!((seen[0].state, seen[0].ip.as_deref()), (LiveState::Running, other.ip()));
        assert_eq!((seen[1].state, seen[1].ip.as_deref()), (LiveState::Running, None));
        assert!(seen[1].reason.as_ref().unwrap().contains("its guest doesn't answer"), "{:?}", seen[1]);
        match deletes {
            true => provider.delete(&record, &mut SuiteWork::default()).await.unwrap(),
            false => provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap(),
        }
        assert_eq!(world.instance(other.name.as_str())["state"], "Running");
        assert_eq!(world.running().await, 1);
        assert_eq!(world.file("busy"), "", "the daemon was never held up");
    }
}

#[tokio::test]
async fn starting_a_frozen_machine_is_an_error_and_does_not_block_the_daemon() {
    let world = World::stand_in();
    let record = frozen(&world).await;
    let provider = world.limited(|limits| limits.answer = MOMENT);
    let error = provider.start(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("its guest doesn't answer"), "{}", text(&error));
    assert!(text(&error).contains(&format!("{:?}", NextStep::force_stop(&record.name))), "{}", text(&error));
    assert_eq!(provider.adopt(&record.name, None).await.unwrap().endpoints, None);
    assert_eq!(world.file("busy"), "");
}

#[tokio::test]
async fn a_changed_address_of_a_machine_is_observed() {
    let world = World::stand_in();
    let (_, mut record) = world.create("moved").await;
    let ip = record.ip().unwrap().to_owned();
    record.endpoint.address = SILENT.parse().ok();
    record.prove_again(&goloo_testkit::samples::here());
    let seen = world.multipass().observe(&[&record]).await.remove(0);
    assert_eq!((seen.state, seen.ip, seen.reason), (LiveState::Running, Some(ip), None));
}

#[tokio::test]
async fn a_placeholder_for_an_address_is_not_accepted_as_an_address() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    world.crash(&record).await;
    world.faults(&["no-address"]);
    world.forget_address(record.name.as_str());
    let asked = async {
        let so = async || world.calls().iter().filter(|call| call.starts_with("list")).count() > 2;
        until("its address is asked for again", so).await;
        world.faults(&[]);
        std::future::pending::<()>().await;
    };
    let (provider, mut work) = (world.multipass(), SuiteWork::default());
    let made = tokio::select! {
        made = provider.start(&record, &mut work) => made.unwrap(),
        () = asked => unreachable!(),
    };
    assert_eq!(endpoint(made).address.unwrap(), "127.0.0.2");
}

// ---- a launch whose client is still alive ----

/// A running machine whose launch waits for cloud-init, as long as the fault `initializes` is on.
async fn initializing(world: &World) -> Record {
    world.faults(&["initializes"]);
    world.create("early").await.1
}

/// Polls an operation that must wait for the launch for a moment, and checks that it hasn't sent a request to
/// Multipass.
async fn waits_for_launch<T: std::fmt::Debug>(
    world: &World,
    word: &str,
    operation: impl Future<Output = Result<T, ProviderError>>,
) {
    let asked = || world.calls().into_iter().filter(|call| call.starts_with(word)).count();
    let before = asked();
    let ended = tokio::time::timeout(MOMENT, operation).await;
    assert!(ended.is_err(), "{word} didn't wait: {ended:?}");
    assert_eq!(asked(), before, "{word} beside a launch");
}

#[tokio::test]
async fn a_stop_waits_for_the_launch_to_finish() {
    for mode in [StopMode::Graceful, StopMode::Force] {
        let world = World::stand_in();
        let record = initializing(&world).await;
        let provider = world.multipass();
        waits_for_launch(&world, "stop", provider.stop(&record, mode, &mut SuiteWork::default())).await;
        world.faults(&[]);
        provider.stop(&record, mode, &mut SuiteWork::default()).await.unwrap();
        provider.start(&record, &mut SuiteWork::default()).await.unwrap();
        assert_eq!(world.running().await, 1);
    }
}

#[tokio::test]
async fn a_start_waits_for_the_launch_to_finish() {
    let world = World::stand_in();
    let record = initializing(&world).await;
    world.by_hand(&["stop", "--force", record.name.as_str()]);
    let provider = world.multipass();
    waits_for_launch(&world, "start", provider.start(&record, &mut SuiteWork::default())).await;
    world.faults(&[]);
    provider.start(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(world.running().await, 1, "beside the launch it would never have come up");
}

/// A stopped machine with a snapshot, while its launch is still waiting.
async fn snapshotted_while_initializing(world: &World) -> Record {
    let record = initializing(world).await;
    let name = record.name.as_str();
    world.by_hand(&["stop", "--force", name]);
    assert!(world.by_hand(&["snapshot", name, "--name", "one"]).status.success());
    record
}

#[tokio::test]
async fn a_restore_waits_for_the_launch_to_finish() {
    let world = World::stand_in();
    let record = snapshotted_while_initializing(&world).await;
    let provider = world.multipass();
    waits_for_launch(&world, "restore", provider.restore(&record, "one")).await;
    world.faults(&[]);
    provider.restore(&record, "one").await.unwrap();
    assert_eq!(world.file("died"), "", "the daemon lives");
}

#[tokio::test]
async fn a_restore_after_a_failed_launch_does_not_crash_the_daemon() {
    let world = World::with(&["never-initialized"]);
    let (_, record) = world.create("failed").await;
    let provider = world.multipass();
    provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    provider.take(&record, "one").await.unwrap();
    provider.restore(&record, "one").await.unwrap();
    assert_eq!(world.file("died"), "");
}

#[tokio::test]
async fn a_restore_keeps_mounts() {
    let world = World::stand_in();
    let mut machine = world.machine("mounts");
    machine.stack.mounts =
        vec![Mount { source: world.path().into(), target: "/srv/code".to_owned(), readonly: false }];
    let mut work = SuiteWork::default();
    world.multipass().create(&machine, &mut work).await.unwrap();
    let (record, provider) = (record(&machine, &work), world.multipass());
    provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    provider.take(&record, "one").await.unwrap();
    provider.restore(&record, "one").await.unwrap();
    let mounts = &world.instance(machine.name.as_str())["mounts"];
    assert_eq!(mounts["/srv/code"], world.path().display().to_string());
}

#[tokio::test]
async fn waiting_for_a_launch_times_out_and_can_be_interrupted() {
    let world = World::stand_in();
    let record = initializing(&world).await;
    let provider = world.limited(|limits| limits.launched = MOMENT);
    let error = provider.stop(&record, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("hasn't finished"), "{}", text(&error));
    assert!(text(&error).contains(&format!("{:?}", NextStep::force_stop(&record.name))), "{}", text(&error));
    let mut work = SuiteWork::default();
    work.stopper().send_replace(true);
    let error = world.multipass().stop(&record, StopMode::Force, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Interrupted), "{error:?}");
    let mut work = SuiteWork::default();
    provider.stop(&record, StopMode::Force, &mut work).await.unwrap();
    assert!(work.said()[0].contains("forcing power off anyway"), "{:?}", work.said());
    assert_eq!(world.running().await, 0, "a guest that hangs in its launch can be powered off");
    let error = provider.start(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("hasn't finished"), "{}", text(&error));
    delete(&world, &record).await.unwrap();
    assert!(world.ledger().await.is_empty(), "a delete waits for no launch");
}

// ---- users refused by Multipass ----

#[tokio::test]
async fn every_operation_reports_missing_permission_for_the_socket() {
    for (fault, why) in [
        ("access-denied", "this user has no permission to use Multipass's socket"),
        ("not-authenticated", "this user isn't authenticated with Multipass"),
    ] {
        let world = World::stand_in();
        let (machine, record) = world.create("there").await;
        world.faults(&[fault]);
        let provider = world.multipass();
        let (state, reason) = live(&provider, &record).await;
        assert_eq!(state, LiveState::Unknown, "{fault}");
        assert!(reason.unwrap().contains(why), "{fault}");
        let work = &mut SuiteWork::after(&SuiteWork::default());
        let errors = [
            provider.start(&record, work).await.unwrap_err(),
            provider.stop(&record, StopMode::Graceful, work).await.unwrap_err(),
            provider.stop(&record, StopMode::Force, work).await.unwrap_err(),
            provider.delete(&record, work).await.unwrap_err(),
            provider.create(&machine, work).await.unwrap_err(),
            provider.orphans(&[]).await.unwrap_err(),
            provider.adopt(&machine.name, None).await.unwrap_err(),
            Snapshots::list(&provider, &record).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, ProviderError::Permission { .. }), "{fault}: {error:?}");
            assert!(text(&error).contains(why), "{}", text(&error));
        }
    }
}

#[tokio::test]
async fn a_daemon_that_never_ran_is_unavailable() {
    let world = World::with(&["no-certificate"]);
    let machine = world.machine("none");
    let error = world.multipass().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { .. }), "{error:?}");
    assert!(text(&error).contains("its daemon isn't running"), "{}", text(&error));
}

// ---- refused launches ----

#[tokio::test]
async fn a_launch_that_failed_before_the_name_check_proves_no_ownership() {
    let world = World::stand_in();
    let machine = world.machine("raced");
    let name = machine.name.as_str();
    // Another user takes the name just before goloo's launch, which then fails before it checks the name.
    let racing = world.path().join("racing");
    let multipass = world.program().display().to_string();
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = launch ]; then\n  GOLOO_STAND_IN_BY=someone '{multipass}' launch 24.04 --name {name} >/dev/null </dev/null\n  echo images-down > '{}'\nfi\nexec '{multipass}' \"$@\"\n",
        world.daemon().join("faults").display()
    );
    common::write_program(&racing, &script);
    let mut settings = world.settings();
    settings.program = racing.into();
    let mut work = SuiteWork::default();
    let error = MultipassProvider::new(settings).create(&machine, &mut work).await.unwrap_err();
    assert!(text(&error).contains("the instance wasn't created by goloo"), "{}", text(&error));
    assert!(work.made.iter().all(|(kind, _)| kind != RESOURCE), "{:?}", work.made);
    delete(&world, &record(&machine, &work)).await.unwrap();
    assert_eq!(world.instance(name)["by"], "someone", "it is left");
}

#[tokio::test]
async fn log_lines_before_a_refusal_do_not_change_the_result() {
    let world = World::with(&["logs"]);
    let (_, record) = world.create("logged").await;
    let provider = world.multipass();
    assert_eq!(live(&provider, &record).await.0, LiveState::Running);
    delete(&world, &record).await.unwrap();
    assert_eq!(live(&provider, &record).await.0, LiveState::Missing);
}

#[tokio::test]
async fn an_image_file_with_special_characters_in_its_name_is_found() {
    let world = World::stand_in();
    let mut machine = world.machine("file");
    let image = world.path().join("a#b %41?.img");
    std::fs::write(&image, "an image").unwrap();
    machine.stack.image = ImageRef::Path(image);
    world.multipass().create(&machine, &mut SuiteWork::default()).await.unwrap();
    let mut other = world.machine("gone");
    other.stack.image = ImageRef::Path(world.path().join("no-such.img"));
    let error = world.multipass().create(&other, &mut SuiteWork::default()).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
    assert!(text(&error).contains("no-such.img` does not exist"), "{}", text(&error));
}

#[tokio::test]
async fn small_machines_are_created_if_the_version_allows_them() {
    for (version, is_made) in [(&[][..], true), (&["era-1.13"], true), (&["era-1.17"], false)] {
        let world = World::with(version);
        let mut machine = world.machine("small");
        machine.stack.memory = Size::bytes(128 << 20);
        let made = world.multipass().create(&machine, &mut SuiteWork::default()).await;
        match made {
            Ok(_) => assert!(is_made, "{version:?}"),
            Err(error) => {
                assert!(!is_made && matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
                assert!(text(&error).contains("\"memory\": \"512M\""), "{}", text(&error));
            }
        }
    }
}

// ---- snapshots and clones ----

async fn stopped(world: &World, name: &str) -> Record {
    let (_, record) = world.create(name).await;
    world.multipass().stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    record
}

#[tokio::test]
async fn snapshots_are_taken_restored_and_removed() {
    let world = World::stand_in();
    let record = stopped(&world, "x").await;
    let (provider, name) = (world.multipass(), record.name.as_str());
    provider.take(&record, "clean").await.unwrap();
    let error = provider.take(&record, "clean").await.unwrap_err();
    assert!(text(&error).contains("a snapshot with this name already exists"), "{}", text(&error));
    provider.restore(&record, "clean").await.unwrap();
    let error = provider.restore(&record, "other").await.unwrap_err();
    assert!(text(&error).contains("the snapshot doesn't exist"), "{}", text(&error));
    for _ in 0..2 {
        provider.remove(&record, "clean").await.unwrap();
        assert_eq!(Snapshots::list(&provider, &record).await.unwrap(), []);
    }
    assert!(world.instance(name).is_object(), "the instance itself is there");
    let calls = world.calls();
    assert!(calls.contains(&format!("restore --destructive {name}.clean")), "{calls:?}");
    assert!(calls.contains(&format!("delete --purge {name}.clean")), "{calls:?}");
}

#[tokio::test]
async fn a_label_can_never_name_the_instance_itself() {
    let world = World::stand_in();
    let record = stopped(&world, "x").await;
    let provider = world.multipass();
    for label in ["", ".", "a.b", "-a", "a_b", "a b"] {
        assert!(
            matches!(provider.remove(&record, label).await, Err(ProviderError::Unsupported { .. })),
            "{label}"
        );
        provider.take(&record, label).await.unwrap_err();
        provider.restore(&record, label).await.unwrap_err();
    }
    assert!(world.instance(record.name.as_str()).is_object());
}

#[tokio::test]
async fn snapshots_and_copies_require_a_stopped_machine_and_name_the_command() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    let provider = world.multipass();
    let copy = provider_copy(&world);
    let name = &record.name;
    for wanted in
        [format!("hint: {:?}", NextStep::stop(name)), format!("{:?} discards", NextStep::force_stop(name))]
    {
        let errors = [
            provider.take(&record, "one").await.unwrap_err(),
            provider.restore(&record, "one").await.unwrap_err(),
            provider.clone_machine(&record, &copy, &mut SuiteWork::default()).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, ProviderError::Unsupported { .. }), "{error:?}");
            assert!(text(&error).contains(&wanted), "{}", text(&error));
        }
        provider.stop(&record, StopMode::Suspend, &mut SuiteWork::default()).await.unwrap();
    }
}

fn provider_copy(world: &World) -> Record {
    record(&world.machine("copy"), &SuiteWork::default())
}

#[tokio::test]
async fn a_copy_is_created_once_and_is_stopped() {
    let world = World::stand_in();
    let source = stopped(&world, "source").await;
    let copy = provider_copy(&world);
    let provider = world.multipass();
    let mut work = SuiteWork::default();
    provider.clone_machine(&source, &copy, &mut work).await.unwrap();
    assert_eq!(work.made.last().unwrap(), &(RESOURCE.to_owned(), copy.name.to_string()));
    provider.clone_machine(&source, &copy, &mut SuiteWork::after(&work)).await.unwrap();
    assert_eq!(world.calls().iter().filter(|call| call.starts_with("clone")).count(), 1);
    assert_eq!(world.instance(copy.name.as_str())["state"], "Stopped");
}

#[tokio::test]
async fn a_copy_whose_client_died_is_found_when_resumed() {
    let world = World::stand_in();
    let source = stopped(&world, "source").await;
    let copy = provider_copy(&world);
    world.faults(&["client-dies"]);
    let mut work = SuiteWork::default();
    world.multipass().clone_machine(&source, &copy, &mut work).await.unwrap_err();
    world.faults(&[]);
    world.multipass().clone_machine(&source, &copy, &mut SuiteWork::after(&work)).await.unwrap();
}

/// A copy that was begun, with what was recorded about it; its record has the source's keys, because it has the same
/// disk and user-data.
async fn begun_copy(world: &World) -> Record {
    let source = stopped(world, "source").await;
    let copy = provider_copy(world);
    let mut work = SuiteWork::default();
    world.faults(&["client-dies"]);
    world.multipass().clone_machine(&source, &copy, &mut work).await.unwrap_err();
    world.faults(&[]);
    let noted = work.made.iter().map(|(kind, id)| resource(kind, id, &OperationId::generate()));
    proven(Record { resources: noted.collect(), ssh: source.ssh.clone(), ..copy })
}

#[tokio::test]
async fn an_unfinished_copy_is_not_deleted_before_it_can_be_inspected() {
    let world = World::stand_in();
    let copy = begun_copy(&world).await;
    let error = delete(&world, &copy).await.unwrap_err();
    assert!(text(&error).contains("it's unknown whether"), "{}", text(&error));
    world.by_hand(&["start", copy.name.as_str()]);
    delete(&world, &copy).await.unwrap();
    assert!(world.instance(copy.name.as_str()).is_null());
}

#[tokio::test]
async fn a_foreign_machine_that_got_the_name_of_a_copy_is_not_deleted() {
    let world = World::stand_in();
    let copy = begun_copy(&world).await;
    let name = copy.name.as_str();
    world.by_hand(&["delete", "--purge", name]);
    world.foreign(name);
    world.by_hand(&["stop", name]);
    delete(&world, &copy).await.unwrap_err();
    world.by_hand(&["start", name]);
    delete(&world, &copy).await.unwrap();
    assert_eq!(world.instance(name)["state"], "Running");
}

#[tokio::test]
async fn a_copy_to_a_name_in_use_is_refused() {
    let world = World::stand_in();
    let source = stopped(&world, "source").await;
    let copy = provider_copy(&world);
    world.foreign(copy.name.as_str());
    let mut work = SuiteWork::default();
    for state in ["Running", "Stopped"] {
        let error = world.multipass().clone_machine(&source, &copy, &mut work).await.unwrap_err();
        assert!(text(&error).contains("is already in use in Multipass"), "{state}: {}", text(&error));
        assert_eq!(work.made, []);
        world.by_hand(&["stop", copy.name.as_str()]);
    }
}

#[tokio::test]
async fn copying_with_an_old_multipass_names_the_required_version() {
    let world = World::with(&["era-1.13"]);
    let source = stopped(&world, "source").await;
    let copy = provider_copy(&world);
    let error = world.multipass().clone_machine(&source, &copy, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("clones need 1.15"), "{}", text(&error));
}

// ---- unmanaged instances, adoption, the native session command ----

#[tokio::test]
async fn unmanaged_machines_are_classified_without_starting_any() {
    let world = World::stand_in();
    let (_, known) = world.create("known").await;
    world.foreign("someone-s");
    world.foreign("thrown-away");
    world.by_hand(&["delete", "thrown-away"]);
    world.foreign("off");
    world.by_hand(&["stop", "off"]);
    let mut machine = world.machine("lost");
    machine.user_data = b"#cloud-config\nx: /etc/ssh/goloo_keys/ann\n".to_vec();
    world.multipass().create(&machine, &mut SuiteWork::default()).await.unwrap();
    let orphans = world.multipass().orphans(&[&known]).await.unwrap();
    let found: Vec<_> =
        orphans.iter().map(|orphan| (orphan.name.as_str(), orphan.state, orphan.ours)).collect();
    assert_eq!(
        found,
        [
            (machine.name.as_str(), LiveState::Running, true),
            ("off", LiveState::Stopped, false),
            ("someone-s", LiveState::Running, false),
        ]
    );
}

#[tokio::test]
async fn an_adopted_machine_keeps_its_multipass_name_and_is_deleted_by_it() {
    let world = World::stand_in();
    world.foreign("Their-Box");
    let mut machine = world.machine("x");
    machine.name = goloo_model::name::VmName::parse("their-box").unwrap();
    machine.machine_name = machine.name.clone();
    let provider = world.multipass();
    let error = provider.adopt(&machine.name, None).await.unwrap_err();
    assert!(text(&error).contains("multipass list") && text(&error).contains("--id"), "{}", text(&error));
    let adopted = provider.adopt(&machine.name, Some("Their-Box")).await.unwrap();
    assert_eq!(endpoint(adopted.endpoints.clone().unwrap()).address.unwrap(), "127.0.0.2");
    world.adopted("Their-Box");
    let mut work = SuiteWork::default();
    work.made.extend(adopted.resources);
    let record = proven(Record { ssh: None, ..record(&machine, &work) });
    assert_eq!(live(&provider, &record).await.0, LiveState::Running);
    let way = provider
        .native_session_command(&record, GuestRequest::Run(&["ls".to_owned(), "-l".to_owned()]))
        .unwrap();
    let way: Vec<_> = way.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    assert_eq!(way, ["exec", "-n", "Their-Box", "--", "ls", "-l"]);
    provider.stop(&record, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap();
    let off = provider.adopt(&machine.name, Some("Their-Box")).await.unwrap();
    assert_eq!(off.endpoints, None, "a stopped one has no address");
    delete(&world, &record).await.unwrap();
    assert!(world.instance("Their-Box").is_null());
}

#[tokio::test]
async fn file_names_with_colons_and_dashes_are_passed_as_files() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    let way = |errand| {
        let words = world.multipass().native_session_command(&record, errand).unwrap();
        words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let there = format!("{}:/tmp", record.name);
    let upload = |from| way(GuestRequest::Upload { from, to: "/tmp", recursive: true });
    assert_eq!(upload("a:b"), ["transfer", "-r", "./a:b", &there]);
    assert_eq!(upload("-"), ["transfer", "-r", "./-", &there]);
    assert_eq!(upload("/a:b"), ["transfer", "-r", "/a:b", &there]);
    let download = way(GuestRequest::Download { from: "/tmp", to: "here", recursive: false });
    assert_eq!(download, ["transfer", &there, "here"]);
    assert_eq!(way(GuestRequest::Shell), ["shell", record.name.as_str()]);
}

#[tokio::test]
async fn access_can_be_restored_through_multipass_exec() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    assert!(world.multipass().restore_access(&record).await.unwrap());
    assert_eq!(world.file("restored"), format!("{}\n", record.name));
    world.faults(&["no-sshd"]);
    let error = world.multipass().restore_access(&record).await.unwrap_err();
    assert!(text(&error).contains("Connection refused"), "{}", text(&error));
}

#[tokio::test]
async fn console_is_unsupported_with_a_hint() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    let error = world.multipass().console(&record, 0).await.unwrap_err();
    assert!(text(&error).contains(&format!("{:?}", NextStep::Logs(record.name.clone()))), "{}", text(&error));
}

#[tokio::test]
async fn doctor_reports_each_fault_with_a_hint() {
    let world = World::stand_in();
    let check = goloo_multipass::doctor(&world.settings()).await;
    assert!(check.is_ok() && check.what == "Multipass 1.16.3", "{check:?}");
    for (fault, why, hint) in [
        ("daemon-down", "its daemon isn't running", "sudo snap restart multipass"),
        ("no-certificate", "its daemon isn't running", "sudo snap restart multipass"),
        ("access-denied", "this user has no permission to use Multipass's socket", "multipass_socket"),
        ("not-authenticated", "this user isn't authenticated with Multipass", "multipass authenticate"),
    ] {
        world.faults(&[fault]);
        let check = goloo_multipass::doctor(&world.settings()).await;
        assert!(!check.is_ok() && check.what.contains(why), "{fault}: {check:?}");
        assert!(cfg!(target_os = "macos") || check.hint.debug_text().contains(hint), "{fault}: {check:?}");
    }
    assert_eq!(world.calls().iter().filter(|call| call.starts_with("list")).count(), 4);
    world.faults(&["hangs"]);
    let mut settings = world.settings();
    settings.limits.answer = MOMENT;
    let check = goloo_multipass::doctor(&settings).await;
    assert!(!check.is_ok() && check.what.contains("no answer"), "{check:?}");
}

/// A client, or its guest, produces endless output: the client is killed and its output discarded.
#[tokio::test]
async fn a_multipass_client_with_endless_output_is_killed() {
    let world = World::stand_in();
    for (stream, says) in [(1, "answered with more than 4194304 bytes"), (2, "answered with more than")] {
        let mut settings = world.settings();
        settings.program = world.path().join(format!("endless-{stream}")).into();
        let script = format!("#!/bin/sh\ncat /dev/zero >&{stream}\n");
        common::write_program(Path::new(&settings.program), &script);
        let begun = Instant::now();
        let check = goloo_multipass::doctor(&settings).await;
        assert!(!check.is_ok() && check.what.contains(says), "{check:?}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}

// ---- the tests themselves ----

#[tokio::test]
async fn cleanup_at_a_real_multipass_waits_for_instances_being_prepared() {
    let daemon = World::with(&["prepares"]);
    let world = World::real_at(daemon.program());
    let name = world.name("slow");
    let launch = std::process::Command::new(daemon.program())
        .env("GOLOO_STAND_IN_BY", "someone")
        .args(["launch", "24.04", "--name", &name])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
    until("it is being prepared", async || launches(&daemon) == 1).await;
    let end = std::thread::spawn(move || drop(world));
    let looked_for =
        async || daemon.calls().iter().any(|call| call.starts_with("get") && call.contains(&name));
    until("it is looked for", looked_for).await;
    daemon.faults(&[]);
    end.join().unwrap();
    assert!(daemon.instance(&name).is_null(), "it is left");
    launch.unwrap().wait().unwrap();
}

/// A record that anyone with write access to the store could have written: it refers to someone else's instance.
fn forged(instance: &str, machine: &Machine) -> Record {
    let mut work = SuiteWork::default();
    work.made.push((RESOURCE.to_owned(), instance.to_owned()));
    let mut record = record(machine, &work);
    // It doesn't even need another key: the digest of a genuine record is copied.
    record.github_users = vec!["mallory".to_owned()];
    record
}

#[tokio::test]
async fn an_unproven_record_in_a_shared_store_affects_no_foreign_instance() {
    let world = World::stand_in();
    let trust = Trust { store_is_private: false, ..world.settings().trust };
    let provider = MultipassProvider::new(Settings {
        trust,
        mark: Mark::Key("ssh-ed25519 MINE".to_owned()),
        ..world.settings()
    });
    world.foreign("precious");
    world.foreign("stopped");
    world.by_hand(&["stop", "stopped"]);
    for instance in ["precious", "stopped"] {
        let record = forged(instance, &world.machine("x"));
        let mut work = SuiteWork::default();
        let before = world.instance(instance);
        drop(provider.delete(&record, &mut work).await);
        let refused = [
            provider.start(&record, &mut work).await.map(drop),
            provider.stop(&record, StopMode::Force, &mut work).await,
            provider.stop(&record, StopMode::Suspend, &mut work).await,
            provider.restore_access(&record).await.map(drop),
            provider.snapshots().unwrap().take(&record, "one").await,
            provider.snapshots().unwrap().restore(&record, "one").await,
            provider.snapshots().unwrap().remove(&record, "one").await,
            provider.clones().unwrap().clone_machine(&record, &provider_copy(&world), &mut work).await,
        ];
        for (number, refused) in refused.into_iter().enumerate() {
            let said = text(&refused.unwrap_err());
            assert!(
                said.contains("wasn't created with this state folder")
                    || said.contains("it's unknown whether"),
                "{number}: {said}"
            );
        }
        assert!(provider.native_session_command(&record, GuestRequest::Shell).is_none());
        assert_eq!(world.instance(instance), before, "{instance}");
    }
}

#[tokio::test]
async fn an_unproven_record_is_accepted_if_the_instance_has_the_folders_key() {
    let world = World::stand_in();
    let (_, mut record) = world.create("x").await;
    record.proof = None;
    let trust = Trust { store_is_private: false, ..world.settings().trust };
    let provider = MultipassProvider::new(Settings { trust, ..world.settings() });
    let mut work = SuiteWork::default();
    provider.stop(&record, StopMode::Graceful, &mut work).await.unwrap();
    let error = provider.delete(&record, &mut work).await.unwrap_err();
    assert!(text(&error).contains("multipass start"), "{}", text(&error));
    world.by_hand(&["start", &world.name("x")]);
    provider.delete(&record, &mut work).await.unwrap();
    assert!(world.instance("x").is_null());
}

#[tokio::test]
async fn a_forged_record_of_one_vm_does_not_affect_another_vm_of_the_folder() {
    let world = World::stand_in();
    let (machine, prod) = world.create("prod").await;
    let trust = Trust { store_is_private: false, ..world.settings().trust };
    let provider = MultipassProvider::new(Settings { trust, ..world.settings() });
    let mut test = record(&world.machine("test"), &SuiteWork::default());
    // Everything is prod's except the name.
    (test.id, test.ssh, test.resources) = (prod.id.clone(), prod.ssh.clone(), prod.resources.clone());
    let (before, mut work) = (world.instance(machine.name.as_str()), SuiteWork::default());
    provider.stop(&test, StopMode::Force, &mut work).await.unwrap_err();
    drop(provider.delete(&test, &mut work).await);
    assert_eq!(world.instance(machine.name.as_str()), before);
}

#[tokio::test]
async fn a_record_that_was_imported_into_a_private_store_is_not_trusted() {
    let world = World::stand_in();
    world.foreign("precious");
    let record = forged("precious", &world.machine("x"));
    let imported = [record.id.clone()].into();
    let trust = Trust { imported, ..world.settings().trust };
    let mark = Mark::Key("ssh-ed25519 MINE".to_owned());
    let provider = MultipassProvider::new(Settings { trust, mark, ..world.settings() });
    let error = provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("wasn't created with this state folder"), "{}", text(&error));
    assert_eq!(world.instance("precious")["state"], "Running");
}
