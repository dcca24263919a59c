//! Turns for callers: when more commands wait than a turn takes, each caller gets its share.

use super::Submission;
use crate::types::CallerId;
use std::collections::{HashMap, VecDeque};

/// Commands that wait, by caller; each caller's in its own order. Bounded by admission.
#[derive(Default)]
pub struct Callers {
    waiting: HashMap<CallerId, VecDeque<Submission>>,
    /// Each caller with something waiting, once; the one in front is next.
    order: VecDeque<CallerId>,
    count: usize,
}

impl Callers {
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Commands of all callers.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Behind everything of the same caller.
    pub fn push(&mut self, submission: Submission) {
        let queue = self.waiting.entry(submission.caller).or_default();
        if queue.is_empty() {
            self.order.push_back(submission.caller);
        }
        queue.push_back(submission);
        self.count += 1;
    }

    /// One of the caller whose turn it is.
    pub fn pop(&mut self) -> Option<Submission> {
        let caller = self.order.pop_front()?;
        let queue = self.waiting.get_mut(&caller)?;
        let submission = queue.pop_front();
        self.count -= usize::from(submission.is_some());
        if queue.is_empty() {
            self.waiting.remove(&caller);
        } else {
            self.order.push_back(caller);
        }
        submission
    }
}
