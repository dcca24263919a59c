//! Not written yet.

mod cache;
mod entry;
mod index;

pub use cache::{VALUE_OVERHEAD_BYTES, ValueCache};
pub use entry::{Entry, Head};
pub use index::{Index, Root};
