//! Rules of the house that no linter knows.
//!
//! Limits are ratchets: what is over one today stands in a list with its size, may not grow, and leaves the list when it
//! is cured.

use crate::source::Source;

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of the text at the head of a folder's mod.rs: purpose, invariants, what is deliberately missing.
const ESSAY_LINES_MIN: usize = 10;

/// Files over their limit, with their length.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions over their limit: file, name, length.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[];

/// Traces of somebody's machine, and marks of unfinished work. Cut in two so that this file passes.
const FORBIDDEN_TEXT: &[&str] = &[
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/wo", "rk/"),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X:"),
];

/// Checks the shape of a Rust file.
pub fn check_shape(path: &str, text: &str, source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let limit = LONG_FILES.iter().find(|(file, _)| *file == path).map(|(_, lines)| *lines);
    ratchet(&mut faults, path, "the file", source.lines, FILE_LINES_MAX, limit);
    for function in source.functions() {
        let limit = LONG_FUNCTIONS
            .iter()
            .find(|(file, name, _)| *file == path && *name == function.name)
            .map(|(_, _, lines)| *lines);
        let what = format!("fn {}", function.name);
        let place = format!("{path}:{}", function.line);
        ratchet(&mut faults, &place, &what, function.lines, FUNCTION_LINES_MAX, limit);
    }
    if path.ends_with("/mod.rs") {
        let essay = text.lines().take_while(|line| line.starts_with("//!")).count();
        // A folder that declares its place and nothing else has nothing to explain.
        let empty = source.words().next().is_none();
        if essay < ESSAY_LINES_MIN && !empty {
            faults.push(format!(
                "{path}: opens with {essay} lines about itself; say its purpose, its invariants and what is deliberately \
                 missing in {ESSAY_LINES_MIN} or more"
            ));
        }
    }
    faults
}

fn ratchet(
    faults: &mut Vec<String>,
    place: &str,
    what: &str,
    lines: usize,
    max: usize,
    known: Option<usize>,
) {
    match known {
        None if lines > max => faults.push(format!("{place}: {what} has {lines} lines; {max} are the limit")),
        Some(known) if lines > known => {
            faults.push(format!("{place}: {what} grew from {known} to {lines} lines; {max} are the limit"));
        }
        Some(known) if lines < known => {
            faults.push(format!("{place}: {what} shrank from {known} to {lines} lines: say so in tidy.rs"));
        }
        _ => {}
    }
}

/// Checks any text file for what should not be in a repository.
pub fn check_text(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for forbidden in FORBIDDEN_TEXT {
            if line.contains(forbidden) {
                faults.push(format!("{path}:{}: contains {forbidden:?}", number + 1));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(path: &str, text: &str) -> Vec<String> {
        check_shape(path, text, &Source::parse(text))
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let long = format!("fn f() {{\n{}}}\n", "x();\n".repeat(69));
        assert_eq!(shape("a/src/b.rs", &long), ["a/src/b.rs:1: fn f has 71 lines; 70 are the limit"]);
        let file = "fn f() {}\n".repeat(401);
        assert_eq!(shape("a/src/b.rs", &file), ["a/src/b.rs: the file has 401 lines; 400 are the limit"]);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "fn f() {}\n".repeat(401));
        assert_eq!(shape("a/src/b.rs", &tests), [""; 0]);
    }

    #[test]
    fn the_ratchet_only_turns_one_way() {
        let turn = |lines, known| {
            let mut faults = Vec::new();
            ratchet(&mut faults, "p", "it", lines, 70, known);
            faults.pop()
        };
        assert_eq!(turn(70, None), None);
        assert_eq!(turn(80, Some(80)), None);
        assert_eq!(turn(81, Some(80)).as_deref(), Some("p: it grew from 80 to 81 lines; 70 are the limit"));
        assert!(turn(60, Some(80)).unwrap().contains("shrank"));
    }

    #[test]
    fn a_folder_explains_itself() {
        assert!(shape("a/src/b/mod.rs", "//! Short.\npub fn f() {}\n")[0].contains("1 lines about itself"));
        assert_eq!(shape("a/src/b/mod.rs", &format!("{}pub fn f() {{}}\n", "//! x\n".repeat(10))), [""; 0]);
        assert_eq!(shape("a/src/b/mod.rs", "//! Later.\n"), [""; 0]);
    }

    #[test]
    fn traces_of_a_machine_are_found() {
        let text = format!("fine\nsee {}me/file\n", concat!("/ro", "ot/"));
        assert_eq!(check_text("a", &text).len(), 1);
    }
}
