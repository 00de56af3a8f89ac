//! Connections: a server of our own, since only below the framework can one be cut without an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::SandboxError;

/// Open connections; beyond it none is accepted.
const MAX_CONNECTIONS: usize = 4_096;
/// A client that takes longer for its head is broken.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// For what is under way at the end.
const SHUTDOWN: Duration = Duration::from_secs(5);
/// Without a wait, a lack of file descriptors would keep the loop spinning.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// In a response's extensions: the connection is cut in its place.
#[derive(Clone, Copy)]
pub(super) struct Cut;

#[derive(Debug, thiserror::Error)]
#[error("the connection was cut by order")]
struct CutByOrder;

pub(super) async fn serve(
    listen: SocketAddr,
    router: Router,
    stop: CancellationToken,
    bound: impl FnOnce(SocketAddr),
) -> Result<(), SandboxError> {
    let failed = |error| SandboxError::Listen { listen, error };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    bound(listener.local_addr().map_err(failed)?);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME);
    builder.http2().timer(TokioTimer::new());
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "sandbox: cannot accept a connection");
                sleep(AFTER_ACCEPT_ERROR).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = service.call(request);
            async move { answer.await.map_err(|_| CutByOrder).and_then(unless_cut) }
        });
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned());
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "sandbox: a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    // Whoever is not done by then is cut: the set goes, and its tasks with it.
    drop(timeout(SHUTDOWN, graceful.shutdown()).await);
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small and awaited: holding them back for more would only cost time.
    let _ = stream.set_nodelay(true);
    Ok((stream, place))
}

fn unless_cut(response: Response<Body>) -> Result<Response<Body>, CutByOrder> {
    if response.extensions().get::<Cut>().is_some() { Err(CutByOrder) } else { Ok(response) }
}
