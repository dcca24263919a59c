//! The window through which readers see a keyspace: the last published root, which the writer may take back.
//!
//! As long as a root is shown, a node that the writer changes has to be copied first, with a reference count for each of
//! its places in memory that is likely cold: a tenth of what a put costs. So a writer whose readers mostly share its
//! thread takes the root back before its first change and shows the new one when it publishes. Readers on other threads
//! wait for that, as long as it takes to apply one batch and to hand it to the engine; a root that a reader has already stays as it is, and is copied.

use super::index::Root;
use crate::types::{Error, Result, Revision};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

/// What readers may see; replaced as one, so that a root never meets another root's revision or floor.
pub(super) struct Published {
    pub(super) root: Root,
    pub(super) revision: Revision,
    /// `None`: nothing was ever compacted (not even to revision 0).
    pub(super) floor: Option<Revision>,
    /// The writer failed half way: there is nothing to be seen any more.
    is_lost: bool,
}

impl Published {
    pub(super) fn new(root: Root, revision: Revision, floor: Option<Revision>) -> Self {
        Self { root, revision, floor, is_lost: false }
    }

    /// # Errors
    /// When nothing can be read from it.
    pub(super) fn check(&self) -> Result<()> {
        match self.is_lost {
            false => Ok(()),
            true => Err(Error::Poisoned("the store has failed; its data cannot be read any more".into())),
        }
    }
}

/// See the module's text.
pub(super) struct Window {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// `None` while the writer has it.
    shown: Option<Arc<Published>>,
    /// As of the last publication, whoever has the root.
    revision: Revision,
    floor: Option<Revision>,
}

impl Window {
    pub(super) fn new(published: Published) -> Self {
        let (revision, floor) = (published.revision, published.floor);
        let state = State { shown: Some(Arc::new(published)), revision, floor };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// What is published. Waits while the writer has it, which must therefore never ask.
    pub(super) fn look(&self) -> Arc<Published> {
        let mut state = self.state.lock();
        loop {
            match &state.shown {
                Some(published) => return Arc::clone(published),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// The newest published revision. Never waits.
    pub(super) fn revision(&self) -> Revision {
        self.state.lock().revision
    }

    /// The published floor. Never waits.
    pub(super) fn floor(&self) -> Revision {
        self.state.lock().floor.unwrap_or(Revision::NONE)
    }

    /// Hides the root until the next [`Window::show`], so that its nodes belong to the writer alone, but for those that
    /// a reader has.
    pub(super) fn take_back(&self) {
        let taken = self.state.lock().shown.take();
        drop(taken); // Outside of the lock: it may have been the last one.
    }

    pub(super) fn show(&self, published: Published) {
        let mut state = self.state.lock();
        (state.revision, state.floor) = (published.revision, published.floor);
        let before = state.shown.replace(Arc::new(published));
        drop(state);
        if before.is_none() {
            self.changed.notify_all();
        }
    }

    /// The writer ends. If it has the root, that is half changed: whoever waits for it is told so.
    pub(super) fn close(&self) {
        let state = self.state.lock();
        if state.shown.is_none() {
            let (revision, floor) = (state.revision, state.floor);
            drop(state);
            self.show(Published { root: Root::default(), revision, floor, is_lost: true });
        }
    }
}
