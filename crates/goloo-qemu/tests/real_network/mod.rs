//! Two real guests in the private network of an environment. One has its network card and its address from its creation,
//! the other one gets both while it is running.

use std::io::Write;
use std::process::Stdio;

use goloo_cloudinit::{ComposeInput, InProcessRenderer, compose, network_script};
use goloo_model::host_key::HostKey;
use goloo_model::name::VmName;
use goloo_model::record::{Membership, PrivateAddress};

use super::*;

impl Guest {
    /// With goloo's own part of the user-data, as the engine creates it.
    fn composed(name: &str, state: &Path, network: Option<PrivateAddress>) -> Self {
        let mut guest = Self::in_state(name, state.to_owned(), tempfile::tempdir().unwrap());
        let client = std::fs::read_to_string(guest.key.with_extension("pub")).unwrap();
        let host_key = HostKey::generate();
        let composed = compose(&ComposeInput {
            stack: &guest.machine.stack,
            users: &[],
            client_key: client.trim(),
            host_key: Some(&host_key),
            provider: &goloo_qemu::INFO,
            network,
            renderer: &InProcessRenderer,
        });
        guest.machine.user_data = composed.unwrap().user_data;
        guest.host_key = host_key.public_openssh.to_string();
        guest.user = "goloo";
        guest
    }

    fn join(&mut self, address: PrivateAddress) {
        let membership = Some(Membership {
            environment: VmName::parse("shop").unwrap(),
            machine: self.machine.name.clone(),
            number: None,
            network: Some(address),
            extra: serde_json::Map::new(),
        });
        self.machine.membership.clone_from(&membership);
        self.record.membership = membership;
    }

    async fn connect(&mut self) {
        self.provider.networks().unwrap().connect(&self.record, &mut self.work).await.unwrap();
    }

    async fn start_connected(&mut self) {
        self.start().await;
        self.connect().await;
    }

    /// As the engine runs it.
    fn run_as_root(&self, script: &str) {
        let mut ssh = self.ssh_command("sudo sh -s").stdin(Stdio::piped()).spawn().unwrap();
        ssh.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(ssh.wait().unwrap().success(), "{}", self.console());
    }

    /// Whether the SSH server at this address answers, over TCP.
    fn reaches(&self, address: PrivateAddress, source: &str) -> bool {
        let (to, from) =
            (address.address(), if source.is_empty() { "None".into() } else { format!("({source:?}, 0)") });
        let python = format!(
            "import socket; print(socket.create_connection((\"{to}\", 22), 8, {from}).recv(4).decode())"
        );
        let output = self.ssh(&format!("python3 -c '{python}'"));
        output.stdout == b"SSH-\n"
    }

    /// The address can take a moment after a start.
    async fn soon_reaches(&self, address: PrivateAddress) {
        let begun = Instant::now();
        while !self.reaches(address, "") {
            let state =
                self.run("ip -br address; ip neighbour; ip route; sudo systemctl status goloo-network; true");
            assert!(begun.elapsed() < Duration::from_secs(120), "{address}: {state}\n{}", self.console());
        }
        eprintln!("{} reaches {address} after {:.1} s", self.machine.name, begun.elapsed().as_secs_f64());
    }
}

fn address(last: u8) -> PrivateAddress {
    format!("10.88.3.{last}/24").try_into().unwrap()
}

/// Megabytes per second and microseconds, as the first guest sees them.
fn measure(from: &Guest, to: &Guest) {
    let receive = "import socket,time\ns=socket.create_server((\"0.0.0.0\",7000))\nc,_=s.accept()\nn=0\nb=time.time()\nwhile True:\n d=c.recv(1<<16)\n if not d: break\n n+=len(d)\nprint(n/(time.time()-b)/1e6)";
    let send = "import socket; s=socket.create_connection((\"10.88.3.2\",7000),20)\nfor _ in range(400): s.sendall(bytes(1<<16))";
    let receiver = to
        .ssh_command(&format!("timeout 100 python3 -c '{receive}'"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    to.run("until ss -ltn | grep -q :7000; do sleep 0.2; done");
    from.run(&format!("python3 -c '{send}'"));
    let output = receiver.wait_with_output().unwrap();
    eprintln!("between two guests: {} MB/s", String::from_utf8_lossy(&output.stdout).trim());

    let server = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let begun = Instant::now();
        let count = std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        count as f64 / begun.elapsed().as_secs_f64() / 1e6
    });
    let send = send.replace("10.88.3.2", "10.0.2.2").replace("7000", &port.to_string());
    from.run(&format!("python3 -c '{send}'"));
    eprintln!("user networking, guest to host: {:.1} MB/s", receiver.join().unwrap());

    let latency = |place: &str| {
        let python = format!(
            "import socket,time\nt=[]\nfor _ in range(40):\n b=time.time(); s=socket.create_connection(({place}),9); t.append(time.time()-b); s.close()\nt.sort()\nprint(int(t[20]*1e6))"
        );
        from.run(&format!("python3 -c '{python}'"))
    };
    let server = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    eprintln!(
        "to connect: {} us between two guests, {} us to the host by user networking",
        latency("\"10.88.3.2\",22"),
        latency(&format!("\"10.0.2.2\",{port}"))
    );
}

#[tokio::test]
async fn vm_members_of_an_environment_reach_each_other_whatever_is_started_again() {
    let _turns = both_turns();
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut one = Guest::composed("shop-one", &state, Some(address(1)));
    one.join(address(1));
    let mut two = Guest::composed("shop-two", &state, None);
    tokio::join!(one.create(), two.create());
    one.connect().await;
    two.join(address(2));
    two.connect().await;
    two.run_as_root(&network_script(address(2)));
    one.soon_reaches(address(2)).await;
    two.soon_reaches(address(1)).await;
    // The network card that reaches the internet is as it was.
    for guest in [&one, &two] {
        assert_eq!(guest.run("ip -4 route show default | cut -d' ' -f1-3"), "default via 10.0.2.2");
        assert_eq!(guest.run("ip -4 -br address | grep -c UP"), "2");
    }
    one.run("sudo ip address add 10.88.3.9/32 dev lo");
    assert!(one.reaches(address(2), "10.88.3.1"));
    assert!(!one.reaches(address(2), "10.88.3.9"), "an address of a neighbour");
    for guest in [&one, &two] {
        guest.run("test -e /run/cloud-init/result.json || sudo cloud-init status --wait");
        assert_eq!(guest.run("sudo cloud-init status"), "status: done");
    }
    measure(&one, &two);

    kill(&common::switches_of(&state));
    assert!(!one.reaches(address(2), ""));
    one.connect().await;
    one.soon_reaches(address(2)).await;

    two.stop(StopMode::Graceful).await;
    two.start_connected().await;
    one.soon_reaches(address(2)).await;
    two.soon_reaches(address(1)).await;

    one.stop(StopMode::Suspend).await;
    one.start_connected().await;
    two.soon_reaches(address(1)).await;
    one.soon_reaches(address(2)).await;

    for guest in [&mut one, &mut two] {
        guest.provider.delete(&guest.record, &mut guest.work).await.unwrap();
    }
    assert!(!state.join("net/shop-10.88.3.0").exists());
    common::until("the switch has ended", Duration::from_secs(10), async || {
        common::switches_of(&state).is_empty()
    })
    .await;
}
