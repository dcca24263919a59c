//! What an error about a data directory has to tell the operator besides what is wrong and where: what to do.

/// What there is to do. Whoever writes an error with other words adds them here, if they help.
const ADVICE: &[&str] = &[
    "restore",
    "put the file back",
    "put it back",
    "start again",
    "try again",
    "try it again",
    "free space",
    "free some space",
    "check the owner",
    "raise the limit",
    "newer program",
    "run a newer version",
    "stop that one first",
    "give another",
    "give an empty or new",
    "move it away",
];

/// What must never be said: the file may be the only copy.
const DANGEROUS: &[&str] = &["remove it", "delete it"];

/// # Panics
/// When `text` does not say what to do, or something that costs data.
#[track_caller]
pub fn check_advice(text: &str, about: &str) {
    assert!(ADVICE.iter().any(|advice| text.contains(advice)), "no advice: {about}: {text}");
    assert!(!DANGEROUS.iter().any(|advice| text.contains(advice)), "dangerous advice: {about}: {text}");
}
