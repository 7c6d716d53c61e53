//! Answers that are ready at about the same time, in one message.
//!
//! Invariant: an answer waits for others for a bounded time, so one that is slow, or never comes,
//! withholds none.

use std::{future::Future, time::Duration};

use futures::{
    Stream, StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio::time::sleep;

/// The results in the order in which they come: those of the first `wait` together, and so on.
pub fn together<F>(
    pending: FuturesUnordered<F>,
    wait: Duration,
) -> impl Stream<Item = Vec<F::Output>>
where
    F: Future,
{
    stream::unfold(pending, move |mut pending| async move {
        let mut ready = vec![pending.next().await?];
        let over = sleep(wait);
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                next = pending.next() => match next {
                    Some(next) => ready.push(next),
                    None => break,
                },
                () = &mut over => break,
            }
        }
        Some((ready, pending))
    })
}

#[cfg(test)]
mod tests {
    use futures::future::{BoxFuture, FutureExt as _};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_slow_answer_withholds_none() {
        let (slow, comes) = oneshot::channel();
        let answers: FuturesUnordered<BoxFuture<'_, u32>> = FuturesUnordered::new();
        answers.push(async { comes.await.unwrap() }.boxed());
        answers.push(async { 1 }.boxed());
        answers.push(async { 2 }.boxed());
        let messages = together(answers, Duration::from_millis(1));
        tokio::pin!(messages);
        assert_eq!(messages.next().await.map(|first| first.len()), Some(2));
        slow.send(3).unwrap();
        assert_eq!(messages.next().await, Some(vec![3]));
        assert_eq!(messages.next().await, None);
    }

    #[tokio::test]
    async fn what_is_ready_comes_in_one_message() {
        let answers: FuturesUnordered<_> = (0..100).map(|n| async move { n }).collect();
        let messages = together(answers, Duration::from_secs(60));
        tokio::pin!(messages);
        assert_eq!(messages.next().await.map(|all| all.len()), Some(100));
        assert_eq!(messages.next().await, None);
    }
}
