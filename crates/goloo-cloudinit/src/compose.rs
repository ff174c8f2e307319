//! Composes the user-data.

use super::check::Checks;
use super::document::{self, Facts, Kind};
use super::identity::{self, Identity, account};
use super::provision::Provision;
use super::template::{Template, TemplateRenderer};
use super::{check, limits, merge, own_identity, placeholders, targets, template};
use crate::diagnostic::diagnostic;
use goloo_model::access::LoginName;
use goloo_model::host_key::HostKey;
use goloo_model::name::VmName;
use goloo_model::provider_info::{ProviderInfo, UserDataForm};
use goloo_model::record::{PrivateAddress, UserKeys};
use goloo_model::spec::{Diagnostic, ResolvedStack, images};

/// The inputs of the user-data.
#[derive(Debug, Clone, Copy)]
pub struct ComposeInput<'a> {
    /// The stack.
    pub stack: &'a ResolvedStack,
    /// Its users, with their resolved keys.
    pub users: &'a [UserKeys],
    /// goloo's own public key.
    pub client_key: &'a str,
    /// The host key of a new machine; `None` for one that exists, which keeps all of its own.
    pub host_key: Option<&'a HostKey>,
    /// The provider of the machine.
    pub provider: &'a ProviderInfo,
    /// The machine's address in the private network of its environment, if its provider connects machines.
    pub network: Option<PrivateAddress>,
    /// Renders the document if it is a goloo template.
    pub renderer: &'a dyn TemplateRenderer,
}

/// The user-data, and information derived from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Composed {
    /// The input of cloud-init.
    pub user_data: Vec<u8>,
    /// What makes a copy that continues from the memory of a baked machine this one, as a script that runs as root.
    pub identity: String,
    /// The login user.
    pub login_user: LoginName,
    /// Possible problems.
    pub warnings: Vec<String>,
    /// Possible problems in the user's document, with their positions.
    pub diagnostics: Vec<Diagnostic>,
}

/// Combines the user's document and goloo's part. All problems are reported at once, as far as one
/// doesn't hide another.
pub fn compose(input: &ComposeInput<'_>) -> Result<Composed, Vec<Diagnostic>> {
    put_together(input, Checks::All)
}

/// Like [`compose`], for a document whose values may have any structure: goloo's additions must be right then, too.
pub fn compose_any_shape(input: &ComposeInput<'_>) -> Result<Composed, Vec<Diagnostic>> {
    put_together(input, Checks::Loading)
}

fn put_together(input: &ComposeInput<'_>, checks: Checks) -> Result<Composed, Vec<Diagnostic>> {
    let mut warnings = Vec::new();
    let document =
        input.stack.cloud_init.as_deref().map(|bytes| finished(bytes, input, &mut warnings)).transpose()?;
    let (kind, facts) = match &document {
        Some(document) => look_at(&document.text).map_err(|diagnostic| vec![document.in_file(diagnostic)])?,
        None => (Kind::CloudConfig, Facts::default()),
    };
    let diagnostics = document.as_ref().map_or(Ok(Vec::new()), |document| document.checked(kind, checks))?;
    let login_user = login_user(input, &facts);
    let new_users = users_to_make(input, &facts);
    let features = &input.provider.user_data;
    let mounts: &[_] = if features.mounts_in_guest { &input.stack.mounts } else { &[] };
    let identity = Identity {
        client_key: input.client_key,
        host_key: input.host_key,
        login_user: &login_user,
        users: input.users,
        mounts,
        ttl: input.stack.ttl,
        configure: input.stack.configure.as_deref(),
        network: input.network,
    };
    let provision = Provision {
        new_users: &new_users,
        login_user: &login_user,
        with_default_user: facts.users.is_none(),
        mounts: !mounts.is_empty(),
        is_new: input.host_key.is_some(),
    };
    if features.adds_default_user {
        warnings.extend(without_default(&facts, input.provider.title));
    }
    let user_data = match features.form {
        UserDataForm::OneDocument => {
            let parts = (&identity, &provision);
            one_document(document.as_ref(), kind, parts, input.provider.title)?.into_bytes()
        }
        UserDataForm::Parts => side_by_side(document.as_ref(), kind, &identity, &provision)?,
    };
    let user_data = limits::fit(user_data, features.limit).map_err(|diagnostic| vec![diagnostic])?;
    Ok(Composed { user_data, identity: identity.script_of_copy(), login_user, warnings, diagnostics })
}

