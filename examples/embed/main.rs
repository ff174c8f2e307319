//! A program without a terminal that uses goloo as a library: it creates a VM from a stack, deliberately interrupts the
//! wait, resumes the operation, and deletes the VM.
//!
//!     cargo run -p goloo --example embed -- hello examples

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use goloo::actions::{CreateOptions, ListQuery};
use goloo::operation::RunOptions;
use goloo::stack::Lookup;
use goloo::{Error, Session};
use goloo_engine::{Interrupt, Resumed};
use goloo_model::events::{Event, EventContext, Events};

const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Logs events, and interrupts the create once the machine is running.
struct Log {
    interrupt: Interrupt,
}

impl Events for Log {
    fn receive(&self, context: &EventContext, event: Event) {
        let vm = context.vm.as_ref().map_or("-", |name| name.as_str());
        eprintln!("{vm}: {event:?}");
        if matches!(event, Event::Step { what } if what.contains("waiting for")) {
            self.interrupt.raise();
        }
    }
}

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    // goloo starts this program again to supervise QEMU and to render templates.
    if let Some(code) = goloo::answer(&argv) {
        return code;
    }
    let words: Vec<_> = argv.iter().skip(1).filter_map(|word| word.to_str()).collect();
    let [stack, folder] = words[..] else {
        eprintln!("usage: embed STACK FOLDER");
        return ExitCode::from(2);
    };
    match run(stack, Path::new(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {}", error.code(), error.in_one_line());
            ExitCode::FAILURE
        }
    }
}

fn run(stack: &str, folder: &Path) -> Result<(), Error> {
    let interrupt = Interrupt::default();
    let session = Session::open(Arc::new(Log { interrupt: interrupt.clone() }), goloo::providers())?;
    let lookup = Lookup { given: stack, folder: Some(folder), last: None, config_dir: &session.paths.config };
    let found = lookup.find(&*session.events)?;
    let resolved = found.resolve(&session, stack, None)?;
    let planned = session.plan_create(&found, resolved, CreateOptions::new(session.local_provider()?))?;
    let name = planned.plan.machine.name.clone();

    match session.create(planned, &RunOptions::new(LIMIT, &interrupt)) {
        Ok(_) => println!("created {name}"),
        Err(error) if error.is_resumable() => println!("interrupted while {name} was starting"),
        Err(error) => return Err(error),
    }
    let never = Interrupt::default();
    let run = RunOptions::new(LIMIT, &never);
    let vm = session.managed(&name)?;
    let agreed = session.needs_agreement(&vm.record)?;
    match session.resume(&vm, agreed.as_ref(), &run)? {
        Resumed::Created(created) => println!("{name} is {}", created.record.phase),
        Resumed::Nothing => println!("nothing to resume"),
        _ => println!("resumed"),
    }
    let archived = session.delete(&session.record(&name)?, &run)?;
    println!("deleted; the record is {archived} in the archive");
    println!("{} VMs are left", session.list(&ListQuery::default())?.recorded.len());
    Ok(())
}
