//! HTTP/1.1 connections, each bounded in time, header bytes and number, so that slow clients harm nobody.

use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Clients served at a time; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
/// A request's whole header, and the silence between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// After this a connection finishes the request it is at and closes.
const LIFE: Duration = Duration::from_secs(60);
/// What the last request gets; who still does not take its answer is cut off.
const FAREWELL: Duration = Duration::from_secs(10);
/// Bytes of a request's header. Bodies are not read at all: nothing here takes one.
const HEADER_BYTES_MAX: usize = 16 * 1_024;
/// Scrapes that may ask the shards at a time.
const BLOCKING_THREADS_MAX: usize = 2;
/// How long accepting rests when no descriptor is left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Serves on a thread of its own, for the life of the process.
pub(super) fn spawn(listener: TcpListener, router: Router) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("tidegate-scrape")
        .build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    std::thread::Builder::new()
        .name("tidegate-admin".to_owned())
        .spawn(move || runtime.block_on(accept(listener, router)))?;
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, router: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = slots
            .clone()
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((socket, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    serve(socket, router).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "admin: a connection could not be accepted");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, router: Router) {
    let mut connection = pin!(http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router)));
    let mut ended = tokio::time::timeout(LIFE, connection.as_mut()).await;
    if ended.is_err() {
        connection.as_mut().graceful_shutdown();
        ended = tokio::time::timeout(FAREWELL, connection).await;
    }
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin: a connection ended early"),
        Err(_) => tracing::debug!("admin: a connection was too slow"),
    }
}
