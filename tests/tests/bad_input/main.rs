//! What must not be believed: flags, directories, files, disks and bytes from the network that are wrong.
//!
//! Each gets an error that names the place and says what to do; nothing acknowledged is lost, nothing panics, nothing
//! hangs (every wait here is bounded); and once the cause is gone the node starts with all its data.

mod attempt;
mod damage;
mod directory;
mod disk;
mod flags;
mod rot;
mod swap;
mod wire;
