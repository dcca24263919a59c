//! Files of another time of the same store, parts of another store, and parts that were emptied by hand.

use crate::damage::{WRITES, config, fill, make, outcome, outcome_of};
use crate::told::Done;
use holdfast_tests::{copy_all, files};
use kvstore::store::Store;
use std::fs;
use std::path::Path;

/// Writes up to the earlier moment.
const EARLIER: i64 = 25;

/// Two directories of the same store, each after a clean stop: an earlier one, and a later one with all writes.
async fn two_times(home: &Path) {
    let (earlier, later) = (home.join("earlier"), home.join("later"));
    let store = Store::open(config(&later)).expect("the store opens");
    fill(&store, 0..EARLIER).await;
    store.stop().await;
    drop(store);
    copy_all(&later, &earlier);
    let store = Store::open(config(&later)).expect("the store opens");
    fill(&store, EARLIER..WRITES).await;
    store.stop().await;
}

/// Any outcome but wrong data; whether it was all the data.
async fn judged(bad: &Path, done: &Done) -> bool {
    let told = outcome(bad, done).await;
    println!("{done}: {told:?}");
    if let Err(error) = &told {
        done.check_refused(bad, error);
    }
    matches!(told, Ok(true))
}

#[tokio::test]
async fn a_file_of_an_earlier_time_is_noticed_or_harmless() {
    let home = tempfile::tempdir().expect("a temporary directory");
    two_times(home.path()).await;
    let (earlier, later, bad) =
        (home.path().join("earlier"), home.path().join("later"), home.path().join("bad"));
    let mut swapped = 0;
    for file in files(&earlier) {
        let name = file.strip_prefix(&earlier).expect("it lies there");
        let old = fs::read(&file).expect("a file");
        // One that is gone by now is an extra file, one that has not changed is none.
        if fs::read(later.join(name)).is_ok_and(|new| new == old) {
            continue;
        }
        copy_all(&later, &bad);
        fs::write(bad.join(name), &old).expect("a file is written");
        judged(&bad, &Done::to(name, "of an earlier time")).await;
        fs::remove_dir_all(&bad).expect("the directory goes");
        swapped += 1;
    }
    assert!(swapped > 3, "{swapped} files differ");
}

#[tokio::test]
async fn log_and_state_of_two_times_are_told_apart() {
    let home = tempfile::tempdir().expect("a temporary directory");
    two_times(home.path()).await;
    let (earlier, later, bad) =
        (home.path().join("earlier"), home.path().join("later"), home.path().join("bad"));
    for (part, is_whole) in [("log", false), ("state", true)] {
        copy_all(&later, &bad);
        fs::remove_dir_all(bad.join(part)).expect("the part goes");
        copy_all(&earlier.join(part), &bad.join(part));
        // A state of before is brought forward by the log.
        assert_eq!(judged(&bad, &Done::to(part, "of an earlier time")).await, is_whole);
        fs::remove_dir_all(&bad).expect("the directory goes");
    }
}

/// Two stores of the same name: with as many entries, so that nothing but a random number tells them apart; and a store and
/// its restored copy, which goes on from a place in the middle of the other's log.
#[tokio::test]
async fn log_and_state_of_two_stores_are_told_apart() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let [one, other, copy, bad] = ["one", "other", "copy", "bad"].map(|name| home.path().join(name));
    make(&one, true).await;
    make(&other, true).await;
    let store = Store::open(config(&one)).expect("the store opens");
    let mut snapshot = Vec::new();
    store.save_snapshot(&mut snapshot).expect("a snapshot");
    fill(&store, 0..EARLIER).await;
    store.stop().await;
    drop(store);
    Store::restore_snapshot(&config(&copy), &mut &snapshot[..]).expect("a restored copy");
    for (other, part) in [(&other, "log"), (&other, "state"), (&copy, "log"), (&copy, "state")] {
        copy_all(&one, &bad);
        fs::remove_dir_all(bad.join(part)).expect("the part goes");
        copy_all(&other.join(part), &bad.join(part));
        let before = files(&bad).iter().map(|file| fs::read(file).expect("a file")).collect::<Vec<_>>();
        let error = outcome(&bad, &Done::to(part, "of another store")).await.expect_err("two stores in one");
        Done::to(part, "of another store").check_refused(&bad, &error);
        assert!(error.to_string().contains("of two stores"), "{error}");
        let after = files(&bad).iter().map(|file| fs::read(file).expect("a file")).collect::<Vec<_>>();
        assert!(before == after, "a start that was refused has changed something");
        fs::remove_dir_all(&bad).expect("the directory goes");
    }
}

