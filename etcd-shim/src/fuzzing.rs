//! The conversions of requests under names that other crates can reach. For fuzzing alone.

pub use crate::convert::lease::time_to_live;
pub use crate::convert::range::{query, response as range_response};
pub use crate::convert::transaction::{read_only, response as transaction_response, transaction};
pub use crate::convert::watch::{options as watch_options, refusal as watch_refusal};
pub use crate::convert::write::{alone, delete, delete_response, put, put_response};
