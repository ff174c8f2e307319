//! Puts the user-data together.

use super::check::Checks;
use super::document::{self, Facts, Kind};
use super::identity::{self, Identity, account};
use super::provision::Provision;
use super::{HostKey, check, limits, merge, placeholders, problem, targets, template};
use crate::access::LoginName;
use crate::record::{ProviderKind, UserKeys};
use crate::spec::{Problem, ResolvedStack, images};

/// What the user-data is made from.
#[derive(Debug, Clone, Copy)]
pub struct ComposeInput<'a> {
    /// The stack.
    pub stack: &'a ResolvedStack,
    /// Its users, with the keys that were found for them.
    pub users: &'a [UserKeys],
    /// goloo's own public key.
    pub client_key: &'a str,
    /// The machine's host key.
    pub host_key: &'a HostKey,
    /// Who makes the machine.
    pub provider: ProviderKind,
}

/// The user-data, and what follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// What cloud-init gets.
    pub user_data: Vec<u8>,
    /// Whom goloo logs in as.
    pub login_user: LoginName,
    /// What may be wrong.
    pub warnings: Vec<String>,
    /// What may be wrong in the user's document, with its place.
    pub findings: Vec<Problem>,
}

/// Puts the user's document and goloo's part together. All problems are found at once, as far as one
/// doesn't hide another.
pub fn compose(input: &ComposeInput<'_>) -> Result<Composed, Vec<Problem>> {
    put_together(input, Checks::All)
}

/// The same for a document whose values may have any shape: what goloo adds must be right in those, too.
pub fn compose_any_shape(input: &ComposeInput<'_>) -> Result<Composed, Vec<Problem>> {
    put_together(input, Checks::Loading)
}

fn put_together(input: &ComposeInput<'_>, checks: Checks) -> Result<Composed, Vec<Problem>> {
    let mut warnings = Vec::new();
    let document =
        input.stack.cloud_init.as_deref().map(|bytes| finished(bytes, input, &mut warnings)).transpose()?;
    let (kind, facts) = match &document {
        Some(document) => look_at(&document.text).map_err(|problem| vec![document.in_file(problem)])?,
        None => (Kind::CloudConfig, Facts::default()),
    };
    let findings = document.as_ref().map_or(Ok(Vec::new()), |document| document.checked(kind, checks))?;
    let login_user = login_user(input, &facts);
    let keys = with_login_user(input.users, &login_user, input.client_key);
    let new_users = users_to_make(input, &facts);
    let mounts: &[_] = if input.provider == ProviderKind::Qemu { &input.stack.mounts } else { &[] };
    let identity = Identity {
        client_key: input.client_key,
        host_key: input.host_key,
        login_user: &login_user,
        keys: &keys,
        users: input.users,
        mounts,
        ttl: input.stack.ttl,
        configure: input.stack.configure.as_deref(),
    };
    let provision = Provision {
        new_users: &new_users,
        login_user: &login_user,
        with_default_user: facts.users.is_none(),
        mounts: !mounts.is_empty(),
    };
    let user_data = match input.provider {
        ProviderKind::Multipass => {
            warnings.extend(without_default(&facts));
            one_document(document.as_ref(), kind, &identity, &provision)?.into_bytes()
        }
        ProviderKind::Qemu | ProviderKind::Aws => {
            side_by_side(document.as_ref(), kind, &identity, &provision)?
        }
    };
    let user_data = limits::fit(user_data, input.provider).map_err(|problem| vec![problem])?;
    Ok(Composed { user_data, login_user, warnings, findings })
}

/// goloo's parts beside the user's document. Identity comes first: cloud-init runs it before it reads on.
fn side_by_side(
    document: Option<&Finished>,
    kind: Kind,
    identity: &Identity<'_>,
    provision: &Provision<'_>,
) -> Result<Vec<u8>, Vec<Problem>> {
    let room = document.map(|document| room(document, kind, provision)).transpose()?.flatten();
    let (boothook, text, first) = (identity.boothook(), provision.document(), provision.first_document());
    let handler = document.is_some_and(|_| kind.is_taken_apart()).then_some(PART_HANDLER);
    let document = document.map(|document| match handler {
        Some(_) => (OPAQUE, document.text.as_str()),
        None => (kind.mime_type(), document.text.as_str()),
    });
    let handler = handler.map(|handler| ("text/part-handler", handler));
    let own = [room.as_deref(), Some(text.as_str()), first.as_deref()].into_iter().flatten();
    let own = own.map(|text| (Kind::CloudConfig.mime_type(), text));
    let boothook = std::iter::once((BOOTHOOK, boothook.as_str()));
    Ok(message(&boothook.chain(handler).chain(document).chain(own).collect::<Vec<_>>()))
}

/// cloud-init leaves a part of this type to the part handler.
const OPAQUE: &str = "application/x-goloo-document";
const PART_HANDLER: &str = include_str!("guest/part-handler.py");

/// The type of a script that cloud-init runs at every boot as soon as it has read it.
const BOOTHOOK: &str = "text/cloud-boothook";

