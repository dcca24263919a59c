//! What benches and measuring programs share. Benches live in `benches/benches/`, programs in `src/bin/`.

pub mod requests;
