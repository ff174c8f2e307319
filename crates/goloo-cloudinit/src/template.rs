//! Renders documents that begin with `## template: goloo`, in Jinja's syntax.
//!
//! The engine counts its steps, but not the cost of a step on nested or shared values. So an untrusted template
//! is rendered in a separate process, which a [`TemplateRenderer`] starts.

use crate::diagnostic::diagnostic;
use std::collections::BTreeSet;
use std::fmt;
use std::panic::resume_unwind;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use goloo_model::provider_id::ProviderId;
use goloo_model::record::UserKeys;
use goloo_model::spec::{DNS_TTL, Diagnostic, ResolvedStack};

/// The first line of such a document.
const HEADER: &str = "## template: goloo";

/// The variables, in the order in which errors list them.
const VARIABLES: [&str; 20] = [
    "name",
    "cpus",
    "memory",
    "disk",
    "image",
    "instance_type",
    "os",
    "region",
    "hostname",
    "domain",
    "fqdn",
    "ttl",
    "is_apex_domain",
    "cname_aliases",
    "packages",
    "working_dir",
    "users",
    "vars",
    "machines",
    "provider",
];

/// The variable with the other machines of an environment. It is in `vars`, as others, where `goloo up` puts it.
const MACHINES: &str = "machines";

/// The text after the header line, if the document has it.
pub(super) fn body(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    (first.trim_end() == HEADER).then_some(rest)
}

/// The maximum cost of rendering: one per instruction, and one per 64 bytes of output (minijinja's
/// measure), so at most 128 MB of memory.
const FUEL: u64 = 2_000_000;
/// The maximum size of the output, in bytes.
const OUTPUT_MAX: usize = 1 << 20;
/// The maximum length of an expression or statement, in bytes without its strings: each operator of a chain may be one
/// level of recursion in the template engine.
const EXPRESSION_MAX: usize = 4096;
/// Stack size for this depth of recursion.
const STACK: usize = 64 << 20;
/// The maximum depth of nested macro calls.
const CALLS_MAX: usize = 100;

/// Renders templates.
pub trait TemplateRenderer: fmt::Debug {
    /// Like [`Template::render`], with limits on time and memory.
    fn render(&self, template: &Template) -> Result<String, Vec<Diagnostic>>;
}

/// Renders in this process, which a hostile template can crash or block: for trusted templates.
#[derive(Debug, Clone, Copy)]
pub struct InProcessRenderer;

impl TemplateRenderer for InProcessRenderer {
    fn render(&self, template: &Template) -> Result<String, Vec<Diagnostic>> {
        template.render()
    }
}

/// A template with all data that it can access.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// The text after the header line.
    body: String,
    /// The variables by their names.
    values: Value,
}

impl Template {
    pub(super) fn new(body: &str, stack: &ResolvedStack, users: &[UserKeys], provider: ProviderId) -> Self {
        Self { body: body.to_owned(), values: values(stack, users, provider) }
    }

    /// Renders it. Lines in diagnostics count from the document's first. A template can make this take any time, and end
    /// the process by a signal.
    pub fn render(&self) -> Result<String, Vec<Diagnostic>> {
        if let Some(at) = long_expression(&self.body) {
            let (line, column) = goloo_model::spec::position(&self.body, at);
            let message = format!("the expression that begins here is longer than {EXPRESSION_MAX} bytes");
            return Err(vec![diagnostic(line + 1, column, message, "split it up with {% set ... %}")]);
        }
        let on_own_stack = || {
            let thread = thread::Builder::new().stack_size(STACK);
            thread::scope(|scope| {
                let rendering = thread.spawn_scoped(scope, || self.render_here());
                rendering.map(|rendering| rendering.join().unwrap_or_else(|panic| resume_unwind(panic)))
            })
        };
        on_own_stack().unwrap_or_else(|error| {
            let hint = "run the command again when fewer programs are running";
            Err(vec![Self::not_rendered(&error.to_string(), hint)])
        })
    }

