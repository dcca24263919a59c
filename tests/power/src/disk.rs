//! A disk that knows what of it was synced, and what it holds once the power is gone. Pure: operations in, images out.

use crate::{Image, Random};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

/// A file or a directory, for as long as anything names it.
pub(crate) type NodeId = u32;

/// The recorded directory itself.
pub(crate) const ROOT: NodeId = 0;

/// One thing that was done to the disk. Numbers name files and directories in the order in which they came to be.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // The names say it.
pub enum Operation {
    CreateFile { directory: u32, name: OsString, node: u32 },
    CreateDirectory { directory: u32, name: OsString, node: u32 },
    Link { directory: u32, name: OsString, node: u32 },
    Remove { directory: u32, name: OsString },
    Rename { directory: u32, from: OsString, to: OsString },
    Write { node: u32, offset: u64, bytes: Vec<u8> },
    Resize { node: u32, length: u64 },
    Sync { node: u32 },
}

/// What was done to a directory since the recording began.
#[derive(Clone, Debug)]
pub struct Record {
    pub(crate) before: Image,
    pub(crate) operations: Vec<Operation>,
}

impl Record {
    /// A disk with `image` on it, all of it synced.
    pub fn on(image: Image) -> Self {
        Self { before: image, operations: Vec::new() }
    }

    /// The same record, ended earlier: as if the process had been killed there.
    pub fn until(&self, position: usize) -> Self {
        Self { before: self.before.clone(), operations: self.operations[..position].to_vec() }
    }

    /// All operations, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The first name of each file and directory, by the number that operations call it.
    pub fn names(&self) -> BTreeMap<u32, OsString> {
        let before =
            numbered(&self.before).filter_map(|(id, path, _)| Some((id, path.file_name()?.to_owned())));
        let made = self.operations.iter().filter_map(|operation| match operation {
            Operation::CreateFile { name, node, .. } | Operation::CreateDirectory { name, node, .. } => {
                Some((*node, name.clone()))
            }
            _ => None,
        });
        before.chain(made).collect()
    }

    /// What the disk holds when the power fails after so many operations. `random` decides what becomes of what was not
    /// synced.
    pub fn after_power_loss(&self, position: usize, random: &mut Random) -> Image {
        self.disk(position).lose_power(random)
    }

    /// What processes see after so many operations, synced or not. After all of them that is what the recorded directory
    /// really holds, if nothing escaped the record.
    pub fn as_seen(&self, position: usize) -> Image {
        let mut disk = self.disk(position);
        for node in 0..disk.nodes.len() {
            disk.sync(node as NodeId);
        }
        disk.lose_power(&mut Random::new(0))
    }

    fn disk(&self, position: usize) -> Disk {
        let mut disk = Disk::new(&self.before);
        for operation in &self.operations[..position] {
            disk.apply(operation);
        }
        disk
    }
}

/// Numbers the nodes of an image; the recorder does it in the same order.
pub(crate) fn numbered(image: &Image) -> impl Iterator<Item = (NodeId, &Path, Option<&[u8]>)> {
    // A directory's path is a prefix of those in it, so it comes first.
    image.nodes.iter().zip(1..).map(|((path, node), id)| (id, path.as_path(), node.as_deref()))
}

#[derive(Clone)]
enum NameChange {
    Add(OsString, NodeId),
    Remove(OsString),
    Rename(OsString, OsString),
}

#[derive(Clone)]
enum DataChange {
    Write(u64, Vec<u8>),
    Resize(u64),
}

enum Node {
    Directory { durable: BTreeMap<OsString, NodeId>, pending: Vec<NameChange> },
    File { durable: Vec<u8>, pending: Vec<DataChange> },
}

struct Disk {
    nodes: Vec<Node>,
}

fn empty_directory() -> Node {
    Node::Directory { durable: BTreeMap::new(), pending: Vec::new() }
}

impl Disk {
    fn new(image: &Image) -> Self {
        let mut disk = Self { nodes: vec![empty_directory()] };
        let mut directories = BTreeMap::from([(PathBuf::new(), ROOT)]);
        for (id, path, bytes) in numbered(image) {
            let parent = directories[path.parent().expect("a path in the image")];
            let name = path.file_name().expect("a path in the image").to_owned();
            disk.nodes.push(match bytes {
                Some(bytes) => Node::File { durable: bytes.to_vec(), pending: Vec::new() },
                None => empty_directory(),
            });
            if bytes.is_none() {
                directories.insert(path.into(), id);
            }
            let Node::Directory { durable, .. } = &mut disk.nodes[parent as usize] else {
                unreachable!("a file has no children")
            };
            durable.insert(name, id);
        }
        disk
    }

    fn apply(&mut self, operation: &Operation) {
        match operation.clone() {
            Operation::CreateFile { directory, name, node } => {
                self.add(node, Node::File { durable: Vec::new(), pending: Vec::new() });
                self.name(directory, NameChange::Add(name, node));
            }
            Operation::CreateDirectory { directory, name, node } => {
                self.add(node, empty_directory());
                self.name(directory, NameChange::Add(name, node));
            }
            Operation::Link { directory, name, node } => self.name(directory, NameChange::Add(name, node)),
            Operation::Remove { directory, name } => self.name(directory, NameChange::Remove(name)),
            Operation::Rename { directory, from, to } => self.name(directory, NameChange::Rename(from, to)),
            Operation::Write { node, offset, bytes } => self.data(node, DataChange::Write(offset, bytes)),
            Operation::Resize { node, length } => self.data(node, DataChange::Resize(length)),
            Operation::Sync { node } => self.sync(node),
        }
    }

