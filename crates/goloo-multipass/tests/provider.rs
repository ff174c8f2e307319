//! The provider against Multipass's stand-in and its faults.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{SuiteWork, World, local, record, text, until};
use goloo_core::name::OperationId;
use goloo_core::provider::{
    Clones, Errand, LiveState, Machine, Provider, ProviderError, Snapshots, StopMode, resource,
};
use goloo_core::record::{Record, Trust};
use goloo_core::spec::{ImageRef, Mount, Size};
use goloo_multipass::{LAUNCH, Mark, MultipassProvider, RESOURCE, Settings};
use goloo_testkit::provider_suite::{Bench, proven};

/// Short enough to wait for, long enough for a loaded machine to answer within.
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

/// A create that is dropped, as when goloo dies, once `so`; what it had noted is in the work.
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
async fn a_launch_gets_the_document_on_standard_input_and_the_settings_as_options() {
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
    assert_eq!(record.local.as_ref().map(|local| local.ssh_port), Some(22));
    // A client that still lives keeps the file, for its lock.
    for file in std::fs::read_dir(world.path().join("state/multipass")).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().len(), 0, "the document is gone from the state folder");
    }
}

#[tokio::test]
async fn a_machine_whose_launch_failed_while_it_is_up_is_made() {
    let world = World::with(&["never-initialized"]);
    let (_, record) = world.create("up").await;
    assert_eq!(live(&world.multipass(), &record).await.0, LiveState::Running);
}

#[tokio::test]
async fn a_create_doesn_t_wait_for_cloud_init() {
    let world = World::with(&["initializes"]);
    let (machine, _) = world.create("early").await;
    assert_eq!(world.instance(machine.name.as_str())["state"], "Running");
}

