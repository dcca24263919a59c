//! Data directories that are not to be used.

use crate::attempt::{check_filled, ended, fill, refused};
use holdfast_tests::{Node, Setup, skipped, subject};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// A node that has data and has stopped.
pub async fn stopped() -> Node {
    let mut node = Setup::subject().start();
    fill(&node).await;
    assert!(node.stop().success());
    node
}

/// The names and bytes of all files below `path`.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).expect("a file")));
        }
    }
    found.sort();
    found
}

/// Refused with `words`, and nothing was touched.
fn refused_untouched(data_dir: &Path, words: &[&str]) {
    let before = contents(data_dir);
    refused(data_dir, &[]).advises(words);
    let after = contents(data_dir);
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (before_names, mut after_names) = (names(&before), names(&after));
    after_names.retain(|name| before_names.contains(name) || !name.ends_with("/LOCK"));
    assert_eq!(before_names, after_names);
    for (name, bytes) in before {
        assert!(after.contains(&(name.clone(), bytes)), "{name} was changed");
    }
}

#[test]
fn what_is_not_a_directory_or_not_ours_is_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, "precious").expect("a file");
    refused(&file, &[]).advises(&["file", "not a directory"]);
    refused(&file.join("below"), &[]).advises(&["file/below", "ot a directory"]);
    assert_eq!(fs::read(&file).expect("the file"), b"precious");

    let foreign = directory.path().join("foreign");
    fs::create_dir_all(&foreign).expect("a directory");
    fs::write(foreign.join("photo.jpg"), "precious").expect("a file");
    refused_untouched(&foreign, &["foreign", "not a Holdfast data directory", "photo.jpg", "empty or new"]);

    let etcd = directory.path().join("etcd");
    fs::create_dir_all(etcd.join("member/wal")).expect("a directory");
    refused_untouched(&etcd, &["etcd", "looks like etcd's data"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn newer_formats_and_damaged_identities_are_refused() {
    let mut node = stopped().await;
    for (file, text, words) in [
        (
            "HOLDFAST",
            "holdfast data directory\nformat 99\n",
            vec!["HOLDFAST", "newer version", "99", "newer program"],
        ),
        ("HOLDFAST", "something else\n", vec!["HOLDFAST", "not a Holdfast identity"]),
        ("HOLDFAST", "holdfast data directory\nformat x\n", vec!["HOLDFAST", "damaged", "format"]),
        (
            "HOLDFAST",
            "holdfast data directory\nformat 1\nnode_id zz\n",
            vec!["HOLDFAST", "damaged", "node_id"],
        ),
        ("HOLDFAST", "", vec!["HOLDFAST", "belongs to something else"]),
        ("state/FORMAT", "holdfast storage 99\n", vec!["state/FORMAT", "99", "newer version"]),
        ("state/FORMAT", "nonsense", vec!["state/FORMAT", "not a storage directory"]),
    ] {
        let path = node.data_dir().join(file);
        let good = fs::read(&path).expect("the file");
        fs::write(&path, text).expect("other bytes");
        refused_untouched(&node.data_dir(), &words);
        fs::write(&path, good).expect("its own bytes");
    }
    // Bytes that are no text.
    let path = node.data_dir().join("HOLDFAST");
    let good = fs::read(&path).expect("the file");
    fs::write(&path, [0xff; 64]).expect("other bytes");
    refused_untouched(&node.data_dir(), &["HOLDFAST"]);
    fs::write(&path, good).expect("its own bytes");
    // No identity at all: not ours as far as anybody can tell.
    let aside = node.data_dir().join("../aside");
    fs::rename(&path, &aside).expect("a move");
    refused_untouched(&node.data_dir(), &["not a Holdfast data directory", "HOLDFAST"]);
    fs::rename(&aside, &path).expect("a move back");

    node.start();
    check_filled(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_and_the_first_goes_on() {
    let node = Setup::subject().start();
    fill(&node).await;
    refused(&node.data_dir(), &[]).advises(&["already open in another process", "stop that one first"]);
    check_filled(&node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_written_is_named() {
    if !rustix::process::geteuid().is_root() {
        skipped("a start as somebody else", "only root can do that");
        return;
    }
    let mut node = stopped().await;
    // Somebody who may start the program, but not write where root does.
    let public = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(public.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let program = public.path().join("node");
    // By another process: what other tests start meanwhile would inherit a file that is open for writing here, and a program
    // that is open for writing cannot be started.
    let copied = Command::new("cp").arg("-p").arg(subject()).arg(&program).status();
    assert!(copied.expect("cp").success(), "no copy of the program");
    // Whatever the umask was when it was built.
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode");
    let as_nobody = || {
        let mut command = Command::new(&program);
        command.uid(65_534).gid(65_534).current_dir("/");
        command
    };
    if let Err(error) = as_nobody().arg("--version").stdout(Stdio::null()).status() {
        skipped("a start as somebody else", &format!("who may not start {}: {error}", program.display()));
        return;
    }
    let attempt = |data_dir: &Path| {
        let mut command = as_nobody();
        command
            .arg(format!("--data-dir={}", data_dir.display()))
            .args(["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:1"]);
        ended(command)
    };
    attempt(&public.path().join("new")).advises(&["new", "Permission denied"]);
    // All may read it, nobody but its owner may write.
    let parent = node.data_dir().join("..");
    fs::set_permissions(&parent, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::set_permissions(node.data_dir(), fs::Permissions::from_mode(0o755)).expect("a mode");
    attempt(&node.data_dir()).advises(&["data", "not writable", "Permission denied", "owner"]);
    // Nor even that.
    fs::set_permissions(node.data_dir(), fs::Permissions::from_mode(0o700)).expect("a mode");
    attempt(&node.data_dir()).advises(&["data", "Permission denied"]);

    node.start();
    check_filled(&node).await;
}