    fn render_here(&self) -> Result<String, Vec<Diagnostic>> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(CALLS_MAX);
        // As in cloud-init: a line that contains only a statement is removed.
        let syntax = SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build();
        environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
        let template = environment.template_from_str(&self.body).map_err(|error| vec![failed(&error)])?;
        let unknown = unknown_names(&self.body, &template.undeclared_variables(true), &self.values["vars"]);
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let rendered = template.render(self.context()).map_err(|error| vec![failed(&error)])?;
        if rendered.len() > OUTPUT_MAX {
            let message = format!("the rendered document is larger than {} KiB", OUTPUT_MAX >> 10);
            let hint = "have cloud-init download large content instead of writing it here";
            return Err(vec![diagnostic(1, 1, message, hint)]);
        }
        Ok(rendered)
    }

    /// The variables. A user's fields are in their documented order.
    fn context(&self) -> minijinja::Value {
        let value = |value: &Value| minijinja::Value::from(Serde(value));
        let user = |user: &Value| {
            context! {
                username => value(&user["username"]),
                github_username => value(&user["github_username"]),
                ssh_keys => value(&user["ssh_keys"]),
            }
        };
        let users: Vec<_> = self.values["users"].as_array().into_iter().flatten().map(user).collect();
        context! { users => users, ..value(&self.values) }
    }

    /// The problem for a rendering that exceeded the limits; its line is unknown.
    pub fn too_costly() -> Diagnostic {
        too_costly_in_line(1)
    }

    /// The problem for a rendering that failed for an external reason.
    pub fn not_rendered(reason: &str, hint: &str) -> Diagnostic {
        diagnostic(1, 1, format!("the template can't be rendered: {reason}"), hint)
    }
}

/// The start of an expression or statement that is too long.
fn long_expression(body: &str) -> Option<usize> {
    let bytes = body.as_bytes();
    let mut at = 0;
    while let Some(found) = body.get(at..).and_then(next_opening) {
        let start = at + found;
        let (mut length, mut quote) = (0, None);
        at = start + 2;
        while let Some(byte) = bytes.get(at) {
            match (quote, byte) {
                (None, b'}' | b'%') if bytes.get(at + 1) == Some(&b'}') => break,
                (None, b'"' | b'\'') => quote = Some(*byte),
                (Some(_), b'\\') => at += 1,
                (Some(open), byte) if open == *byte => quote = None,
                _ => {}
            }
            length += usize::from(quote.is_none());
            at += 1;
        }
        if length > EXPRESSION_MAX {
            return Some(start);
        }
        // Never inside a character.
        at = (at..body.len()).find(|at| body.is_char_boundary(*at)).unwrap_or(body.len());
    }
    None
}

fn next_opening(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| pair == b"{{" || pair == b"{%")
}

fn values(stack: &ResolvedStack, users: &[UserKeys], provider: ProviderId) -> Value {
    let dns = stack.dns.as_ref();
    let hostname = dns.map_or(stack.name.as_str(), |dns| dns.hostname.as_str());
    let domain = dns.map_or("", |dns| dns.domain.trim_end_matches('.'));
    let fqdn = if domain.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domain}") };
    let users: Vec<_> = users
        .iter()
        .map(|user| {
            json!({
                "username": user.username,
                "github_username": user.github_username.as_deref().unwrap_or_default(),
                "ssh_keys": user.keys,
            })
        })
        .collect();
    json!({
        "name": stack.name.as_str(),
        "cpus": stack.cpus,
        "memory": stack.memory.to_string(),
        "disk": stack.disk.to_string(),
        "image": stack.image_text,
        "instance_type": stack.instance_type.as_deref().unwrap_or_default(),
        "os": stack.os,
        "region": stack.region.as_deref().unwrap_or_default(),
        "hostname": hostname,
        "domain": domain,
        "fqdn": fqdn,
        "ttl": dns.map_or(DNS_TTL, |dns| dns.ttl),
        "is_apex_domain": dns.is_some_and(|dns| dns.is_apex_domain),
        "cname_aliases": dns.map(|dns| dns.cname_aliases.as_slice()).unwrap_or_default(),
        "packages": stack.packages,
        "working_dir": stack.working_dir,
        "users": users,
        "vars": stack.vars,
        "machines": stack.vars.get(MACHINES).unwrap_or(&Value::Null),
        "provider": provider.as_str(),
    })
}