/// What makes room in the user's document for goloo's part.
fn room(document: &Finished, kind: Kind, part: &Provision<'_>) -> Result<Option<String>, Vec<Problem>> {
    let (text, keys) = (&document.text, part.targets());
    let emptied = match kind {
        Kind::CloudConfig => {
            targets::emptied(text, &keys).map_err(|problems| document.all_in_file(problems))?
        }
        Kind::Jinja => targets::emptied_in_jinja(text, &keys),
        Kind::Mime | Kind::Other(_) => Vec::new(),
    };
    Ok(part.room(&emptied))
}

/// goloo's part in the user's document. Identity is the first command of `bootcmd`, which is as early as one
/// document can be.
fn one_document(
    document: Option<&Finished>,
    kind: Kind,
    identity: &Identity<'_>,
    provision: &Provision<'_>,
) -> Result<String, Vec<Problem>> {
    let script = identity.script();
    if script.len() > limits::ARGUMENT_MAX {
        return Err(vec![limits::too_long_for_an_argument(script.len())]);
    }
    let mut additions = provision.config();
    additions.insert("bootcmd".to_owned(), serde_json::json!([["sh", "-c", script]]));
    let Some(document) = document else { return merge::merge("#cloud-config\n", &additions) };
    let merged = match not_for_multipass(kind) {
        Some(problem) => Err(vec![problem]),
        None => merge::merge(&document.text, &additions),
    };
    merged.map_err(|problems| document.all_in_file(problems))
}

/// Multipass reads every document as plain YAML.
fn not_for_multipass(kind: Kind) -> Option<Problem> {
    let (what, way) = match kind {
        Kind::CloudConfig => return None,
        Kind::Jinja => (
            "a template for cloud-init to render",
            "have goloo render it by \"## template: goloo\" in place of this line",
        ),
        Kind::Mime => ("a message of several parts", "make one #cloud-config document of them"),
        Kind::Other("text/x-shellscript") => {
            ("a script", "name it configure.sh, which goloo runs as root in the machine")
        }
        Kind::Other(_) => ("something else", "write it as #cloud-config"),
    };
    let message = format!("Multipass takes #cloud-config documents only, and this is {what}");
    Some(problem(1, 1, message, format!("{way}, or use --provider qemu")))
}

/// Multipass adds `default` to the users by itself; nobody else does.
fn without_default(facts: &Facts) -> Option<String> {
    let is_without = facts.users.is_some() && !facts.keeps_default_user;
    is_without.then(|| {
        "cloud-init.yaml: users has no \"default\"; Multipass adds it, while with qemu and on EC2 the image's own user is gone".to_owned()
    })
}

/// The document as it reaches the machine.
struct Finished {
    text: String,
    /// From which line of the file each line of the text comes; `None` where a template gave them.
    origins: Option<Vec<usize>>,
}

impl Finished {
    /// A problem with the text, as one with the file.
    fn in_file(&self, problem: Problem) -> Problem {
        match &self.origins {
            Some(origins) => {
                let line = origins.get(problem.line.saturating_sub(1)).or(origins.last());
                Problem { line: line.copied().unwrap_or(1), ..problem }
            }
            None => in_template(problem, &self.text),
        }
    }

    /// What may be wrong; the error is what is wrong.
    fn checked(&self, kind: Kind, checks: Checks) -> Result<Vec<Problem>, Vec<Problem>> {
        let found = check::check(&self.text, kind, checks, self.origins.as_deref());
        match found {
            Ok(warnings) => Ok(self.all_in_file(warnings)),
            Err(problems) => Err(self.all_in_file(problems)),
        }
    }

    fn all_in_file(&self, problems: Vec<Problem>) -> Vec<Problem> {
        problems.into_iter().map(|problem| self.in_file(problem)).collect()
    }
}

/// What a template gave has no lines in the file: the line itself is shown.
fn in_template(problem: Problem, rendered: &str) -> Problem {
    let text = rendered.lines().nth(problem.line.saturating_sub(1)).unwrap_or_default().trim();
    let message =
        format!("{}, in line {} of what the template gives: {text:?}", problem.message, problem.line);
    Problem { line: 1, column: 1, message, ..problem }
}

/// Renders the document where it is a template, and puts the keys in.
fn finished(
    bytes: &[u8],
    input: &ComposeInput<'_>,
    warnings: &mut Vec<String>,
) -> Result<Finished, Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        let (line, column) = crate::spec::position(&before, before.len());
        vec![problem(line, column, "the file isn't UTF-8", "save it as UTF-8")]
    })?;
    if text.starts_with('\u{feff}') {
        let hint = "save it as UTF-8 without one (without \"BOM\")";
        return Err(vec![problem(
            1,
            1,
            "the file begins with a byte-order mark, which cloud-init doesn't take",
            hint,
        )]);
    }
    let Some(body) = template::body(text) else {
        warnings.extend(template::old_forms(text).into_iter().map(|(old, new)| {
            format!("cloud-init.yaml: {old} is plain text now; begin the file with \"## template: goloo\" and write {new}")
        }));
        let filled = placeholders::fill(text, input.users)?;
        return Ok(Finished { text: filled.text, origins: Some(filled.origins) });
    };
    let rendered = template::render(body, input.stack, input.users, input.provider)?;
    let filled = placeholders::fill(&rendered, input.users).map_err(|problems| -> Vec<_> {
        problems.into_iter().map(|problem| in_template(problem, &rendered)).collect()
    })?;
    Ok(Finished { text: filled.text, origins: None })
}

