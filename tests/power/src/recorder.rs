//! The side of the recording that `interpose.c` talks to.
//!
//! Every call from there comes under one lock, so that what is recorded has one order. Paths are resolved by the names as
//! processes see them at that moment; operations carry the numbers of nodes, which renames do not touch.

use crate::Image;
use crate::disk::{NodeId, Operation, ROOT, Record, numbered};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, OsString};
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

static RECORDINGS: RwLock<Vec<Arc<Recording>>> = RwLock::new(Vec::new());
/// What the numbers that `interpose.c` keeps with its descriptors stand for; number 1 is the first.
static FILES: RwLock<Vec<(Arc<Recording>, NodeId)>> = RwLock::new(Vec::new());

struct Recording {
    root: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// The names of each directory, as processes see them.
    directories: BTreeMap<NodeId, BTreeMap<OsString, NodeId>>,
    lengths: BTreeMap<NodeId, u64>,
    nodes: NodeId,
    operations: Vec<Operation>,
    /// The numbers given out for nodes, so that each has one.
    numbers: BTreeMap<NodeId, u32>,
}

impl State {
    fn new(image: &Image) -> Self {
        let mut state = Self {
            directories: BTreeMap::from([(ROOT, BTreeMap::new())]),
            lengths: BTreeMap::new(),
            nodes: 1,
            operations: Vec::new(),
            numbers: BTreeMap::new(),
        };
        for (id, path, bytes) in numbered(image) {
            let (directory, name) = state.parent(path);
            state.names(directory).insert(name, id);
            match bytes {
                Some(bytes) => state.lengths.insert(id, bytes.len() as u64).map_or((), drop),
                None => state.directories.insert(id, BTreeMap::new()).map_or((), drop),
            }
            state.nodes = id + 1;
        }
        state
    }

    /// Goes on where another recording ended.
    fn resume(mut self, operations: &[Operation]) -> Self {
        for operation in operations {
            match operation.clone() {
                Operation::CreateFile { directory, name, node } => {
                    self.names(directory).insert(name, node);
                    self.lengths.insert(node, 0);
                    self.nodes = node + 1;
                }
                Operation::CreateDirectory { directory, name, node } => {
                    self.names(directory).insert(name, node);
                    self.directories.insert(node, BTreeMap::new());
                    self.nodes = node + 1;
                }
                Operation::Link { directory, name, node } => drop(self.names(directory).insert(name, node)),
                Operation::Remove { directory, name } => drop(self.names(directory).remove(&name)),
                Operation::Rename { directory, from, to } => {
                    let node = self.names(directory).remove(&from).expect("the file had this name");
                    self.names(directory).insert(to, node);
                }
                Operation::Write { node, offset, bytes } => self.lengthen(node, offset + bytes.len() as u64),
                Operation::Resize { node, length } => drop(self.lengths.insert(node, length)),
                Operation::Sync { .. } => {}
            }
        }
        self.operations = operations.to_vec();
        self
    }

    fn names(&mut self, directory: NodeId) -> &mut BTreeMap<OsString, NodeId> {
        self.directories.entry(directory).or_default()
    }

    fn lengthen(&mut self, node: NodeId, end: u64) {
        let length = self.lengths.entry(node).or_default();
        *length = (*length).max(end);
    }

    fn node(&self, path: &Path) -> NodeId {
        path.components().fold(ROOT, |node, part| self.directories[&node][part.as_os_str()])
    }

    fn parent(&self, path: &Path) -> (NodeId, OsString) {
        let name = path.file_name().expect("the recorded directory itself stays").to_owned();
        (self.node(path.parent().expect("a path in the recorded directory")), name)
    }

    fn new_node(&mut self) -> NodeId {
        self.nodes += 1;
        self.nodes - 1
    }

    fn create(&mut self, path: &Path, is_directory: bool) -> NodeId {
        let node = self.new_node();
        let (directory, name) = self.parent(path);
        self.names(directory).insert(name.clone(), node);
        self.operations.push(if is_directory {
            self.directories.insert(node, BTreeMap::new());
            Operation::CreateDirectory { directory, name, node }
        } else {
            self.lengths.insert(node, 0);
            Operation::CreateFile { directory, name, node }
        });
        node
    }

    fn resize(&mut self, node: NodeId, length: u64) {
        if self.lengths.insert(node, length) != Some(length) {
            self.operations.push(Operation::Resize { node, length });
        }
    }
}

/// A recording under way.
pub struct Recorder {
    recording: Arc<Recording>,
    before: Image,
}

