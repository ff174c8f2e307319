//! Baked images in AWS, against moto.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::faulty_moto;
use crate::common::moto::{Moto, REGION};
use goloo_aws::AwsProvider;
use goloo_model::provider::{
    BakedImage, Endpoints, KeptImage, KeptImageState, Machine, Provider, ProviderError, StopMode,
};
use goloo_model::record::{Baking, Digest, Record};
use goloo_testkit::aws_answers::{Image, describe_images};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::provider_suite::{Bench, SuiteWork, proven, record_with};

const UBUNTU: &str = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id";

fn key(text: &str) -> Digest {
    Digest::of_parts(&[text.as_bytes()])
}

/// The engine's record of a created machine.
fn record_of(machine: &Machine, work: &SuiteWork, made: Endpoints) -> Record {
    let mut record = record_with(machine, goloo_aws::INFO.id, work);
    made.write_to(&mut record);
    proven(record)
}

/// A stopped machine, as the engine has it before it keeps its image.
async fn stopped(provider: &AwsProvider, machine: &Machine) -> Record {
    let mut work = SuiteWork::default();
    let made = provider.create(machine, &mut work).await.unwrap();
    let record = record_of(machine, &work, made);
    provider.stop(&record, StopMode::Force, &mut SuiteWork::default()).await.unwrap();
    record
}

async fn bake(
    provider: &AwsProvider,
    record: &Record,
    key: &Digest,
    work: &mut SuiteWork,
) -> Result<BakedImage, ProviderError> {
    let baking = Baking { key: key.clone(), memory: false };
    provider.bakes().unwrap().keep(record, &baking, work).await
}

async fn list(provider: &AwsProvider) -> Vec<KeptImage> {
    provider.bakes().unwrap().kept().unwrap().list(&[]).await.unwrap()
}

async fn remove(provider: &AwsProvider, image: &KeptImage) -> Result<(), ProviderError> {
    provider.bakes().unwrap().kept().unwrap().remove(image).await
}

fn images(moto: &Moto) -> Vec<String> {
    moto.aws.images(REGION)
}

#[tokio::test]
async fn an_image_is_made_once_and_recorded_before() {
    let moto = Moto::new();
    let (provider, machine) = (moto.with(|_| {}), moto.machine("web"));
    let bakes = provider.bakes().unwrap();
    assert_eq!(bakes.base(&machine.stack).await.unwrap(), None, "there are no images");
    let record = stopped(&provider, &machine).await;
    let mut work = SuiteWork::default();
    let made = bake(&provider, &record, &key("a"), &mut work).await.unwrap();
    assert_eq!(made, BakedImage { key: key("a"), disk: 8 << 30, size: 8 << 30, memory: None });
    assert_eq!(work.made.len(), 1);
    let (kind, name) = &work.made[0];
    assert!(kind == "ec2-image" && name.ends_with(record.id.as_str()), "{name}");
    assert_eq!(bake(&provider, &record, &key("a"), &mut work).await.unwrap(), made);
    assert_eq!(images(&moto).len(), 2, "an image and its snapshot");

    let base = bakes.base(&machine.stack).await.unwrap();
    assert_eq!(base, Some(moto.aws.public_parameter(REGION, UBUNTU)));
    let found = bakes.find(&key("a"), &machine.stack).await.unwrap();
    assert_eq!(found.unwrap().disk, 8 << 30);
    assert_eq!(bakes.find(&key("b"), &machine.stack).await.unwrap(), None);
    let mut elsewhere = machine.stack.clone();
    elsewhere.region = Some("eu-west-1".to_owned());
    assert_eq!(bakes.find(&key("a"), &elsewhere).await.unwrap(), None);
    provider.delete(&record, &mut SuiteWork::default()).await.unwrap();
    assert_eq!(images(&moto).len(), 2, "the image outlives its machine");
}

#[tokio::test]
async fn a_machine_is_made_from_the_baked_image_of_its_key() {
    let moto = Moto::new();
    let provider = moto.with(|_| {});
    let record = stopped(&provider, &moto.machine("web")).await;
    bake(&provider, &record, &key("a"), &mut SuiteWork::default()).await.unwrap();
    provider.delete(&record, &mut SuiteWork::default()).await.unwrap();
    let mut machine = moto.machine("copy");
    machine.baked = Some(key("a"));
    let plan = provider.plan(&machine).unwrap();
    assert!(plan.steps.concat().contains("the baked image of the stack"), "{:?}", plan.steps);
    let image = list(&provider).await.remove(0);
    let mut work = SuiteWork::default();
    let made = provider.create(&machine, &mut work).await.unwrap();
    assert_eq!(record_of(&machine, &work, made).details["amiID"], image.id);

    machine.baked = Some(key("b"));
    let error = provider.create(&machine, &mut SuiteWork::default()).await.unwrap_err();
    assert!(error.to_string().contains("was removed meanwhile"), "{error}");
}

