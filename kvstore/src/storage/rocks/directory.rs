//! Whose directory it is: the `FORMAT` file, and errors that name the file.

use super::EngineError;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Says that we made the directory, and in which version of the format.
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_PREFIX: &str = "holdfast storage ";
/// The layout of families and options. Goes up when an older version could not read the directory.
const FORMAT_VERSION: u32 = 1;
/// RocksDB's: says which list of tables is the newest.
pub(in crate::storage) const CURRENT_FILE: &str = "CURRENT";
/// Left behind by a crash while the `FORMAT` file was written.
const FORMAT_DRAFT: &str = "FORMAT.new";

/// Makes sure that `dir` exists and is ours to open. Changes nothing in a directory that is not.
pub(super) fn prepare(dir: &Path, must_exist: bool) -> Result<(), EngineError> {
    fs::create_dir_all(dir).map_err(|error| io_error(dir, "cannot make the directory", &error))?;
    let file = dir.join(FORMAT_FILE);
    match fs::read(&file) {
        Ok(text) => check_format(&file, &text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && must_exist => {
            return Err(missing(file));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(foreign) = names(dir)?.into_iter().find(|name| name != FORMAT_DRAFT) {
                let reason = format!(
                    "{}: not a storage directory of this store: it has no {FORMAT_FILE} file, but {}",
                    dir.display(),
                    foreign.display()
                );
                return Err(EngineError { message: reason, path: Some(dir.into()), damaged_at: None });
            }
            sign(dir)?;
            if let Some(parent) = dir.parent() {
                sync_dir(parent)?;
            }
        }
        Err(error) => return Err(io_error(&file, "cannot read", &error)),
    }
    check_not_gutted(dir, must_exist)
}

fn missing(file: PathBuf) -> EngineError {
    let message = format!("{}: the file is missing, although this directory was used before", file.display());
    EngineError { message, path: Some(file), damaged_at: None }
}

/// Writes the `FORMAT` file, whole or not at all.
pub(super) fn sign(dir: &Path) -> Result<(), EngineError> {
    let draft = dir.join(FORMAT_DRAFT);
    let write = || {
        let mut file = File::create(&draft)?;
        writeln!(file, "{FORMAT_PREFIX}{FORMAT_VERSION}")?;
        file.sync_all()?;
        fs::rename(&draft, dir.join(FORMAT_FILE))
    };
    write().map_err(|error| io_error(&draft, "cannot write", &error))?;
    sync_dir(dir)
}

fn check_format(file: &Path, text: &[u8]) -> Result<(), EngineError> {
    let refuse = |reason: String| {
        Err(EngineError {
            message: format!("{}: {reason}", file.display()),
            path: Some(file.into()),
            damaged_at: None,
        })
    };
    let version = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.strip_prefix(FORMAT_PREFIX)?.strip_suffix('\n')?.parse::<u32>().ok());
    match version {
        Some(FORMAT_VERSION) => Ok(()),
        Some(version) if version > FORMAT_VERSION => refuse(format!(
            "the data has format {version}, this version reads up to {FORMAT_VERSION}; run a newer version"
        )),
        _ => refuse("not a storage directory of this store".into()),
    }
}

/// RocksDB takes a directory without its `CURRENT` file for a new one and deletes the tables in it.
fn check_not_gutted(dir: &Path, must_exist: bool) -> Result<(), EngineError> {
    let names = names(dir)?;
    let is_table = |name: &PathBuf| name.extension() == Some(OsStr::new("sst"));
    let is_new = !must_exist && !names.iter().any(is_table);
    if is_new || names.iter().any(|name| name == CURRENT_FILE) {
        Ok(())
    } else {
        Err(missing(dir.join(CURRENT_FILE)))
    }
}

/// The names in `dir`, in order.
fn names(dir: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let list =
        || fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into())).collect::<io::Result<Vec<_>>>();
    let mut names = list().map_err(|error| io_error(dir, "cannot list", &error))?;
    names.sort();
    Ok(names)
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), EngineError> {
    // The parent of a bare name is the empty path.
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    File::open(dir).and_then(|file| file.sync_all()).map_err(|error| io_error(dir, "cannot sync", &error))
}

pub(super) fn io_error(path: &Path, what: &str, error: &io::Error) -> EngineError {
    EngineError {
        message: format!("{}: {what}: {error}", path.display()),
        path: Some(path.into()),
        damaged_at: None,
    }
}

/// RocksDB's error with the file that its text names, if it lies in `dir`.
pub(super) fn explain(dir: &Path, error: rocksdb::Error) -> EngineError {
    let mut text = error.into_string();
    let mut path = named_file(dir, &text);
    let current = dir.join(CURRENT_FILE);
    if path.is_none() && text.contains("CURRENT file") {
        // The one file that RocksDB leaves unnamed when it is damaged.
        text = format!("{}: {text}", current.display());
        path = Some(current);
    } else if path.is_none() && text.contains("Direct I/O") {
        // What RocksDB makes of it when this file, on which it tries direct reads, opens at the second attempt only. We
        // never ask for those.
        text = format!("IO error: {}: cannot be opened ({text})", current.display());
        path = Some(current);
    } else if text.contains("No such file") && path.as_deref().is_some_and(is_manifest) {
        // Which of the two is wrong nobody can tell.
        text = format!("{text}, the list of tables that {} names", current.display());
    } else if path.is_none() && text.contains("Column family not found") {
        // All families are made before anything is written: their list ends too early, at the end of a record.
        path = named_by(&current);
        if let Some(manifest) = &path {
            text = format!(
                "{}: {text}: this list of tables was cut or is of an earlier time",
                manifest.display()
            );
        }
    }
    let is_lock = path.as_ref().is_some_and(|path| path.file_name() == Some(OsStr::new("LOCK")));
    // Other failures of the same file (no space, no permission) are about the disk.
    let is_held =
        ["lock hold by current process", "temporarily unavailable"].iter().any(|it| text.contains(it));
    let message = if is_lock && is_held {
        format!("{}: in use by another store: {text}", dir.display())
    } else if path.is_some() {
        text
    } else {
        format!("{}: {text}", dir.display())
    };
    let damaged_at = message.contains("Corruption: ").then(|| named_offset(&message).unwrap_or(0));
    EngineError { message, path: path.or_else(|| Some(dir.into())), damaged_at }
}

/// The manifest that the file `CURRENT` names.
pub(super) fn named_by(current: &Path) -> Option<PathBuf> {
    let name = fs::read_to_string(current).ok()?;
    Some(current.with_file_name(name.trim_end()))
}

fn is_manifest(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-"))
}

/// Where in the file, if the text says so.
fn named_offset(text: &str) -> Option<u64> {
    let digits = text.split(" offset ").nth(1)?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

pub(super) fn named_file(dir: &Path, text: &str) -> Option<PathBuf> {
    let dir_text = dir.to_str()?;
    let at = text.find(dir_text)?;
    let name = text[at + dir_text.len()..].trim_start_matches('/');
    let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(name.len());
    let name = name[..end].trim_end_matches('.');
    (!name.is_empty()).then(|| dir.join(name))
}
