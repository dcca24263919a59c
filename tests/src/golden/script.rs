//! A script as data, and its file.

use std::fs;
use std::path::{Path, PathBuf};

/// What begins a line of a reply.
const REPLY: &str = "| ";
/// What begins the reason why our reply is another.
const DIFFERS: &str = "differs:";
/// What begins the line of flags for both servers.
const FLAGS: &str = "flags:";

/// One golden script.
pub struct Script {
    pub path: PathBuf,
    /// Its first line, without the `#`.
    pub title: String,
    pub flags: Vec<String>,
    items: Vec<Item>,
}

enum Item {
    /// Comments, blank lines, flags: kept as they are.
    Text(String),
    Step(Step),
}

/// A command and what it gives.
#[derive(Clone, Default)]
pub struct Step {
    /// The number of its first line.
    pub line: usize,
    pub command: String,
    /// Etcd's reply.
    pub recorded: Vec<String>,
    pub differs: Option<Differs>,
}

/// A reply of ours that is not etcd's, on purpose.
#[derive(Clone)]
pub struct Differs {
    pub reason: String,
    pub reply: Vec<String>,
}

impl Script {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn read(path: &Path) -> Result<Script, String> {
        let text = fs::read_to_string(path).map_err(|fault| format!("{}: {fault}", path.display()))?;
        Script::parse(path, &text).map_err(|fault| format!("{}: {fault}", path.display()))
    }

    fn parse(path: &Path, text: &str) -> Result<Script, String> {
        let title = text.lines().next().and_then(|line| line.strip_prefix("# "));
        let title = title.ok_or("the first line is not '# TITLE'")?.to_string();
        let mut script = Script { path: path.to_path_buf(), title, flags: Vec::new(), items: Vec::new() };
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let at = |fault: &str| format!("line {}: {fault}", number + 1);
            if line.trim().is_empty() || line.starts_with('#') {
                script.items.push(Item::Text(line.to_string()));
            } else if let Some(flags) = line.strip_prefix(FLAGS) {
                script.flags.extend(flags.split_whitespace().map(str::to_string));
                script.items.push(Item::Text(line.to_string()));
            } else if let Some(reply) = reply_line(line) {
                let step = script.last_step().ok_or_else(|| at("a reply without a command"))?;
                match &mut step.differs {
                    Some(differs) => differs.reply.push(reply.to_string()),
                    None => step.recorded.push(reply.to_string()),
                }
            } else if let Some(reason) = line.strip_prefix(DIFFERS) {
                let step = script.last_step().ok_or_else(|| at("'differs:' without a command"))?;
                let reason = reason.trim().to_string();
                step.differs = Some(Differs { reason, reply: Vec::new() });
            } else {
                let mut command = line.to_string();
                while depth(&command) > 0 {
                    let (_, more) = lines.next().ok_or_else(|| at("a command without its end"))?;
                    command = format!("{command}\n{more}");
                }
                script.items.push(Item::Step(Step { line: number + 1, command, ..Step::default() }));
            }
        }
        Ok(script)
    }

    /// The steps in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.items.iter().filter_map(|item| match item {
            Item::Step(step) => Some(step),
            Item::Text(_) => None,
        })
    }

    /// Writes the file again with these replies as the recorded ones. Says whether anything changed.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn bless(&mut self, replies: &[Vec<String>]) -> Result<bool, String> {
        let before = self.text();
        let steps = self.items.iter_mut().filter_map(|item| match item {
            Item::Step(step) => Some(step),
            Item::Text(_) => None,
        });
        for (step, reply) in steps.zip(replies) {
            step.recorded = reply.clone();
        }
        let after = self.text();
        fs::write(&self.path, &after).map_err(|fault| format!("{}: {fault}", self.path.display()))?;
        Ok(before != after)
    }

    fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |text: &str| {
            out.push_str(text.trim_end());
            out.push('\n');
        };
        for item in &self.items {
            match item {
                Item::Text(text) => line(text),
                Item::Step(step) => {
                    line(&step.command);
                    step.recorded.iter().for_each(|reply| line(&format!("{REPLY}{reply}")));
                    if let Some(differs) = &step.differs {
                        line(&format!("{DIFFERS} {}", differs.reason));
                        differs.reply.iter().for_each(|reply| line(&format!("{REPLY}{reply}")));
                    }
                }
            }
        }
        out
    }

    fn last_step(&mut self) -> Option<&mut Step> {
        match self.items.last_mut() {
            Some(Item::Step(step)) => Some(step),
            _ => None,
        }
    }
}

/// What follows `| `; an empty line of a reply is a bare `|`.
fn reply_line(line: &str) -> Option<&str> {
    line.strip_prefix(REPLY).or_else(|| (line == REPLY.trim_end()).then_some(""))
}

/// Braces that are still open.
fn depth(command: &str) -> i64 {
    command.chars().map(|letter| i64::from(letter == '{') - i64::from(letter == '}')).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# A title\n\nflags: --a --b=1\n# Why.\nKV.Put { key: \"a\" }\n| one\n| two\n\
        differs: because\n| three\n\nKV.Txn {\n  success {}\n}\n| four\n";

    #[test]
    fn a_file_is_read_and_written_as_it_was() {
        let script = Script::parse(Path::new("x"), TEXT).unwrap();
        assert_eq!(script.text(), TEXT);
        assert_eq!(script.title, "A title");
        assert_eq!(script.flags, ["--a", "--b=1"]);
        let steps: Vec<_> = script.steps().collect();
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[0].line, 5);
        assert_eq!(steps[0].recorded, ["one", "two"]);
        assert_eq!(steps[0].differs.as_ref().unwrap().reply, ["three"]);
        assert_eq!(steps[1].command, "KV.Txn {\n  success {}\n}");
        assert_eq!(steps[1].recorded, ["four"]);
    }

    #[test]
    fn faults_name_their_line() {
        for (text, wanted) in [
            ("KV.Put {}", "first line"),
            ("# T\n| reply", "line 2"),
            ("# T\nKV.Put {\n", "line 2"),
            ("# T\ndiffers: x", "line 2"),
        ] {
            let fault = Script::parse(Path::new("x"), text).err().unwrap();
            assert!(fault.contains(wanted), "{fault}");
        }
    }
}
