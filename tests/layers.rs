//! Who may use whom, and who is the only user of what. Fails on an import against it.
//!
//! ```text
//! main → cli ─→ client ──→ wire ──────────────────────┐
//!         └──→ app ─┬→ http ────→ service → store, logs ─┼→ model → nothing of ours
//!                   └→ control ─→ store, logs, engine ───┘      (http also → wire)
//! ```
//!
//! Code under `#[cfg(test)]` is not looked at: a test may reach across. To allow an import, change the drawing in
//! ARCHITECTURE.md and the table here, and say why in the commit.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says where and why")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Each top folder or file of `src/`, and what it may use beside itself.
const LAYERS: [(&str, &[&str]); 22] = [
    ("main", &["cli"]),
    ("lib", &[]),
    ("cli", &["client", "app", "wire", "model", "config", "telemetry", "shutdown", "clock", "words", "escapes"]),
    (
        "app",
        &[
            "http",
            "control",
            "service",
            "store",
            "logs",
            "engine",
            "model",
            "wire",
            "config",
            "telemetry",
            "shutdown",
            "clock",
            "lease",
            "wake",
        ],
    ),
    ("http", &["service", "wire", "model", "telemetry", "words"]),
    ("control", &["store", "logs", "engine", "model", "clock", "lease", "wake", "telemetry"]),
    ("service", &["store", "logs", "model", "clock", "lease", "wake", "telemetry", "words"]),
    ("client", &["wire", "model"]),
    ("store", &["model"]),
    // The local engine's supervisor writes the log where the server is away.
    ("engine", &["model", "logs", "clock", "settings"]),
    ("logs", &["model", "escapes"]),
    ("wire", &["model"]),
    // The server's own settings are checked by the types that they become.
    ("config", &["engine", "settings", "model", "telemetry"]),
    ("settings", &["words"]),
    ("telemetry", &[]),
    ("shutdown", &[]),
    ("clock", &[]),
    ("lease", &[]),
    ("wake", &["model"]),
    ("words", &[]),
    ("escapes", &[]),
    ("model", &[]),
];

/// What is used in few places only, so that it can be replaced there. One name is a crate; several are found anywhere
/// in a path.
const OWNERS: [(&[&str], &[&str]); 21] = [
    (&["rusqlite"], &["store"]),
    (&["sqlx"], &["store"]),
    (&["axum"], &["http", "app"]),
    (&["axum_extra"], &["http"]),
    (&["askama"], &["http"]),
    (&["hyper"], &["http"]),
    (&["bollard"], &["engine"]),
    (&["kube"], &["engine/kubernetes"]),
    (&["k8s_openapi"], &["engine/kubernetes"]),
    (&["clap"], &["cli", "config"]),
    (&["clap_complete"], &["cli"]),
    (&["comfy_table"], &["cli"]),
    // The engine asks registries whether an image exists.
    (&["reqwest"], &["client", "cli", "engine"]),
    (&["tracing_subscriber"], &["telemetry"]),
    // Definitions may be written in TOML.
    (&["toml"], &["settings", "cli"]),
    (&["process", "Command"], &["engine", "cli"]),
    (&["tokio", "process"], &["engine", "cli"]),
    (&["unistd", "fork"], &["engine"]),
    (&["Timestamp", "now"], &["clock"]),
    (&["Zoned", "now"], &["clock"]),
    (&["SystemTime", "now"], &["clock"]),
];

#[test]
fn no_import_goes_against_the_layers() {
    let source_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for file in rust_files(&source_folder) {
        let name = file.strip_prefix(&source_folder).expect("the file is below the folder").to_owned();
        found.extend(violations(&name, &std::fs::read_to_string(&file).unwrap()));
    }
    let lines: Vec<String> = found.iter().map(Violation::to_string).collect();
    assert!(lines.is_empty(), "against the layers:\n{}", lines.join("\n"));
}

