//! The source files of the workspace's crates as far as their structure goes: modules, imports, paths, public types.
//! Code for tests alone (`#[cfg(test)]`) is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A crate root (a library or a program) with its modules.
pub struct Target {
    /// The package's folder below `crates/`.
    pub package: String,
    /// The files; the first one is the root.
    pub files: Vec<SourceFile>,
}

/// One file, which is one module.
pub struct SourceFile {
    /// The path from the workspace's root.
    pub path: PathBuf,
    /// The module's path from the crate's root.
    pub module: Vec<String>,
    /// The indices in [`Target::files`] of the modules that it declares.
    pub children: BTreeMap<String, usize>,
    /// What it imports.
    pub imports: Vec<Import>,
    /// Paths of more than one segment in its code.
    pub paths: Vec<ScopedPath>,
    /// All other identifiers in its code, and the first ones of its paths.
    pub words: BTreeSet<String>,
    /// Its public types.
    pub types: Vec<String>,
    /// Its literals that aren't ASCII, as written. Attributes, and so documentation, are left out.
    pub foreign_literals: Vec<String>,
}

/// A path as written, and the module in which it is written: the file's own, or one inside of it.
pub struct ScopedPath {
    /// The module's path from the crate's root.
    pub scope: Vec<String>,
    /// The segments as written.
    pub segments: Vec<String>,
}

/// One name that a `use` brings in.
pub struct Import {
    /// Where it comes from.
    pub path: ScopedPath,
    /// The name in this module; `None` for all names (`*`).
    pub name: Option<String>,
    /// Whether others can import it from here.
    pub is_exported: bool,
}

impl ScopedPath {
    /// The path from the crate's root; `None` for other crates' and for names that the scope imports.
    pub fn absolute(&self, file: &SourceFile) -> Option<Vec<String>> {
        let (first, rest) = self.segments.split_first()?;
        let mut base = match first.as_str() {
            "crate" => return Some(rest.to_vec()),
            "self" => self.scope.clone(),
            "super" => self.scope[..self.scope.len().checked_sub(1)?].to_vec(),
            name if file.module == self.scope && file.children.contains_key(name) => {
                return Some([&self.scope[..], &self.segments].concat());
            }
            _ => return None,
        };
        for segment in rest {
            if segment == "super" {
                base.pop()?;
            } else {
                base.push(segment.clone());
            }
        }
        Some(base)
    }
}

/// All libraries and programs of the packages in `crates/`.
pub fn targets(workspace: &Path) -> Vec<Target> {
    let mut targets = Vec::new();
    for package in sorted(&workspace.join("crates")) {
        let source = package.join("src");
        let programs = sorted(&source.join("bin"))
            .into_iter()
            .map(|path| if path.is_dir() { path.join("main.rs") } else { path });
        let roots = [source.join("lib.rs"), source.join("main.rs")].into_iter().chain(programs);
        for root in roots.filter(|root| root.is_file()) {
            let package =
                package.file_name().expect("a listed folder has a name").to_string_lossy().into_owned();
            let mut target = Target { package, files: Vec::new() };
            let folder = root.parent().expect("a file has a folder").to_owned();
            target.read(workspace, &root, &folder, Vec::new());
            targets.push(target);
        }
    }
    assert!(!targets.is_empty(), "no packages in {}", workspace.display());
    targets
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    paths.sort();
    paths
}

impl Target {
    /// Reads a file and the modules that it declares, whose files are in `folder`; returns its index.
    fn read(&mut self, workspace: &Path, path: &Path, folder: &Path, module: Vec<String>) -> usize {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let shown = path.strip_prefix(workspace).unwrap_or(path).to_owned();
        let (file, declared) = parse(&text, shown, module.clone());
        let index = self.files.len();
        self.files.push(file);
        for name in declared {
            let inside = folder.join(&name);
            let candidates = [folder.join(format!("{name}.rs")), inside.join("mod.rs")];
            let child = candidates.iter().find(|path| path.is_file());
            let child = child.unwrap_or_else(|| panic!("{}: no file of the module {name}", path.display()));
            let child =
                self.read(workspace, child, &inside, [&module[..], std::slice::from_ref(&name)].concat());
            self.files[index].children.insert(name, child);
        }
        index
    }

