//! No file of a crate depends on itself by way of others: each can be read and changed without those that use it.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use crate::source::{SourceFile, Target, targets};

/// Packages that still have circles; to be emptied.
const NOT_YET: [&str; 0] = [];

/// For each file the files that it uses, each with a path that shows it.
type Graph = Vec<BTreeMap<usize, String>>;

fn graph(target: &Target) -> Graph {
    let mut graph = vec![BTreeMap::new(); target.files.len()];
    for (index, file) in target.files.iter().enumerate() {
        let imports = file.imports.iter().filter_map(|import| {
            let path = import.path.absolute(file)?;
            let is_declaration = import.is_exported
                && path.starts_with(&file.module)
                && import.name.as_ref().is_none_or(|name| !file.words.contains(name));
            (!is_declaration).then_some(path)
        });
        let paths = file.paths.iter().filter_map(|path| path.absolute(file));
        for path in imports.chain(paths) {
            let used = target.file_of(&path);
            if used != index {
                graph[index].entry(used).or_insert_with(|| path.join("::"));
            }
        }
    }
    graph
}

/// The shortest way from a file back to itself.
fn circle(graph: &Graph, start: usize) -> Option<Vec<usize>> {
    let mut from = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(current) = queue.pop_front() {
        for next in graph[current].keys() {
            if *next == start {
                let mut way = vec![current];
                while let Some(before) = from.get(way.last()?) {
                    way.push(*before);
                }
                way.reverse();
                return Some(way);
            }
            if !from.contains_key(next) {
                from.insert(*next, current);
                queue.push_back(*next);
            }
        }
    }
    None
}

fn shown(files: &[SourceFile], graph: &Graph, circle: &[usize]) -> String {
    let next = circle.iter().cycle().skip(1);
    let lines = circle.iter().zip(next).map(|(from, to)| {
        let (name, used) = (files[*from].path.display(), files[*to].path.display());
        format!("{name} uses {used} ({})", graph[*from][to])
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The shortest circle among the files of a target, as text.
fn shortest_circle(target: &Target) -> Option<String> {
    let graph = graph(target);
    let circles = (0..graph.len()).filter_map(|start| circle(&graph, start));
    let shortest = circles.min_by_key(Vec::len)?;
    Some(shown(&target.files, &graph, &shortest))
}

#[test]
fn no_file_depends_on_itself() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let covered = targets(root).into_iter().filter(|target| !NOT_YET.contains(&target.package.as_str()));
    let circles: Vec<String> = covered.filter_map(|target| shortest_circle(&target)).collect();
    assert!(circles.is_empty(), "files that use each other:\n{}", circles.join("\n\n"));
}

#[test]
fn a_circle_is_found_and_shown() {
    let file = |path: &str, text: &str| {
        let module =
            if path == "lib.rs" { Vec::new() } else { vec![path.trim_end_matches(".rs").to_owned()] };
        crate::source::parse(text, path.into(), module).0
    };
    let with = |of_b: &str| {
        let mut files = vec![
            file("lib.rs", "mod a; mod b; pub use b::Exported;"),
            file("a.rs", "use crate::Exported;"),
            file("b.rs", of_b),
        ];
        files[0].children = [("a".to_owned(), 1), ("b".to_owned(), 2)].into();
        Target { package: "x".to_owned(), files }
    };
    assert_eq!(shortest_circle(&with("pub struct Exported;")), None);
    let shown = shortest_circle(&with("pub struct Exported; fn f() { super::a::g() }"));
    assert_eq!(shown.as_deref(), Some("a.rs uses b.rs (Exported)\nb.rs uses a.rs (a::g)"));
}
