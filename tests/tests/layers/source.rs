//! What a Rust file says, as far as layering is concerned: which paths it names, how long its functions are.
//!
//! A lexer and no parser: comments, strings and everything behind `#[cfg(test)]` are dropped, then each path is taken
//! from the words that are left, use trees unfolded. Macros are words like any others, so a path in one counts too.

/// One word or sign of the program and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Word(String),
    Sign(char),
    /// Numbers, strings, characters: what they say is of no interest.
    Literal,
    Lifetime,
}

/// A path as written (`crate`, `super` and `self` not resolved), and where, with the inline modules around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub line: usize,
    pub segments: Vec<String>,
    pub inside: Vec<String>,
}

/// A function and how many lines it has, from `fn` to its closing brace.
#[derive(Clone, Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
}

/// A file's program text without its tests.
pub struct Source {
    tokens: Vec<Token>,
    /// Modules in other files that exist only in tests.
    pub test_modules: Vec<String>,
    /// Lines of the file that are not in tests.
    pub lines: usize,
}

impl Source {
    pub fn parse(text: &str) -> Source {
        let all = lex(text);
        let mut tokens = Vec::new();
        let mut test_modules = Vec::new();
        let mut test_lines = 0;
        let mut at = 0;
        while at < all.len() {
            match test_attribute_end(&all, at) {
                Some(item) => {
                    let end = item_end(&all, item);
                    if let Some(name) = external_module(&all[item..end]) {
                        test_modules.push(name);
                    }
                    test_lines += all[end - 1].line - all[at].line + 1;
                    at = end;
                }
                None => {
                    tokens.push(all[at].clone());
                    at += 1;
                }
            }
        }
        Source { tokens, test_modules, lines: text.lines().count() - test_lines }
    }

    /// All paths of two segments or more, and the single words of `use`.
    pub fn paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut inside: Vec<(String, usize)> = Vec::new();
        let mut depth = 0;
        let mut at = 0;
        while at < self.tokens.len() {
            match &self.tokens[at].kind {
                Kind::Sign('{') => depth += 1,
                Kind::Sign('}') => {
                    depth -= 1;
                    if inside.last().is_some_and(|(_, outer)| *outer == depth) {
                        inside.pop();
                    }
                }
                Kind::Word(word) if word == "mod" && sign(&self.tokens, at + 2, '{') => {
                    if let Some(Kind::Word(name)) = self.tokens.get(at + 1).map(|token| &token.kind) {
                        inside.push((name.clone(), depth));
                    }
                }
                Kind::Word(_) => {
                    let modules = inside.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
                    let mut paths = Vec::new();
                    let end = unfold(&self.tokens, at, &[], &mut paths);
                    found.extend(
                        paths
                            .into_iter()
                            .filter(|(_, segments)| segments.len() > 1)
                            .map(|(line, segments)| Named { line, segments, inside: modules.clone() }),
                    );
                    at = end;
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
        found
    }

    /// All words.
    pub fn words(&self) -> impl Iterator<Item = (usize, &str)> {
        self.tokens.iter().filter_map(|token| match &token.kind {
            Kind::Word(word) => Some((token.line, word.as_str())),
            _ => None,
        })
    }

    /// All functions with a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            if token.kind != Kind::Word("fn".into()) {
                continue;
            }
            // `fn(u8) -> u8` is a type and has no name.
            let Some(Kind::Word(name)) = self.tokens.get(at + 1).map(|token| &token.kind) else { continue };
            let end = item_end(&self.tokens, at);
            if end > at && self.tokens[end - 1].kind == Kind::Sign('}') {
                let lines = self.tokens[end - 1].line - token.line + 1;
                found.push(Function { name: name.clone(), line: token.line, lines });
            }
        }
        found
    }
}

/// Unfolds the path or use tree that begins at `at` into whole paths; returns where the rest begins.
fn unfold(tokens: &[Token], at: usize, prefix: &[String], paths: &mut Vec<(usize, Vec<String>)>) -> usize {
    let mut segments = prefix.to_vec();
    let mut here = at;
    let line = tokens[at].line;
    loop {
        match tokens.get(here).map(|token| &token.kind) {
            Some(Kind::Word(word)) => segments.push(word.clone()),
            Some(Kind::Sign('{')) => {
                here += 1;
                while here < tokens.len() && !sign(tokens, here, '}') {
                    here = match tokens[here].kind {
                        Kind::Word(_) | Kind::Sign('{') => unfold(tokens, here, &segments, paths),
                        _ => here + 1,
                    };
                }
                return here + 1;
            }
            _ => return here.max(at + 1), // `*`, `<`: what came before is the path
        }
        here += 1;
        if sign(tokens, here, ':') && sign(tokens, here + 1, ':') {
            here += 2;
            let goes_on = matches!(tokens.get(here).map(|t| &t.kind), Some(Kind::Word(_) | Kind::Sign('{')));
            if goes_on {
                continue;
            }
        }
        paths.push((line, segments));
        // `as name` is no path of its own.
        return if word(tokens, here, "as") && !prefix.is_empty() { here + 2 } else { here };
    }
}

