//! A directory in memory, for logs that nobody needs durably.

use kvstore::log::{File, Files};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the log's files are.
pub const DIRECTORY: &str = "/log";

type Content = Arc<Mutex<Vec<u8>>>;

/// The files by path.
#[derive(Default)]
pub struct Memory {
    files: Mutex<BTreeMap<PathBuf, Content>>,
}

impl Memory {
    pub fn with(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Arc<Self> {
        let files = files
            .into_iter()
            .map(|(name, bytes)| (Path::new(DIRECTORY).join(name), Arc::new(Mutex::new(bytes))))
            .collect();
        Arc::new(Self { files: Mutex::new(files) })
    }

    /// Everything, by name.
    pub fn everything(&self) -> BTreeMap<String, Vec<u8>> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.lock().iter().map(|(path, bytes)| (name(path), bytes.lock().clone())).collect()
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Files for Memory {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<OsString>> {
        Ok(self.everything().into_keys().map(OsString::from).collect())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let content = self.files.lock().get(path).cloned().ok_or_else(missing)?;
        Ok(Box::new(Handle(content)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn File>> {
        let content = Content::default();
        self.files.lock().insert(path.to_owned(), content.clone());
        Ok(Box::new(Handle(content)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.lock();
        let content = files.remove(from).ok_or_else(missing)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.lock().remove(path).map(drop).ok_or_else(missing)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn random_number(&self) -> u64 {
        super::sealed::LOG_ID
    }
}

struct Handle(Content);

impl File for Handle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut content = self.0.lock();
        let end = offset as usize + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let content = self.0.lock();
        let wanted = offset as usize..offset as usize + bytes.len();
        let found = content.get(wanted).ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().len() as u64)
    }
}
