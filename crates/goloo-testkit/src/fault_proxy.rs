//! A proxy on loopback between an AWS client and an emulator. It simulates what networks and clouds do and emulators
//! don't: it cuts, loses, stalls and throttles requests, plays responses, and counts.
//!
//! ```no_run
//! use goloo_testkit::aws_answers::{Stack, describe_stacks};
//! use goloo_testkit::aws_emulators::{AwsEmulator, Credentials, aim};
//! use goloo_testkit::fault_proxy::{At, Fault, FaultProxy};
//!
//! let aws = AwsEmulator::moto();
//! let proxy = FaultProxy::start(aws.endpoint());
//! proxy.fault(At::Action("CreateStack", 1), Fault::ReplyLost);
//! proxy.answer("DescribeStacks", |_| Some(describe_stacks(&[Stack::new("goloo-web", "ROLLBACK_COMPLETE")])));
//! let mut command = std::process::Command::new("goloo");
//! aim(&mut command, proxy.endpoint(), &Credentials::any());
//! assert_eq!(proxy.actions(), ["GetCallerIdentity", "CreateStack", "DescribeStacks"]);
//! ```
//!
//! Requests are numbered from 1 in the order in which they were completely read, including an SDK's own retries. Each
//! has its own connection, so that no client hides a fault by retrying on a fresh one. Headers are forwarded unchanged:
//! signatures stay valid.
#![allow(clippy::unwrap_used, reason = "a test double: a panic is its error message")]

mod request;

use std::collections::HashMap;
use std::fmt;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use crate::aws_answers::{self, Reply};

pub use request::Request;

/// Which request a fault affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The request with this number, starting at 1.
    Request(usize),
    /// The request with this number and all later ones, including the SDK's retries.
    From(usize),
    /// The request with this number, starting at 1, among those of an [action](Request::action).
    Action(&'static str, usize),
    /// All requests of an action.
    Each(&'static str),
}

/// A test's callback for a request.
pub type Hook = Arc<dyn Fn(&Request) + Send + Sync>;

/// The kind of fault.
#[derive(Clone)]
pub enum Fault {
    /// The connection closes; the emulator doesn't receive the request.
    CutBefore,
    /// The emulator carries out the request, but the connection closes without a response.
    ReplyLost,
    /// The service's internal error; the emulator doesn't receive the request.
    Status500,
    /// The service's response to too many requests; the emulator doesn't receive the request.
    Throttled,
    /// The service refuses with this response; the emulator doesn't receive the request.
    Refused(Reply),
    /// The service's response to expired temporary credentials.
    ExpiredToken,
    /// The request is delayed, then forwarded, even if the client has disconnected by then.
    Stall(Duration),
    /// There is no response until the client gives up; the emulator doesn't receive the request.
    Hang,
    /// The callback runs before the request is forwarded, for example to kill the client before anything happened.
    Before(Hook),
    /// The callback runs after the emulator has carried out the request and before the response is sent.
    After(Hook),
}

impl Fault {
    /// [`Fault::Before`] with this callback.
    pub fn before(hook: impl Fn(&Request) + Send + Sync + 'static) -> Self {
        Self::Before(Arc::new(hook))
    }

    /// [`Fault::After`] with this callback.
    pub fn after(hook: impl Fn(&Request) + Send + Sync + 'static) -> Self {
        Self::After(Arc::new(hook))
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutBefore => f.write_str("CutBefore"),
            Self::ReplyLost => f.write_str("ReplyLost"),
            Self::Status500 => f.write_str("Status500"),
            Self::Throttled => f.write_str("Throttled"),
            Self::Refused(reply) => write!(f, "Refused({})", reply.status),
            Self::ExpiredToken => f.write_str("ExpiredToken"),
            Self::Stall(time) => write!(f, "Stall({time:?})"),
            Self::Hang => f.write_str("Hang"),
            Self::Before(_) => f.write_str("Before"),
            Self::After(_) => f.write_str("After"),
        }
    }
}

