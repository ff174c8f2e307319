//! Documents that begin with `## template: goloo` are rendered here, in Jinja's syntax.

use std::collections::BTreeSet;
use std::panic::resume_unwind;
use std::thread;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};

use super::problem;
use crate::record::{ProviderKind, UserKeys};
use crate::spec::{DNS_TTL, Problem, ResolvedStack};

/// The first line of such a document.
const HEADER: &str = "## template: goloo";

/// The variables, in the order in which errors list them.
const VARIABLES: [&str; 19] = [
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
    "provider",
];

/// What follows the header line, when the document has it.
pub(super) fn body(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    (first.trim_end() == HEADER).then_some(rest)
}

/// How much work a rendering may be: one for each instruction, and for each 64 bytes that it makes (minijinja's
/// measure), so at most 128 MB of memory.
const FUEL: u64 = 2_000_000;
/// The largest document that a template may become, in bytes.
const OUTPUT_MAX: usize = 1 << 20;
/// The longest expression or statement, in bytes without its strings: each operator of a chain may be a level of
/// calls to the template engine.
const EXPRESSION_MAX: usize = 4096;
/// Room for that many levels of calls.
const STACK: usize = 64 << 20;
/// How many calls of macros there may be one in another.
const CALLS_MAX: usize = 100;

/// Renders a template's body. Lines in problems count from the document's first.
pub(super) fn render(
    body: &str,
    stack: &ResolvedStack,
    users: &[UserKeys],
    provider: ProviderKind,
) -> Result<String, Vec<Problem>> {
    if let Some(at) = long_expression(body) {
        let (line, column) = crate::spec::position(body, at);
        let message = format!("the expression that begins here is longer than {EXPRESSION_MAX} bytes");
        return Err(vec![problem(line + 1, column, message, "make several of it with {% set … %}")]);
    }
    let on_own_stack = || {
        let thread = thread::Builder::new().stack_size(STACK);
        thread::scope(|scope| {
            let rendering = thread.spawn_scoped(scope, || render_here(body, stack, users, provider));
            rendering.map(|rendering| rendering.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    };
    on_own_stack().unwrap_or_else(|error| {
        let message = format!("the template can't be rendered: {error}");
        Err(vec![problem(1, 1, message, "run the command again when fewer programs are running")])
    })
}

fn render_here(
    body: &str,
    stack: &ResolvedStack,
    users: &[UserKeys],
    provider: ProviderKind,
) -> Result<String, Vec<Problem>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(CALLS_MAX);
    // As in cloud-init: a line with nothing but a statement leaves none behind.
    let syntax = SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the delimiters are the usual ones"));
    let template = environment.template_from_str(body).map_err(|error| vec![failed(&error)])?;
    let unknown = unknown_names(body, &template.undeclared_variables(true), stack);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let rendered = template.render(values(stack, users, provider)).map_err(|error| vec![failed(&error)])?;
    if rendered.len() > OUTPUT_MAX {
        let message = format!("the rendered document is larger than {} KiB", OUTPUT_MAX >> 10);
        let hint = "fetch what is large from cloud-init instead of writing it into it";
        return Err(vec![problem(1, 1, message, hint)]);
    }
    Ok(rendered)
}

/// Where an expression or statement begins that is too long.
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
        // Never within a character.
        at = (at..body.len()).find(|at| body.is_char_boundary(*at)).unwrap_or(body.len());
    }
    None
}

fn next_opening(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| pair == b"{{" || pair == b"{%")
}

