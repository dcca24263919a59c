//! How soon the system lets a thread run.
//!
//! A request passes from thread to thread, and each of them has a few microseconds of work. A system whose cores are
//! busy gives whoever works there a slice of its time first, a millisecond or more: as much as the whole request takes
//! otherwise. Linux (6.12 and newer) lets a thread ask for shorter slices. It gets no more of the processor for
//! it: what it gets comes in smaller portions, and soon after it is woken, before threads with longer slices.

/// What a thread asks the system for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Short turns, soon: for threads that requests pass through.
    Prompt,
    /// The usual turns, and less of a busy processor: for long work that nobody else waits for.
    Patient,
    /// Only what nobody else wants.
    Idle,
}

/// The shortest slice that Linux grants.
const SLICE_NS: u64 = 100_000;

/// How much less long work is worth than what requests pass through (the system's nice value).
const PATIENT_NICENESS: i32 = 5;

impl Pace {
    /// For the calling thread, and those that it starts from now on. Says whether the system agreed; one that refuses
    /// leaves the thread as it was.
    pub fn set(self) -> bool {
        let Some(mut attributes) = attributes() else { return false };
        match self {
            Pace::Prompt => attributes.sched_runtime = SLICE_NS,
            Pace::Patient => {
                attributes.sched_runtime = 0;
                attributes.sched_nice = attributes.sched_nice.saturating_add(PATIENT_NICENESS).min(19);
            }
            Pace::Idle => {
                attributes.sched_runtime = 0;
                attributes.sched_policy = libc::SCHED_IDLE as u32;
            }
        }
        // SAFETY: the structure lives for the call, and says itself how large it is.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
    }
}

/// What the system knows of the calling thread.
fn attributes() -> Option<libc::sched_attr> {
    // SAFETY: all fields are numbers, for which zero is a value.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>();
    attributes.size = size as u32;
    // SAFETY: the structure lives for the call, and the system writes no more of it than it is told.
    let told = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    (told == 0).then_some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pace: Pace) -> (libc::sched_attr, libc::sched_attr) {
        let look = move || {
            let before = attributes().expect("the system tells");
            assert!(pace.set());
            (before, attributes().expect("the system tells"))
        };
        std::thread::spawn(look).join().unwrap()
    }

    #[test]
    fn a_thread_gets_what_it_asks_for() {
        let (before, prompt) = after(Pace::Prompt);
        // An older system tells of no slices.
        let slice_ns = if before.sched_runtime == 0 { 0 } else { SLICE_NS };
        assert_eq!((prompt.sched_runtime, prompt.sched_nice), (slice_ns, before.sched_nice));
        let (before, patient) = after(Pace::Patient);
        assert_eq!(patient.sched_nice, (before.sched_nice + PATIENT_NICENESS).min(19));
        let (before, idle) = after(Pace::Idle);
        assert_eq!(idle.sched_policy, libc::SCHED_IDLE as u32, "it was {}", before.sched_policy);
    }

    /// Long work is done on threads that those of requests start.
    #[test]
    fn who_asks_for_patience_keeps_no_short_turns() {
        let usual = attributes().expect("the system tells").sched_runtime;
        let patient = std::thread::spawn(|| {
            assert!(Pace::Prompt.set());
            std::thread::spawn(|| Pace::Patient.set().then(attributes).flatten()).join().unwrap()
        });
        assert_eq!(patient.join().unwrap().expect("the system tells").sched_runtime, usual);
    }
}