/// Files that use one another can only be understood together. What a folder's `mod.rs` says of its own files is not
/// counted: they belong together.
#[test]
fn no_files_import_one_another_in_a_circle() {
    let source_folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<(PathBuf, String)> = rust_files(&source_folder)
        .into_iter()
        .map(|file| {
            let source = std::fs::read_to_string(&file).unwrap();
            (file.strip_prefix(&source_folder).expect("the file is below the folder").to_owned(), source)
        })
        .collect();
    let circle = circle(&imports(&files)).map(|files| files.join(" → "));
    assert_eq!(circle, None, "these files import one another in a circle");
}

/// `docs/reliability.md` and `docs/security.md` name a test for each promise: a file, and what it is called there.
#[test]
fn each_promise_names_tests_that_there_are() {
    for (document, fewest) in [("docs/reliability.md", 80), ("docs/security.md", 35)] {
        let named = named_tests(document);
        assert!(named > fewest, "only {named} tests are named in {document}");
    }
}

/// How many tests a document names, each of which is there.
fn named_tests(document: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join(document)).unwrap();
    let (mut file, mut source, mut named) = ("", String::new(), 0);
    for quoted in
        document.lines().filter(|line| line.starts_with('|')).flat_map(|row| row.split('`').skip(1).step_by(2))
    {
        if Path::new(quoted).extension().is_some_and(|extension| extension == "rs") {
            file = quoted;
            source = std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        } else if quoted.len() > 20 && quoted.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            named += 1;
            assert!(source.contains(&format!("fn {quoted}(")), "{file} has no test `{quoted}`");
        }
    }
    named
}

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: PathBuf,
    line: usize,
    text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file.display(), self.line, self.text)
    }
}

/// What one file below `src/` does against the tables.
fn violations(file: &Path, source: &str) -> Vec<Violation> {
    let violation = |line, text| Violation { file: file.to_owned(), line, text };
    let module = module_of(file);
    let layer = if module.is_empty() {
        file.file_stem().and_then(|name| name.to_str())
    } else {
        module.first().map(String::as_str)
    };
    let layer = layer.unwrap_or_default().to_owned();
    if module.last().is_some_and(|name| name == "tests") {
        return Vec::new();
    }
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![violation(1, format!("`{layer}` has no place in the table of layers"))];
    };
    let tokens = TokenStream::from_str(source).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut paths = BTreeSet::new();
    find_paths(tokens, &module, &mut paths);

    let mut found = Vec::new();
    for FoundPath { line, segments, module } in paths {
        if let Some(used) = layer_used(&segments, &module)
            && used != layer
            && !allowed.contains(&used.as_str())
        {
            found.push(violation(line, format!("`{layer}` may not use `{used}`")));
        }
        for (owned, owners) in OWNERS {
            let is_used = match owned {
                [name] => segments[0] == *name,
                names => segments.windows(names.len()).any(|window| window == names),
            };
            // An owner may be a folder below a layer.
            let is_owner = owners.iter().any(|owner| layer == *owner || owner.contains('/') && file.starts_with(owner));
            if is_used && !is_owner {
                let owners = owners.join(", ");
                found.push(violation(line, format!("only {owners} may use `{}`, not `{layer}`", owned.join("::"))));
            }
        }
    }
    found.dedup();
    found
}

