//! Walks the sources and fails on an arrow that the design forbids (ARCHITECTURE.md, "Layers"), and on what the rules of
//! the house (CONTRIBUTING.md) do not allow.
//!
//! The rules are data: `arrows.rs` says who may name whom, `tidy.rs` how long things may be. Each rule has tests on
//! made-up sources that break it.

mod arrows;
mod named;
mod source;
mod tidy;

use arrows::Place;
use source::Source;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are not ours to judge, or not in the repository.
const SKIPPED: &[&str] = &["target", ".git", ".cargo", "corpus", "artifacts", "node_modules"];
/// Text files besides Rust that are searched for what should not be in a repository.
const TEXTS: &[&str] =
    &["rs", "toml", "md", "go", "mod", "sh", "yaml", "yml", "json", "proto", "script", "txt", ""];
/// The crates whose programs are checked.
const CRATES: &[&str] = &["kvstore", "etcd-shim", "k8sd-lite", "benches", "tests", "fuzz"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_path_buf()
}

/// All files below `directory`, with paths relative to the repository's root, in order.
fn walk(root: &Path, directory: &Path, found: &mut Vec<String>) {
    let mut entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.expect("a directory that can be read").path())
        .collect::<Vec<_>>();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Data of nodes that were run here.
        let data = name.ends_with(".etcd") || name.ends_with(".holdfast");
        if path.is_symlink() || SKIPPED.contains(&name.as_str()) || data {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned());
        }
    }
}

/// The Rust files of the crates' programs: no tests, neither in folders of their own nor behind `#[cfg(test)]`.
fn programs() -> Vec<(String, String, Source)> {
    let root = root();
    let mut paths = Vec::new();
    for one in CRATES {
        let directory = root.join(one).join("src");
        if directory.is_dir() {
            walk(&root, &directory, &mut paths);
        }
    }
    paths.retain(|path| path.ends_with(".rs"));
    let texts = paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(root.join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            let source = Source::parse(&text);
            (path, (text, source))
        })
        .collect::<BTreeMap<_, _>>();
    let mut of_tests = Vec::new();
    for (path, (_, source)) in &texts {
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_string(),
            _ => path.trim_end_matches(".rs").to_string(),
        };
        for module in &source.test_modules {
            of_tests.push(format!("{folder}/{module}.rs"));
            of_tests.push(format!("{folder}/{module}/"));
        }
    }
    texts
        .into_iter()
        .filter(|(path, _)| {
            !of_tests.iter().any(|tests| path == tests || (tests.ends_with('/') && path.starts_with(tests)))
        })
        .map(|(path, (text, source))| (path, text, source))
        .collect()
}

fn report(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_arrow_points_the_wrong_way() {
    let mut faults = Vec::new();
    let mut checked = 0;
    for (path, _, source) in programs() {
        let place = Place::of(&path).unwrap_or_else(|| panic!("{path} has no place"));
        faults.extend(arrows::check(&path, &place, &source));
        checked += 1;
    }
    assert!(checked > 10, "only {checked} files found: has the layout of the repository changed?");
    report(faults);
}

#[test]
fn no_manifest_depends_the_wrong_way() {
    let mut faults = Vec::new();
    for one in CRATES {
        let path = root().join(one).join("Cargo.toml");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        faults.extend(arrows::check_manifest(one, &text));
    }
    report(faults);
}

#[test]
fn files_and_functions_keep_their_limits() {
    report(
        programs().iter().flat_map(|(path, text, source)| tidy::check_shape(path, text, source)).collect(),
    );
}

#[test]
fn nothing_in_the_repository_names_a_machine() {
    let root = root();
    let mut paths = Vec::new();
    walk(&root, &root, &mut paths);
    let mut faults = Vec::new();
    for path in paths {
        let extension =
            Path::new(&path).extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default();
        if !TEXTS.contains(&extension.as_str()) || path.ends_with("go.sum") {
            continue;
        }
        // A file that is no text is none of those meant.
        if let Ok(text) = fs::read_to_string(root.join(&path)) {
            faults.extend(tidy::check_text(&path, &text));
        }
    }
    report(faults);
}

#[test]
fn tests_that_documents_name_exist() {
    let root = root();
    let mut paths = Vec::new();
    walk(&root, &root, &mut paths);
    let read =
        |path: &String| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let sources: Vec<String> = paths.iter().filter(|path| path.ends_with(".rs")).map(read).collect();
    let text = read(&"ARCHITECTURE.md".to_string());
    let names = named::tests_named_in(&text);
    assert!(names.len() > 50, "only {} names found", names.len());
    report(named::missing(&names, &sources, &paths).into_iter().map(String::from).collect());
}
