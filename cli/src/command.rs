//! The commands, one a file.

pub(crate) mod backup;
pub(crate) mod barrier;
pub(crate) mod completions;
pub(crate) mod deadlocks;
pub(crate) mod elect;
pub(crate) mod leader;
pub(crate) mod lock;
pub(crate) mod node;
pub(crate) mod recover;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod status;
pub(crate) mod version;
mod wait;
pub(crate) mod watch;

use lockstep_client::{Page, RequestError};

/// Rows asked for at once: the most that the cluster gives.
const PAGE_ROWS: u32 = 1_000;

/// Reads pages until there are `limit` rows or no more. Whether there are more.
async fn collect<T, F>(
    limit: u32,
    page: impl Fn(u32, String) -> F,
) -> Result<(Vec<T>, bool), RequestError>
where
    F: Future<Output = Result<Page<T>, RequestError>>,
{
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    let mut token = String::new();
    loop {
        let left = u32::try_from(limit.saturating_sub(rows.len())).unwrap_or(u32::MAX);
        let next = page(left.min(PAGE_ROWS), token).await?;
        rows.extend(next.items);
        match next.next_page_token {
            Some(_) if rows.len() >= limit => return Ok((rows, true)),
            Some(next) => token = next,
            None => return Ok((rows, false)),
        }
    }
}