/// Which other files each file uses.
fn imports(files: &[(PathBuf, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let by_module: BTreeMap<Vec<String>, String> =
        files.iter().map(|(file, _)| (module_of(file), file.display().to_string())).collect();
    // The file that has the item which a path leads to: that of the innermost module on it.
    let file_of = |target: &[String]| (1..=target.len()).rev().find_map(|length| by_module.get(&target[..length]));
    let mut imports = BTreeMap::new();
    for (file, source) in files {
        let (name, module) = (file.display().to_string(), module_of(file));
        let tokens = TokenStream::from_str(source).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut paths = BTreeSet::new();
        find_paths(tokens, &module, &mut paths);
        let used = paths.iter().filter_map(|path| file_of(&absolute(&path.segments, &path.module)?).cloned());
        imports.insert(name.clone(), used.filter(|used| *used != name && !is_in_folder_of(used, &name)).collect());
    }
    imports
}

/// Whether a file lies in the folder of this `mod.rs`.
fn is_in_folder_of(file: &str, name: &str) -> bool {
    name.strip_suffix("mod.rs").is_some_and(|folder| !folder.is_empty() && file.starts_with(folder))
}

/// Files each of which uses the next, and the last the first.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn search<'a>(
        file: &'a str,
        imports: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<String>> {
        if let Some(begin) = way.iter().position(|passed| *passed == file) {
            return Some(way[begin..].iter().map(|file| (*file).to_owned()).collect());
        }
        if done.contains(file) {
            return None;
        }
        way.push(file);
        let found = imports.get(file).into_iter().flatten().find_map(|used| search(used, imports, way, done));
        way.pop();
        done.insert(file);
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|file| search(file, imports, &mut Vec::new(), &mut done))
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct FoundPath {
    line: usize,
    segments: Vec<String>,
    /// Where it stands, which `super` counts from.
    module: Vec<String>,
}

/// The layer that a path leads to, if it is one of ours.
fn layer_used(segments: &[String], module: &[String]) -> Option<String> {
    absolute(segments, module)?.into_iter().next()
}

/// A path of ours from the root of the crate on; `None` for one that does not say where it begins.
fn absolute(segments: &[String], module: &[String]) -> Option<Vec<String>> {
    let mut above = module;
    let mut rest = segments;
    match segments.first()?.as_str() {
        "crate" | "flotilla" => {
            above = &[];
            rest = &rest[1..];
        }
        "super" | "self" => {
            while let Some((first, after)) = rest.split_first()
                && (first == "super" || first == "self")
            {
                if first == "super" {
                    above = &above[..above.len().saturating_sub(1)];
                }
                rest = after;
            }
        }
        _ => return None,
    }
    Some([above, rest].concat())
}

/// `http/ui/mod.rs` is the module `http::ui`; the roots `lib.rs` and `main.rs` are none.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}

/// What may stand before a path that begins with `::`, and isn't part of it.
const BEFORE_A_PATH: [&str; 17] = [
    "as", "break", "dyn", "else", "for", "if", "impl", "in", "let", "match", "move", "mut", "ref", "return", "use",
    "where", "while",
];

/// Every path of two names or more, and every single name after `use`, with groups taken apart.
fn find_paths(tokens: TokenStream, module: &[String], found: &mut BTreeSet<FoundPath>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at += item_length(&tokens[at..]);
        } else if let [TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at..]
            && keyword == "mod"
        {
            let inner: Vec<String> = module.iter().cloned().chain([name.to_string()]).collect();
            find_paths(body.stream(), &inner, found);
            at += 3;
        } else if let TokenTree::Group(group) = &tokens[at] {
            find_paths(group.stream(), module, found);
            at += 1;
        } else if matches!(&tokens[at], TokenTree::Ident(word) if !BEFORE_A_PATH.contains(&word.to_string().as_str())) {
            let is_imported = at > 0 && matches!(&tokens[at - 1], TokenTree::Ident(word) if word == "use");
            let least = if is_imported { 1 } else { 2 };
            let (paths, length) = read_path(&tokens[at..]);
            let paths = paths.into_iter().filter(|(_, segments)| segments.len() >= least);
            found.extend(paths.map(|(line, segments)| FoundPath { line, segments, module: module.to_owned() }));
            at += length;
        } else {
            at += 1;
        }
    }
}

/// The paths that begin with the name at the start, and how many tokens they take.
fn read_path(tokens: &[TokenTree]) -> (Vec<(usize, Vec<String>)>, usize) {
    let mut segments = Vec::new();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(name)) => segments.push(name.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace && at > 0 => {
                let inner = read_group(group.stream());
                let paths = inner.into_iter().map(|(line, rest)| (line, [segments.clone(), rest].concat()));
                return (paths.collect(), at + 1);
            }
            // `*`, `<` or whatever else ends it; what it is gets looked at by the caller.
            _ => break,
        }
        at += 1;
        if !is_path_separator(&tokens[at..]) {
            break;
        }
        at += 2;
    }
    let line = tokens[0].span().start().line;
    (vec![(line, segments)], at.max(1))
}