#[tokio::test]
async fn a_guest_that_hasn_t_written_its_user_data_yet_is_not_taken_for_someone_else_s() {
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
async fn a_machine_that_never_answers_is_kept_and_said_and_can_be_gone_on_with() {
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
async fn a_launch_that_came_to_nothing_says_why_and_leaves_nothing() {
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
async fn ctrl_c_while_the_image_is_fetched_stops_and_the_same_create_finds_the_machine() {
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
    assert_eq!(local(made).ip, "127.0.0.2");
    assert_eq!(launches(&world), 1, "it is found, not made again");
}

/// Turns the faults off once the daemon was asked something, and then waits for ever.
async fn faults_pass_when_asked(world: &World) {
    let asked = world.calls().len();
    until("it is looked for", async || world.calls().len() > asked + 2).await;
    world.faults(&[]);
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_goloo_that_died_while_the_image_is_fetched_can_delete_what_comes() {
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
async fn an_image_that_is_fetched_for_ever_is_not_waited_for_for_ever() {
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
async fn a_client_that_died_is_no_failed_launch() {
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
async fn a_preparation_that_was_broken_off_is_begun_anew() {
    let world = World::with(&["prepares"]);
    let machine = world.machine("anew");
    let work = die_when(&world, &machine, async || launches(&world) == 1).await;
    // A client that dies while the image is fetched takes the download with it.
    world.faults(&["aborts"]);
    world.by_hand(&["list"]);
    world.faults(&[]);
    world.multipass().create(&machine, &mut SuiteWork::after(&work)).await.unwrap();
    assert_eq!(launches(&world), 2);
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn a_machine_that_was_off_when_its_create_went_on_is_started() {
    let world = World::stand_in();
    let (machine, record) = world.create("off").await;
    world.crash(&record).await;
    let mut work = SuiteWork::default();
    work.made.push((RESOURCE.to_owned(), machine.name.to_string()));
    world.multipass().create(&machine, &mut work).await.unwrap();
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn a_create_that_loses_the_daemon_undoes_nothing() {
    let world = World::with(&["boots"]);
    let machine = world.machine("lost");
    let work = die_when(&world, &machine, async || launches(&world) == 1).await;
    world.faults(&["daemon-down"]);
    let error = world.multipass().create(&machine, &mut SuiteWork::after(&work)).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unfinished { .. }), "{error:?}");
    assert!(text(&error).contains("its daemon isn't running"), "{}", text(&error));
}

#[tokio::test]
async fn a_machine_that_was_thrown_away_before_it_was_ready_is_left_to_the_user() {
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
    machine.stack.mounts = vec![Mount { source: world.path().into(), target: "/srv/code".to_owned() }];
    for _ in 0..2 {
        world.multipass().create(&machine, &mut SuiteWork::default()).await.unwrap();
    }
    let mounts = &world.instance(machine.name.as_str())["mounts"];
    assert_eq!(mounts["/srv/code"], world.path().display().to_string());
    assert_eq!(world.calls().iter().filter(|call| call.starts_with("mount")).count(), 1);
}

#[tokio::test]
async fn mounts_that_are_turned_off_fail_with_the_setting_s_name() {
    let world = World::with(&["no-mounts"]);
    let mut machine = world.machine("mounts");
    machine.stack.mounts = vec![Mount { source: world.path().into(), target: "/srv".to_owned() }];
    let error = world.multipass().create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("multipass set local.privileged-mounts=true"), "{}", text(&error));
}

#[tokio::test]
async fn the_document_in_the_state_folder_is_the_owner_s_alone() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::with(&["prepares"]);
    let machine = world.machine("private");
    die_when(&world, &machine, async || launches(&world) == 1).await;
    let folder = world.path().join("state/multipass");
    let file = folder.join(format!("{}.user-data", machine.id));
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&file)), (0o700, 0o600));
}

// ---- what is refused before anything is made ----

async fn refused(world: &World, machine: &Machine) -> String {
    let mut work = SuiteWork::default();
    let error = world.multipass().create(machine, &mut work).await.unwrap_err();
    assert_eq!(work.made, [], "nothing was made");
    assert_eq!(launches(world), 0);
    text(&error)
}

#[tokio::test]
async fn what_multipass_would_refuse_is_refused_by_the_plan() {
    let world = World::stand_in();
    let plan = |change: &dyn Fn(&mut Machine)| {
        let mut machine = world.machine("planned");
        change(&mut machine);
        world.multipass().plan(&machine).map_err(|error| text(&error))
    };
    let small = plan(&|machine| machine.stack.memory = Size::bytes(127 << 20)).unwrap_err();
    assert_eq!(
        small,
        "vm.memory is 127M, and Multipass takes no less than 128M\nhint: write \"memory\": \"128M\" or more"
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
    machine.name = goloo_core::name::VmName::parse("primary").unwrap();
    let error = refused(&world, &machine).await;
    assert!(error.contains("primary instance") && error.contains("--as"), "{error}");
}

#[tokio::test]
async fn a_missing_folder_is_refused() {
    let world = World::stand_in();
    let mut machine = world.machine("mounts");
    machine.stack.mounts = vec![Mount { source: "/no/such".into(), target: "/srv".to_owned() }];
    assert!(refused(&world, &machine).await.contains("mkdir -p /no/such"));
}

#[test]
fn no_name_of_goloo_s_is_refused_by_multipass() {
    let longest = "a".repeat(63);
    for name in ["a", "a1", "web-1", "x--y", &longest] {
        let name = goloo_core::name::VmName::parse(name).unwrap();
        let world = World::stand_in();
        world.foreign(name.as_str());
    }
}

// ---- a daemon that is down, hangs, or isn't there ----

#[tokio::test]
async fn a_missing_multipass_is_unavailable_with_the_way_to_get_it() {
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
async fn a_daemon_that_is_down_or_hangs_is_unknown_and_unavailable_and_holds_up_nobody() {
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
            assert!(seen.reason.unwrap().contains("multipass"), "{fault}: with a hint");
        }
        let work = &mut SuiteWork::after(&SuiteWork::default());
        let errors = [
            provider.start(&record, work).await.unwrap_err(),
            provider.stop(&record, StopMode::Graceful, work).await.unwrap_err(),
            provider.delete(&record, work).await.unwrap_err(),
            provider.create(&machine, work).await.unwrap_err(),
            provider.strays(&[]).await.unwrap_err(),
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
async fn a_process_that_gives_no_answer_is_ended() {
    let world = World::with(&["hangs"]);
    let provider = world.limited(|limits| limits.answer = MOMENT);
    provider.strays(&[]).await.unwrap_err();
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
async fn a_daemon_that_hangs_for_a_moment_spoils_no_launch() {
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
async fn all_eras_are_read() {
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

// ---- nothing that goloo did not make is ever touched: the world's end looks for violations ----

#[tokio::test]
async fn a_name_that_is_taken_is_refused_in_every_state_and_the_undo_touches_nothing() {
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
        assert!(error.contains("is taken at Multipass"), "{state}: {error}");
        assert!(error.contains(&format!("goloo adopt {name} --provider multipass")), "{state}: {error}");
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
async fn a_name_that_someone_else_s_launch_is_preparing_is_refused() {
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

/// Someone took the name between the durable intent and the launch.
fn intent(machine: &Machine) -> SuiteWork {
    let mut work = SuiteWork::default();
    work.made.push((LAUNCH.to_owned(), machine.name.to_string()));
    work
}

#[tokio::test]
async fn a_foreign_machine_under_a_name_that_goloo_was_about_to_use_is_left_alone() {
    let world = World::stand_in();
    let machine = world.machine("raced");
    world.foreign(machine.name.as_str());
    let error = world.multipass().create(&machine, &mut intent(&machine)).await.unwrap_err();
    assert!(text(&error).contains("goloo didn't make it"), "{}", text(&error));
    let mut work = SuiteWork::default();
    world.multipass().delete(&record(&machine, &intent(&machine)), &mut work).await.unwrap();
    assert!(work.said()[0].contains("left alone"), "{:?}", work.said());
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn what_can_t_be_looked_into_is_neither_taken_nor_deleted() {
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
        assert!(text(&error).contains("can't be told whether goloo made it"), "{fault}: {}", text(&error));
        assert_eq!(world.running().await, 1);
    }
}

#[tokio::test]
async fn a_stopped_machine_of_unknown_origin_is_not_started_to_look_into_it() {
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
async fn a_name_that_was_used_again_by_someone_else_is_not_deleted() {
    let world = World::stand_in();
    let (machine, record) = world.create("again").await;
    let name = machine.name.as_str();
    world.by_hand(&["delete", "--purge", name]);
    world.foreign(name);
    let mut work = SuiteWork::default();
    world.multipass().delete(&record, &mut work).await.unwrap();
    assert!(work.said()[0].contains("isn't the one that goloo made"), "{:?}", work.said());
    assert_eq!(world.running().await, 1);
}

#[tokio::test]
async fn starting_a_machine_that_is_gone_launches_none() {
    let world = World::stand_in();
    let mut machine = world.machine("x");
    // Multipass's `start` would launch this one.
    machine.name = goloo_core::name::VmName::parse("primary").unwrap();
    let mut work = SuiteWork::default();
    work.made.push((RESOURCE.to_owned(), "primary".to_owned()));
    let record = record(&machine, &work);
    let error = world.multipass().start(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("goloo delete primary"), "{}", text(&error));
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
async fn a_suspended_machine_counts_as_stopped_and_wakes_up() {
    let world = World::stand_in();
    let (_, record) = world.create("asleep").await;
    let provider = world.multipass();
    assert!(provider.capabilities().suspend);
    for _ in 0..2 {
        provider.stop(&record, StopMode::Suspend, &mut SuiteWork::default()).await.unwrap();
        let (state, reason) = live(&provider, &record).await;
        assert_eq!(state, LiveState::Stopped);
        assert!(reason.unwrap().contains("suspended"));
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
async fn a_guest_that_ignores_power_down_is_forced_off_when_multipass_has_time_for_it_and_that_is_said() {
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
    assert!(said.contains("Multipass waits 5 minutes for it and does nothing else before"), "{said}");
    assert_eq!(world.running().await, 0);
}

/// Someone's `stop`, which its guest doesn't hear: the daemon is busy with it.
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
async fn a_forced_stop_and_a_delete_wait_behind_an_unheard_stop_and_say_why() {
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
async fn a_wait_for_a_busy_daemon_can_be_interrupted() {
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
async fn a_start_that_fails_says_what_the_machine_is_now() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    world.crash(&record).await;
    world.faults(&["no-ssh"]);
    let error = world.multipass().start(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(
        text(&error).contains("it is unknown") && text(&error).contains("stop --force"),
        "{}",
        text(&error)
    );
}

#[tokio::test]
async fn the_trash_is_stopped_with_the_way_out_and_is_purged_when_it_is_ours() {
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

// ---- a machine that boots: Multipass calls it Unknown until it has a lease ----

/// A machine that was started by hand and has no lease yet, as long as the fault `no-lease` is on.
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

/// A create that died while its machine had no lease; nobody had seen yet whose it is.
async fn died_while_booting(world: &World, machine: &Machine) -> SuiteWork {
    world.faults(&["no-lease"]);
    let work =
        die_when(world, machine, async || world.instance(machine.name.as_str())["state"] == "Unknown").await;
    assert!(work.made.iter().all(|(kind, _)| kind != RESOURCE), "{:?}", work.made);
    work
}

#[tokio::test]
async fn a_machine_that_boots_is_unknown_and_the_reason_alarms_nobody() {
    let world = World::stand_in();
    let (_, record, mut start) = booting(&world, "early").await;
    let (state, reason) = live(&world.multipass(), &record).await;
    assert_eq!(state, LiveState::Unknown);
    assert!(reason.unwrap().starts_with("it is booting, and Multipass has no address of it yet"));
    world.faults(&[]);
    start.wait().unwrap();
    assert_eq!(live(&world.multipass(), &record).await, (LiveState::Running, None));
}

#[tokio::test]
async fn a_start_waits_for_a_machine_that_boots_already() {
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
async fn a_start_waits_no_longer_for_what_multipass_gave_up() {
    for fault in ["no-ssh", "ends-while-starting"] {
        let world = World::stand_in();
        let (_, record) = world.create("mute").await;
        world.crash(&record).await;
        world.faults(&[fault]);
        let began = Instant::now();
        let error = world.multipass().start(&record, &mut SuiteWork::default()).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(15), "{fault}");
        assert!(text(&error).contains(&format!("goloo stop --force {}", record.name)), "{}", text(&error));
    }
}

#[tokio::test]
async fn a_graceful_stop_waits_until_the_guest_can_hear_it() {
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
async fn a_forced_stop_and_a_delete_wait_for_no_lease() {
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
async fn a_create_that_died_while_its_machine_booted_is_resumed() {
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
async fn a_create_that_died_while_its_machine_booted_can_be_deleted() {
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
async fn a_create_that_died_before_the_guest_had_its_user_data_is_deleted_and_resumed_when_it_has() {
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
async fn a_machine_that_nobody_launches_any_more_isn_t_waited_for_as_long_as_an_image() {
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
async fn a_machine_that_ended_while_it_started_is_kept_and_said_at_once() {
    let world = World::with(&["ends-while-starting"]);
    let machine = world.machine("ended");
    let mut work = SuiteWork::default();
    let began = Instant::now();
    let error = world.multipass().create(&machine, &mut work).await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(matches!(error, ProviderError::Unfinished { .. }), "{error:?}");
    assert!(text(&error).contains("ended while it was starting"), "{}", text(&error));
    delete(&world, &record(&machine, &work)).await.unwrap();
    assert!(world.ledger().await.is_empty(), "it is known to be ours");
}

// ---- guests that don't answer ----

#[tokio::test]
async fn states_are_asked_for_without_asking_guests() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    let provider = world.multipass();
    live(&provider, &record).await;
    provider.strays(&[]).await.unwrap();
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
async fn a_machine_without_sshd_is_shown_stopped_and_deleted() {
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

/// An address at which nothing answers, as that of a machine that is halted.
const SILENT: &str = "255.255.255.255";

/// A machine whose process is halted.
async fn frozen(world: &World) -> Record {
    let (machine, mut record) = world.create("frozen").await;
    record.local.as_mut().unwrap().ip = SILENT.parse().unwrap();
    world.faults(&[&format!("frozen {}", machine.name)]);
    record
}

#[tokio::test]
async fn a_frozen_machine_is_shown_stopped_and_deleted_and_holds_up_nobody() {
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
async fn a_start_of_a_frozen_machine_says_so_and_holds_up_nobody() {
    let world = World::stand_in();
    let record = frozen(&world).await;
    let provider = world.limited(|limits| limits.answer = MOMENT);
    let error = provider.start(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("its guest doesn't answer"), "{}", text(&error));
    assert!(text(&error).contains(&format!("goloo stop --force {}", record.name)), "{}", text(&error));
    assert_eq!(provider.adopt(&record.name, None).await.unwrap().made, None);
    assert_eq!(world.file("busy"), "");
}

#[tokio::test]
async fn a_machine_that_has_another_address_by_now_is_found_there() {
    let world = World::stand_in();
    let (_, mut record) = world.create("moved").await;
    let ip = record.ip().unwrap().to_owned();
    record.local.as_mut().unwrap().ip = SILENT.parse().unwrap();
    let seen = world.multipass().observe(&[&record]).await.remove(0);
    assert_eq!((seen.state, seen.ip, seen.reason), (LiveState::Running, Some(ip), None));
}

#[tokio::test]
async fn what_multipass_shows_in_place_of_an_address_is_none() {
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
    assert_eq!(local(made).ip, "127.0.0.2");
}

// ---- a launch whose client still lives ----

/// A machine that is up while its launch waits for cloud-init, as long as the fault `initializes` is on.
async fn initializing(world: &World) -> Record {
    world.faults(&["initializes"]);
    world.create("early").await.1
}

/// Polls an operation that must wait for the launch for a moment, and checks that Multipass was not asked for it.
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
async fn a_stop_waits_until_the_launch_is_over() {
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
async fn a_start_waits_until_the_launch_is_over() {
    let world = World::stand_in();
    let record = initializing(&world).await;
    world.by_hand(&["stop", "--force", record.name.as_str()]);
    let provider = world.multipass();
    waits_for_launch(&world, "start", provider.start(&record, &mut SuiteWork::default())).await;
    world.faults(&[]);
    provider.start(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(world.running().await, 1, "beside the launch it would never have come up");
}

/// A machine with a snapshot, at rest, while its launch still waits.
async fn snapshotted_while_initializing(world: &World) -> Record {
    let record = initializing(world).await;
    let name = record.name.as_str();
    world.by_hand(&["stop", "--force", name]);
    assert!(world.by_hand(&["snapshot", name, "--name", "one"]).status.success());
    record
}

#[tokio::test]
async fn a_restore_waits_until_the_launch_is_over() {
    let world = World::stand_in();
    let record = snapshotted_while_initializing(&world).await;
    let provider = world.multipass();
    waits_for_launch(&world, "restore", provider.restore(&record, "one")).await;
    world.faults(&[]);
    provider.restore(&record, "one").await.unwrap();
    assert_eq!(world.file("died"), "", "the daemon lives");
}

#[tokio::test]
async fn a_restore_after_a_launch_that_failed_leaves_the_daemon_alive() {
    let world = World::with(&["never-initialized"]);
    let (_, record) = world.create("failed").await;
    let provider = world.multipass();
    provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    provider.take(&record, "one").await.unwrap();
    provider.restore(&record, "one").await.unwrap();
    assert_eq!(world.file("died"), "");
}

#[tokio::test]
async fn a_restore_leaves_mounts_as_they_are() {
    let world = World::stand_in();
    let mut machine = world.machine("mounts");
    machine.stack.mounts = vec![Mount { source: world.path().into(), target: "/srv/code".to_owned() }];
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
async fn a_launch_that_isn_t_over_in_time_is_said_and_can_be_interrupted() {
    let world = World::stand_in();
    let record = initializing(&world).await;
    let provider = world.limited(|limits| limits.launched = MOMENT);
    let error = provider.stop(&record, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("isn't over yet"), "{}", text(&error));
    assert!(text(&error).contains(&format!("goloo stop --force {}", record.name)), "{}", text(&error));
    let mut work = SuiteWork::default();
    work.stopper().send_replace(true);
    let error = world.multipass().stop(&record, StopMode::Force, &mut work).await.unwrap_err();
    assert!(matches!(error, ProviderError::Interrupted), "{error:?}");
    let mut work = SuiteWork::default();
    provider.stop(&record, StopMode::Force, &mut work).await.unwrap();
    assert!(work.said()[0].contains("forced off all the same"), "{:?}", work.said());
    assert_eq!(world.running().await, 0, "a guest that hangs in its launch can be powered off");
    let error = provider.start(&record, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("isn't over yet"), "{}", text(&error));
    delete(&world, &record).await.unwrap();
    assert!(world.ledger().await.is_empty(), "a delete waits for no launch");
}

// ---- users whom Multipass refuses ----

#[tokio::test]
async fn who_is_refused_is_told_so_by_every_operation() {
    for (fault, why) in [
        ("access-denied", "this user may not use Multipass's socket"),
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
            provider.strays(&[]).await.unwrap_err(),
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

// ---- launches that are refused ----

#[tokio::test]
async fn a_launch_that_failed_before_the_name_was_checked_proves_nothing() {
    let world = World::stand_in();
    let machine = world.machine("raced");
    let name = machine.name.as_str();
    // Someone takes the name just before goloo's launch, which then fails without having come to the name.
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
    assert!(text(&error).contains("goloo didn't make it"), "{}", text(&error));
    assert!(work.made.iter().all(|(kind, _)| kind != RESOURCE), "{:?}", work.made);
    delete(&world, &record(&machine, &work)).await.unwrap();
    assert_eq!(world.instance(name)["by"], "someone", "it is left");
}

#[tokio::test]
async fn what_is_logged_before_a_refusal_changes_nothing() {
    let world = World::with(&["logs"]);
    let (_, record) = world.create("logged").await;
    let provider = world.multipass();
    assert_eq!(live(&provider, &record).await.0, LiveState::Running);
    delete(&world, &record).await.unwrap();
    assert_eq!(live(&provider, &record).await.0, LiveState::Missing);
}

#[tokio::test]
async fn an_image_file_of_any_name_is_found() {
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
async fn small_machines_are_made_where_the_version_allows_them() {
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
    assert!(text(&error).contains("a snapshot of this name is there already"), "{}", text(&error));
    provider.restore(&record, "clean").await.unwrap();
    let error = provider.restore(&record, "other").await.unwrap_err();
    assert!(text(&error).contains("no such snapshot"), "{}", text(&error));
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
async fn snapshots_and_copies_want_a_stopped_machine_and_say_how() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    let provider = world.multipass();
    let copy = provider_copy(&world);
    let name = &record.name;
    for wanted in [format!("hint: goloo stop {name}"), format!("goloo stop --force {name} loses")] {
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
async fn a_copy_is_made_once_and_is_stopped() {
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
async fn a_copy_whose_client_died_is_found() {
    let world = World::stand_in();
    let source = stopped(&world, "source").await;
    let copy = provider_copy(&world);
    world.faults(&["client-dies"]);
    let mut work = SuiteWork::default();
    world.multipass().clone_machine(&source, &copy, &mut work).await.unwrap_err();
    world.faults(&[]);
    world.multipass().clone_machine(&source, &copy, &mut SuiteWork::after(&work)).await.unwrap();
}

/// A copy that was begun, with what was noted of it; its record has the source's keys: the same disk, the
/// same user-data.
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
async fn a_copy_whose_client_died_is_not_deleted_before_it_can_be_looked_into() {
    let world = World::stand_in();
    let copy = begun_copy(&world).await;
    let error = delete(&world, &copy).await.unwrap_err();
    assert!(text(&error).contains("can't be told"), "{}", text(&error));
    world.by_hand(&["start", copy.name.as_str()]);
    delete(&world, &copy).await.unwrap();
    assert!(world.instance(copy.name.as_str()).is_null());
}

#[tokio::test]
async fn what_took_a_copy_s_name_meanwhile_is_not_touched() {
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
async fn a_copy_never_takes_a_name_that_is_taken() {
    let world = World::stand_in();
    let source = stopped(&world, "source").await;
    let copy = provider_copy(&world);
    world.foreign(copy.name.as_str());
    let mut work = SuiteWork::default();
    for state in ["Running", "Stopped"] {
        let error = world.multipass().clone_machine(&source, &copy, &mut work).await.unwrap_err();
        assert!(text(&error).contains("is taken at Multipass"), "{state}: {}", text(&error));
        assert_eq!(work.made, []);
        world.by_hand(&["stop", copy.name.as_str()]);
    }
}

#[tokio::test]
async fn an_old_multipass_that_can_t_copy_says_which_can() {
    let world = World::with(&["era-1.13"]);
    let source = stopped(&world, "source").await;
    let copy = provider_copy(&world);
    let error = world.multipass().clone_machine(&source, &copy, &mut SuiteWork::default()).await.unwrap_err();
    assert!(text(&error).contains("clones with 1.15"), "{}", text(&error));
}

// ---- strays, adoption, the own way in ----

#[tokio::test]
async fn strays_are_told_apart_and_looking_starts_none() {
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
    let strays = world.multipass().strays(&[&known]).await.unwrap();
    let found: Vec<_> = strays.iter().map(|stray| (stray.name.as_str(), stray.state, stray.ours)).collect();
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
async fn an_adopted_machine_keeps_its_name_there_and_is_deleted_by_it() {
    let world = World::stand_in();
    world.foreign("Their-Box");
    let mut machine = world.machine("x");
    machine.name = goloo_core::name::VmName::parse("their-box").unwrap();
    let provider = world.multipass();
    let error = provider.adopt(&machine.name, None).await.unwrap_err();
    assert!(text(&error).contains("multipass list") && text(&error).contains("--id"), "{}", text(&error));
    let adopted = provider.adopt(&machine.name, Some("Their-Box")).await.unwrap();
    assert_eq!(local(adopted.made.clone().unwrap()).ip, "127.0.0.2");
    world.adopted("Their-Box");
    let mut work = SuiteWork::default();
    work.made.extend(adopted.resources);
    let record = proven(Record { ssh: None, ..record(&machine, &work) });
    assert_eq!(live(&provider, &record).await.0, LiveState::Running);
    let way = provider.own_way_in(&record, Errand::Run(&["ls".to_owned(), "-l".to_owned()])).unwrap();
    let way: Vec<_> = way.iter().skip(1).map(|word| word.to_string_lossy()).collect();
    assert_eq!(way, ["exec", "-n", "Their-Box", "--", "ls", "-l"]);
    provider.stop(&record, StopMode::Graceful, &mut SuiteWork::default()).await.unwrap();
    let off = provider.adopt(&machine.name, Some("Their-Box")).await.unwrap();
    assert_eq!(off.made, None, "a stopped one has no address");
    delete(&world, &record).await.unwrap();
    assert!(world.instance("Their-Box").is_null());
}

#[tokio::test]
async fn files_with_colons_and_dashes_are_files() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    let way = |errand| {
        let words = world.multipass().own_way_in(&record, errand).unwrap();
        words.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let there = format!("{}:/tmp", record.name);
    let upload = |from| way(Errand::Upload { from, to: "/tmp", recursive: true });
    assert_eq!(upload("a:b"), ["transfer", "-r", "./a:b", &there]);
    assert_eq!(upload("-"), ["transfer", "-r", "./-", &there]);
    assert_eq!(upload("/a:b"), ["transfer", "-r", "/a:b", &there]);
    let download = way(Errand::Download { from: "/tmp", to: "here", recursive: false });
    assert_eq!(download, ["transfer", &there, "here"]);
    assert_eq!(way(Errand::Shell), ["shell", record.name.as_str()]);
}

#[tokio::test]
async fn goloo_s_part_can_be_run_again_by_multipass_s_own_exec() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    assert!(world.multipass().restore_access(&record).await.unwrap());
    assert_eq!(world.file("restored"), format!("{}\n", record.name));
    world.faults(&["no-sshd"]);
    let error = world.multipass().restore_access(&record).await.unwrap_err();
    assert!(text(&error).contains("Connection refused"), "{}", text(&error));
}

#[tokio::test]
async fn there_is_no_console_and_that_is_said() {
    let world = World::stand_in();
    let (_, record) = world.create("x").await;
    let error = world.multipass().console(&record, 0).await.unwrap_err();
    assert!(text(&error).contains(&format!("goloo logs {}", record.name)), "{}", text(&error));
}

#[tokio::test]
async fn doctor_finds_what_is_wrong() {
    let world = World::stand_in();
    let finding = goloo_multipass::doctor(&world.settings()).await;
    assert!(finding.ok && finding.what == "Multipass 1.16.3", "{finding:?}");
    for (fault, why, hint) in [
        ("daemon-down", "its daemon isn't running", "sudo snap restart multipass"),
        ("no-certificate", "its daemon isn't running", "sudo snap restart multipass"),
        ("access-denied", "this user may not use Multipass's socket", "multipass_socket"),
        ("not-authenticated", "this user isn't authenticated with Multipass", "multipass authenticate"),
    ] {
        world.faults(&[fault]);
        let finding = goloo_multipass::doctor(&world.settings()).await;
        assert!(!finding.ok && finding.what.contains(why), "{fault}: {finding:?}");
        assert!(cfg!(target_os = "macos") || finding.hint.contains(hint), "{fault}: {finding:?}");
    }
    assert_eq!(world.calls().iter().filter(|call| call.starts_with("list")).count(), 4);
    world.faults(&["hangs"]);
    let mut settings = world.settings();
    settings.limits.answer = MOMENT;
    let finding = goloo_multipass::doctor(&settings).await;
    assert!(!finding.ok && finding.what.contains("no answer"), "{finding:?}");
}

/// A client whose guest, or which itself, writes without end: it is killed, and nothing of it is kept.
#[tokio::test]
async fn a_multipass_that_answers_without_end_is_ended() {
    let world = World::stand_in();
    for (stream, says) in [(1, "answered with more than 4194304 bytes"), (2, "answered with more than")] {
        let mut settings = world.settings();
        settings.program = world.path().join(format!("endless-{stream}")).into();
        let script = format!("#!/bin/sh\ncat /dev/zero >&{stream}\n");
        common::write_program(Path::new(&settings.program), &script);
        let begun = Instant::now();
        let finding = goloo_multipass::doctor(&settings).await;
        assert!(!finding.ok && finding.what.contains(says), "{finding:?}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}

// ---- the tests themselves ----

#[tokio::test]
async fn a_test_at_the_real_multipass_leaves_nothing_behind_that_is_still_being_prepared() {
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

/// A record that anybody who writes to the store can have written: it leads to an instance of somebody else.
fn forged(instance: &str, machine: &Machine) -> Record {
    let mut work = SuiteWork::default();
    work.made.push((RESOURCE.to_owned(), instance.to_owned()));
    let mut record = record(machine, &work);
    // It isn't even made with another key: the digest of a true record is copied.
    record.github_users = vec!["mallory".to_owned()];
    record
}

#[tokio::test]
async fn a_record_of_somebody_else_s_in_a_shared_store_touches_no_instance_that_wasn_t_made_here() {
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
                said.contains("wasn't made with this state folder") || said.contains("can't be told"),
                "{number}: {said}"
            );
        }
        assert!(provider.own_way_in(&record, Errand::Shell).is_none());
        assert_eq!(world.instance(instance), before, "{instance}");
    }
}

#[tokio::test]
async fn a_record_of_earlier_versions_leads_to_an_instance_that_carries_the_folder_s_key() {
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
async fn a_changed_record_of_one_vm_does_not_touch_another_vm_of_the_same_folder() {
    let world = World::stand_in();
    let (machine, prod) = world.create("prod").await;
    let trust = Trust { store_is_private: false, ..world.settings().trust };
    let provider = MultipassProvider::new(Settings { trust, ..world.settings() });
    let mut test = record(&world.machine("test"), &SuiteWork::default());
    // All of prod's, but for the name.
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
    assert!(text(&error).contains("wasn't made with this state folder"), "{}", text(&error));
    assert_eq!(world.instance("precious")["state"], "Running");
}
