//! VMs with names in Route 53, in ministack, with an engine and a store for them.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use goloo_aws::AwsProvider;
use goloo_aws::details::{Details, RecordedVm};
use goloo_aws::dns::{self, Zone};
use goloo_aws::publish::ForeignNames;
use goloo_engine::{EmergencyDump, Engine, EngineError, Interrupt, ResumeInputs, Resumed};
use goloo_model::dns::{DnsChange, RecordSet};
use goloo_model::events::NoEvents;
use goloo_model::name::{OperationId, VmName};
use goloo_model::provider::{Endpoints, resource};
use goloo_model::record::Record;
use goloo_model::spec::Dns;
use goloo_model::store::Store;
use goloo_testkit::aws_answers::Reply;
use goloo_testkit::aws_emulators::AwsEmulator;
use goloo_testkit::fake_provider::{FakeGuest, FakeProvider};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
use goloo_testkit::memory_store::MemoryStore;
use goloo_testkit::provider_suite::SuiteWork;
use goloo_testkit::samples;

use super::settings;

pub const REGION: &str = "us-east-1";
/// An address a VM no longer has.
pub const OLD: &str = "192.0.2.50";

pub struct NoEmergencyDump;

impl EmergencyDump for NoEmergencyDump {
    fn keep(&self, _: &VmName, _: &[u8]) -> io::Result<PathBuf> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An account with a zone, and a store.
pub struct World {
    pub aws: Arc<AwsEmulator>,
    pub faults: FaultProxy,
    pub zone: String,
    pub store: MemoryStore,
    /// How many starts [`World::lend_addresses`] saw.
    starts: Arc<AtomicUsize>,
}

pub fn blue() -> VmName {
    samples::name("web-blue")
}

pub fn green() -> VmName {
    samples::name("web-green")
}

/// The DNS settings of both VMs: the same stack.
pub fn web() -> Dns {
    Dns {
        hostname: "web".to_owned(),
        domain: "example.com".to_owned(),
        ttl: 60,
        zone_id: None,
        is_apex_domain: true,
        cname_aliases: vec!["WWW".to_owned(), "*".to_owned()],
    }
}

/// The names of a stack that doesn't specify its host: each VM has its own name, and they share the others.
pub fn by_host(name: &VmName) -> Dns {
    Dns { hostname: name.to_string(), cname_aliases: vec!["www".to_owned()], ..web() }
}

impl World {
    pub fn new() -> Self {
        Self::beside(Arc::new(AwsEmulator::ministack()))
    }

    /// Creates a world with its own zone in this account.
    pub fn beside(aws: Arc<AwsEmulator>) -> Self {
        let zone = aws.create_zone("example.com");
        let faults = FaultProxy::start(aws.endpoint());
        Self { aws, faults, zone, store: MemoryStore::default(), starts: Arc::default() }
    }

    /// Creates two VMs of the same stack; the first one owns the names.
    pub async fn blue_and_green() -> Self {
        Self::new().with_blue_and_green().await
    }

    pub async fn with_blue_and_green(self) -> Self {
        self.vm(&blue(), &web()).await;
        self.vm(&green(), &web()).await;
        self
    }

    /// An instance with its record and, as far as they are free, its names.
    pub async fn vm(&self, name: &VmName, dns: &Dns) -> Record {
        let mut record = self.without_names(name);
        let mut vm = RecordedVm::of(&record).unwrap();
        let mut work = SuiteWork::default();
        let (client, wanted) = (self.client(), dns::wanted(dns, vm.public_ip.as_deref().unwrap()));
        let made = Zone::new(&client, &self.zone)
            .publish(name, &wanted, ForeignNames::Stay, &mut work)
            .await
            .unwrap();
        vm.fqdn = wanted.first().filter(|own| made.contains(own)).map(|own| own.name.clone());
        (vm.details.zone_id, vm.details.dns_records) = (Some(self.zone.clone()), made);
        Endpoints::from(vm).write_to(&mut record);
        let token = OperationId::generate();
        record.resources = work.made.iter().map(|(kind, id)| resource(kind, id, &token)).collect();
        self.keep(&mut record).await;
        record
    }

    pub fn without_names(&self, name: &VmName) -> Record {
        let mut record = samples::in_aws(name);
        let id = record.id.to_string();
        let run = self.aws.query(
            "ec2",
            REGION,
            &[
                ("Action", "RunInstances"),
                ("ImageId", "ami-0abc0abc"),
                ("MinCount", "1"),
                ("MaxCount", "1"),
                ("TagSpecification.1.ResourceType", "instance"),
                ("TagSpecification.1.Tag.1.Key", "goloo:id"),
                ("TagSpecification.1.Tag.1.Value", &id),
            ],
        );
        let text =
            |tag: &str| run.split(&format!("<{tag}>")).nth(1).unwrap().split('<').next().unwrap().to_owned();
        let mut vm = RecordedVm::of(&record).unwrap();
        (vm.details.stack_name, vm.details.stack_id, vm.fqdn) = (None, None, None);
        (vm.details.instance_id, vm.public_ip) = (Some(text("instanceId")), text("ipAddress").parse().ok());
        Endpoints::from(vm).write_to(&mut record);
        record
    }

