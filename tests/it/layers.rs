//! The layers of the source: who may know whom.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

struct Source {
    /// Below the repository's root, such as `src/store/mod.rs`.
    path: String,
    text: String,
}

impl Source {
    /// Its layer: the first part of its path below `src`.
    fn layer(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        below.split(['/', '.']).next().unwrap_or(below)
    }

    /// The code, without comments, so that a doc link is no dependency.
    fn code(&self) -> String {
        self.text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// The top-level modules of ours that the code names.
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

fn assert_knows_only(layer: &str, known: &[&str]) {
    let mut seen = 0;
    for source in sources("src") {
        if source.layer() == layer {
            seen += 1;
            for module in source.modules() {
                assert!(
                    known.contains(&module.as_str()),
                    "{} may not know crate::{module}",
                    source.path
                );
            }
        }
    }
    assert!(seen > 0, "there is no layer {layer}");
}

#[test]
fn the_model_knows_only_itself() {
    assert_knows_only("model", &["model"]);
}

#[test]
fn errors_know_nothing_of_ours() {
    assert_knows_only("error", &[]);
}

#[test]
fn the_resolver_knows_only_the_model_and_errors() {
    assert_knows_only("resolver", &["model", "error"]);
}

#[test]
fn store_auth_and_turns_know_nothing_of_http() {
    let mut seen = BTreeSet::new();
    for source in sources("src") {
        let layer = source.layer().to_owned();
        if ["store", "auth", "turns"].contains(&layer.as_str()) {
            assert!(!source.modules().contains("http"), "{}", source.path);
            assert!(!source.code().contains("actix_web"), "{}", source.path);
            seen.insert(layer);
        }
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn only_the_store_speaks_with_sqlite() {
    for source in sources("src") {
        if source.layer() != "store" {
            let code = source.code();
            for word in ["rusqlite", "r2d2", "refinery"] {
                assert!(!code.contains(word), "{} names {word}", source.path);
            }
        }
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
fn nothing_is_left_to_do() {
    // Put together here, so that this file does not name them itself.
    let unfinished = ["todo", "unimplemented", "dbg"].map(|word| format!("{word}!"));
    for source in sources("src").into_iter().chain(sources("tests")) {
        for word in &unfinished {
            assert!(!source.text.contains(word), "{} has {word}", source.path);
        }
    }
}