/// If an attribute that is about tests begins at `at`: where the item behind it begins.
fn test_attribute_end(tokens: &[Token], at: usize) -> Option<usize> {
    if !(sign(tokens, at, '#') && sign(tokens, at + 1, '[') && word(tokens, at + 2, "cfg")) {
        return None;
    }
    let end = closing(tokens, at + 1, '[', ']');
    let says = |name: &str| (at + 3..end).any(|here| word(tokens, here, name));
    (says("test") && !says("not")).then_some(end + 1)
}

/// Where the item (with its further attributes) that begins at `at` ends: behind its `;` or its closing brace.
fn item_end(tokens: &[Token], at: usize) -> usize {
    let mut here = at;
    while here < tokens.len() {
        match tokens[here].kind {
            Kind::Sign(';') => return here + 1,
            Kind::Sign('{') => return (closing(tokens, here, '{', '}') + 1).min(tokens.len()),
            Kind::Sign('[') => here = closing(tokens, here, '[', ']'),
            Kind::Sign('(') => here = closing(tokens, here, '(', ')'),
            _ => {}
        }
        here += 1;
    }
    tokens.len()
}

/// The index of the sign that closes what opens at `at`.
fn closing(tokens: &[Token], at: usize, open: char, close: char) -> usize {
    let mut depth = 0;
    for (here, token) in tokens.iter().enumerate().skip(at) {
        if token.kind == Kind::Sign(open) {
            depth += 1;
        } else if token.kind == Kind::Sign(close) {
            depth -= 1;
            if depth == 0 {
                return here;
            }
        }
    }
    tokens.len() - 1
}

/// The name in `mod name;`, possibly behind attributes and `pub`.
fn external_module(item: &[Token]) -> Option<String> {
    let at = (0..item.len()).find(|here| word(item, *here, "mod") && sign(item, here + 2, ';'))?;
    match &item[at + 1].kind {
        Kind::Word(name) => Some(name.clone()),
        _ => None,
    }
}

fn sign(tokens: &[Token], at: usize, wanted: char) -> bool {
    tokens.get(at).is_some_and(|token| token.kind == Kind::Sign(wanted))
}

fn word(tokens: &[Token], at: usize, wanted: &str) -> bool {
    tokens.get(at).is_some_and(|token| matches!(&token.kind, Kind::Word(word) if word == wanted))
}

