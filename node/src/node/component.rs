//! The parts of a node that run from its start to its stop.
//!
//! Invariant: a node never goes on without one of them. If one ends, by a panic too, the node stops in
//! order and says which, so that whoever supervises the process starts it anew: a node that lacks a part
//! would look well and not do its work.

use std::{future::Future, panic::AssertUnwindSafe};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::task::JoinError;

/// A part by its name; an error if it panics. Boxed, because the parts are large futures.
pub(super) fn component(
    name: &'static str,
    part: impl Future<Output = ()> + Send + 'static,
) -> BoxFuture<'static, anyhow::Result<()>> {
    let part = AssertUnwindSafe(part.boxed()).catch_unwind();
    let ends = async move {
        match part.await {
            Ok(()) => anyhow::bail!("{name} ended"),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let words = text.or_else(|| panic.downcast_ref::<&str>().copied());
                anyhow::bail!("{name} panicked: {}", words.unwrap_or("no words"))
            }
        }
    };
    ends.boxed()
}

/// Why the node cannot go on: what is told of a part, or a listener, that ended by itself.
pub(super) fn what_ended(ended: Result<anyhow::Result<()>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Err(error)) => error.context("a part of the node failed"),
        Ok(Ok(())) => anyhow::anyhow!("a part of the node ended"),
        Err(error) => anyhow::Error::new(error).context("a part of the node failed"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_or_panics_is_named() {
        let mut parts = JoinSet::new();
        parts.spawn(component("the first", async {}));
        let ended = parts.join_next().await.unwrap();
        assert!(format!("{:#}", what_ended(ended)).contains("the first ended"));
        parts.spawn(component("the second", async { panic!("on purpose") }));
        let ended = parts.join_next().await.unwrap();
        let words = format!("{:#}", what_ended(ended));
        assert!(words.contains("the second panicked: on purpose"), "{words}");
    }
}
