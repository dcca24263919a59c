//! Every input that is kept, through the same functions as in fuzzing: seeds, and what once was a crash.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

fn kept(folder: &str, target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let Ok(entries) = fs::read_dir(&directory) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_kept_input_holds() {
    let mut broken = Vec::new();
    for (target, run) in holdfast_fuzz::TARGETS {
        let seeds = kept("seeds", target);
        assert!(seeds.len() >= 3, "{target} has {} seeds: there is little to start from", seeds.len());
        for path in seeds.into_iter().chain(kept("regressions", target)) {
            let bytes = fs::read(&path).unwrap();
            if panic::catch_unwind(|| run(&bytes)).is_err() {
                broken.push(path);
            }
        }
    }
    assert!(broken.is_empty(), "see above: {broken:#?}");
}

/// A folder without a target is checked by nobody.
#[test]
fn every_folder_has_its_target() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("libfuzzer/Cargo.toml")).unwrap();
    for (target, _) in holdfast_fuzz::TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{target}\"\n")),
            "{target} is not in libfuzzer/Cargo.toml"
        );
    }
    assert_eq!(manifest.matches("[[bin]]").count(), holdfast_fuzz::TARGETS.len());
    for folder in ["seeds", "regressions"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(holdfast_fuzz::TARGETS.iter().any(|(target, _)| *target == name), "{folder}/{name}");
        }
    }
}
