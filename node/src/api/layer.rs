//! The layer that sees every call from a client: counts it, times it, and bounds how many run at once.
//!
//! Invariant: a call that is refused here has cost nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use futures::future::BoxFuture;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::error::Fault;

/// Calls that may wait for their answer at once on a node: each costs memory. Streams count until
/// they are open; how many of those a connection may have is bounded at the door.
pub const MAX_CALLS: usize = 65_536;

/// Makes [`Seen`] services.
#[derive(Clone, Default)]
pub struct CallLayer {
    running: Arc<AtomicUsize>,
}

impl<S> Layer<S> for CallLayer {
    type Service = Seen<S>;

    fn layer(&self, inner: S) -> Seen<S> {
        Seen {
            inner,
            running: Arc::clone(&self.running),
        }
    }
}

/// A service whose calls are seen.
#[derive(Clone)]
pub struct Seen<S> {
    inner: S,
    running: Arc<AtomicUsize>,
}

/// Counts a running call for as long as it lives.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Service<http::Request<Body>> for Seen<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let running = Running(Arc::clone(&self.running));
        if self.running.fetch_add(1, Ordering::Relaxed) >= MAX_CALLS {
            let status: Status = Fault::unavailable(
                "OVERLOADED",
                format!("{MAX_CALLS} calls are running on this node: try another, or later"),
            )
            .into();
            return Box::pin(async move {
                drop(running);
                Ok(status.into_http())
            });
        }
        // The service that was polled ready must be the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let method = request.uri().path().trim_start_matches('/').to_owned();
            let began = Instant::now();
            let response = inner.call(request).await.map(blame_the_caller);
            if let Ok(response) = &response {
                let code = response
                    .headers()
                    .get("grpc-status")
                    .map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
                // Anyone can invent paths; metrics have a series only for methods that exist.
                let known = if code == Code::Unimplemented {
                    "unknown"
                } else {
                    &method
                };
                crate::metrics::get().call(known, code, began.elapsed().as_secs_f64());
                if code != Code::Ok {
                    tracing::debug!(method, ?code, "call refused");
                }
            }
            drop(running);
            response
        })
    }
}

/// Replaces the answer to bytes that are no message.
fn blame_the_caller(response: http::Response<Body>) -> http::Response<Body> {
    let fault = Status::from_header_map(response.headers())
        .filter(|status| status.code() == Code::Internal)
        .and_then(|status| Fault::undecodable(status.message()));
    match fault {
        Some(fault) => Status::from(fault).into_http(),
        None => response,
    }
}
