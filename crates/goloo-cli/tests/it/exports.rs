//! Exports and imports through the real command, with QEMU's stand-in and real disks: one world for each computer.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::{HELLO, Ran, World, wait_until};

/// A world with the stopped VM `hello`, which has been provisioned.
fn computer() -> World {
    let world = World::new();
    world.ssh_finds(r#"{"status":"done","errors":[]}"#);
    world.run(&["create", "hello"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    world
}

/// The exported `hello` of a world.
fn exported(world: &World) -> PathBuf {
    world.run(&["export", "hello", "hello.goloo"]).expect(0);
    world.path().join("work/hello.goloo")
}

fn import(world: &World, file: &Path, words: &[&str]) -> Ran {
    let file = file.display().to_string();
    world.run(&[&["import", file.as_str()], words].concat())
}

fn qemu_io(disk: &Path, command: &str) {
    let output = Command::new("qemu-io").args(["-c", command]).arg(disk).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn only_machine(world: &World) -> PathBuf {
    let machines = world.machines();
    assert_eq!(machines.len(), 1);
    machines[0].clone()
}

fn holds(file: &Path, text: &str) -> bool {
    fs::read(file).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
}

fn client_key(world: &World) -> String {
    let private = world.state().join("keys/id_ed25519");
    let output = Command::new("ssh-keygen").arg("-yf").arg(private).output().unwrap();
    let public = String::from_utf8(output.stdout).unwrap();
    public.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[test]
fn an_exported_vm_is_imported_on_another_computer() {
    let (here, there) = (computer(), World::new());
    there.ssh_finds(r#"{"status":"done","errors":[]}"#);
    let disk = only_machine(&here).join("disk.qcow2");
    qemu_io(&disk, "write -q -P 7 0 64k");
    let file = exported(&here);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let private = fs::read_to_string(here.state().join("keys/id_ed25519")).unwrap();
    assert!(!holds(&file, private.lines().nth(2).unwrap()), "the client key stays");

    let ran = import(&there, &file, &[]).expect(0);
    assert!(ran.stdout().starts_with("created hello from hello ("), "{ran:?}");
    let [before, after] = [&here, &there].map(|world| world.json(&["status", "hello", "--json"]));
    assert_eq!((&after["vm"]["phase"], &after["live"]["state"]), (&"ready".into(), &"stopped".into()));
    assert_ne!(before["vm"]["id"], after["vm"]["id"]);
    assert_eq!(before["vm"]["ssh"], after["vm"]["ssh"], "the host key is the same");
    let origin = &after["vm"]["origin"];
    assert_eq!((&origin["how"], &origin["export"]["id"]), (&"imported".into(), &before["vm"]["id"]));
    assert_eq!(origin["export"]["user"], "ann");
    let status = there.run(&["status", "hello"]).expect(0).stdout();
    assert!(status.contains("\nimported      from hello ("), "{status}");
    let history = there.run(&["history", "hello"]).expect(0).stdout();
    assert!(history.contains("import") && history.contains("done: hello ("), "{history}");

    let machine = only_machine(&there);
    qemu_io(&machine.join("disk.qcow2"), "read -q -P 7 0 64k");
    assert_eq!(fs::metadata(machine.join("disk.qcow2")).unwrap().permissions().mode() & 0o777, 0o600);
    let seed = machine.join("seed.img");
    assert!(holds(&seed, &client_key(&there)), "goloo can log in after the next boot");
    assert!(!holds(&seed, &format!("\n{}", client_key(&here))), "the other computer can't any more");
    there.run(&["start", "hello"]).expect(0);
    // The VM that was exported stays as it was.
    assert_eq!(here.json(&["status", "hello", "--json"])["live"]["state"], "stopped");
    there.run(&["delete", "hello", "--yes"]).expect(0);
    there.assert_empty("after the delete");
}

#[test]
fn the_disk_in_an_export_has_no_backing_file_and_no_snapshots() {
    let world = computer();
    world.run(&["snapshot", "hello", "before"]).expect(0);
    let file = exported(&world);
    let folder = world.path().join("unpacked");
    fs::create_dir(&folder).unwrap();
    // Other programs can read it.
    let run = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    run("tar", &["-xf", file.to_str().unwrap()]);
    run("sha256sum", &["--check", "--strict", "SHA256SUMS"]);
    let info: Value =
        serde_json::from_slice(&run("qemu-img", &["info", "--output=json", "disk.qcow2"])).unwrap();
    assert_eq!((&info["backing-filename"], &info["snapshots"]), (&Value::Null, &Value::Null));
    assert_eq!(info["virtual-size"], 1 << 30);
    let overlay = only_machine(&world).join("disk.qcow2");
    run("qemu-img", &["compare", "disk.qcow2", overlay.to_str().unwrap()]);
    run("qemu-img", &["check", "disk.qcow2"]);
}

#[test]
fn a_vm_that_cannot_be_exported_is_refused_with_the_way_out() {
    let world = computer();
    let refused = |words: &[&str], code: i32, said: &str| {
        let ran = world.run(words).expect(code);
        assert!(ran.stderr().contains(said), "{said}: {ran:?}");
    };
    let file = exported(&world);
    let before = fs::read(&file).unwrap();
    refused(&["export", "hello", "hello.goloo"], 1, "already exists");
    assert_eq!(fs::read(&file).unwrap(), before, "an existing file isn't replaced");
    refused(&["export", "nothing", "other.goloo"], 3, "nothing");
    refused(&["export", "hello", "-"], 2, "name a file");
    refused(&["export", "hello", "no/such/folder"], 1, "no/such/folder");
    world.run(&["start", "hello"]).expect(0);
    refused(&["export", "hello", "other.goloo"], 2, "goloo stop hello");
    world.run(&["stop", "hello", "--force"]).expect(0);
    let path = world.state().join("active/hello/state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let owner = json!({"user": "ann", "host": "laptop", "pid": 1, "pidStart": 1});
    let id = record["id"].clone();
    record["operation"] = json!({"id": id, "kind": "start", "step": "intent", "token": id, "owner": owner});
    fs::write(&path, record.to_string()).unwrap();
    refused(&["export", "hello", "other.goloo"], 6, "goloo resume hello");
    assert!(!world.path().join("work/other.goloo").exists());
}

#[test]
fn multipass_has_no_exports() {
    let world = World::multipass();
    world.run(&["create", "hello", "--provider", "multipass", "--no-wait"]).expect(0);
    let refused = world.run(&["export", "hello", "hello.goloo"]).expect(2);
    assert!(refused.stderr().contains("multipass doesn't support exports"), "{refused:?}");
    world.run(&["delete", "hello", "--yes"]).expect(0);
}

/// Two exports to one file: the second doesn't touch what the first one writes.
#[test]
fn an_interrupted_export_leaves_no_file() {
    let world = computer();
    let qemu_img = goloo_command::find_program("qemu-img".as_ref()).unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != convert ] || {{ : >{0}; exec sleep 60; }}\nexec {1} \"$@\"\n",
        world.path().join("converting").display(),
        qemu_img.display()
    );
    world.program("qemu-img", &script);
    let mut command = world.command();
    let child = command.args(["export", "hello", "hello.goloo"]).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("the disk is being written", || world.path().join("converting").exists());
    let other = world.run(&["export", "hello", "other.goloo"]).expect(5);
    assert!(other.stderr().contains("hello"), "the VM is locked: {other:?}");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let ended = Ran(child.wait_with_output().unwrap()).expect(130);
    assert!(ended.stderr().contains("interrupted"), "{ended:?}");
    let left: Vec<_> =
        fs::read_dir(world.path().join("work")).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, ["stacks"]);
}

#[test]
fn a_file_that_another_process_is_writing_is_left_alone() {
    let world = computer();
    let staged = world.path().join("work/.hello.goloo.partial");
    fs::write(&staged, "begun").unwrap();
    let lock = File::open(&staged).unwrap();
    lock.lock().unwrap();
    let refused = world.run(&["export", "hello", "hello.goloo"]).expect(5);
    assert!(refused.stderr().contains("another process is writing"), "{refused:?}");
    assert_eq!(fs::read_to_string(&staged).unwrap(), "begun");
    drop(lock);
    exported(&world);
    assert!(!staged.exists(), "a leftover is removed");
}

#[test]
fn what_belongs_to_the_other_computer_is_left_out_and_taken_ports_are_replaced() {
    let world = World::new();
    let free = || std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap().local_addr().unwrap().port();
    let (bound, port) = (free(), free());
    let mut config: Value = serde_json::from_str(HELLO).unwrap();
    config["vm"]["ports"] = json!([format!("127.0.0.1:{bound}:80"), format!("{port}:81")]);
    config["vm"]["mounts"] = json!([{"source": ".", "target": "/srv/stack"}]);
    world.stack("hello", &config.to_string(), "");
    world.ssh_finds(r#"{"status":"done","errors":[]}"#);
    world.run(&["create", "hello"]).expect(0);
    world.run(&["stop", "hello", "--force"]).expect(0);
    world.run(&["set", "hello", "cpus=2"]).expect(0);
    let file = exported(&world);
    let taken = import(&world, &file, &[]).expect(3);
    assert!(taken.stderr().contains("the name \"hello\" is taken"), "{taken:?}");

    let holder = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    let ran = import(&world, &file, &["--as", "moved"]).expect(0);
    let notes = ran.stderr();
    for said in
        ["not mounted", "at /srv/stack", "at its own address only", "overrides", "port 81 of \"moved\" is at"]
    {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    let vm = world.json(&["status", "moved", "--json"])["vm"].clone();
    assert_eq!(
        (&vm["resolved"]["mounts"], &vm["resolved"]["ports"][0]["bind"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!((&vm["sourceConfigPath"], &vm["overrides"]), (&Value::Null, &Value::Null));
    assert_eq!(vm["resolved"]["cpus"], 2);
    world.run(&["start", "moved"]).expect(0);
    drop(holder);
    world.run(&["start", "hello"]).expect(0);
    assert_eq!(world.qemus().len(), 2, "both run at once");
}

/// Its disk has no base image.
#[test]
fn an_imported_vm_can_be_snapshotted_cloned_and_exported_again() {
    let (here, there, elsewhere) = (computer(), World::new(), World::new());
    qemu_io(&only_machine(&here).join("disk.qcow2"), "write -q -P 7 0 64k");
    import(&there, &exported(&here), &[]).expect(0);
    there.run(&["snapshot", "hello", "before"]).expect(0);
    let machine = only_machine(&there);
    qemu_io(&machine.join("disk.qcow2"), "write -q -P 8 0 64k");
    there.run(&["restore", "hello", "before", "--yes"]).expect(0);
    there.run(&["clone", "hello", "twin"]).expect(0);
    there.run(&["export", "twin", "twin.goloo"]).expect(0);
    import(&elsewhere, &there.path().join("work/twin.goloo"), &["--as", "third"]).expect(0);
    let third = only_machine(&elsewhere);
    qemu_io(&third.join("disk.qcow2"), "read -q -P 7 0 64k");
    assert!(holds(&third.join("seed.img"), &client_key(&elsewhere)));
    assert_eq!(elsewhere.json(&["status", "third", "--json"])["vm"]["origin"]["from"], "twin");
    there.run(&["image", "prune"]).expect(0);
    assert_eq!(there.names(), ["hello", "twin"]);
}

/// The machine is ours, but its files may be somebody else's.
#[test]
fn recreating_an_imported_vm_asks_first() {
    let (here, there) = (computer(), World::new());
    import(&there, &exported(&here), &[]).expect(0);
    let asked = there.run(&["recreate", "hello", "--as", "again"]).expect(2);
    assert!(asked.stderr().contains("somebody else may have written the stack"), "{asked:?}");
}

#[test]
fn an_interrupted_import_continues_only_with_the_same_file() {
    let (here, there) = (computer(), World::new());
    let file = exported(&here);
    fs::create_dir_all(there.state()).unwrap();
    fs::set_permissions(there.state(), fs::Permissions::from_mode(0o700)).unwrap();
    let lock = File::create(there.state().join("vms.lock")).unwrap();
    lock.lock().unwrap();
    let mut command = there.command();
    let child = command.arg("import").arg(&file).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("it waits for the ports", || {
        there.machines().first().is_some_and(|machine| machine.join("seed.img").exists())
    });
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let ended = Ran(child.wait_with_output().unwrap()).expect(6);
    assert!(ended.stderr().contains("goloo resume hello"), "{ended:?}");
    drop(lock);

    let aside = file.with_extension("aside");
    fs::rename(&file, &aside).unwrap();
    let gone = there.run(&["resume", "hello"]).expect(1);
    assert!(gone.stderr().contains("put the file back; or run `goloo delete hello`"), "{gone:?}");
    let mut members = members(&aside);
    members.iter_mut().for_each(|member| {
        if member.name == "disk.qcow2" {
            *member = disk_of(&here, &["-o", "cluster_size=4k"])
        }
    });
    pack(&members, &file);
    let changed = there.run(&["resume", "hello"]).expect(1);
    assert!(changed.stderr().contains("has changed since the import began"), "{changed:?}");
    fs::rename(&aside, &file).unwrap();
    there.run(&["resume", "hello"]).expect(0);
    let hello = there.json(&["status", "hello", "--json"]);
    assert_eq!((&hello["vm"]["operation"], &hello["live"]["state"]), (&Value::Null, &"stopped".into()));
}

/// A member of an export, as somebody may write it.
#[derive(Clone)]
struct Member {
    name: String,
    kind: tar::EntryType,
    bytes: Vec<u8>,
    /// The size that its header names, if it isn't that of its content.
    size: Option<u64>,
}

fn member(name: &str, bytes: impl Into<Vec<u8>>) -> Member {
    Member { name: name.to_owned(), kind: tar::EntryType::Regular, bytes: bytes.into(), size: None }
}

fn members(file: &Path) -> Vec<Member> {
    let mut archive = tar::Archive::new(File::open(file).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, File>>| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        member(&name, bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Writes an export with checksums that are right.
fn pack(members: &[Member], file: &Path) {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let sums = members.iter().filter(|member| member.name != "SHA256SUMS");
    let sums: String =
        sums.map(|one| format!("{}  {}\n", hex(&Sha256::digest(&one.bytes)), one.name)).collect();
    let mut builder = tar::Builder::new(File::create(file).unwrap());
    for one in members {
        let bytes = if one.name == "SHA256SUMS" { sums.as_bytes() } else { &one.bytes };
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..one.name.len()].copy_from_slice(one.name.as_bytes());
        header.set_size(one.size.unwrap_or(bytes.len() as u64));
        header.set_entry_type(one.kind);
        header.set_cksum();
        builder.append(&header, bytes).unwrap();
    }
    builder.into_inner().unwrap();
}

/// A disk with another form.
fn disk_of(world: &World, options: &[&str]) -> Member {
    let path = world.path().join("other.qcow2");
    let mut command = Command::new("qemu-img");
    command.args(["create", "-q", "-f", "qcow2"]).args(options).arg(&path).arg("1G");
    assert!(command.status().unwrap().success());
    member("disk.qcow2", fs::read(path).unwrap())
}

/// Each is refused with a reason, and leaves nothing.
#[test]
fn files_that_goloo_would_not_write_are_refused() {
    let (here, there) = (computer(), World::new());
    let good = members(&exported(&here));
    let names: Vec<&str> = good.iter().map(|member| member.name.as_str()).collect();
    let all = [
        "goloo-export.json",
        "state.json",
        "config.json",
        "cloud-init.yaml",
        "user-data",
        "disk.qcow2",
        "SHA256SUMS",
    ];
    assert_eq!(names, all);
    let file = there.path().join("file.goloo");
    pack(&good, &file);
    import(&there, &file, &[]).expect(0);
    there.run(&["delete", "hello", "--yes"]).expect(0);

    let at = |name: &str| all.iter().position(|known| *known == name).unwrap();
    let changed = |name: &str, change: &dyn Fn(&mut Member)| {
        let mut members = good.clone();
        change(&mut members[at(name)]);
        members
    };
    let with = |name: &str, bytes: &[u8]| changed(name, &|one| one.bytes = bytes.to_vec());
    let edited = |name: &str, edit: &dyn Fn(&mut Value)| {
        changed(name, &|one| {
            let mut value = serde_json::from_slice(&one.bytes).unwrap();
            edit(&mut value);
            one.bytes = value.to_string().into_bytes();
        })
    };
    let renamed = |from: &str, to: &str| changed(from, &|one| one.name = to.to_owned());
    let kind = |kind| changed("config.json", &move |one: &mut Member| one.kind = kind);
    let sized = |name: &str, size: u64| changed(name, &move |one: &mut Member| one.size = Some(size));
    let without = |name: &str| good.iter().filter(|one| one.name != name).cloned().collect::<Vec<_>>();
    let disk = |options: &[&str]| {
        let mut members = good.clone();
        members[at("disk.qcow2")] = disk_of(&here, options);
        members
    };
    let base = here.path().join("base");
    fs::write(&base, vec![0; 1 << 20]).unwrap();
    let backing = ["-F", "raw", "-b", base.to_str().unwrap()];
    let external = format!("data_file={},data_file_raw=on", here.path().join("external").display());
    let twice = good.iter().flat_map(|one| vec![one.clone(); if one.name == "config.json" { 2 } else { 1 }]);
    let cases: Vec<(Vec<Member>, &str)> = vec![
        (without("goloo-export.json"), "where goloo-export.json is expected"),
        (without("disk.qcow2"), "where disk.qcow2 is expected"),
        (without("user-data"), "where user-data is expected"),
        (twice.collect(), "it has \"config.json\""),
        (renamed("config.json", "../../../escape"), "it has \"../../../escape\""),
        (renamed("config.json", "/etc/cron.d/evil"), "it has \"/etc/cron.d/evil\""),
        (renamed("disk.qcow2", "vmlinuz"), "it has \"vmlinuz\""),
        (kind(tar::EntryType::Symlink), "\"config.json\" is not a regular file"),
        (kind(tar::EntryType::Link), "is not a regular file"),
        (kind(tar::EntryType::Fifo), "is not a regular file"),
        (kind(tar::EntryType::GNULongName), "is not a regular file"),
        (sized("state.json", 1 << 40), "state.json has 1099511627776 bytes"),
        (sized("disk.qcow2", 1 << 40), "disk.qcow2 ends at byte"),
        (sized("disk.qcow2", u64::MAX), "disk.qcow2 has 18446744073709551615 bytes"),
        (edited("goloo-export.json", &|value| value["schema"] = 2.into()), "its format is 2"),
        (
            edited("goloo-export.json", &|value| value["machine"]["arch"] = "vax".into()),
            "the machine in the export is invalid",
        ),
        (edited("goloo-export.json", &|value| value["machine"]["cpus"] = 100_000.into()), "100000 vCPUs"),
        (edited("goloo-export.json", &|value| value["machine"]["memoryMib"] = 1.into()), "1 MiB of memory"),
        (
            edited("goloo-export.json", &|value| value["machine"]["instanceId"] = "x\"\ny: z".into()),
            "the machine in the export is invalid",
        ),
        (edited("state.json", &|value| value["name"] = "../up".into()), "in state.json"),
        (
            edited("state.json", &|value| value["provider"] = "vax".into()),
            "does not include the provider \"vax\"",
        ),
        (edited("state.json", &|value| value["provider"] = "aws".into()), "aws doesn't support imports"),
        (with("state.json", b"[]"), "in state.json"),
        (with("user-data", b"#cloud-config\n"), "its user-data has no client key"),
        (with("disk.qcow2", b"no disk"), "the disk in the export can't be used"),
        (disk(&backing), "it has a backing file"),
        (disk(&["-o", &external]), "it has a backing file"),
    ];
    for (members, said) in cases {
        pack(&members, &file);
        refused(&there, &file, said);
    }
    let whole = fs::read(exported_again(&here)).unwrap();
    for (from, to, said) in [
        (b"\"cpus\": 1".as_slice(), b"\"cpus\": 2".as_slice(), "doesn't match its checksum"),
        (b"QFI\xfb".as_slice(), b"QFI\xfc".as_slice(), "the disk in the export can't be used"),
    ] {
        let place = whole.windows(from.len()).position(|part| part == from).unwrap();
        let mut altered = whole.clone();
        altered[place..place + from.len()].copy_from_slice(to);
        fs::write(&file, altered).unwrap();
        refused(&there, &file, said);
    }
    // The last byte of the disk's content, whose structure stays valid.
    let mut altered = whole.clone();
    let end = altered.len() - 1024 - 1024 - 512;
    altered[end - 1] ^= 1;
    fs::write(&file, altered).unwrap();
    refused(&there, &file, "disk.qcow2 doesn't match its checksum");
    fs::write(&file, [&whole[..], &[0]].concat()).unwrap();
    refused(&there, &file, "bytes where");
    assert!(!there.path().join("escape").exists());
}

fn exported_again(world: &World) -> PathBuf {
    world.run(&["export", "hello", "again.goloo"]).expect(0);
    world.path().join("work/again.goloo")
}

#[track_caller]
fn refused(world: &World, file: &Path, said: &str) {
    let ran = import(world, file, &["--json"]);
    assert!([1, 2].contains(&ran.code()), "{said}: {ran:?}");
    let error: Value = serde_json::from_str(&ran.stdout()).unwrap();
    let text = error["error"].to_string();
    let text = text.replace("\\\"", "\"");
    assert!(text.contains(said), "{said}: {text}");
    assert!(!error["error"]["hint"].as_str().unwrap().is_empty(), "{text}");
    assert_eq!((world.names(), world.machines()), (Vec::new(), Vec::new()), "{said}");
    assert_eq!(world.json(&["list", "--json"])["broken"], json!([]), "{said}");
}

#[test]
fn a_truncated_file_is_refused_wherever_it_ends() {
    let (here, there) = (computer(), World::new());
    let file = exported(&here);
    let whole = fs::read(&file).unwrap();
    let mut archive = tar::Archive::new(File::open(&file).unwrap());
    let mut cuts = vec![0, 1, whole.len() - 1, whole.len() - 512, whole.len() - 1024];
    for entry in archive.entries().unwrap() {
        let entry = entry.unwrap();
        let start = usize::try_from(entry.raw_file_position()).unwrap();
        let end = start + usize::try_from(entry.size()).unwrap();
        cuts.extend([start - 1, start, start + 1, end - 1]);
    }
    for cut in cuts {
        fs::write(&file, &whole[..cut]).unwrap();
        let ran = import(&there, &file, &[]).expect(1);
        assert!(ran.stderr().contains("can't be imported"), "{cut}: {ran:?}");
        assert_eq!((there.names(), there.machines()), (Vec::new(), Vec::new()), "{cut}");
    }
    fs::write(&file, &whole).unwrap();
    import(&there, &file, &[]).expect(0);
}