type Answer = Arc<dyn Fn(&Request) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct Script {
    faults: Vec<(At, Fault)>,
    answers: Vec<(&'static str, Answer)>,
    requests: Vec<Request>,
    /// How often each action was requested; recounting for each request would take longer and longer.
    of_actions: HashMap<String, usize>,
    struck: usize,
}

/// The proxy; it serves until the process exits. A clone is another handle on it.
#[derive(Clone)]
pub struct FaultProxy {
    endpoint: String,
    emulator: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultProxy").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl FaultProxy {
    /// Starts a proxy on a free port in front of the server at `emulator` (`http://127.0.0.1:PORT`).
    pub fn start(emulator: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Self {
            endpoint: format!("http://{}", listener.local_addr().unwrap()),
            emulator: emulator.trim_start_matches("http://").trim_end_matches('/').parse().unwrap(),
            script: Arc::default(),
        };
        let server = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = server.clone();
                // The proxy ignores clients that disconnect midway.
                thread::spawn(move || server.serve(client));
            }
        });
        proxy
    }

    /// The value for `AWS_ENDPOINT_URL`: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Adds a fault from now on. If several faults match a request, the first one added applies.
    pub fn fault(&self, at: At, fault: Fault) {
        self.script().faults.push((at, fault));
    }

    /// Plays the response to an [action](Request::action): the emulator isn't asked, unless `play` returns `None`. If
    /// several match an action, the last one added that returns a response applies. Faults affect played responses like
    /// real ones.
    pub fn answer(
        &self,
        action: &'static str,
        play: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) {
        self.script().answers.push((action, Arc::new(play)));
    }

    /// Removes all faults, responses and requests, and restarts the numbering.
    pub fn reset(&self) {
        *self.script() = Script::default();
    }

    /// Forwards the request with this number after all, even long after its client has disconnected: one that
    /// [hangs](Fault::Hang). Returns when the emulator has carried it out.
    pub fn deliver(&self, number: usize) {
        let request = self.script().requests[number - 1].clone();
        self.forward(&request).unwrap();
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.script().requests.clone()
    }

    /// The actions of all requests so far.
    pub fn actions(&self) -> Vec<String> {
        self.script().requests.iter().map(Request::action).collect()
    }

    /// How often a fault was applied: a sweep over all requests ends when none was.
    pub fn struck(&self) -> usize {
        self.script().struck
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let Some(request) = Request::read(&mut client)? else { return Ok(()) };
        let reply = match self.admit(&request) {
            None => self.reply(&request),
            Some(Fault::CutBefore) => return Ok(()),
            Some(Fault::ReplyLost) => {
                self.reply(&request);
                return Ok(());
            }
            Some(Fault::Status500) => aws_answers::internal_error(request.service()).bytes(),
            Some(Fault::Throttled) => aws_answers::throttled(request.service()).bytes(),
            Some(Fault::Refused(refusal)) => refusal.bytes(),
            Some(Fault::ExpiredToken) => aws_answers::expired_token(request.service()).bytes(),
            Some(Fault::Stall(time)) => {
                thread::sleep(time);
                self.reply(&request)
            }
            Some(Fault::Hang) => return client.read(&mut [0]).map(drop),
            Some(Fault::Before(hook)) => {
                hook(&request);
                self.reply(&request)
            }
            Some(Fault::After(hook)) => {
                let reply = self.reply(&request);
                hook(&request);
                reply
            }
        };
        client.write_all(&reply)
    }

    /// Numbers a request and returns its fault.
    fn admit(&self, request: &Request) -> Option<Fault> {
        let mut script = self.script();
        script.requests.push(request.clone());
        let number = script.requests.len();
        let action = request.action();
        let of_action = script.of_actions.entry(action.clone()).or_default();
        *of_action += 1;
        let of_action = *of_action;
        let strikes = |at: At| match at {
            At::Request(wanted) => number == wanted,
            At::From(first) => number >= first,
            At::Action(name, wanted) => name == action && of_action == wanted,
            At::Each(name) => name == action,
        };
        let fault = script.faults.iter().find(|(at, _)| strikes(*at)).map(|(_, fault)| fault.clone());
        script.struck += usize::from(fault.is_some());
        fault
    }

    /// The bytes of the played response, otherwise of the emulator's.
    fn reply(&self, request: &Request) -> Vec<u8> {
        let action = request.action();
        let answers: Vec<Answer> = {
            let script = self.script();
            let played = script.answers.iter().rev().filter(|(name, _)| *name == action);
            played.map(|(_, answer)| Arc::clone(answer)).collect()
        };
        match answers.iter().find_map(|play| play(request)) {
            Some(reply) => reply.bytes(),
            None => self.forward(request).unwrap_or_else(|error| {
                Reply { status: 502, kind: "text/plain", body: format!("the emulator is gone: {error}") }
                    .bytes()
            }),
        }
    }

    fn forward(&self, request: &Request) -> std::io::Result<Vec<u8>> {
        let mut emulator = TcpStream::connect(self.emulator)?;
        emulator.write_all(&request.bytes())?;
        let mut reply = Vec::new();
        // The request asked the emulator to close the connection afterwards.
        emulator.read_to_end(&mut reply)?;
        Ok(reply)
    }
}
