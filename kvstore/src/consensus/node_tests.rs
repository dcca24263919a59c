//! The group of one, and three members over a perfect network, driven by hand.

use super::*;
use crate::types::EntryKind;
use bytes::Bytes;

fn config(id: u64) -> NodeConfig {
    NodeConfig {
        node_id: NodeId::new(id),
        election_ticks: 10,
        election_jitter_ticks: id as usize,
        heartbeat_ticks: 1,
    }
}

fn fresh(id: u64, voters: &[u64]) -> Node {
    let restored = Restored {
        applied: (LogIndex::NONE, Term::default()),
        hard_state: HardState::default(),
        entries: vec![],
        voters: voters.iter().map(|id| NodeId::new(*id)).collect(),
    };
    Node::new(&config(id), restored).unwrap()
}

/// Runs effects with a disk that always succeeds; gives what was committed and written.
fn settle(
    node: &mut Node,
    mut effects: Effects,
    log: &mut Vec<LogEntry>,
    hard: &mut HardState,
) -> Vec<LogEntry> {
    let mut committed = vec![];
    loop {
        committed.extend(std::mem::take(&mut effects.commit));
        effects = if let Some(persist) = effects.persist.take() {
            log.extend(persist.entries);
            *hard = persist.hard_state.unwrap_or(*hard);
            node.step(Input::Persisted(persist.number))
        } else if let Some(last) = committed.last().filter(|entry| entry.index > node.applied) {
            node.step(Input::Applied(last.index))
        } else {
            return committed;
        };
    }
}

#[test]
fn a_group_of_one_commits_only_what_was_persisted() {
    let mut node = fresh(1, &[1]);
    let (mut log, mut hard) = (vec![], HardState::default());
    let effects = node.step(Input::Campaign);
    settle(&mut node, effects, &mut log, &mut hard);
    assert!(node.is_leading());
    assert_eq!(node.role().local_reads_from, Some(LogIndex::new(1)));

    let effects = node.step(Input::Propose(vec![Bytes::from_static(b"one")]));
    assert!(effects.commit.is_empty(), "not durable yet");
    let persist = effects.persist.as_ref().unwrap();
    assert_eq!(persist.entries.len(), 1);
    let committed = settle(&mut node, effects, &mut log, &mut hard);
    assert_eq!(committed.iter().map(|e| e.data.clone()).collect::<Vec<_>>(), [Bytes::from_static(b"one")]);
    assert_eq!(committed[0].kind, EntryKind::Normal);
}

#[test]
fn a_restart_commits_the_durable_tail() {
    let mut node = fresh(1, &[1]);
    let (mut log, mut hard) = (vec![], HardState::default());
    let effects = node.step(Input::Campaign);
    settle(&mut node, effects, &mut log, &mut hard);
    for data in [&b"a"[..], b"b", b"c"] {
        let effects = node.step(Input::Propose(vec![Bytes::from_static(data)]));
        settle(&mut node, effects, &mut log, &mut hard);
    }
    // The state had flushed up to entry 2 ("a") only.
    let restored = Restored {
        applied: (LogIndex::new(2), Term::new(1)),
        hard_state: hard,
        entries: log[2..].to_vec(),
        voters: vec![NodeId::new(1)],
    };
    let mut node = Node::new(&config(1), restored).unwrap();
    let effects = node.step(Input::Campaign);
    let committed = settle(&mut node, effects, &mut vec![], &mut HardState::default());
    let data: Vec<_> = committed.iter().map(|e| e.data.clone()).collect();
    assert_eq!(data, [Bytes::from_static(b"b"), Bytes::from_static(b"c"), Bytes::new()]);
    assert_eq!(node.role().term, Term::new(2));
}

#[test]
fn a_log_that_ends_before_its_commit_is_refused() {
    let restored = Restored {
        applied: (LogIndex::new(2), Term::new(1)),
        hard_state: HardState { term: Term::new(1), vote: NodeId::new(1), commit: LogIndex::new(5) },
        entries: vec![],
        voters: vec![NodeId::new(1)],
    };
    assert!(Node::new(&config(1), restored).is_err_and(|text| text.contains("end is missing")));
}

#[test]
fn a_follower_refuses_proposals() {
    let mut node = fresh(1, &[1, 2, 3]);
    let effects = node.step(Input::Propose(vec![Bytes::from_static(b"x")]));
    assert_eq!(effects.refused, Some(ProposeRefused::NotLeader { leader: None }));
}

#[test]
fn three_members_agree() {
    let mut nodes: Vec<Node> = (1..=3).map(|id| fresh(id, &[1, 2, 3])).collect();
    let mut committed: Vec<Vec<Bytes>> = vec![vec![]; 3];
    let mut mail: VecDeque<Message> = VecDeque::new();
    let mut run = |nodes: &mut Vec<Node>, mail: &mut VecDeque<Message>, at: usize, input: Input| {
        let mut effects = nodes[at].step(input);
        loop {
            mail.extend(std::mem::take(&mut effects.send));
            let entries = std::mem::take(&mut effects.commit);
            committed[at].extend(entries.iter().map(|e| e.data.clone()).filter(|data| !data.is_empty()));
            effects = if let Some(persist) = effects.persist.take() {
                nodes[at].step(Input::Persisted(persist.number))
            } else if let Some(last) = entries.last() {
                nodes[at].step(Input::Applied(last.index))
            } else {
                break;
            };
        }
    };
    run(&mut nodes, &mut mail, 0, Input::Campaign);
    while let Some(message) = mail.pop_front() {
        run(&mut nodes, &mut mail, message.to as usize - 1, Input::Message(Box::new(message)));
    }
    assert!(nodes[0].is_leading());
    assert_eq!(nodes[0].role().local_reads_from, None, "reads need a quorum here");
    for n in 0..20u8 {
        run(&mut nodes, &mut mail, 0, Input::Propose(vec![Bytes::copy_from_slice(&[n])]));
    }
    for _ in 0..3 {
        while let Some(message) = mail.pop_front() {
            run(&mut nodes, &mut mail, message.to as usize - 1, Input::Message(Box::new(message)));
        }
        run(&mut nodes, &mut mail, 0, Input::Tick);
    }
    let expected: Vec<Bytes> = (0..20u8).map(|n| Bytes::copy_from_slice(&[n])).collect();
    assert!(committed.iter().all(|data| *data == expected), "{committed:?}");
}