    /// The file that defines what a path from the crate's root names: the deepest module on the way, other modules'
    /// exports followed.
    pub fn file_of(&self, path: &[String]) -> usize {
        self.follow(path, 0)
    }

    fn follow(&self, path: &[String], exports: usize) -> usize {
        let mut current = 0;
        for (at, segment) in path.iter().enumerate() {
            let file = &self.files[current];
            if let Some(child) = file.children.get(segment) {
                current = *child;
                continue;
            }
            let import = file.imports.iter().find(|import| import.name.as_ref() == Some(segment));
            return match import.and_then(|import| import.path.absolute(file)) {
                // Two modules can export each other's names.
                Some(target) if exports < 16 => {
                    self.follow(&[&target[..], &path[at + 1..]].concat(), exports + 1)
                }
                _ => current,
            };
        }
        current
    }
}

/// Reads a file's text; also returns the modules that it declares.
pub fn parse(text: &str, path: PathBuf, module: Vec<String>) -> (SourceFile, Vec<String>) {
    let tokens: TokenStream = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let scope = module.clone();
    let file = SourceFile {
        path,
        module,
        children: BTreeMap::new(),
        imports: Vec::new(),
        paths: Vec::new(),
        words: BTreeSet::new(),
        types: Vec::new(),
        foreign_literals: Vec::new(),
    };
    let mut reader = Reader { file, scope, declared: Vec::new() };
    reader.read(tokens);
    (reader.file, reader.declared)
}

struct Reader {
    file: SourceFile,
    scope: Vec<String>,
    declared: Vec<String>,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        while !rest.is_empty() {
            rest = &rest[self.step(rest)..];
        }
    }

    /// Reads what the tokens begin with; returns how many tokens it has.
    fn step(&mut self, tokens: &[TokenTree]) -> usize {
        match tokens {
            [TokenTree::Punct(mark), TokenTree::Group(attribute), item @ ..]
                if mark.as_char() == '#' && attribute.delimiter() == Delimiter::Bracket =>
            {
                if is_for_tests(attribute.stream()) {
                    return 2 + item_length(item);
                }
                self.attribute(attribute.stream());
                2
            }
            [TokenTree::Ident(word), rest @ ..] if word == "use" => 1 + self.import(rest, false),
            [TokenTree::Ident(word), rest @ ..] if word == "pub" => 1 + self.exported(rest),
            [TokenTree::Ident(word), TokenTree::Ident(name), body, ..] if word == "mod" => {
                self.module(&name.to_string(), body);
                3
            }
            [TokenTree::Ident(word), ..] => {
                self.file.words.insert(word.to_string());
                self.path(tokens)
            }
            [TokenTree::Group(group), ..] => {
                self.read(group.stream());
                1
            }
            [TokenTree::Literal(literal), ..] => {
                let text = literal.to_string();
                if !text.is_ascii() {
                    self.file.foreign_literals.push(text);
                }
                1
            }
            _ => 1,
        }
    }

    /// What follows `pub`.
    fn exported(&mut self, tokens: &[TokenTree]) -> usize {
        let limit = usize::from(
            matches!(tokens, [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Parenthesis),
        );
        match &tokens[limit..] {
            [TokenTree::Ident(word), rest @ ..] if word == "use" => limit + 1 + self.import(rest, true),
            [TokenTree::Ident(kind), TokenTree::Ident(name), ..]
                if ["struct", "enum", "trait", "type", "union"].iter().any(|word| kind == word) =>
            {
                if limit == 0 {
                    self.file.types.push(name.to_string());
                }
                limit + 2
            }
            _ => limit,
        }
    }

    fn module(&mut self, name: &str, body: &TokenTree) {
        if let TokenTree::Group(body) = body {
            self.scope.push(name.to_owned());
            self.read(body.stream());
            self.scope.pop();
        } else {
            self.declared.push(name.to_owned());
        }
    }

    /// Serde's attributes name functions in strings.
    fn attribute(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.attribute(group.stream()),
                TokenTree::Literal(text) => {
                    let text = text.to_string();
                    let named: TokenStream = text.trim_matches('"').parse().unwrap_or_default();
                    let named: Vec<TokenTree> = named.into_iter().collect();
                    self.path(&named);
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) => {}
            }
        }
    }

    fn path(&mut self, tokens: &[TokenTree]) -> usize {
        let (segments, length) = segments(tokens);
        if segments.len() > 1 {
            self.file.paths.push(ScopedPath { scope: self.scope.clone(), segments });
        }
        length
    }

    fn import(&mut self, tokens: &[TokenTree], is_exported: bool) -> usize {
        let end = tokens.iter().position(|token| is_mark(token, ';')).unwrap_or(tokens.len());
        self.import_tree(&tokens[..end], &[], is_exported);
        end
    }

    fn import_tree(&mut self, tokens: &[TokenTree], above: &[String], is_exported: bool) {
        let (found, length) = segments(tokens);
        let mut all = [above, &found].concat();
        let mut rest = &tokens[length..];
        while let [first, more @ ..] = rest
            && is_mark(first, ':')
        {
            rest = more;
        }
        let name = match rest {
            [TokenTree::Group(group), ..] => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                for tree in inner.split(|token| is_mark(token, ',')).filter(|tree| !tree.is_empty()) {
                    self.import_tree(tree, &all, is_exported);
                }
                return;
            }
            [star, ..] if is_mark(star, '*') => None,
            [TokenTree::Ident(_), TokenTree::Ident(alias), ..] => Some(alias.to_string()),
            _ => all.last().filter(|name| *name != "self").or_else(|| above.last()).cloned(),
        };
        all.retain({
            let mut index = 0;
            move |segment| {
                index += 1;
                index == 1 || segment != "self"
            }
        });
        let path = ScopedPath { scope: self.scope.clone(), segments: all };
        self.file.imports.push(Import { path, name, is_exported });
    }
}

