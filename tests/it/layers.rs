//! The layers of the source code: which modules may import which.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

struct Source {
    /// The path below the repository's root, such as `src/store/mod.rs`.
    path: String,
    text: String,
}

impl Source {
    /// The file's layer: the first part of its path below `src`.
    fn layer(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or(below)
    }

    /// The code without comments and unit tests: a doc link is no dependency, and tests may import
    /// more.
    fn code(&self) -> String {
        self.text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// The crate's top-level modules that the code names.
    fn modules(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut modules = BTreeSet::new();
        for rest in code.split("crate::").skip(1) {
            assert!(
                !rest.starts_with('{'),
                "{}: one module of ours a 'use', so that it can be read off",
                self.path
            );
            let name: String = rest
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            modules.insert(name);
        }
        modules
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source {
                    path: path
                        .strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                    text: fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    assert!(found.len() > 5);
    found
}

/// The modules that each layer may name besides itself. The order is that of `src/lib.rs`.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("error", &[]),
    ("digest", &[]),
    ("files", &[]),
    ("text", &[]),
    ("terms", &[]),
    ("metrics", &[]),
    ("limits", &["model"]),
    ("app_package", &["digest"]),
    ("config", &["model", "teams"]),
    ("outbound", &[]),
    ("resolver", &["model", "error"]),
    ("input", &["model", "error", "digest", "text"]),
    (
        "store",
        &[
            "model", "error", "resolver", "input", "digest", "files", "text", "terms", "metrics",
            "limits",
        ],
    ),
    (
        "auth",
        &[
            "model", "error", "store", "digest", "files", "limits", "outbound", "text",
        ],
    ),
    ("knowledge", &["model", "error", "terms", "store"]),
    (
        "turns",
        &[
            "model",
            "error",
            "store",
            "knowledge",
            "metrics",
            "outbound",
        ],
    ),
    (
        "teams",
        &[
            "model",
            "error",
            "resolver",
            "store",
            "auth",
            "knowledge",
            "turns",
            "digest",
            "limits",
            "metrics",
            "outbound",
            "terms",
            "text",
        ],
    ),
    (
        "http",
        &[
            "model",
            "error",
            "resolver",
            "input",
            "store",
            "auth",
            "turns",
            "teams",
            "config",
            "digest",
            "metrics",
            "limits",
            "terms",
            "text",
            "app_package",
        ],
    ),
    (
        "cli",
        &[
            "model", "error", "input", "store", "auth", "turns", "teams", "http", "config",
            "digest", "text", "outbound",
        ],
    ),
    ("lib", &[]),
    ("main", &[]),
];

#[test]
fn imports_point_downwards() {
    let mut seen = BTreeSet::new();
    for source in sources("src") {
        let layer = source.layer().to_owned();
        let Some((_, below)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
            panic!("{} is in no layer", source.path);
        };
        for module in source.modules() {
            assert!(
                module == layer || below.contains(&module.as_str()),
                "{} may not name crate::{module}",
                source.path
            );
        }
        seen.insert(layer);
    }
    assert_eq!(seen.len(), LAYERS.len(), "{seen:?}");
}

#[test]
fn only_the_http_layer_names_the_framework() {
    for source in sources("src") {
        if !["http", "cli"].contains(&source.layer()) {
            assert!(!source.code().contains("actix_web"), "{}", source.path);
        }
    }
}

/// The crates that only an engine's folder names.
const ENGINES: [(&str, &[&str]); 2] = [
    ("src/store/sqlite/", &["rusqlite", "r2d2"]),
    ("src/store/postgres/", &["tokio_postgres", "rustls::"]),
];

#[test]
fn only_an_engines_folder_names_its_crates() {
    for source in sources("src") {
        let code = source.code();
        for (folder, words) in ENGINES {
            for word in words {
                let is_allowed = source.path.starts_with(folder) || !code.contains(word);
                assert!(is_allowed, "{} names {word}", source.path);
            }
        }
        let is_engine = ENGINES
            .iter()
            .any(|(folder, _)| source.path.starts_with(folder));
        assert!(is_engine || !code.contains("refinery"), "{}", source.path);
    }
}

/// Files of the store that call the engine's own functions.
const DISPATCHERS: [&str; 4] = [
    "src/store/check.rs",
    "src/store/copy/mod.rs",
    "src/store/mod.rs",
    "src/store/sql.rs",
];

#[test]
fn noun_files_of_the_store_use_only_its_own_sql_types() {
    let mut nouns = 0;
    for source in sources("src/store") {
        let is_noun = !source.path.starts_with("src/store/sqlite/")
            && !DISPATCHERS.contains(&source.path.as_str());
        if is_noun {
            nouns += 1;
            assert!(!source.code().contains("sqlite::"), "{}", source.path);
        }
    }
    assert!(nouns > 20, "{nouns}");
}

#[test]
fn only_the_route_table_and_its_document_in_the_edge_name_resources() {
    for source in sources("src/http/edge") {
        let names_resources = source
            .code()
            .split("crate::http::")
            .skip(1)
            .any(|rest| !rest.starts_with("App") && !rest.starts_with("edge::"));
        let may = ["src/http/edge/router.rs", "src/http/edge/openapi.rs"];
        assert!(
            !names_resources || may.contains(&source.path.as_str()),
            "{}",
            source.path
        );
    }
}

#[test]
fn every_file_opens_with_a_sentence_that_says_what_it_is() {
    for source in sources("src").into_iter().chain(sources("tests")) {
        let first = source.text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//! ") && first.len() > 10,
            "{} opens with {first:?}",
            source.path
        );
    }
}

#[test]
fn no_todo_is_left() {
    // The words are assembled here, so that this file does not contain them.
    let unfinished = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!"));
    for source in sources("src").into_iter().chain(sources("tests")) {
        for word in &unfinished {
            assert!(!source.text.contains(word), "{} has {word}", source.path);
        }
    }
}

#[test]
fn the_walkthroughs_of_the_architecture_page_name_each_file_once_and_every_file_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let mut walks = 0;
    for section in page.split("\n## ") {
        let named: Vec<&str> = section
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|word| word.starts_with("src/") || word.starts_with("tests/"))
            .collect();
        for path in &named {
            assert!(root.join(path).exists(), "{path}");
        }
        if section.starts_with("How ") {
            walks += 1;
            let distinct: BTreeSet<&&str> = named.iter().collect();
            assert_eq!(distinct.len(), named.len(), "{named:?}");
        }
    }
    assert_eq!(walks, 6);
}

#[test]
fn the_testing_page_lists_every_test_that_only_sqlite_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/testing.md")).unwrap();
    let table = page.split("| file in `tests/it` |").nth(1).unwrap();
    let listed = table.lines().take_while(|line| !line.is_empty()).skip(2);
    let listed: Vec<String> = listed
        .map(|line| {
            line.rsplit_once(" | ")
                .map_or("", |(file, _)| file)
                .to_owned()
        })
        .collect();
    let mut marked = Vec::new();
    for source in sources("tests/it") {
        let of = |line: &str| source.text.lines().filter(|found| *found == line).count();
        let only = of("    sqlite_only!();");
        if only > 0 {
            let file = source.path.rsplit('/').next().unwrap();
            let tests = match of("#[test]") {
                all if all == only => format!("all {only}"),
                all => format!("{only} of {all}"),
            };
            marked.push(format!("| `{file}` | {tests}"));
        }
    }
    marked.sort();
    assert_eq!(listed, marked);
}