/// Reports undefined names with their positions, all at once, before anything is rendered.
fn unknown_names(body: &str, used: &std::collections::HashSet<String>, vars: &Value) -> Vec<Diagnostic> {
    // minijinja's functions are names too.
    const FUNCTIONS: [&str; 4] = ["range", "dict", "namespace", "debug"];
    let is_known = |name: &str| VARIABLES.contains(&name) || FUNCTIONS.contains(&name);
    let used: BTreeSet<&String> = used.iter().collect();
    let mut diagnostics: Vec<Diagnostic> = used
        .into_iter()
        .filter_map(|name| {
            let (message, hint) = match name.split_once('.') {
                Some(("vars", key)) => {
                    let key = key.split('.').next().unwrap_or(key);
                    if vars.get(key).is_some() {
                        return None;
                    }
                    let hint = nearest_or_all(
                        key,
                        vars.as_object().into_iter().flat_map(|vars| vars.keys()).map(String::as_str),
                        "the variables in cloud_init.vars of config.json are",
                    );
                    (format!("the variable vars.{key} isn't defined"), hint)
                }
                Some((MACHINES, rest)) => unknown_machine(rest, &vars[MACHINES])?,
                _ if is_known(name.split('.').next().unwrap_or(name)) => return None,
                _ => {
                    let name = name.split('.').next().unwrap_or(name);
                    (
                        format!("the variable {name} isn't defined"),
                        nearest_or_all(name, VARIABLES, "the variables are"),
                    )
                }
            };
            let (line, column) = place_of(body, name);
            Some(diagnostic(line, column, message, hint))
        })
        .take(UNKNOWN_MAX)
        .collect();
    diagnostics.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    diagnostics
}

/// What is wrong with a variable of another machine, and what to do; `None` if it is defined.
fn unknown_machine(rest: &str, machines: &Value) -> Option<(String, String)> {
    let (machine, field) = rest.split_once('.').unwrap_or((rest, ""));
    let known = machines.get(machine);
    if known.is_some_and(|known| field.is_empty() || known.get(field).is_some()) {
        return None;
    }
    Some(match (known, field) {
        (_, "address") => (
            format!("the address of the machine {machine} isn't known before it is made"),
            format!("use its name, {{{{ machines.{machine}.name }}}}"),
        ),
        (Some(_), _) => (
            format!("the variable machines.{rest} isn't defined"),
            format!(
                "the variables are machines.{machine}.name and, on a private network, machines.{machine}.address"
            ),
        ),
        (None, _) => (
            format!("the variable machines.{machine} isn't defined"),
            format!(
                "it needs an environment whose goloo.json has the machine {machine}; for a VM of its own, set cloud_init.vars.machines"
            ),
        ),
    })
}

/// The variables of other machines that a document uses: the machine, with "_" for "-", and the field.
pub fn used_machine_variables(document: &str) -> BTreeSet<(String, String)> {
    let Some(body) = body(document) else { return BTreeSet::new() };
    let environment = Environment::new();
    let Ok(template) = environment.template_from_str(body) else { return BTreeSet::new() };
    let used = template.undeclared_variables(true);
    let of_machines = used.iter().filter_map(|name| name.strip_prefix(MACHINES)?.strip_prefix('.'));
    of_machines
        .filter_map(|name| name.split_once('.'))
        .map(|(machine, field)| (machine.to_owned(), field.to_owned()))
        .collect()
}

/// The maximum number of reported unknown names; each requires a search of the whole template.
const UNKNOWN_MAX: usize = 50;