/// The identifiers at the beginning that `::` joins, and how many tokens that are.
fn segments(tokens: &[TokenTree]) -> (Vec<String>, usize) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(TokenTree::Ident(segment)) = tokens.get(at) {
        found.push(segment.to_string());
        at += 1;
        match &tokens[at..] {
            [first, second, TokenTree::Ident(_), ..] if is_mark(first, ':') && is_mark(second, ':') => {
                at += 2
            }
            _ => break,
        }
    }
    (found, at)
}

fn is_mark(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// Whether an attribute is `cfg(test)` or `cfg(all(test, …))`.
fn is_for_tests(attribute: TokenStream) -> bool {
    let text = attribute.to_string().replace(' ', "");
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// How many tokens the item has that follows an attribute.
fn item_length(tokens: &[TokenTree]) -> usize {
    let is_import =
        tokens.iter().take(3).any(|token| matches!(token, TokenTree::Ident(word) if word == "use"));
    let is_end = |token: &TokenTree| {
        let is_body = matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
        is_mark(token, ';') || (is_body && !is_import)
    };
    tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1)
}

#[test]
fn imports_and_paths_are_read() {
    let text = r#"
        pub use inner::{Shown, deep::Other as Renamed, *};
        use super::sibling::{self, Thing};
        mod inner;
        #[serde(deserialize_with = "inner::read")]
        pub struct Public { field: crate::a::B }
        pub(crate) struct Hidden;
        fn f() { let text = "crate::in_a_string::X"; inner::call(); } // crate::in_a_comment::X
        #[cfg(test)]
        mod tests { use crate::only_for_tests::X; }
    "#;
    let (file, declared) = parse(text, PathBuf::from("m.rs"), vec!["m".to_owned()]);
    let imports: Vec<String> = file
        .imports
        .iter()
        .map(|import| {
            format!("{} {}", import.path.segments.join("::"), import.name.as_deref().unwrap_or("*"))
        })
        .collect();
    assert_eq!(
        imports,
        [
            "inner::Shown Shown",
            "inner::deep::Other Renamed",
            "inner *",
            "super::sibling sibling",
            "super::sibling::Thing Thing"
        ]
    );
    let paths: Vec<String> = file.paths.iter().map(|path| path.segments.join("::")).collect();
    assert_eq!(paths, ["inner::read", "crate::a::B", "inner::call"]);
    assert_eq!((declared, file.types), (vec!["inner".to_owned()], vec!["Public".to_owned()]));
}
