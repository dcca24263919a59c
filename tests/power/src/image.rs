//! What lies on a disk: a tree of directories and files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory's contents, all the way down. Paths are relative to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `None` is a directory.
    pub(crate) nodes: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

impl Image {
    /// Reads a directory.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn read(root: &Path) -> Self {
        let mut image = Self::default();
        image.read_below(root, Path::new(""));
        image
    }

    fn read_below(&mut self, root: &Path, below: &Path) {
        let entries = fs::read_dir(root.join(below)).expect("a directory that can be read");
        for entry in entries {
            let name = below.join(entry.expect("an entry").file_name());
            let path = root.join(&name);
            if path.is_dir() {
                self.nodes.insert(name.clone(), None);
                self.read_below(root, &name);
            } else {
                self.nodes.insert(name, Some(fs::read(&path).expect("a file that can be read")));
            }
        }
    }

    /// Makes `root`, which must not exist, and everything in it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, root: &Path) {
        fs::create_dir(root).expect("a new directory");
        for (path, node) in &self.nodes {
            let path = root.join(path);
            match node {
                None => fs::create_dir(&path).expect("a new directory"),
                Some(bytes) => fs::write(&path, bytes).expect("a new file"),
            }
        }
    }

    /// The bytes of a file.
    pub fn file(&self, path: impl AsRef<Path>) -> Option<&[u8]> {
        self.nodes.get(path.as_ref())?.as_deref()
    }

    /// The paths of all files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.nodes.iter().filter(|(_, node)| node.is_some()).map(|(path, _)| path.as_path())
    }
}
