//! Tests that documents name must exist: a renamed or deleted one would leave a promise that nobody checks.

/// The names of tests in `text`: words in back quotes with three parts or more (`a_b_c`), and golden scripts.
pub fn tests_named_in(text: &str) -> Vec<&str> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            let is_function =
                word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                    && word.matches('_').count() >= 2;
            is_function || (word.starts_with("golden/") && word.ends_with(".txt"))
        })
        .collect()
}

/// Those of `names` that are neither a function in one of `sources` nor one of `paths`.
pub fn missing<'a>(names: &[&'a str], sources: &[String], paths: &[String]) -> Vec<&'a str> {
    let exists = |name: &str| {
        if name.starts_with("golden/") {
            return paths.iter().any(|path| path == &format!("tests/{name}"));
        }
        // A list of tests that a macro makes names them alone on their lines.
        let (function, listed) = (format!("fn {name}("), format!("    {name},"));
        let generic = format!("fn {name}<");
        sources
            .iter()
            .any(|text| text.contains(&function) || text.contains(&generic) || text.contains(&listed))
    };
    names.iter().copied().filter(|name| !exists(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_missed() {
        let text = "as `a_lost_one_is` and `golden/put/gone.txt` show, unlike `Engine`, `two_parts` and `x.rs`, `here_it_is`";
        let names = tests_named_in(text);
        assert_eq!(names, ["a_lost_one_is", "golden/put/gone.txt", "here_it_is"]);
        let sources = ["#[test]\nfn here_it_is() {}".to_string()];
        assert_eq!(missing(&names, &sources, &[]), ["a_lost_one_is", "golden/put/gone.txt"]);
    }
}
