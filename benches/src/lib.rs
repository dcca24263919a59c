//! What benches and measuring programs share. Benches live in `benches/benches/`, programs in `src/bin/`.

pub mod bench;
pub mod commands;
pub mod machine;
pub mod requests;
