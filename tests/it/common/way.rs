//! An address on the way to a server, which a test opens and closes.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::eventually;

/// An address that refuses connections, then accepts them in vain, then leads to a server.
pub(crate) struct Way {
    socket: Option<TcpSocket>,
    pub(crate) address: String,
    vain: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
}

impl Way {
    pub(crate) fn refusing() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        Self { socket: Some(socket), address, vain: Arc::default(), open: Arc::default() }
    }

    /// Accepts connections; until opened, each gets this reply, or is cut at once.
    pub(crate) fn accept(&mut self, reply: Option<&'static [u8]>, to: &str) {
        let listener = self.socket.take().unwrap().listen(64).unwrap();
        tokio::spawn(forward(listener, reply, to.to_owned(), Arc::clone(&self.vain), Arc::clone(&self.open)));
    }

    /// Waits until so many connections were tried in vain.
    pub(crate) async fn tried(&self, times: usize) {
        eventually("connections tried", || self.vain.load(Ordering::Acquire) >= times).await;
    }

    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Cuts what goes through, and lets nothing through any more.
    pub(crate) fn close(&self) {
        self.open.store(false, Ordering::Release);
    }
}

async fn forward(
    listener: TcpListener,
    reply: Option<&'static [u8]>,
    to: String,
    vain: Arc<AtomicUsize>,
    open: Arc<AtomicBool>,
) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (open, vain, to) = (Arc::clone(&open), Arc::clone(&vain), to.clone());
        tokio::spawn(async move {
            if open.load(Ordering::Acquire) {
                let mut server = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut stream, &mut server) => {}
                    () = closed(&open) => {}
                }
                return;
            }
            vain.fetch_add(1, Ordering::AcqRel);
            if let Some(reply) = reply {
                let mut request = [0; 4096];
                drop(stream.read(&mut request).await);
                drop(stream.write_all(reply).await);
                // What is left unread would turn the end of the connection into a reset.
                while stream.read(&mut request).await.is_ok_and(|n| n > 0) {}
            }
        });
    }
}

async fn closed(open: &AtomicBool) {
    while open.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
