//! Benches live in `benches/benches/`; shared helpers live here.