impl Recorder {
    /// Makes `root` (an absolute path without links, where nothing is yet) with `image` in it, all of it synced, and
    /// records from then on.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn start(root: &Path, image: &Image) -> Self {
        Self::after(root, Record::on(image.clone()))
    }

    /// Makes `root` with what processes saw at the end of `record`, and goes on with that record: what was not synced then
    /// still is not. So a process finds the disk when the one before it was killed and the machine went on.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn after(root: &Path, record: Record) -> Self {
        assert!(root.is_absolute(), "only absolute paths are recorded");
        record.as_seen(record.operations.len()).write(root);
        let state = Mutex::new(State::new(&record.before).resume(&record.operations));
        let recording = Arc::new(Recording { root: root.into(), state });
        RECORDINGS.write().push(Arc::clone(&recording));
        Self { recording, before: record.before }
    }

    /// How many operations there were so far.
    pub fn position(&self) -> usize {
        self.recording.state.lock().operations.len()
    }

    /// Ends the recording. Files that are still open are not recorded any more.
    pub fn finish(self) -> Record {
        RECORDINGS.write().retain(|one| !Arc::ptr_eq(one, &self.recording));
        let operations = std::mem::take(&mut self.recording.state.lock().operations);
        Record { before: self.before, operations }
    }
}

/// The recording that a path belongs to, and the path in it.
fn find(path: *const c_char) -> Option<(Arc<Recording>, PathBuf)> {
    let recordings = RECORDINGS.read();
    if recordings.is_empty() || path.is_null() {
        return None;
    }
    // SAFETY: the C library's contract for paths: a string that ends with a zero and lives during the call.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    let path = Path::new(OsStr::from_bytes(bytes));
    recordings.iter().find_map(|one| {
        let below = path.strip_prefix(&one.root).ok()?;
        assert!(below.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
        Some((Arc::clone(one), below.to_path_buf()))
    })
}

fn with_file(file: u32, then: impl FnOnce(&mut State, NodeId)) {
    let (recording, node) = FILES.read()[file as usize - 1].clone();
    then(&mut recording.state.lock(), node);
}

// The functions that `interpose.c` declares, with its types.

#[unsafe(no_mangle)]
extern "C" fn power_is_recorded(path: *const c_char) -> c_int {
    find(path).is_some().into()
}

#[unsafe(no_mangle)]
extern "C" fn power_opened(path: *const c_char, existed: c_int, emptied: c_int) -> u32 {
    let Some((recording, path)) = find(path) else { return 0 };
    let mut state = recording.state.lock();
    let node = if existed != 0 { state.node(&path) } else { state.create(&path, false) };
    if emptied != 0 {
        state.resize(node, 0);
    }
    let number = state.numbers.get(&node).copied();
    number.unwrap_or_else(|| {
        let mut files = FILES.write();
        files.push((Arc::clone(&recording), node));
        let number = files.len() as u32;
        state.numbers.insert(node, number);
        number
    })
}

#[unsafe(no_mangle)]
extern "C" fn power_written(file: u32, offset: u64, bytes: *const c_void, count: usize) {
    // SAFETY: the caller's contract, as for `write`: `count` bytes are there, and stay so during the call.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count) }.to_vec();
    with_file(file, |state, node| {
        state.lengthen(node, offset + count as u64);
        state.operations.push(Operation::Write { node, offset, bytes });
    });
}

#[unsafe(no_mangle)]
extern "C" fn power_resized(file: u32, length: u64) {
    with_file(file, |state, node| state.resize(node, length));
}

#[unsafe(no_mangle)]
extern "C" fn power_synced(file: u32) {
    with_file(file, |state, node| state.operations.push(Operation::Sync { node }));
}

#[unsafe(no_mangle)]
extern "C" fn power_made_directory(path: *const c_char) {
    if let Some((recording, path)) = find(path) {
        recording.state.lock().create(&path, true);
    }
}

#[unsafe(no_mangle)]
extern "C" fn power_renamed(from: *const c_char, to: *const c_char) {
    let Some((recording, to)) = find(to) else { return };
    let (other, from) = find(from).expect("a file is renamed into the recorded directory");
    assert!(Arc::ptr_eq(&recording, &other), "a file is renamed into the recorded directory");
    let mut state = recording.state.lock();
    let ((from_directory, from), (directory, to)) = (state.parent(&from), state.parent(&to));
    assert_eq!(from_directory, directory, "renames between directories are not modelled");
    let node = state.names(directory).remove(&from).expect("the file had this name");
    state.names(directory).insert(to.clone(), node);
    state.operations.push(Operation::Rename { directory, from, to });
}

#[unsafe(no_mangle)]
extern "C" fn power_linked(from: *const c_char, to: *const c_char) {
    let Some((recording, to)) = find(to) else { return };
    let (other, from) = find(from).expect("a file is linked into the recorded directory");
    assert!(Arc::ptr_eq(&recording, &other), "a file is linked into the recorded directory");
    let mut state = recording.state.lock();
    let node = state.node(&from);
    let (directory, name) = state.parent(&to);
    state.names(directory).insert(name.clone(), node);
    state.operations.push(Operation::Link { directory, name, node });
}

#[unsafe(no_mangle)]
extern "C" fn power_removed(path: *const c_char) {
    let Some((recording, path)) = find(path) else { return };
    if path.as_os_str().is_empty() {
        // The directory itself, when the test is over.
        return;
    }
    let mut state = recording.state.lock();
    let (directory, name) = state.parent(&path);
    state.names(directory).remove(&name);
    state.operations.push(Operation::Remove { directory, name });
}