fn values(stack: &ResolvedStack, users: &[UserKeys], provider: ProviderKind) -> minijinja::Value {
    let dns = stack.dns.as_ref();
    let hostname = dns.map_or(stack.name.as_str(), |dns| dns.hostname.as_str());
    let domain = dns.map_or("", |dns| dns.domain.trim_end_matches('.'));
    let fqdn = if domain.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domain}") };
    let users: Vec<_> = users
        .iter()
        .map(|user| {
            context! {
                username => user.username.clone(),
                github_username => user.github_username.clone().unwrap_or_default(),
                ssh_keys => user.keys.clone(),
            }
        })
        .collect();
    context! {
        name => stack.name.as_str(),
        cpus => stack.cpus,
        memory => stack.memory.to_string(),
        disk => stack.disk.to_string(),
        image => stack.image_text.clone(),
        instance_type => stack.instance_type.clone().unwrap_or_default(),
        os => stack.os.clone(),
        region => stack.region.clone().unwrap_or_default(),
        hostname => hostname,
        domain => domain,
        fqdn => fqdn,
        ttl => dns.map_or(DNS_TTL, |dns| dns.ttl),
        is_apex_domain => dns.is_some_and(|dns| dns.is_apex_domain),
        cname_aliases => dns.map(|dns| dns.cname_aliases.clone()).unwrap_or_default(),
        packages => stack.packages.clone(),
        working_dir => stack.working_dir.clone(),
        users => users,
        vars => minijinja::Value::from(minijinja::value::Serde(&stack.vars)),
        provider => provider.as_str(),
    }
}

/// Names that nothing stands behind: said with their place, all at once, before anything is rendered.
fn unknown_names(
    body: &str,
    used: &std::collections::HashSet<String>,
    stack: &ResolvedStack,
) -> Vec<Problem> {
    // minijinja's functions are names too.
    const FUNCTIONS: [&str; 4] = ["range", "dict", "namespace", "debug"];
    let is_known = |name: &str| VARIABLES.contains(&name) || FUNCTIONS.contains(&name);
    let used: BTreeSet<&String> = used.iter().collect();
    let mut problems: Vec<Problem> = used
        .into_iter()
        .filter_map(|name| {
            let (message, hint) = match name.split_once('.') {
                Some(("vars", key)) => {
                    let key = key.split('.').next().unwrap_or(key);
                    if stack.vars.contains_key(key) {
                        return None;
                    }
                    let hint = nearest_or_all(
                        key,
                        stack.vars.keys().map(String::as_str),
                        "cloud_init.vars in config.json holds",
                    );
                    (format!("the variable vars.{key} isn't defined"), hint)
                }
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
            Some(problem(line, column, message, hint))
        })
        .take(UNKNOWN_MAX)
        .collect();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

/// How many unknown names are reported; each is looked for in the whole template.
const UNKNOWN_MAX: usize = 50;

fn nearest_or_all<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone, all: &str) -> String {
    match crate::spec::nearest(word, known.clone()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("{all} {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// Where a name stands first inside of braces; the body's first line is the document's second.
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
    let (line, column) = crate::spec::position(body, offset);
    (line + 1, column)
}

fn failed(error: &minijinja::Error) -> Problem {
    let line = error.line().unwrap_or(1) + 1;
    if error.kind() == ErrorKind::OutOfFuel {
        let message = "the template takes too much time or memory to render";
        return problem(line, 1, message, "remove loops in loops, and texts that grow in a loop");
    }
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    problem(
        line,
        1,
        format!("the template can't be rendered: {detail}"),
        "templates are written in Jinja's syntax: {{ name }}, {% for … %}",
    )
}

/// Forms of the templates of the first goloo, with the new form: `{{ .Name }}` → `{{ name }}`. Only
/// names that it had count: a Docker format string has the same shape.
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
    fn old_forms_are_told_from_format_strings() {
        let text = "{{ .Name }} {{.WorkingDir}} docker ps --format '{{.Names}} {{.Status}}' {{ name }}";
        let new: Vec<_> = old_forms(text).into_iter().map(|(_, new)| new).collect();
        assert_eq!(new, ["{{ name }}", "{{ working_dir }}"]);
    }

    #[test]
    fn an_expression_is_measured_without_its_strings() {
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
    fn only_the_whole_first_line_makes_a_template() {
        assert_eq!(body("## template: goloo\nx"), Some("x"));
        assert_eq!(body("## template: jinja\nx"), None);
        assert_eq!(body("#cloud-config\n## template: goloo\n"), None);
    }
}