#[tokio::test]
async fn what_was_emptied_by_hand_is_no_new_store() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (good, bad) = (home.path().join("good"), home.path().join("bad"));
    for flushed in [true, false] {
        make(&good, flushed).await;
        for parts in [&["log", "state"][..], &["log"], &["state"]] {
            copy_all(&good, &bad);
            for part in parts {
                fs::remove_dir_all(bad.join(part)).expect("the part goes");
                fs::create_dir(bad.join(part)).expect("an empty part");
            }
            // The storage engine begins a new diary whenever it looks.
            let data = |dir: &Path| {
                let is_diary = |path: &std::path::PathBuf| path.display().to_string().contains("/state/LOG");
                files(dir).into_iter().filter(|path| !is_diary(path)).collect::<Vec<_>>()
            };
            let before = data(&bad);
            // The first that is looked at; the other may be as it was.
            let emptied = Done::to(parts[parts.len() - 1], "emptied");
            let error = outcome(&bad, &emptied).await.expect_err("a refusal");
            emptied.check_refused(&bad, &error);
            let text = error.to_string();
            assert!(text.contains("missing") && text.contains("restore"), "{text}");
            assert_eq!(data(&bad), before, "a refused start changes nothing");
            for part in parts {
                fs::remove_dir_all(bad.join(part)).expect("the empty part goes");
                copy_all(&good.join(part), &bad.join(part));
            }
            assert_eq!(outcome(&bad, &emptied.undone()).await, Ok(true));
            fs::remove_dir_all(&bad).expect("the directory goes");
        }
        fs::remove_dir_all(&good).expect("the directory goes");
    }
}

/// An older list of the tables makes the state older than what the log still has. To find that out must not cost the
/// tables that are not in the list: with the right list back, all is there.
#[tokio::test]
async fn an_older_manifest_is_refused_and_costs_nothing() {
    const MORE: i64 = 640;
    let home = tempfile::tempdir().expect("a temporary directory");
    let data = home.path().join("data");
    let store = Store::open(config(&data)).expect("the store opens");
    fill(&store, 0..EARLIER).await;
    let manifests = |dir: &Path| {
        let is_manifest = |path: &std::path::PathBuf| path.display().to_string().contains("MANIFEST");
        files(&dir.join("state")).into_iter().filter(is_manifest).collect::<Vec<_>>()
    };
    let early = manifests(&data);
    let old = fs::read(&early[0]).expect("the list of tables");
    fill(&store, EARLIER..MORE).await;
    store.stop().await;
    drop(store);
    assert_eq!(manifests(&data), early, "it is still the same file");
    assert!(!data.join("log/00000000000000000001.segment").exists(), "the log is purged");
    let new = fs::read(&early[0]).expect("the list of tables");
    assert!(new.len() > old.len());
    fs::write(&early[0], &old).expect("a file is written");
    let done = Done::to(early[0].strip_prefix(&data).expect("it lies there"), "of an earlier time");
    let error = outcome_of(&data, MORE, &done).await.expect_err("a refusal");
    done.check_refused(&data, &error);
    fs::write(&early[0], &new).expect("a file is written");
    assert_eq!(outcome_of(&data, MORE, &done.undone()).await, Ok(true));
}