    fn add(&mut self, id: NodeId, node: Node) {
        assert_eq!(id as usize, self.nodes.len(), "nodes are numbered in order");
        self.nodes.push(node);
    }

    fn name(&mut self, directory: NodeId, change: NameChange) {
        match &mut self.nodes[directory as usize] {
            Node::Directory { pending, .. } => pending.push(change),
            Node::File { .. } => unreachable!("a file has no children"),
        }
    }

    fn data(&mut self, node: NodeId, change: DataChange) {
        match &mut self.nodes[node as usize] {
            Node::File { pending, .. } => pending.push(change),
            Node::Directory { .. } => unreachable!("nobody writes into a directory"),
        }
    }

    fn sync(&mut self, node: NodeId) {
        match &mut self.nodes[node as usize] {
            Node::Directory { durable, pending } => {
                pending.drain(..).for_each(|change| change_name(durable, change));
            }
            Node::File { durable, pending } => {
                pending.drain(..).for_each(|change| change_data(durable, &change));
            }
        }
    }

    fn lose_power(self, random: &mut Random) -> Image {
        let mut left = Vec::with_capacity(self.nodes.len());
        for node in self.nodes {
            left.push(match node {
                Node::Directory { mut durable, pending } => {
                    let kept = prefix(pending.len(), random);
                    pending.into_iter().take(kept).for_each(|change| change_name(&mut durable, change));
                    Left::Directory(durable)
                }
                Node::File { mut durable, pending } => {
                    keep_data(&mut durable, &pending, random);
                    Left::File(durable)
                }
            });
        }
        let mut image = Image::default();
        collect(&left, ROOT, Path::new(""), &mut image);
        image
    }
}

enum Left {
    Directory(BTreeMap<OsString, NodeId>),
    File(Vec<u8>),
}

fn collect(left: &[Left], id: NodeId, path: &Path, image: &mut Image) {
    match &left[id as usize] {
        Left::File(bytes) => {
            image.nodes.insert(path.into(), Some(bytes.clone()));
        }
        Left::Directory(names) => {
            if id != ROOT {
                image.nodes.insert(path.into(), None);
            }
            for (name, child) in names {
                collect(left, *child, &path.join(name), image);
            }
        }
    }
}

/// How many of the first changes stay: often none or all, so that the extremes are not rare.
fn prefix(count: usize, random: &mut Random) -> usize {
    match random.below(4) {
        0 => 0,
        1 => count,
        _ => random.below(count + 1),
    }
}

fn keep_data(durable: &mut Vec<u8>, pending: &[DataChange], random: &mut Random) {
    if pending.is_empty() {
        return;
    }
    if random.percent(50) {
        keep_in_order(durable, pending, random);
    } else {
        keep_in_any_order(durable, pending, random);
    }
}

/// All changes up to some place in some write.
fn keep_in_order(durable: &mut Vec<u8>, pending: &[DataChange], random: &mut Random) {
    let kept = prefix(pending.len(), random);
    pending[..kept].iter().for_each(|change| change_data(durable, change));
    if let Some(DataChange::Write(offset, bytes)) = pending.get(kept) {
        let whole_sectors = sectors(*offset, bytes.len());
        let sectors = random.below(whole_sectors.len() + 1);
        if let Some(last) = whole_sectors[..sectors].last() {
            write(durable, *offset, &bytes[..last.end]);
        }
    }
}

/// Each sector as it was at some moment, and each change of the length or not. The length may also be recorded before
/// what was written there: a file system orders the two for new blocks only.
fn keep_in_any_order(durable: &mut Vec<u8>, pending: &[DataChange], random: &mut Random) {
    let percent = [10, 50, 90][random.below(3)];
    let mut stopped = BTreeSet::new();
    let mut written = 0;
    for change in pending {
        match change {
            DataChange::Resize(_) if !random.percent(percent) => {}
            DataChange::Resize(_) => change_data(durable, change),
            DataChange::Write(offset, bytes) => {
                written = written.max(*offset as usize + bytes.len());
                for part in sectors(*offset, bytes.len()) {
                    let sector = (offset + part.start as u64) / SECTOR_BYTES;
                    if random.percent(percent) && !stopped.contains(&sector) {
                        write(durable, offset + part.start as u64, &bytes[part]);
                    } else {
                        stopped.insert(sector);
                    }
                }
            }
        }
    }
    let was_resized = pending.iter().any(|change| matches!(change, DataChange::Resize(_)));
    if !was_resized && durable.len() < written && random.percent(50) {
        durable.resize(written, 0);
    }
}

/// Cuts a write where sectors begin; ranges of its bytes.
fn sectors(offset: u64, count: usize) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut start = 0;
    while start < count {
        let in_sector = (SECTOR_BYTES - (offset + start as u64) % SECTOR_BYTES) as usize;
        let end = count.min(start + in_sector);
        parts.push(start..end);
        start = end;
    }
    parts
}

fn change_data(bytes: &mut Vec<u8>, change: &DataChange) {
    match change {
        DataChange::Write(offset, new) => write(bytes, *offset, new),
        DataChange::Resize(length) => bytes.resize(*length as usize, 0),
    }
}

fn write(bytes: &mut Vec<u8>, offset: u64, new: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + new.len());
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(new);
}

fn change_name(names: &mut BTreeMap<OsString, NodeId>, change: NameChange) {
    match change {
        NameChange::Add(name, node) => {
            names.insert(name, node);
        }
        NameChange::Remove(name) => {
            names.remove(OsStr::new(&name));
        }
        NameChange::Rename(from, to) => {
            if let Some(node) = names.remove(&from) {
                names.insert(to, node);
            }
        }
    }
}