/// Where the document contains what differs between machines, such as their names: each of them has another key of a
/// baked image.
///
/// # Errors
/// As [`compose`].
pub fn per_machine_values(input: &ComposeInput<'_>) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let Some(document) = input.stack.cloud_init.as_deref() else { return Ok(Vec::new()) };
    let body = std::str::from_utf8(document).ok().and_then(template::body);
    let Some(body) = body else { return Ok(Vec::new()) };
    let rendered = |input: &ComposeInput<'_>| finished(document, input, &mut Vec::new());
    let mut other = input.stack.clone();
    other.name = VmName::parse("another-machine").expect("it is a name");
    let other = rendered(&ComposeInput { stack: &other, ..*input })?;
    if other.text == rendered(input)?.text {
        return Ok(Vec::new());
    }
    Ok(template::names_of_machine(body))
}

/// What cloud-init does at the first boot of each machine with this document, so that no machine can continue from the
/// memory of another one.
///
/// # Errors
/// As [`compose`].
pub fn needs_a_boot(input: &ComposeInput<'_>) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let Some(document) = input.stack.cloud_init.as_deref() else { return Ok(Vec::new()) };
    let finished = finished(document, input, &mut Vec::new())?;
    Ok(finished.all_in_file(own_identity::needs_a_boot(&finished.text)))
}

