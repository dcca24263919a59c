//! Every input that is kept, through the same functions as in fuzzing: seeds, and what once was a crash.

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

/// So many changed copies of each seed.
const CHANGES_OF_A_SEED: usize = 20;

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

/// A little of what a fuzzer does, in every run of the tests: a number by which the next is found, for the same inputs each
/// time.
fn next(random: &mut u64) -> usize {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*random >> 33) as usize
}

/// The bytes with one to three changes: a bit or a byte, one left out, a group in which nothing is put in, an early end.
fn changed(bytes: &[u8], random: &mut u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..next(random) % 3 + 1 {
        let at = next(random) % (bytes.len() + 1);
        match next(random) % 5 {
            0 if at < bytes.len() => bytes[at] ^= 1 << (next(random) % 8),
            1 if at < bytes.len() => bytes[at] = next(random) as u8,
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => drop(bytes.splice(at..at, [0x7b, 0x7c])),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

#[test]
fn seeds_with_small_changes_hold() {
    let mut random = 7;
    for (target, run) in holdfast_fuzz::TARGETS {
        for path in kept("seeds", target) {
            let seed = fs::read(&path).unwrap();
            for _ in 0..CHANGES_OF_A_SEED {
                let bytes = changed(&seed, &mut random);
                if let Err(panicked) = panic::catch_unwind(|| run(&bytes)) {
                    println!("{target}, {} changed: {bytes:?}", path.display());
                    panic::resume_unwind(panicked);
                }
            }
        }
    }
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