fn nearest_or_all<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone, all: &str) -> String {
    match goloo_model::spec::nearest(word, known.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("{all} {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// The first occurrence of a name inside of braces; the body's first line is the document's second.
fn place_of(body: &str, name: &str) -> (usize, usize) {
    let (mut open, mut at) = (false, 0);
    let offset = loop {
        let Some(rest) = body.get(at..).filter(|rest| !rest.is_empty()) else { break 0 };
        match rest.as_bytes() {
            [b'{', b'{' | b'%', ..] => open = true,
            [b'}' | b'%', b'}', ..] => open = false,
            _ if open && rest.starts_with(name) => break at,
            _ => {}
        }
        at += rest.chars().next().map_or(1, char::len_utf8);
    };
    let (line, column) = goloo_model::spec::position(body, offset);
    (line + 1, column)
}

/// The places of the variables that have the machine's name in them. The first of each counts.
pub(super) fn names_of_machine(body: &str) -> Vec<Diagnostic> {
    let environment = Environment::new();
    let used = environment.template_from_str(body).map(|template| template.undeclared_variables(false));
    let used = used.unwrap_or_default();
    let names = ["name", "hostname", "fqdn"].into_iter().filter(|name| used.contains(*name));
    let places = names.map(|name| {
        let (line, column) = place_of(body, name);
        (line, column, name)
    });
    let hint = "have the machine find out its name when it needs it, as with $(hostname)";
    let text = |name: &str| format!("{name} differs between machines, so they can't share a baked image");
    places.map(|(line, column, name)| diagnostic(line, column, text(name), hint)).collect()
}

fn failed(error: &minijinja::Error) -> Diagnostic {
    let line = error.line().unwrap_or(1) + 1;
    if error.kind() == ErrorKind::OutOfFuel {
        return too_costly_in_line(line);
    }
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    diagnostic(
        line,
        1,
        format!("the template can't be rendered: {detail}"),
        "templates are written in Jinja's syntax: {{ name }}, {% for ... %}",
    )
}

fn too_costly_in_line(line: usize) -> Diagnostic {
    let message = "the template uses too much time or memory to render";
    let hint = "remove nested loops, strings and lists that grow in a loop, and deeply nested lists";
    diagnostic(line, 1, message, hint)
}

/// Template expressions of goloo v0, with the new form: `{{ .Name }}` → `{{ name }}`. Only
/// names that it defined are included: Docker format strings have the same syntax.
pub(super) fn old_forms(text: &str) -> Vec<(String, String)> {
    let mut forms = Vec::new();
    for piece in text.split("{{").skip(1) {
        let Some((inner, _)) = piece.split_once("}}") else { continue };
        let Some(field) = inner.trim_matches(['-', ' ']).strip_prefix('.') else { continue };
        let new = snake(field);
        if VARIABLES.contains(&new.as_str()) && field.starts_with(|c: char| c.is_ascii_uppercase()) {
            forms.push((format!("{{{{{inner}}}}}"), format!("{{{{ {new} }}}}")));
        }
    }
    forms.dedup();
    forms
}

fn snake(field: &str) -> String {
    let mut snake = String::new();
    let mut after_lower = false;
    for character in field.chars() {
        if character.is_ascii_uppercase() && after_lower {
            snake.push('_');
        }
        after_lower = character.is_ascii_lowercase();
        snake.push(character.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v0_template_syntax_is_distinguished_from_format_strings() {
        let text = "{{ .Name }} {{.WorkingDir}} docker ps --format '{{.Names}} {{.Status}}' {{ name }}";
        let new: Vec<_> = old_forms(text).into_iter().map(|(_, new)| new).collect();
        assert_eq!(new, ["{{ name }}", "{{ working_dir }}"]);
    }

    #[test]
    fn the_length_limit_of_an_expression_excludes_its_strings() {
        let long = "+1".repeat(EXPRESSION_MAX);
        let text = "x".repeat(2 * EXPRESSION_MAX);
        for fine in [
            format!("{{{{ \"{text}\" }}}} {text}"),
            format!("{{{{ '{text}' ~ \"\\\"{text}\" }}}}"),
            "{{ a }}".repeat(EXPRESSION_MAX),
            format!("{text}{{"),
            "{{".to_owned(),
            "{{ 'é".to_owned(),
        ] {
            assert_eq!(long_expression(&fine), None, "{}", fine.len());
        }
        for (start, too_long) in [
            (0, format!("{{{{ 1{long} }}}}")),
            (3, format!("é {{% if 1{long} %}}")),
            (0, format!("{{{{ \"}}}}\"{long}")),
        ] {
            assert_eq!(long_expression(&too_long), Some(start));
        }
    }

    #[test]
    fn variables_of_other_machines_are_found_and_unknown_ones_explained() {
        let text =
            "## template: goloo\n{{ machines.db.name }} {{ machines.web_1.address }} {{ vars.x }} {{ name }}";
        let pair = |machine: &str, field: &str| (machine.to_owned(), field.to_owned());
        assert_eq!(used_machine_variables(text), [pair("db", "name"), pair("web_1", "address")].into());
        assert_eq!(used_machine_variables("{{ machines.db.name }}"), BTreeSet::new());
        let machines = json!({"db": {"name": "db"}});
        let explained = |name: &str| unknown_machine(name, &machines).map(|(message, _)| message);
        assert_eq!(explained("db.name"), None);
        for (name, expected) in [
            ("db.address", "the address of the machine db isn't known before it is made"),
            ("db.adress", "the variable machines.db.adress isn't defined"),
            ("web.name", "the variable machines.web isn't defined"),
        ] {
            assert_eq!(explained(name).as_deref(), Some(expected));
        }
    }

    #[test]
    fn only_the_exact_first_line_marks_a_template() {
        assert_eq!(body("## template: goloo\nx"), Some("x"));
        assert_eq!(body("## template: jinja\nx"), None);
        assert_eq!(body("#cloud-config\n## template: goloo\n"), None);
    }
}
