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

/// Those of `names` that are neither a test in one of `sources`, one that is run, nor one of `paths`.
pub fn missing<'a>(names: &[&'a str], sources: &[String], paths: &[String]) -> Vec<&'a str> {
    let exists = |name: &str| {
        if name.starts_with("golden/") {
            return paths.iter().any(|path| path == &format!("tests/{name}"));
        }
        // A list of tests that a macro makes names them alone on their lines.
        let listed = format!("    {name},");
        let is_listed_in = |text: &str| text.contains(&listed) && text.contains("#[test]");
        sources.iter().any(|text| is_listed_in(text) || is_test_in(text, name))
    };
    names.iter().copied().filter(|name| !exists(name)).collect()
}

/// Whether a function of this name is a test, and not one that is left out.
fn is_test_in(text: &str, name: &str) -> bool {
    let functions = [format!("fn {name}("), format!("fn {name}<")];
    let begins = functions.iter().flat_map(|function| text.match_indices(function));
    begins.into_iter().any(|(at, _)| {
        let attributes = attributes_above(&text[..at]);
        attributes.iter().any(|one| TEST_ATTRIBUTES.iter().any(|test| one.starts_with(test)))
            && !attributes.iter().any(|one| one.starts_with("#[ignore"))
    })
}

/// What makes a function a test, as the attribute begins.
const TEST_ATTRIBUTES: &[&str] = &["#[test]", "#[tokio::test", "#[rstest"];

/// The attributes right above the line that `before` ends in, with comments between them. One of several lines ends in `)]`.
fn attributes_above(before: &str) -> Vec<&str> {
    let mut attributes = Vec::new();
    let mut is_inside = false;
    for line in before.rsplit('\n').skip(1).map(str::trim) {
        let is_attribute = line.starts_with("#[");
        if !(is_inside || is_attribute || line.starts_with("//") || line.ends_with(")]")) {
            break;
        }
        is_inside = !is_attribute && (is_inside || line.ends_with(")]"));
        attributes.extend(is_attribute.then_some(line));
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_more_than_a_function() {
        let found = |text: &str| missing(&["one_two_three"], &[text.to_string()], &[]).is_empty();
        for test in [
            "#[test]\nfn one_two_three() {}",
            "    #[test]\n    fn one_two_three<T>() {}",
            "#[tokio::test(flavor = \"multi_thread\")]\n// Why.\nasync fn one_two_three() {}",
            "#[tokio::test(\n    flavor = \"multi_thread\",\n    worker_threads = 2,\n)]\nasync fn one_two_three() {}",
            "#[test]\n#[cfg(unix)]\nfn one_two_three() {}",
            "#[test]\nfn $name() {}\ntests![\n    one_two_three,\n];",
        ] {
            assert!(found(test), "{test}");
        }
        for no_test in [
            "fn one_two_three() {}",
            "#[test]\nfn other() {}\n\nfn one_two_three() {}",
            "#[test]\n\nfn helper() {}\nfn one_two_three() {}",
            "#[test]\n#[ignore = \"slow\"]\nfn one_two_three() {}",
            "#[ignore]\n#[test]\nfn one_two_three() {}",
            "struct Fields {\n    one_two_three,\n}",
            "#[cfg(test)]\nfn one_two_three() {}",
            "#[test]\nfn one_two_three_four() {}",
        ] {
            assert!(!found(no_test), "{no_test}");
        }
    }

    #[test]
    fn names_are_found_and_missed() {
        let text = "as `a_lost_one_is` and `golden/put/gone.txt` show, unlike `Engine`, `two_parts` and `x.rs`, `here_it_is`";
        let names = tests_named_in(text);
        assert_eq!(names, ["a_lost_one_is", "golden/put/gone.txt", "here_it_is"]);
        let sources = ["#[test]\nfn here_it_is() {}".to_string()];
        assert_eq!(missing(&names, &sources, &[]), ["a_lost_one_is", "golden/put/gone.txt"]);
    }
}