/// Words and signs of a program; comments are gone.
fn lex(text: &str) -> Vec<Token> {
    let chars = text.chars().collect::<Vec<_>>();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let begin = at;
        let kind = match get(at) {
            c if c.is_whitespace() => {
                at += 1;
                None
            }
            '/' if get(at + 1) == '/' => {
                at = find(&chars, at, |c| c == '\n');
                None
            }
            '/' if get(at + 1) == '*' => {
                at = block_comment_end(&chars, at);
                None
            }
            '"' => {
                at = string_end(&chars, at + 1);
                Some(Kind::Literal)
            }
            '\'' => Some(quote(&chars, &mut at)),
            c if c.is_ascii_digit() => {
                at = find(&chars, at, |c| !(c.is_alphanumeric() || c == '_'));
                Some(Kind::Literal)
            }
            c if c.is_alphabetic() || c == '_' => {
                at = find(&chars, at, |c| !(c.is_alphanumeric() || c == '_'));
                let text = chars[begin..at].iter().collect::<String>();
                Some(prefixed_literal(&chars, &text, &mut at).unwrap_or(Kind::Word(text)))
            }
            c => {
                at += 1;
                Some(Kind::Sign(c))
            }
        };
        if let Some(kind) = kind {
            tokens.push(Token { line, kind });
        }
        line += chars[begin..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// The first place from `at` on that `wanted` accepts, or the end.
fn find(chars: &[char], at: usize, wanted: impl Fn(char) -> bool) -> usize {
    (at..chars.len()).find(|here| wanted(chars[*here])).unwrap_or(chars.len())
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut here = at;
    while here < chars.len() {
        match (chars[here], chars.get(here + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                here += 1;
            }
            ('*', Some('/')) => {
                depth -= 1;
                here += 1;
                if depth == 0 {
                    return here + 1;
                }
            }
            _ => {}
        }
        here += 1;
    }
    here
}

/// Behind the quote that ends the string whose content begins at `at`.
fn string_end(chars: &[char], at: usize) -> usize {
    let mut here = at;
    while here < chars.len() && chars[here] != '"' {
        here += if chars[here] == '\\' { 2 } else { 1 };
    }
    (here + 1).min(chars.len())
}

/// A character or a lifetime.
fn quote(chars: &[char], at: &mut usize) -> Kind {
    let escaped = chars.get(*at + 1) == Some(&'\\');
    if !escaped && chars.get(*at + 2) != Some(&'\'') {
        *at = find(chars, *at + 1, |c| !(c.is_alphanumeric() || c == '_'));
        return Kind::Lifetime;
    }
    *at = find(chars, *at + if escaped { 3 } else { 2 }, |c| c == '\'') + 1;
    Kind::Literal
}

/// Raw, byte and C strings, whose prefix looked like a word; a raw word loses its prefix.
fn prefixed_literal(chars: &[char], prefix: &str, at: &mut usize) -> Option<Kind> {
    if !matches!(prefix, "r" | "b" | "c" | "br" | "cr") {
        return None;
    }
    let content = find(chars, *at, |c| c != '#');
    let hashes = content - *at;
    if prefix == "b" && chars.get(*at) == Some(&'\'') {
        quote(chars, at);
        return Some(Kind::Literal);
    }
    if chars.get(content) != Some(&'"') {
        if prefix == "r" && hashes == 1 {
            let end = find(chars, content, |c| !(c.is_alphanumeric() || c == '_'));
            *at = end;
            return Some(Kind::Word(chars[content..end].iter().collect()));
        }
        return None;
    }
    if !prefix.contains('r') {
        *at = string_end(chars, content + 1);
        return Some(Kind::Literal);
    }
    let mut here = content + 1;
    while here < chars.len() {
        let closes = chars[here] == '"'
            && chars[here + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        here += 1;
        if closes {
            break;
        }
    }
    *at = (here + hashes).min(chars.len());
    Some(Kind::Literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Source::parse(text).paths().into_iter().map(|named| named.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_are_unfolded() {
        let text = "use crate::{log::Log, runtime::{self, core::Core as C, *}, types};\npub use super::a::*;";
        let expected = [
            "crate::log::Log",
            "crate::runtime::self",
            "crate::runtime::core::Core",
            "crate::types",
            "super::a",
        ];
        let found = paths(text);
        for path in expected {
            assert!(found.contains(&path.to_string()), "{path} is not in {found:?}");
        }
    }

    #[test]
    fn paths_in_expressions_types_and_macros_count() {
        let text =
            "fn f(x: &crate::mvcc::Head) -> Vec<tokio::Task> { a::<u8>(); assert!(crate::log::ok()); }";
        assert_eq!(paths(text), ["crate::mvcc::Head", "tokio::Task", "crate::log::ok"]);
    }

    #[test]
    fn comments_strings_and_tests_do_not() {
        let text = r##"
            // crate::a::b
            /* crate::a /* nested */ ::b */
            const X: &str = "crate::a::b \" crate::a::c"; const Y: &str = r#"crate::"a::b"#; const Z: char = '"';
            fn f<'a>(x: &'a str) {}
            #[cfg(test)]
            mod tests { use crate::runtime::X; fn g() { crate::a::b() } }
            #[cfg(test)]
            use crate::runtime::Y;
            #[cfg(not(test))]
            use crate::types::Z;
        "##;
        assert_eq!(paths(text), ["crate::types::Z"]);
    }

    #[test]
    fn modules_of_tests_in_other_files_are_known() {
        assert_eq!(Source::parse("#[cfg(test)]\nmod node_tests;\nmod node;").test_modules, ["node_tests"]);
    }

    #[test]
    fn inline_modules_are_known() {
        let named = Source::parse("mod a { mod b { use super::X; } } use super::Y;").paths();
        assert_eq!(named[0].inside, ["a", "b"]);
        assert_eq!(named[1].inside, [""; 0]);
    }

    #[test]
    fn functions_are_measured() {
        let text = "trait T { fn none(&self); }\nfn short() {}\nfn long(x: [u8; 3]) {\n\n if x { }\n}\ntype F = fn(u8);";
        let found = Source::parse(text).functions();
        let found = found.iter().map(|function| (function.name.as_str(), function.lines)).collect::<Vec<_>>();
        assert_eq!(found, [("short", 1), ("long", 4)]);
    }

    #[test]
    fn lines_of_tests_are_not_counted() {
        assert_eq!(Source::parse("fn a() {}\n\n#[cfg(test)]\nmod tests {\n\n}\n").lines, 2);
    }
}
