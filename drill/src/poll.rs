//! Waiting for a condition, with a deadline and words for when it does not come.
//!
//! Invariant: nothing in this crate sleeps instead of waiting for what it needs.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

/// How often a condition is looked at: short beside what is waited for (elections, restarts), long
/// enough that looking costs nothing.
pub const POLL_EVERY: Duration = Duration::from_millis(20);

/// A condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} in vain until {what}; last seen: {last}")]
pub struct TimedOut {
    /// What should have become true.
    pub what: String,
    /// For how long it was waited for.
    pub waited: Duration,
    /// What was seen instead, the last time.
    pub last: String,
}

/// Looks again and again until `look` gives a value, at most `limit`. `look` says in its error
/// what it saw instead.
///
/// # Errors
/// [`TimedOut`] with the last thing seen.
pub async fn until<T, F>(
    what: impl Into<String>,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> Result<T, TimedOut>
where
    F: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + limit;
    let mut last = String::from("nothing: the first look did not return");
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(seen)) => last = seen,
            Err(_elapsed) => {}
        }
        if Instant::now() >= end {
            let what = what.into();
            let waited = limit;
            return Err(TimedOut { what, waited, last });
        }
        sleep(POLL_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_what_it_saw_last() {
        let mut looks = 0;
        let error = until("pigs fly", Duration::from_millis(60), || {
            looks += 1;
            async { Err::<(), _>("a pig on the ground".to_owned()) }
        })
        .await
        .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("pigs fly; last seen: a pig on the ground")
        );
        assert!(looks > 1);
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_at_the_deadline() {
        let look = || std::future::pending::<Result<(), String>>();
        let error = until("it answers", Duration::from_millis(50), look).await;
        assert!(
            error
                .unwrap_err()
                .last
                .contains("first look did not return")
        );
    }
}
