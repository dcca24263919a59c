//! Three replies to one command: what is wrong with them.

use super::script::Step;
use std::fmt::Write;

/// Compares etcd's reply (if there is an etcd), ours, and what is written. `None`: all is as it should be.
pub fn judge(step: &Step, etcd: Option<&[String]>, ours: &[String]) -> Option<String> {
    let mut faults = String::new();
    if let Some(etcd) = etcd
        && etcd != step.recorded
    {
        let _ = writeln!(faults, "etcd answers otherwise than written (BLESS=1 writes what it answers):");
        difference(&mut faults, "written", &step.recorded, "etcd", etcd);
    }
    let standard = etcd.unwrap_or(&step.recorded);
    match &step.differs {
        None if ours != standard => {
            let _ = writeln!(faults, "we answer otherwise than etcd:");
            difference(&mut faults, "etcd", standard, "ours", ours);
        }
        Some(differs) if ours == standard => {
            let _ = writeln!(faults, "we do not differ, although \"{}\"", differs.reason);
        }
        Some(differs) if differs.reason.is_empty() => {
            let _ = writeln!(faults, "'differs:' says no reason");
        }
        Some(differs) if ours != differs.reply => {
            let _ = writeln!(faults, "we differ otherwise than written:");
            difference(&mut faults, "written", &differs.reply, "ours", ours);
        }
        _ => {}
    }
    (!faults.is_empty()).then_some(faults)
}

fn difference(out: &mut String, left_name: &str, left: &[String], right_name: &str, right: &[String]) {
    let width = left_name.len().max(right_name.len());
    let same_start = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let rest = left.len().min(right.len()) - same_start;
    let same_end = left
        .iter()
        .rev()
        .zip(right.iter().rev())
        .take(rest)
        .take_while(|(left, right)| left == right)
        .count();
    for (name, lines) in [(left_name, left), (right_name, right)] {
        let differing = &lines[same_start..lines.len() - same_end];
        if differing.is_empty() {
            let _ = writeln!(out, "  {name:>width$} has nothing there");
        }
        for line in differing {
            let _ = writeln!(out, "  {name:>width$} | {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::script::Differs;

    fn reply(text: &str) -> Vec<String> {
        text.lines().map(str::to_string).collect()
    }

    fn step(recorded: &str, differs: Option<(&str, &str)>) -> Step {
        let differs =
            differs.map(|(reason, ours)| Differs { reason: reason.to_string(), reply: reply(ours) });
        Step { recorded: reply(recorded), differs, ..Step::default() }
    }

    #[test]
    fn every_pair_is_compared() {
        let plain = step("a\nb", None);
        assert_eq!(judge(&plain, Some(&reply("a\nb")), &reply("a\nb")), None);
        assert_eq!(judge(&plain, None, &reply("a\nb")), None);
        let fault = judge(&plain, Some(&reply("a\nb")), &reply("a\nc")).unwrap();
        assert!(
            fault.contains("etcd | b") && fault.contains("ours | c") && !fault.contains("| a"),
            "{fault}"
        );
        assert!(judge(&plain, None, &reply("a")).unwrap().contains("ours has nothing"));
        // etcd and we agree, but the file says something else.
        assert!(judge(&plain, Some(&reply("x")), &reply("x")).unwrap().contains("than written"));
    }

    #[test]
    fn a_difference_has_to_be_the_written_one() {
        let differing = step("a", Some(("why", "b")));
        assert_eq!(judge(&differing, Some(&reply("a")), &reply("b")), None);
        assert!(judge(&differing, Some(&reply("a")), &reply("a")).unwrap().contains("do not differ"));
        assert!(
            judge(&differing, Some(&reply("a")), &reply("c")).unwrap().contains("otherwise than written")
        );
        let silent = step("a", Some(("", "b")));
        assert!(judge(&silent, Some(&reply("a")), &reply("b")).unwrap().contains("no reason"));
    }
}
