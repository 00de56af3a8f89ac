//! Clients that are done with.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How long the usual end of a client may take.
const USUAL: Duration = Duration::from_secs(2);

/// Drops clients. Their threads are waited for, as long as that takes no longer than usual: those of a client that lost
/// its brokers may wait for them for a minute. Nothing of ours depends on it, as whatever such a client could still say
/// is fenced.
pub fn retire<T: Send + 'static>(clients: T) {
    let (done, heard) = sync_channel(1);
    let dropping = std::thread::Builder::new().name("kafka-retire".to_owned()).spawn(move || {
        drop(clients);
        // Nobody hears it any more where it took long.
        let _unheard = done.send(());
    });
    // Without a thread the clients were dropped here.
    if dropping.is_ok() && heard.recv_timeout(USUAL) == Err(RecvTimeoutError::Timeout) {
        tracing::warn!("a Kafka client that lost its brokers takes long to end; it is not waited for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_soon_is_waited_for_and_nothing_for_long() {
        struct Ends(std::sync::mpsc::Receiver<()>, std::sync::mpsc::SyncSender<()>);
        impl Drop for Ends {
            fn drop(&mut self) {
                let _ended = self.0.recv();
                let _unheard = self.1.send(());
            }
        }
        let ((end, ends), (ended, has_ended)) = (sync_channel(1), sync_channel(1));
        end.send(()).unwrap();
        retire(Ends(ends, ended));
        assert!(has_ended.try_recv().is_ok());

        let ((end, ends), (ended, has_ended)) = (sync_channel::<()>(1), sync_channel(1));
        retire(Ends(ends, ended));
        assert!(has_ended.try_recv().is_err());
        drop(end);
        assert!(has_ended.recv().is_ok());
    }
}