    pub async fn keep(&self, record: &mut Record) {
        let mut lock = self.store.lock(&record.name, &samples::owner(1)).await.unwrap();
        lock.create(record, &samples::snapshot()).await.unwrap();
    }

    pub async fn change_record(&self, name: &VmName, change: impl FnOnce(&mut Record)) {
        let mut lock = self.store.lock(name, &samples::owner(1)).await.unwrap();
        let mut record = lock.load().await.unwrap().unwrap().record;
        change(&mut record);
        lock.save(&mut record).await.unwrap();
    }

    /// Simulates that a VM that owns the names had another address until it was stopped.
    pub async fn had_another_address(&self, name: &VmName) {
        for name in ["web.example.com", "example.com"] {
            self.overwrite(name, "A", &[OLD]).await;
        }
        self.change_record(name, |record| {
            let mut vm = RecordedVm::of(record).unwrap();
            vm.public_ip = OLD.parse().ok();
            for known in vm.details.dns_records.iter_mut().filter(|known| known.kind == "A") {
                known.value = OLD.into();
            }
            Endpoints::from(vm).write_to(record);
        })
        .await;
    }

    pub fn client(&self) -> aws_sdk_route53::Client {
        let config = aws_sdk_route53::Config::builder()
            .behavior_version(aws_sdk_route53::config::BehaviorVersion::v2026_01_12())
            .region(aws_sdk_route53::config::Region::new(REGION))
            .endpoint_url(self.aws.endpoint())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .credentials_provider(settings("", REGION).credentials.unwrap())
            .build();
        aws_sdk_route53::Client::from_conf(config)
    }

    /// The provider of a new goloo process.
    pub fn provider(&self) -> AwsProvider {
        super::faulty_moto::provider(&self.faults)
    }

