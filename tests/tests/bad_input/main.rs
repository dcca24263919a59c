//! What must not be believed: flags, directories, files, disks and bytes from the network that are wrong.
//!
//! Each gets an error that names the place and says what to do; nothing acknowledged is lost, nothing panics, nothing
//! hangs (every wait here is bounded); and once the cause is gone the node starts with all its data.
//!
//! `HOLDFAST_NEEDS_MOUNTS=1` fails where a test needs root or a file system of its own and has none, where the run otherwise
//! only says so, in `.ci/run` too.

mod attempt;
mod damage;
mod directory;
mod disk;
mod flags;
mod rot;
mod swap;
mod told;
mod wire;
