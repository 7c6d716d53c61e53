//! Health checks and metrics over HTTP.
//!
//! Invariant: no answer waits for a quorum, a peer or the disk.

use std::sync::Arc;

use axum::{
    Router as Routes,
    extract::State,
    http::{HeaderName, StatusCode, header},
    routing::get,
};
use tokio_util::sync::CancellationToken;

use crate::{
    entry::Entry,
    metrics,
    storage::{STORAGE_STOPPED, Storage},
    transport::Acceptor,
};

#[derive(Clone)]
struct Sources {
    entry: Entry,
    storage: Arc<Storage>,
}

/// Serves until cancelled.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: Acceptor,
    entry: Entry,
    storage: Arc<Storage>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let routes = Routes::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(measured))
        .with_state(Sources { entry, storage });
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// Serves while the storage cannot be opened, until cancelled: alive, and not ready for the reason given.
///
/// # Errors
/// If the listener fails.
pub async fn serve_waiting(
    listener: Acceptor,
    reason: String,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let not_ready = move || {
        let words = format!("{reason}\n");
        async move { (StatusCode::SERVICE_UNAVAILABLE, words) }
    };
    let routes = Routes::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(not_ready));
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// Alive: this very answer shows that the process makes progress, and its writer can take work.
async fn alive(State(sources): State<Sources>) -> (StatusCode, String) {
    if !sources.storage.has_stopped() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{STORAGE_STOPPED}\n"),
        )
    }
}

async fn ready(State(sources): State<Sources>) -> (StatusCode, String) {
    match sources.entry.ready() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")),
    }
}

async fn measured(State(sources): State<Sources>) -> ([(HeaderName, &'static str); 1], String) {
    let router = sources.entry.router().ok();
    let text = metrics::get().render(router.as_deref(), &sources.storage);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text)
}