    pub async fn engine<T>(&self, act: impl AsyncFnOnce(Engine<'_>) -> T) -> T {
        self.engine_on(&self.store, act).await
    }

    pub async fn engine_on<T>(&self, store: &dyn Store, act: impl AsyncFnOnce(Engine<'_>) -> T) -> T {
        let (provider, guest, interrupt) = (self.provider(), FakeGuest::provisioned(), Interrupt::default());
        act(Engine {
            store,
            provider: &provider,
            guest: &guest,
            host_names: &FakeProvider::default(),
            events: &NoEvents,
            interrupt: &interrupt,
            rescue: &NoEmergencyDump,
            owner: &samples::owner(1),
            here: &samples::here(),
            limit: Duration::from_secs(60),
            follow_log: false,
        })
        .await
    }

    pub async fn swap(&self, name: &VmName) -> Result<DnsChange, EngineError> {
        self.engine(async |engine| engine.dns_swap(name, None, false, None).await).await
    }

    pub async fn rollback(&self, name: &VmName) -> Result<DnsChange, EngineError> {
        self.engine(async |engine| engine.dns_rollback(name, false, None).await).await
    }

    pub async fn resume(&self, name: &VmName) -> Result<Resumed, EngineError> {
        let rebuild = |_: &Record, _: &_, _: &_| unreachable!("no create is resumed");
        self.engine(async |engine| engine.resume(name, None, ResumeInputs::of_create(&rebuild)).await).await
    }

    pub async fn record(&self, name: &VmName) -> Record {
        self.store.load(name).await.unwrap().unwrap().record
    }

    pub async fn address(&self, name: &VmName) -> String {
        self.record(name).await.ip().unwrap().to_owned()
    }

    /// Simulates what ministack doesn't: an address goes back to AWS when the instance is stopped, and a start lends it
    /// another one. Must be repeated after each reset of the faults.
    pub fn lend_addresses(&self) {
        let starts = Arc::clone(&self.starts);
        self.faults.answer("StartInstances", move |_| {
            starts.fetch_add(1, Ordering::SeqCst);
            None
        });
        let (emulator, starts) = (self.aws.endpoint().to_owned(), Arc::clone(&self.starts));
        self.faults.answer("DescribeInstances", move |request| {
            let agent = ureq::post(&emulator);
            let scope = request.header("authorization").unwrap_or_default();
            let answer = agent.header("authorization", scope).send(&request.body[..]).unwrap();
            let body = answer.into_body().read_to_string().unwrap();
            Some(Reply { status: 200, kind: "text/xml", body: lent(&body, starts.load(Ordering::SeqCst)) })
        });
    }

    /// The names a VM's record claims.
    pub async fn recorded(&self, name: &VmName) -> Vec<String> {
        let details = Details::of(&self.record(name).await).unwrap();
        let mut lines: Vec<String> = details.dns_records.iter().map(|known| line(&known.set())).collect();
        lines.sort();
        lines
    }

    /// The contents of the zone.
    pub fn live(&self) -> Vec<String> {
        let lines = self.aws.records(&self.zone).into_iter();
        let names = lines.filter_map(|line| line.strip_prefix("record ").map(|line| line.replace(". ", " ")));
        let mut names: Vec<String> =
            names.map(|line| line.replace("\\052", "*").trim_end_matches('.').to_owned()).collect();
        names.sort();
        names
    }

    /// Changes the zone behind goloo's back.
    pub async fn overwrite(&self, name: &str, kind: &str, values: &[&str]) {
        use aws_sdk_route53::types::{Change, ChangeAction, ChangeBatch, ResourceRecord, ResourceRecordSet};
        let values = values.iter().map(|value| ResourceRecord::builder().value(*value).build().unwrap());
        let set = ResourceRecordSet::builder()
            .name(name)
            .r#type(kind.into())
            .ttl(60)
            .set_resource_records(Some(values.collect()))
            .build()
            .unwrap();
        let change = Change::builder().action(ChangeAction::Upsert).resource_record_set(set).build().unwrap();
        let batch = ChangeBatch::builder().changes(change).build().unwrap();
        let request = self.client().change_resource_record_sets();
        request.hosted_zone_id(&self.zone).change_batch(batch).send().await.unwrap();
    }

    /// Both records agree with the zone, no operation is in progress, and every name exists.
    pub async fn assert_agreed(&self, holder: &VmName, at: &str) {
        let other = if *holder == blue() { green() } else { blue() };
        assert_eq!(self.record(&blue()).await.operation, None, "{at}");
        assert_eq!(self.record(&green()).await.operation, None, "{at}");
        let address = self.address(holder).await;
        assert_eq!(self.live(), names_at(&address), "{at}");
        assert_eq!(self.recorded(holder).await, names_at(&address), "{at}");
        assert_eq!(self.recorded(&other).await, [""; 0], "{at}");
        assert_eq!(self.record(holder).await.fqdn(), Some("web.example.com"), "{at}");
        assert_eq!(self.record(&other).await.fqdn(), None, "{at}");
    }

    pub fn batches(&self) -> usize {
        self.faults.actions().iter().filter(|action| *action == "ChangeResourceRecordSets").count()
    }
}

/// Replaces each address in the response with the one AWS has lent after this many starts.
fn lent(answer: &str, starts: usize) -> String {
    const ADDRESS: (&str, &str) = ("<ipAddress>", "</ipAddress>");
    let mut instances = answer.split("<instanceId>");
    let mut text = instances.next().unwrap_or_default().to_owned();
    for instance in instances {
        text.push_str("<instanceId>");
        let Some((before, rest)) = instance.split_once(ADDRESS.0) else {
            text.push_str(instance);
            continue;
        };
        let (address, after) = rest.split_once(ADDRESS.1).unwrap();
        let last = address.rsplit('.').next().unwrap();
        let now = match starts {
            _ if instance.contains("<name>stopped</name>") => String::new(),
            0 => format!("{}{address}{}", ADDRESS.0, ADDRESS.1),
            _ => format!("{}203.0.{starts}.{last}{}", ADDRESS.0, ADDRESS.1),
        };
        text.push_str(&format!("{before}{now}{after}"));
    }
    text
}

pub fn line(set: &RecordSet) -> String {
    format!("{} {}", set.name, set.shown())
}

/// All names of [`web`] with this address, sorted.
pub fn names_at(address: &str) -> Vec<String> {
    let own = "web.example.com";
    vec![
        format!("*.example.com CNAME {own}"),
        format!("example.com A {address}"),
        format!("{own} A {address}"),
        format!("www.example.com CNAME {own}"),
    ]
}

pub fn refusal(error: EngineError) -> String {
    match error {
        EngineError::Provider { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

#[derive(Debug, Clone, Copy)]
pub enum Death {
    /// The request never arrives.
    Before,
    /// The request is carried out, but its response is lost.
    After,
}

/// Drops the operation at the request with this number, as if the process had died; `None` if it completed before.
pub async fn killed_at(
    world: &World,
    number: usize,
    death: Death,
    act: impl Future<Output = ()>,
) -> Option<()> {
    let (died, is_dead) = tokio::sync::oneshot::channel::<()>();
    let (let_go, gone) = mpsc::channel::<()>();
    let once = Arc::new(std::sync::Mutex::new((Some(died), gone)));
    let die = move |_: &_| {
        let mut once = once.lock().unwrap();
        if let Some(died) = once.0.take() {
            died.send(()).unwrap();
            // Delays the response until the operation has been dropped.
            let _ = once.1.recv();
        }
    };
    let fault = match death {
        Death::After => Fault::after(die),
        Death::Before => Fault::Hang,
    };
    world.faults.fault(At::Request(number), fault);
    let hangs = async {
        match death {
            Death::After => drop(is_dead.await),
            Death::Before => {
                while world.faults.struck() == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    };
    let killed = tokio::select! {
        biased;
        () = hangs => Some(()),
        () = act => None,
    };
    drop(let_go);
    killed
}