/// goloo's parts next to the user's document. Identity comes first: cloud-init runs it before it reads on.
fn side_by_side(
    document: Option<&Finished>,
    kind: Kind,
    identity: &Identity<'_>,
    provision: &Provision<'_>,
) -> Result<Vec<u8>, Vec<Diagnostic>> {
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

/// A type that cloud-init leaves to the part handler.
const OPAQUE: &str = "application/x-goloo-document";
const PART_HANDLER: &str = include_str!("guest/part-handler.py");

/// The type of a script that cloud-init runs at every boot as soon as it has read the user-data.
const BOOTHOOK: &str = "text/cloud-boothook";

/// The document that replaces empty values in the user's document, so that goloo's part can add to them.
fn room(document: &Finished, kind: Kind, part: &Provision<'_>) -> Result<Option<String>, Vec<Diagnostic>> {
    let (text, keys) = (&document.text, part.targets());
    let emptied = match kind {
        Kind::CloudConfig => {
            targets::emptied(text, &keys).map_err(|diagnostics| document.all_in_file(diagnostics))?
        }
        Kind::Jinja => targets::emptied_in_jinja(text, &keys),
        Kind::Mime | Kind::Other(_) => Vec::new(),
    };
    Ok(part.room(&emptied))
}

/// The user's document with goloo's part merged into it. Identity is the first command of `bootcmd`, which is the
/// earliest point that a single document can reach.
fn one_document(
    document: Option<&Finished>,
    kind: Kind,
    (identity, provision): (&Identity<'_>, &Provision<'_>),
    title: &str,
) -> Result<String, Vec<Diagnostic>> {
    let script = identity.script();
    if script.len() > limits::ARGUMENT_MAX {
        return Err(vec![limits::too_long_for_an_argument(script.len())]);
    }
    let mut additions = provision.config();
    additions.insert("bootcmd".to_owned(), serde_json::json!([["sh", "-c", script]]));
    let Some(document) = document else { return merge::merge("#cloud-config\n", &additions) };
    let merged = match not_in_one_document(kind, title) {
        Some(diagnostic) => Err(vec![diagnostic]),
        None => merge::merge(&document.text, &additions),
    };
    merged.map_err(|diagnostics| document.all_in_file(diagnostics))
}

/// A provider that takes one document reads it as plain YAML.
fn not_in_one_document(kind: Kind, title: &str) -> Option<Diagnostic> {
    let (what, way) = match kind {
        Kind::CloudConfig => return None,
        Kind::Jinja => (
            "a template for cloud-init to render",
            "replace this line with \"## template: goloo\" so that goloo renders it",
        ),
        Kind::Mime => ("a multipart message", "combine the parts into one #cloud-config document"),
        Kind::Other("text/x-shellscript") => {
            ("a script", "name it configure.sh, which goloo runs as root in the machine")
        }
        Kind::Other(_) => ("something else", "write it as #cloud-config"),
    };
    let message = format!("{title} supports only #cloud-config documents, and this is {what}");
    Some(diagnostic(1, 1, message, format!("{way}, or use --provider qemu")))
}

/// Some providers add `default` to the users by themselves; the others don't.
fn without_default(facts: &Facts, title: &str) -> Option<String> {
    let is_without = facts.users.is_some() && !facts.keeps_default_user;
    is_without.then(|| {
        format!("cloud-init.yaml: users has no \"default\"; {title} adds it, but with qemu and on EC2 the image's default user isn't created")
    })
}

/// The document as sent to the machine.
struct Finished {
    text: String,
    /// The line of the file for each line of the text; `None` for the output of a template.
    origins: Option<Vec<usize>>,
}

impl Finished {
    /// A diagnostic about the text, as one about the file.
    fn in_file(&self, diagnostic: Diagnostic) -> Diagnostic {
        match &self.origins {
            Some(origins) => {
                let line = origins.get(diagnostic.line.saturating_sub(1)).or(origins.last());
                Diagnostic { line: line.copied().unwrap_or(1), ..diagnostic }
            }
            None => in_template(diagnostic, &self.text),
        }
    }

    /// Returns warnings, or the problems as the error.
    fn checked(&self, kind: Kind, checks: Checks) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        let found = check::check(&self.text, kind, checks, self.origins.as_deref());
        match found {
            Ok(warnings) => Ok(self.all_in_file(warnings)),
            Err(diagnostics) => Err(self.all_in_file(diagnostics)),
        }
    }

    fn all_in_file(&self, diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
        diagnostics.into_iter().map(|diagnostic| self.in_file(diagnostic)).collect()
    }
}

/// The output of a template has no lines in the file: the line itself is shown.
fn in_template(diagnostic: Diagnostic, rendered: &str) -> Diagnostic {
    let text = rendered.lines().nth(diagnostic.line.saturating_sub(1)).unwrap_or_default().trim();
    let message =
        format!("{}, in line {} of the rendered template: {text:?}", diagnostic.message, diagnostic.line);
    Diagnostic { line: 1, column: 1, message, ..diagnostic }
}

