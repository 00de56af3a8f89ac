//! Calls that may never return, made on a thread of their own.
//!
//! librdkafka may wait for a group's coordinator without end where that broker was forgotten (confluentinc/librdkafka,
//! issue 5511), whatever timeout it is given, and we do not.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A thread that makes one call at a time, and is given up for good with the first that takes too long.
pub(super) struct Aside<J, A> {
    jobs: SyncSender<J>,
    /// None once given up: an answer that comes late is nobody's.
    answers: Mutex<Option<Receiver<A>>>,
}

impl<J: Send + 'static, A: Send + 'static> Aside<J, A> {
    /// Starts it. It ends with this, or never where `act` does not return.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(name: &str, act: impl Fn(J) -> A + Send + 'static) -> std::io::Result<Self> {
        let ((jobs, asked), (answer, answers)) = (sync_channel::<J>(1), sync_channel(1));
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in asked {
                if answer.send(act(job)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs, answers: Mutex::new(Some(answers)) })
    }

    /// The answer to this job; none where there is none within `patience`, and none to any job after that.
    pub(super) fn ask(&self, job: J, patience: Duration) -> Option<A> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = answers.as_ref()?;
        let answer = self.jobs.try_send(job).ok().and_then(|()| waiting.recv_timeout(patience).ok());
        if answer.is_none() {
            *answers = None;
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;

    /// Longer than anything takes here.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn each_job_has_its_answer() {
        let aside = Aside::start("aside", |job: u32| job + 1).unwrap();
        for job in 0..100 {
            assert_eq!(aside.ask(job, LONG), Some(job + 1));
        }
    }

    #[test]
    fn a_call_that_does_not_return_is_given_up_and_its_late_answer_is_nobodys() {
        let (release, held) = sync_channel::<()>(0);
        let (ended, has_ended) = sync_channel::<()>(0);
        let aside = Aside::start("aside", move |job: u32| {
            let _ended = &ended;
            // Returns when the test says so, and not before.
            held.recv().unwrap_err();
            job
        })
        .unwrap();
        assert_eq!(aside.ask(1, Duration::from_millis(10)), None);
        assert_eq!(aside.ask(2, Duration::ZERO), None, "the thread is still in its call");
        drop(release);
        let end = has_ended.recv_timeout(LONG);
        assert_eq!(end, Err(RecvTimeoutError::Disconnected), "the thread ends with the answer that nobody takes");
        assert_eq!(aside.ask(3, LONG), None, "and the answer to the first is not taken for another's");
    }

    #[test]
    fn a_call_that_panics_is_no_answer() {
        let aside = Aside::start("aside", |_: ()| -> u32 { panic!("on purpose") }).unwrap();
        assert_eq!(aside.ask((), LONG), None);
        assert_eq!(aside.ask((), LONG), None);
    }
}
