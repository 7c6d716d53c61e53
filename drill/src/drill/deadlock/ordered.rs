//! Many acquisitions that can never come round: everybody takes locks in the same order.
//!
//! Invariant: whoever gives way here does so without a reason.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use lockstep_client::{AcquireError, Client, ClientConfig, Mode, SessionOptions};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::task::JoinSet;

/// Locks that all contend for: few, so that nearly everybody waits.
const LOCKS: u32 = 64;
/// Most locks that one holds at a time.
const MOST: u32 = 4;
/// One owner a session: what it holds and what it waits for belong together.
const OWNER: &str = "party";

/// What came of it.
#[derive(Default)]
pub(super) struct Went {
    pub(super) granted: u64,
    pub(super) victims: u64,
}

#[derive(Default)]
struct Counts {
    granted: AtomicU64,
    victims: AtomicU64,
}

/// Makes so many acquisitions by so many clients.
pub(super) async fn ordered(
    endpoints: &[String],
    clients: usize,
    wanted: u64,
    rng: &mut StdRng,
) -> anyhow::Result<Went> {
    let client = Client::connect(ClientConfig::new(endpoints.to_vec())).await?;
    let counts = Arc::new(Counts::default());
    let mut going = JoinSet::new();
    for _ in 0..clients {
        let (client, counts) = (client.clone(), Arc::clone(&counts));
        let rng = StdRng::from_rng(rng);
        going.spawn(go(client, counts, wanted, rng));
    }
    while let Some(gone) = going.join_next().await {
        gone??;
    }
    Ok(Went {
        granted: counts.granted.load(Ordering::Relaxed),
        victims: counts.victims.load(Ordering::Relaxed),
    })
}

async fn go(
    client: Client,
    counts: Arc<Counts>,
    wanted: u64,
    mut rng: StdRng,
) -> anyhow::Result<()> {
    let session = client.open_session(SessionOptions::default()).await?;
    while counts.granted.load(Ordering::Relaxed) < wanted {
        let mut held = Vec::new();
        let mut number = rng.random_range(0..LOCKS / MOST);
        for _ in 0..rng.random_range(1..=MOST) {
            let mode = if rng.random_ratio(1, 3) {
                Mode::Exclusive
            } else {
                Mode::Shared
            };
            let name = format!("ordered/{number:03}");
            match session.lock(name).mode(mode).owner(OWNER).acquire().await {
                Ok(guard) => {
                    counts.granted.fetch_add(1, Ordering::Relaxed);
                    held.push(guard);
                }
                Err(AcquireError::Deadlock { .. }) => {
                    counts.victims.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            number += rng.random_range(1..=LOCKS / MOST);
        }
        for guard in held {
            guard.release().await?;
        }
    }
    session.close().await?;
    Ok(())
}
