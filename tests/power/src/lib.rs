//! Power loss, for real code on a disk that forgets.
//!
//! A program that uses this crate can have everything recorded that it (and every library in it) does to the files of a
//! directory: creations, writes, syncs, renames, in one order over all files and threads. From such a [`Record`] the disk
//! can be had as a power loss would have left it at any moment: what was synced is there, and of everything else each
//! directory entry and each 512-byte sector may be there, be torn, or be missing. Data that the store wrote with its log,
//! with RocksDB or with a plain `File` is treated alike, and nothing in the store knows that it is watched.
//!
//! ```
//! use holdfast_power::{Image, Random, Recorder};
//! use std::{fs, io::Write};
//!
//! let directory = tempfile::tempdir().unwrap();
//! let root = directory.path().canonicalize().unwrap().join("disk");
//! let recorder = Recorder::start(&root, &Image::default());
//! let mut file = fs::File::create(root.join("a")).unwrap();
//! file.write_all(b"kept").unwrap();
//! file.sync_all().unwrap();
//! fs::File::open(&root).unwrap().sync_all().unwrap();
//! let synced = recorder.position();
//! file.write_all(b" or lost").unwrap();
//! let record = recorder.finish();
//! let left = record.after_power_loss(synced, &mut Random::new(1));
//! assert_eq!(left.file("a"), Some(&b"kept"[..]));
//! ```
//!
//! What a disk may do here, and what not:
//! - a sector is old or new, never a mixture; unsynced sectors of one file may come in any order;
//! - a synced file whose directory was never synced may be missing: the name is the directory's;
//! - changes of the names in one directory reach the disk in their order, those of two directories independently;
//! - deliberately missing: sectors that rot (other tests flip bits), and renames between directories (nobody does that).

mod disk;
mod image;
mod random;
mod recorder;

pub use disk::{Operation, Record};
pub use image::Image;
pub use random::Random;
pub use recorder::Recorder;
