//! The ports that a running QEMU forwards, and changes to them. They end with the QEMU process: what later starts need
//! is in `machine.json`, which nothing here reads or writes.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use goloo_model::guest::excerpt;
use goloo_model::spec::Protocol;

use crate::args::NETWORK;
use crate::ports::Listener;
use crate::qmp::{self, QmpError};

/// A port that QEMU forwards now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LiveForward {
    /// Where QEMU listens.
    pub(crate) listener: Listener,
    /// The port of the guest.
    pub(crate) guest: u16,
}

/// Why the forwarded ports weren't changed or listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LiveForwardError {
    /// QEMU didn't answer, or refused the command.
    #[error(transparent)]
    Qmp(#[from] QmpError),
    /// Something else has the port, or this user may not use it.
    #[error("QEMU can't listen on {listener}")]
    CannotListen {
        /// Where.
        listener: Listener,
        /// Why.
        source: io::Error,
    },
    /// It printed something else.
    #[error("QEMU doesn't change the forwarded port {listener}: {reason}")]
    Refused {
        /// Which one.
        listener: Listener,
        /// What it printed.
        reason: String,
    },
}

/// Forwards one more port of the machine in `folder`. Succeeds if QEMU forwards it already, in the same way.
pub(crate) async fn add(
    folder: &Path,
    forward: LiveForward,
    limit: Duration,
) -> Result<(), LiveForwardError> {
    let LiveForward { listener, guest } = forward;
    let rule = listener.rule(guest);
    let printed = qmp::ask_monitor(folder, &format!("hostfwd_add {NETWORK} {rule}"), limit).await?;
    match printed.trim() {
        "" => Ok(()),
        reason if reason.contains("Could not set up host forwarding rule") => {
            if list(folder, limit).await?.contains(&forward) {
                return Ok(());
            }
            let source = listener.check().err().unwrap_or_else(|| io::ErrorKind::AddrInUse.into());
            Err(LiveForwardError::CannotListen { listener, source })
        }
        reason => Err(refused(listener, reason)),
    }
}

/// Ends the forwarding of one port. Connections that exist stay. Succeeds if QEMU doesn't forward it.
pub(crate) async fn remove(
    folder: &Path,
    listener: Listener,
    limit: Duration,
) -> Result<(), LiveForwardError> {
    let command = format!("hostfwd_remove {NETWORK} {}", listener.place());
    let printed = qmp::ask_monitor(folder, &command, limit).await?;
    match printed.trim() {
        known if known.ends_with(" removed") || known.ends_with(" not found") => Ok(()),
        reason => Err(refused(listener, reason)),
    }
}

/// All ports that QEMU forwards, with that of SSH, in order.
pub(crate) async fn list(folder: &Path, limit: Duration) -> Result<Vec<LiveForward>, LiveForwardError> {
    let printed = qmp::ask_monitor(folder, "info usernet", limit).await?;
    let mut forwards: Vec<LiveForward> = printed.lines().filter_map(forward_of).collect();
    forwards.sort_unstable();
    Ok(forwards)
}

fn refused(listener: Listener, reason: &str) -> LiveForwardError {
    LiveForwardError::Refused { listener, reason: excerpt(reason) }
}

