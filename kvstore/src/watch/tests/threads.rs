//! A publisher and readers on threads of their own.

use super::*;
use std::sync::atomic::AtomicBool;
use std::thread;

/// Wakes a parked thread.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn next(session: &Session) -> Delivery {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match session.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(delivery) => return delivery,
            Poll::Pending => thread::park(),
        }
    }
}

/// Reads until the last revision; every `pause` deliveries it sleeps.
fn read_all(session: &Session, last: i64, pause: usize) -> Vec<i64> {
    let (mut seen, mut passed) = (Vec::new(), 0);
    for count in 1.. {
        match next(session) {
            Delivery::Events { events, .. } => {
                seen.extend(events.iter().map(|told| told.event.revision().get()))
            }
            Delivery::Progress { revision, .. } => passed = revision.get(),
            Delivery::Canceled { reason, .. } => panic!("canceled: {reason:?}"),
            Delivery::Created { .. } => {}
        }
        let newest = seen.last().copied().unwrap_or(0);
        if newest >= last {
            return seen;
        }
        assert!(passed == 0 || newest <= last);
        if count % pause == 0 {
            thread::sleep(std::time::Duration::from_micros(300));
        }
    }
    unreachable!("the loop has no end of its own")
}

#[test]
fn nothing_is_lost_or_doubled_between_threads() {
    const LAST: i64 = 4000;
    let limits = WatchLimits {
        ring_bytes: 30_000,
        queue_entries: 8,
        page_events: 20,
        turn_events: 64,
        ..WatchLimits::default()
    };
    let mut world = World::new(limits);
    let hub = world.hub.clone();
    let sessions: Vec<Session> = (0..6).map(|_| hub.session()).collect();
    for session in &sessions {
        session.create(all().from_revision(revision(2))).unwrap();
    }
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = sessions
            .iter()
            .enumerate()
            .map(|(number, session)| {
                scope.spawn(move || read_all(session, LAST, [1, 2, 5, 20, 100, 1000][number]))
            })
            .collect();
        let (hub, stop) = (&hub, &stop);
        let asker = {
            let sessions = &sessions;
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    for session in sessions {
                        session.request_progress();
                    }
                    let passing = hub.session();
                    passing.create(prefix("a")).unwrap();
                    passing.create(all().from_revision(revision(2))).unwrap();
                    let _ = passing.poll_next(&mut Context::from_waker(Waker::noop()));
                    drop(passing);
                    thread::sleep(std::time::Duration::from_micros(500));
                }
            })
        };
        while world.versions.revision() < revision(LAST) {
            for _ in 0..1 + world.versions.revision().get() % 3 {
                world.apply(&[("a", Some("1"))]);
            }
            world.publish();
        }
        // The last publish may have gone a little further than asked.
        for reader in readers {
            let seen = reader.join().unwrap();
            let expected: Vec<i64> = (2..=*seen.last().unwrap()).collect();
            assert_eq!(seen, expected);
        }
        stop.store(true, Ordering::SeqCst);
        asker.join().unwrap();
    });
    drop(sessions);
    let stats = hub.stats();
    assert_eq!((stats.sessions, stats.watchers, stats.intervals), (0, 0, 0));
}

#[tokio::test]
async fn any_runtime_can_wait_for_the_next_delivery() {
    let mut world = World::new(WatchLimits::default());
    let session = Arc::new(world.hub.session());
    session.create(all()).unwrap();
    let reader = tokio::spawn({
        let session = session.clone();
        async move { [show(&session.next().await), show(&session.next().await)] }
    });
    tokio::task::yield_now().await;
    world.put("a", "1");
    assert_eq!(reader.await.unwrap(), ["0 created @1", "0 events @2: +a=1@2"]);
}