/// The paths in the braces of an import.
fn read_group(tokens: TokenStream) -> Vec<(usize, Vec<String>)> {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let parts = tokens.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ','));
    let with_names = parts.filter(|part| matches!(part.first(), Some(TokenTree::Ident(_))));
    with_names.flat_map(|part| read_path(part).0).collect()
}

fn is_path_separator(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(mark)) if mark.as_char() == ':');
    is_colon(tokens.first()) && is_colon(tokens.get(1))
}

/// `#[cfg(test)]`
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(mark), TokenTree::Group(attribute), ..] = tokens else { return false };
    mark.as_char() == '#' && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

/// How many tokens an item takes: up to its body or its semicolon.
fn item_length(tokens: &[TokenTree]) -> usize {
    let is_end = |token: &TokenTree| match token {
        TokenTree::Punct(mark) => mark.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens.iter().position(is_end).map_or(tokens.len(), |end| end + 1)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read to its end").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

mod the_checker {
    use super::*;

    /// The texts of what is found in a file, with its lines.
    fn found(file: &str, source: &str) -> Vec<(usize, String)> {
        violations(Path::new(file), source).into_iter().map(|found| (found.line, found.text)).collect()
    }

    fn is_caught(file: &str, source: &str, text: &str) {
        assert!(found(file, source).iter().any(|(_, found)| found == text), "{source}: {:?}", found(file, source));
    }

    fn is_fine(file: &str, source: &str) {
        assert_eq!(found(file, source), [], "{source}");
    }

    #[test]
    fn catches_every_way_to_name_another_layer() {
        for source in [
            "use crate::engine::Engine;",
            "use crate::engine;",
            "use crate::engine as e;",
            "use crate::{model::Run, engine::{Engine, Handle}};",
            "use {crate::model, crate::{engine}};",
            "pub(crate) use crate::engine::*;",
            "use super::engine::Engine;",
            "use super::{model, engine};",
            "use self::super::engine;",
            "fn f(e: &dyn crate::engine::Engine) {}",
            "fn f() { let e = crate::engine::fake(); }",
            "mod inner { use super::super::engine; }",
            "macro_rules! m { () => { $crate::engine::f() } }",
            "fn f() { println!(\"{}\", crate::engine::NAME); }",
            "#[cfg(test)] mod tests {} use crate::engine::Engine;",
            "#[cfg(not(test))] use crate::engine::Engine;",
            "impl From<crate::engine::EngineError> for E {}",
        ] {
            is_caught("store/mod.rs", source, "`store` may not use `engine`");
        }
        is_caught("store/runs/claim.rs", "use super::super::super::engine;", "`store` may not use `engine`");
        is_caught("client.rs", "use super::store::Store;", "`client` may not use `store`");
        is_caught("main.rs", "use flotilla::store::Store;", "`main` may not use `store`");
        is_caught("model/run.rs", "use crate::clock::Clock;", "`model` may not use `clock`");
        is_caught("service/mod.rs", "use crate::engine;", "`service` may not use `engine`");
        is_caught("http/api/logs.rs", "use crate::control;", "`http` may not use `control`");
        is_caught("app.rs", "use crate::cli::Args;", "`app` may not use `cli`");
    }

    #[test]
    fn leaves_alone_what_is_allowed() {
        for source in [
            "use crate::model::Run;",
            "use crate::store::db;",
            "use self::db::Row; use db::Row;",
            "mod inner { use super::engine; }",
            "// use crate::engine;\n/// crate::engine::Engine\nfn f() { \"crate::engine\"; r#\"crate::engine\"#; '\"'; }",
            "pub(crate) fn engine() {} fn f() { self.engine.launch(); engine::f(); }",
            "#[cfg(test)] mod tests { use crate::engine::fake; }",
            "#[cfg(test)] use crate::engine::fake; use crate::model;",
        ] {
            is_fine("store/mod.rs", source);
        }
        is_fine("store/runs.rs", "use super::db; use super::{Store, StoreError}; use crate::store::db::{self, Row};");
        is_fine("main.rs", "fn main() -> std::process::ExitCode { flotilla::cli::main() }");
        is_fine("config/tests.rs", "use crate::engine;");
        is_fine("lib.rs", "pub mod engine; pub mod model;");
    }

    #[test]
    fn knows_the_only_users() {
        is_caught("service/runs.rs", "use sqlx::PgPool;", "only store may use `sqlx`, not `service`");
        is_caught("service/runs.rs", "use ::sqlx::PgPool;", "only store may use `sqlx`, not `service`");
        is_caught("service/runs.rs", "use rusqlite;", "only store may use `rusqlite`, not `service`");
        is_caught("cli/mod.rs", "fn f(r: axum::Router) {}", "only http, app may use `axum`, not `cli`");
        is_caught(
            "service/runs.rs",
            "use std::{io, process::{Command, Stdio}};",
            "only engine, cli may use `process::Command`, not `service`",
        );
        is_caught(
            "control/cluster/watch.rs",
            "use jiff::Timestamp; fn f() { Timestamp::now(); }",
            "only clock may use `Timestamp::now`, not `control`",
        );
        is_fine("store/mod.rs", "use sqlx::PgPool; use rusqlite::Connection;");
        is_fine("cli/mod.rs", "use clap::Command; fn f() { std::process::exit(1) }");
        is_fine("clock.rs", "fn f() { jiff::Timestamp::now(); }");
        is_fine("service/runs.rs", "fn f() { self.sqlx.f(); let rusqlite = 1; }");
    }

    #[test]
    fn knows_no_file_without_a_place() {
        is_caught("utils.rs", "", "`utils` has no place in the table of layers");
        is_caught("store/mod.rs", "use crate::utils::f;", "`store` may not use `utils`");
    }

    #[test]
    fn tells_the_line() {
        let source = "//! Text.\n\nuse crate::{\n    model,\n    engine::Engine,\n};\n";
        assert_eq!(found("store/mod.rs", source), [(5, "`store` may not use `engine`".to_owned())]);
    }

    #[test]
    fn tables_name_only_layers_and_no_circle() {
        let row = |name: &str| LAYERS.iter().find(|(layer, _)| *layer == name).map(|(_, allowed)| *allowed);
        for (layer, allowed) in LAYERS {
            let mut reached: Vec<&str> = allowed.to_vec();
            let mut at = 0;
            while let Some(next) = reached.get(at).copied() {
                let below = row(next).unwrap_or_else(|| panic!("`{layer}` may use `{next}`, which is no layer"));
                reached.extend(below.iter().filter(|name| !reached.contains(name)).copied().collect::<Vec<_>>());
                at += 1;
            }
            assert!(!reached.contains(&layer), "`{layer}` reaches itself");
        }
        for (owned, owners) in OWNERS {
            // A folder belongs to its layer.
            let is_known = |owner: &&str| owner.split('/').next().is_some_and(|layer| row(layer).is_some());
            assert!(owners.iter().all(is_known), "{owned:?}");
        }
    }
}

#[test]
fn a_circle_is_found_and_a_folder_with_its_files_is_none() {
    let file = |name: &str, source: &str| (PathBuf::from(name), source.to_owned());
    let found = |files: &[(PathBuf, String)]| circle(&imports(files));
    let tree = [
        file("a/mod.rs", "mod b; mod c; use self::b::Thing; fn f() { crate::a::c::g() }"),
        file("a/b.rs", "use super::c::Other; use crate::a::Whole;"),
        file("a/c.rs", "#[cfg(test)] mod tests { use super::super::b::Thing; }"),
    ];
    assert_eq!(found(&tree), None);
    let [top, b, _] = tree;
    let back = file("a/c.rs", "fn g() { super::b::f() }");
    assert_eq!(found(&[top, b, back]), Some(vec!["a/b.rs".to_owned(), "a/c.rs".to_owned()]));
}
