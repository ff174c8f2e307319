//! A network that can only be left through a proxy: `HTTPS_PROXY` and `NO_PROXY`.

#![cfg(feature = "s3")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::common::{Ran, World};

/// The first byte of a TLS connection: a handshake.
const HANDSHAKE: u8 = 22;

/// A proxy that accepts each tunnel, reports its target and the client's first byte, and closes the connection.
struct Proxy {
    address: String,
    told: Receiver<(String, u8)>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, told) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Fails when the test has seen enough and dropped the receiver.
                let _ = tell.send(tunnel(stream));
            }
        });
        Self { address, told }
    }
}

fn tunnel(mut stream: TcpStream) -> (String, u8) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        head.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    stream.read_exact(&mut byte).unwrap();
    (String::from_utf8(head).unwrap(), byte[0])
}

/// An address at which nothing listens: every connection has to go through the proxy.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn run(proxy: &Proxy, no_proxy: &str, arguments: &[&str], variables: &[(&str, String)]) -> Ran {
    let world = World::new();
    world.stack("hello", r#"{"vm": {"image": "24.04", "ssh_cidr": "198.51.100.0/24"}}"#, "");
    let mut command = world.command();
    command.envs([("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    command.envs([("AWS_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true")]);
    command.env("HTTPS_PROXY", format!("http://ann:pass@{}", proxy.address)).env("NO_PROXY", no_proxy);
    command.envs(variables.iter().map(|(name, value)| (name, value))).args(arguments);
    let ran = Ran(command.output().unwrap());
    assert_ne!(ran.code(), 0, "{ran:?}");
    ran
}

#[test]
fn a_bucket_is_reached_through_the_proxy_with_end_to_end_tls() {
    let (proxy, service) = (Proxy::start(), nobody());
    let store = format!("s3://team/goloo?region=us-east-1&endpoint=https://{service}");
    let variables = [("GOLOO_STATE_BACKEND", store)];
    let ran = run(&proxy, "", &["list"], &variables);
    let (head, next) = proxy.told.try_recv().unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert!(head.starts_with(&format!("CONNECT {service} HTTP/1.1\r\n")), "{head}");
    assert!(head.contains("Basic YW5uOnBhc3M="), "{head}");
    assert_eq!(next, HANDSHAKE);

    let direct = Proxy::start();
    run(&direct, "localhost,127.0.0.1", &["list"], &variables);
    assert!(direct.told.try_recv().is_err(), "NO_PROXY names the service");
}

#[cfg(feature = "aws")]
#[test]
fn aws_is_reached_through_the_proxy() {
    let (proxy, service) = (Proxy::start(), nobody());
    let variables = [("AWS_ENDPOINT_URL", format!("https://{service}"))];
    let ran = run(&proxy, "", &["create", "hello", "--aws", "--no-wait"], &variables);
    let (head, next) = proxy.told.try_recv().unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    assert!(head.starts_with(&format!("CONNECT {service} HTTP/1.1\r\n")), "{head}");
    assert_eq!(next, HANDSHAKE);
}
