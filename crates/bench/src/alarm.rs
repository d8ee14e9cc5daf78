//! Waiting to some microseconds: the timers of the runtime count in milliseconds, which would make every
//! service time longer by half of one. A thread of its own waits for whoever wants to be woken.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::monotonic_ns;

/// Alarms that the thread has not looked at yet; whoever sets one more waits until it has.
const MOST_UNSEEN: usize = 4096;

/// The thread. It ends with the last of these.
#[derive(Clone, Debug)]
pub(crate) struct Alarms(mpsc::SyncSender<Alarm>);

#[derive(Debug)]
struct Alarm {
    at_ns: u64,
    wakes: oneshot::Sender<()>,
}

impl Alarms {
    pub(crate) fn start() -> io::Result<Self> {
        let (set, set_by_others) = mpsc::sync_channel(MOST_UNSEEN);
        let thread = thread::Builder::new().name("alarms".into());
        thread.spawn(move || attend(&set_by_others))?;
        Ok(Self(set))
    }

    /// Waits until an instant on the monotonic clock; not at all where it has passed.
    pub(crate) async fn until(&self, at_ns: u64) {
        if at_ns <= monotonic_ns() {
            return;
        }
        let (wakes, is_time) = oneshot::channel();
        // The thread is there as long as this is.
        let _sent = self.0.send(Alarm { at_ns, wakes });
        let _woken = is_time.await;
    }
}

fn attend(set: &mpsc::Receiver<Alarm>) {
    // Else the kernel may wait 50 us longer, to wake several at once (prctl(2), PR_SET_TIMERSLACK).
    let _without = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut alarms = BinaryHeap::new();
    loop {
        let next = alarms.peek().map(|Reverse(alarm): &Reverse<Alarm>| {
            Duration::from_nanos(alarm.at_ns.saturating_sub(monotonic_ns()))
        });
        match set.recv_timeout(next.unwrap_or(Duration::MAX)) {
            Ok(alarm) => alarms.push(Reverse(alarm)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let now_ns = monotonic_ns();
        while alarms.peek().is_some_and(|it| it.0.at_ns <= now_ns) {
            if let Some(Reverse(alarm)) = alarms.pop() {
                // Who does not wait any more need not be woken.
                let _gone = alarm.wakes.send(());
            }
        }
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at_ns.cmp(&other.at_ns)
    }
}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        self.at_ns == other.at_ns
    }
}

impl Eq for Alarm {}

/// So many nanoseconds of a time; what does not fit is the most there are.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_over_before_its_time_and_all_in_order() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let alarms = Alarms::start().unwrap();
        runtime.unwrap().block_on(async {
            alarms.until(0).await;
            let now_ns = monotonic_ns();
            let (late, early) = (now_ns + 2_000_000, now_ns + 300_000);
            let mut woken = Vec::new();
            let later = async {
                alarms.until(late).await;
                monotonic_ns()
            };
            let earlier = async {
                alarms.until(early).await;
                monotonic_ns()
            };
            let (later, earlier) = tokio::join!(later, earlier);
            woken.extend([earlier, later]);
            assert!(woken[0] >= early && woken[1] >= late, "{woken:?}");
        });
    }
}
