//! A real process killed at each request of the operations that aren't part of the life cycle in
//! `object_processes.rs`; the next one continues. A test starts copies of this program, which run [`one_process`]
//! with the operation in the environment.

use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;

use crate::object_common::acts::Act;
use crate::object_common::{S3, fast, open_with_deletes_in, side_by_side};
use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};

const ENDPOINT: &str = "GOLOO_TEST_ENDPOINT";
const FOLDER: &str = "GOLOO_TEST_FOLDER";
const ACT: &str = "GOLOO_TEST_ACT";

/// Runs one operation; run as a regular test, without one, it does nothing.
#[test]
fn one_process() {
    let Ok(act) = std::env::var(ACT) else { return };
    let [endpoint, folder] = [ENDPOINT, FOLDER].map(|variable| std::env::var(variable).unwrap());
    Act::called(&act).attempt(&open_with_deletes_in(&endpoint, &folder, fast())).unwrap();
}

fn start(act: Act, endpoint: &str, folder: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "object_kills::one_process"])
        .env(ENDPOINT, endpoint)
        .env(FOLDER, folder)
        .env(ACT, format!("{act:?}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a process when its request with this number has been carried out, without its
/// knowledge; `false` if it makes fewer. A crash before a request is the same as one after the previous request.
fn killed(s3: &S3, act: Act, number: usize) -> bool {
    let (emulator, folder) = (s3.emulator.endpoint(), format!("{act:?}-{number}"));
    let direct = open_with_deletes_in(emulator, &folder, fast());
    act.prepare(&direct);
    let holder = act.holder(|options| open_with_deletes_in(emulator, &folder, options));
    let proxy = FaultProxy::start(emulator);
    let (tell, told) = mpsc::channel::<u32>();
    let told = Mutex::new(told);
    let kill = move |_: &_| {
        let pid = told.lock().unwrap().recv().unwrap().to_string();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    };
    proxy.fault(At::Request(number), Fault::after(kill));
    let mut child = start(act, proxy.endpoint(), &folder);
    tell.send(child.id()).unwrap();
    let ended = child.wait().unwrap().success();
    let struck = proxy.struck() > 0;
    assert_ne!(ended, struck, "{act:?} at {number}: it was killed, or it ended well");
    let when = format!("{act:?} killed at {number}");
    assert!(!ended || act.has_happened(&direct, &when), "{when}: it ended well");
    act.again(&direct, &when);
    act.assert_over(&direct, holder, &when);
    struck
}

#[test]
fn emulator_kill_at_every_request_of_every_other_operation_and_resume() {
    let s3 = S3::ministack();
    side_by_side(&Act::ALL, |&act| {
        let mut number = 1;
        while killed(&s3, act, number) {
            number += 1;
        }
        assert!(number > 1, "{act:?} was never killed");
    });
}