/// Of a line such as `TCP[HOST_FORWARD]  12  127.66.1.2  8080  10.0.2.15  80  0  0`. Other lines are connections.
fn forward_of(line: &str) -> Option<LiveForward> {
    let mut fields = line.split_ascii_whitespace();
    let protocol = match fields.next()? {
        "TCP[HOST_FORWARD]" => Protocol::Tcp,
        "UDP[HOST_FORWARD]" => Protocol::Udp,
        _ => return None,
    };
    let address = match fields.nth(1)? {
        "*" => Ipv4Addr::UNSPECIFIED,
        address => address.parse().ok()?,
    };
    let port = fields.next()?.parse().ok()?;
    let guest = fields.nth(1)?.parse().ok()?;
    Some(LiveForward { listener: Listener { protocol, address, port }, guest })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpListener;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use goloo_testkit::programs::qemu_stand_in;

    use super::*;
    use crate::args::{PID_FILE_FLAG, QMP_SOCKET, SANDBOX};

    const LIMIT: Duration = Duration::from_secs(20);

    fn tcp(address: [u8; 4], port: u16, guest: u16) -> LiveForward {
        LiveForward { listener: Listener::tcp(address.into(), port), guest }
    }

    #[test]
    fn forwards_are_read_from_qemu_s_table_and_connections_are_skipped() {
        let table = "Hub -1 (net0):\r\n  \
            Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
            TCP[ESTABLISHED]   20       10.0.2.15 45678         1.2.3.4   443     0     0\r\n  \
            TCP[HOST_FORWARD]  17               *  8080       10.0.2.15    80     0     0\r\n  \
            TCP[HOST_FORWARD]   9      127.66.1.2 20022       10.0.2.15    22     0     0\r\n  \
            UDP[HOST_FORWARD]  15      127.66.1.2    53       10.0.2.15    53     0     0\r\n  \
            UDP[236 sec]       21       10.0.2.15 40000        10.0.2.3    53     0     0\r\n";
        let udp = Listener { protocol: Protocol::Udp, ..Listener::tcp([127, 66, 1, 2].into(), 53) };
        let read: Vec<_> = table.lines().filter_map(forward_of).collect();
        let ssh = tcp([127, 66, 1, 2], 20022, 22);
        assert_eq!(read, [tcp([0, 0, 0, 0], 8080, 80), ssh, LiveForward { listener: udp, guest: 53 }]);
        for garbage in ["TCP[HOST_FORWARD]", "TCP[HOST_FORWARD] 1 127.0.0.1 99999 10.0.2.15 80", ""] {
            assert_eq!(forward_of(garbage), None, "{garbage}");
        }
    }

    /// A QEMU without a guest, which is never started.
    struct Qemu {
        folder: tempfile::TempDir,
        process: Child,
    }

    impl Qemu {
        async fn start(program: &Path, not_for_stand_ins: &[&str]) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let process = Command::new(program)
                .args(not_for_stand_ins)
                .args(["-nodefaults", "-no-user-config", "-display", "none", "-m", "16M"])
                .args(["-sandbox", SANDBOX, "-machine", "q35", "-accel", "tcg"])
                .args(["-netdev", &format!("user,id={NETWORK}")])
                .args(["-device", &format!("virtio-net-pci,netdev={NETWORK},romfile=")])
                .args(["-chardev", &format!("socket,id=qmp,server=on,wait=off,path={QMP_SOCKET}")])
                .args(["-mon", "chardev=qmp,mode=control"])
                .arg(PID_FILE_FLAG)
                .arg(folder.path().join("pid"))
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .spawn();
            let qemu = Self { process: process.unwrap(), folder };
            let begun = Instant::now();
            while qmp::run_state(qemu.folder.path(), LIMIT).await.is_err() {
                assert!(begun.elapsed() < LIMIT, "QEMU doesn't answer");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            qemu
        }

        async fn list(&self) -> Vec<LiveForward> {
            list(self.folder.path(), LIMIT).await.unwrap()
        }
    }

    impl Drop for Qemu {
        fn drop(&mut self) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }

    #[tokio::test]
    async fn forwards_of_the_stand_in_change_while_it_is_running() {
        forwards_change(&Qemu::start(&qemu_stand_in(), &[]).await).await;
    }

    /// Slow, because it needs the real QEMU.
    #[tokio::test]
    async fn vm_forwards_of_the_real_qemu_change_while_it_is_running() {
        forwards_change(&Qemu::start(Path::new("qemu-system-x86_64"), &["-S"]).await).await;
    }

    async fn forwards_change(qemu: &Qemu) {
        let folder = qemu.folder.path();
        assert_eq!(qemu.list().await, []);

        let taken = TcpListener::bind((Ipv4Addr::new(127, 66, 1, 2), 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let forward = tcp([127, 66, 1, 2], port, 80);
        let error = add(folder, forward, LIMIT).await.unwrap_err();
        let LiveForwardError::CannotListen { listener, source } = error else { panic!("{error:?}") };
        assert_eq!((listener, source.kind()), (forward.listener, io::ErrorKind::AddrInUse));
        assert_eq!(qemu.list().await, []);

        drop(taken);
        let udp =
            LiveForward { listener: Listener { protocol: Protocol::Udp, ..forward.listener }, guest: 53 };
        for forward in [forward, udp, forward] {
            add(folder, forward, LIMIT).await.unwrap();
        }
        assert_eq!(qemu.list().await, [forward, udp]);
        assert!(forward.listener.check().is_err(), "QEMU listens");
        let other = LiveForward { guest: 81, ..forward };
        let error = add(folder, other, LIMIT).await.unwrap_err();
        assert!(matches!(error, LiveForwardError::CannotListen { .. }), "another guest port: {error:?}");

        for _ in 0..2 {
            remove(folder, forward.listener, LIMIT).await.unwrap();
            assert_eq!(qemu.list().await, [udp]);
        }
        forward.listener.check().unwrap();
    }
}