/// Renders the document if it is a template, and inserts the keys.
fn finished(
    bytes: &[u8],
    input: &ComposeInput<'_>,
    warnings: &mut Vec<String>,
) -> Result<Finished, Vec<Diagnostic>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
        let (line, column) = goloo_model::spec::position(&before, before.len());
        vec![diagnostic(line, column, "the file isn't UTF-8", "save it as UTF-8")]
    })?;
    if text.starts_with('\u{feff}') {
        let hint = "save it as UTF-8 without a BOM";
        return Err(vec![diagnostic(
            1,
            1,
            "the file begins with a byte-order mark, which cloud-init doesn't accept",
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
    let template = Template::new(body, input.stack, input.users, input.provider.id);
    let rendered = input.renderer.render(&template)?;
    let filled = placeholders::fill(&rendered, input.users).map_err(|diagnostics| -> Vec<_> {
        diagnostics.into_iter().map(|diagnostic| in_template(diagnostic, &rendered)).collect()
    })?;
    Ok(Finished { text: filled.text, origins: None })
}

fn look_at(text: &str) -> Result<(Kind, Facts), Diagnostic> {
    let kind = Kind::of(text)?;
    let facts = match kind {
        Kind::CloudConfig => document::read(text)?,
        // Its result is known in the machine only; but most templates are valid YAML even before rendering.
        Kind::Jinja => document::read(text).unwrap_or_default(),
        Kind::Mime | Kind::Other(_) => Facts::default(),
    };
    if facts.sets_host_key {
        let message = "ssh_keys sets an Ed25519 host key, but goloo sets its own, which it can verify";
        let line = text.lines().position(|line| line.starts_with("ssh_keys")).map_or(1, |index| index + 1);
        return Err(diagnostic(
            line,
            1,
            message,
            "remove ed25519_private and ed25519_public; other types may stay",
        ));
    }
    Ok((kind, facts))
}

/// The login user: the stack's first user; else the document's first if it drops the image's
/// own; else the image's own, with the name that the document gives it; else goloo's account.
fn login_user(input: &ComposeInput<'_>, facts: &Facts) -> LoginName {
    let name = |text: &str| LoginName::parse(text).ok();
    let in_stack = input.users.first().and_then(|user| name(&user.username));
    let in_document = || {
        let drops_default = facts.users.as_ref().filter(|_| !facts.keeps_default_user)?;
        Some(drops_default.first().and_then(|user| name(user)))
    };
    let in_image = || {
        let renamed = facts.default_user.as_deref().and_then(name);
        renamed.or_else(|| images::user_of(input.stack, input.provider.image_key).and_then(name))
    };
    in_stack
        .or_else(|| match in_document() {
            Some(None) if input.provider.user_data.adds_default_user => in_image(),
            Some(first) => first,
            None => in_image(),
        })
        .unwrap_or_else(account)
}

/// The users that neither the document nor the image creates.
fn users_to_make(input: &ComposeInput<'_>, facts: &Facts) -> Vec<UserKeys> {
    let image_user = facts.default_user.as_deref().or(images::user_of(input.stack, input.provider.image_key));
    let is_added = input.provider.user_data.adds_default_user;
    let keeps_image_user = facts.users.is_none() || facts.keeps_default_user || is_added;
    let is_made = |user: &UserKeys| {
        let by_document = facts.users.iter().flatten().any(|name| *name == user.username);
        by_document || (keeps_image_user && image_user == Some(user.username.as_str()))
    };
    input.users.iter().filter(|user| !is_made(user)).cloned().collect()
}

/// A multipart message of parts, in the order in which they are merged: the user's first, so that it takes
/// precedence.
fn message(parts: &[(&str, &str)]) -> Vec<u8> {
    let boundary = boundary(parts);
    let mut message = format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\nMIME-Version: 1.0\n");
    for (mime_type, text) in parts {
        message.push_str(&format!("\n--{boundary}\n"));
        // Prevents binary data from being treated as text in transit.
        let encoding = if is_plain(text) && *mime_type != OPAQUE { "7bit" } else { "base64" };
        message.push_str(&format!(
            "Content-Type: {mime_type}; charset=\"utf-8\"\nMIME-Version: 1.0\nContent-Transfer-Encoding: {encoding}\n\n"
        ));
        if encoding == "7bit" {
            message.push_str(text);
        } else {
            message.push_str(&identity::wrapped(&crate::script::base64(text.as_bytes())));
            message.push('\n');
        }
    }
    message.push_str(&format!("\n--{boundary}--\n"));
    message.into_bytes()
}

/// Whether a text is preserved exactly: Python's e-mail package, with which cloud-init
/// parses this, escapes other characters.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| matches!(b, b'\t' | b'\n' | b' '..=b'~'))
}

/// A boundary line that occurs in no part.
fn boundary(parts: &[(&str, &str)]) -> String {
    let boundary = |number: u32| format!("goloo-{number:08}");
    let is_free = |boundary: &String| !parts.iter().any(|(_, text)| text.contains(boundary.as_str()));
    (0..).map(boundary).find(is_free).expect("no text holds all numbers")
}