fn look_at(text: &str) -> Result<(Kind, Facts), Problem> {
    let kind = Kind::of(text)?;
    let facts = match kind {
        Kind::CloudConfig => document::read(text)?,
        // What it becomes is known in the machine only; most read as YAML before that, too.
        Kind::Jinja => document::read(text).unwrap_or_default(),
        Kind::Mime | Kind::Other(_) => Facts::default(),
    };
    if facts.sets_host_key {
        let message = "ssh_keys sets an Ed25519 host key, and goloo sets one that it can check";
        let line = text.lines().position(|line| line.starts_with("ssh_keys")).map_or(1, |index| index + 1);
        return Err(problem(
            line,
            1,
            message,
            "remove ed25519_private and ed25519_public; other types may stay",
        ));
    }
    Ok((kind, facts))
}

/// Whom a person logs in as: the stack's first user; else the document's first where it drops the image's
/// own; else that one, by the name that the document gives it; else goloo's account.
fn login_user(input: &ComposeInput<'_>, facts: &Facts) -> LoginName {
    let name = |text: &str| LoginName::parse(text).ok();
    let in_stack = input.users.first().and_then(|user| name(&user.username));
    let in_document = || {
        let drops_default = facts.users.as_ref().filter(|_| !facts.keeps_default_user)?;
        Some(drops_default.first().and_then(|user| name(user)))
    };
    let in_image = || {
        let renamed = facts.default_user.as_deref().and_then(name);
        renamed.or_else(|| images::user_of(input.stack, input.provider).and_then(name))
    };
    let is_multipass = input.provider == ProviderKind::Multipass;
    in_stack
        .or_else(|| match in_document() {
            // Multipass adds the image's own user to every list.
            Some(None) if is_multipass => in_image(),
            Some(first) => first,
            None => in_image(),
        })
        .unwrap_or_else(account)
}

/// The users that neither the document nor the image makes.
fn users_to_make(input: &ComposeInput<'_>, facts: &Facts) -> Vec<UserKeys> {
    let image_user = facts.default_user.as_deref().or(images::user_of(input.stack, input.provider));
    // Multipass adds the image's own user to every list.
    let is_multipass = input.provider == ProviderKind::Multipass;
    let keeps_image_user = facts.users.is_none() || facts.keeps_default_user || is_multipass;
    let is_made = |user: &UserKeys| {
        let by_document = facts.users.iter().flatten().any(|name| *name == user.username);
        by_document || (keeps_image_user && image_user == Some(user.username.as_str()))
    };
    input.users.iter().filter(|user| !is_made(user)).cloned().collect()
}

/// All users' keys, with goloo's own among the login user's.
fn with_login_user(users: &[UserKeys], login_user: &str, client_key: &str) -> Vec<UserKeys> {
    let mut keys = users.to_vec();
    match keys.iter_mut().find(|user| user.username == login_user) {
        Some(user) => user.keys.push(client_key.to_owned()),
        None => keys.push(UserKeys {
            username: login_user.to_owned(),
            github_username: None,
            keys: vec![client_key.to_owned()],
        }),
    }
    keys
}

/// Parts as one message, in the order in which they are merged: the user's first, so that it counts
/// where two say something.
fn message(parts: &[(&str, &str)]) -> Vec<u8> {
    let boundary = boundary(parts);
    let mut message = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n");
    for (mime_type, text) in parts {
        message.push_str(&format!("\n--{boundary}\n"));
        // What isn't text must not be taken for text on the way.
        let encoding = if is_plain(text) && *mime_type != OPAQUE { "7bit" } else { "base64" };
        message.push_str(&format!(
            "Content-Type: {mime_type}; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: {encoding}\n\n"
        ));
        if encoding == "7bit" {
            message.push_str(text);
        } else {
            message.push_str(&identity::wrapped(&super::base64(text.as_bytes())));
            message.push('\n');
        }
    }
    message.push_str(&format!("\n--{boundary}--\n"));
    message.into_bytes()
}

/// Whether a text survives as it is: of other characters Python's e-mail package, by which cloud-init
/// reads this, makes escapes.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'\t' | b'\n' | b' '..=b'~'))
}

/// A line that no part has.
fn boundary(parts: &[(&str, &str)]) -> String {
    let boundary = |number: u32| format!("goloo-{number:08}");
    let is_free = |boundary: &String| !parts.iter().any(|(_, text)| text.contains(boundary.as_str()));
    (0..).map(boundary).find(is_free).expect("no text holds all numbers")
}