#[tokio::test]
async fn an_image_of_another_account_is_never_used() {
    let moto = Moto::new();
    let (provider, machine) = (moto.with(|_| {}), moto.machine("web"));
    // Its tags are this account's, as those of a shared image can be.
    let theirs = moto.aws.public_parameter(REGION, UBUNTU);
    let key = key("a");
    moto.aws.query(
        "ec2",
        REGION,
        &[
            ("Action", "CreateTags"),
            ("ResourceId.1", &theirs),
            ("Tag.1.Key", "goloo:baked"),
            ("Tag.1.Value", key.as_str()),
        ],
    );
    let bakes = provider.bakes().unwrap();
    assert_eq!(bakes.find(&key, &machine.stack).await.unwrap(), None);
    assert_eq!(bakes.base(&machine.stack).await.unwrap(), None);
    assert_eq!(list(&provider).await, []);
}

#[tokio::test]
async fn a_removal_that_was_interrupted_is_listed_and_completed() {
    let moto = Moto::new();
    let provider = moto.with(|_| {});
    let record = stopped(&provider, &moto.machine("web")).await;
    bake(&provider, &record, &key("a"), &mut SuiteWork::default()).await.unwrap();
    let image = list(&provider).await.remove(0);
    assert_eq!((image.state, image.stack.as_str()), (KeptImageState::Available, record.stack.as_str()));
    assert_eq!((image.key.clone(), image.vm.clone()), (Some(key("a")), Some(record.id.clone())));
    assert_eq!((image.snapshots.len(), image.size), (1, 8 << 30));
    moto.aws.query("ec2", REGION, &[("Action", "DeregisterImage"), ("ImageId", &image.id)]);
    let left = list(&provider).await.remove(0);
    assert_eq!((left.state, &left.snapshots), (KeptImageState::Leftover, &image.snapshots));
    // With what was listed before, too.
    remove(&provider, &image).await.unwrap();
    remove(&provider, &left).await.unwrap();
    assert_eq!((list(&provider).await, images(&moto)), (vec![], vec![]));
}

#[tokio::test]
async fn an_image_that_aws_cannot_make_is_removed_and_the_reason_is_said() {
    let moto = Moto::new();
    let faults = FaultProxy::start(&moto.queue.endpoint);
    let provider = faulty_moto::provider(&faults);
    let record = stopped(&provider, &moto.machine("web")).await;
    faults.reset();
    let asked = AtomicUsize::new(0);
    faults.answer("DescribeImages", move |_| {
        // The first one precedes CreateImage.
        let failed = Image {
            state: "failed".to_owned(),
            state_reason: Some("the snapshot failed".to_owned()),
            ..Image::new("ami-0abc0abc")
        };
        (asked.fetch_add(1, Ordering::Relaxed) > 0).then(|| describe_images(&[failed]))
    });
    let error = bake(&provider, &record, &key("a"), &mut SuiteWork::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "AWS couldn't make the image: the snapshot failed");
    let actions = faults.actions();
    assert_eq!(actions.iter().filter(|action| *action == "DeregisterImage").count(), 1, "{actions:?}");
}

#[tokio::test]
async fn the_newest_of_several_images_with_a_key_is_used() {
    let moto = Moto::new();
    let faults = FaultProxy::start(&moto.queue.endpoint);
    let provider = faulty_moto::provider(&faults);
    let image = |id: &str, root_gib, month| Image {
        root_gib,
        creation_date: format!("2026-{month}-15T10:30:00.000Z"),
        ..Image::new(id)
    };
    let images = [image("ami-0a", 7, "03"), image("ami-0b", 9, "05"), image("ami-0c", 8, "04")];
    faults.answer("DescribeImages", move |_| Some(describe_images(&images)));
    let found = provider.bakes().unwrap().find(&key("a"), &moto.machine("web").stack).await.unwrap();
    assert_eq!(found.unwrap().disk, 9 << 30);
}

#[tokio::test]
async fn a_bake_and_a_removal_that_fail_at_any_request_are_completed_when_repeated() {
    let moto = Moto::new();
    let faults = FaultProxy::start(&moto.queue.endpoint);
    let provider = || faulty_moto::provider(&faults);
    let record = stopped(&provider(), &moto.machine("web")).await;
    let kinds = [Fault::CutBefore, Fault::ReplyLost, Fault::Status500, Fault::Throttled, Fault::ExpiredToken];
    for fault in kinds {
        for number in 1.. {
            let when = format!("{fault:?} from request {number} on");
            let mut work = SuiteWork::default();
            faults.reset();
            faults.fault(At::From(number), fault.clone());
            bake(&provider(), &record, &key("a"), &mut work).await.ok();
            let baking = faults.struck();
            faults.reset();
            bake(&provider(), &record, &key("a"), &mut work).await.unwrap();
            assert_eq!(images(&moto).len(), 2, "{when}");
            let image = list(&provider()).await.remove(0);
            faults.reset();
            faults.fault(At::From(number), fault.clone());
            remove(&provider(), &image).await.ok();
            let removing = faults.struck();
            faults.reset();
            for left in list(&provider()).await {
                remove(&provider(), &left).await.unwrap();
            }
            assert_eq!(images(&moto), [""; 0], "{when}");
            if baking + removing == 0 {
                assert!(number > 3, "too few requests: {number}");
                break;
            }
        }
    }
}
