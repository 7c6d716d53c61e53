//! Carries the bytes of one link's connections.
//!
//! Invariant: bytes arrive in order and complete, or the connection breaks; while a direction is
//! cut, neither its bytes nor its end pass.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use futures::future::try_join;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{Carried, LinkMode, Way};

/// Connections on one link at a time: a node keeps one to each peer, and dials anew while it is cut.
const MAX_CONNECTIONS: usize = 64;
/// Bytes read at once: a few messages.
const CHUNK_BYTES: usize = 16 * 1024;
/// Chunks held in one direction, 1 MiB: about what socket buffers would hold.
const MAX_HELD_CHUNKS: usize = 64;

/// Accepts for as long as the task lives; its connections end with it, or when they are severed.
pub(super) async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    modes: watch::Receiver<LinkMode>,
    severed: Arc<Notify>,
    carried: Arc<Carried>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((dialler, _)) = accepted else { continue };
                let refuse = *modes.borrow() == LinkMode::Cut { refuse_new: true };
                if refuse || connections.len() >= MAX_CONNECTIONS {
                    continue;
                }
                connections.spawn(carry(dialler, target, modes.clone(), Arc::clone(&carried)));
            }
            () = severed.notified() => connections.abort_all(),
            Some(_ended) = connections.join_next() => {}
        }
    }
}

/// Dials the target as soon as anything may pass, then carries both ways until both have ended.
async fn carry(
    dialler: TcpStream,
    target: SocketAddr,
    mut modes: watch::Receiver<LinkMode>,
    carried: Arc<Carried>,
) -> io::Result<()> {
    let passable = |mode: &LinkMode| mode.carries(Way::Forward) || mode.carries(Way::Backward);
    modes.wait_for(passable).await.map_err(io::Error::other)?;
    let dialled = TcpStream::connect(target).await?;
    dialler.set_nodelay(true)?;
    dialled.set_nodelay(true)?;
    let (from_dialler, to_dialler) = dialler.into_split();
    let (from_dialled, to_dialled) = dialled.into_split();
    let forward = Pump {
        way: Way::Forward,
        modes: modes.clone(),
        carried: Arc::clone(&carried),
    };
    let backward = Pump {
        way: Way::Backward,
        modes,
        carried,
    };
    try_join(
        forward.run(from_dialler, to_dialled),
        backward.run(from_dialled, to_dialler),
    )
    .await
    .map(|((), ())| ())
}

/// One direction of one connection.
struct Pump {
    way: Way,
    modes: watch::Receiver<LinkMode>,
    carried: Arc<Carried>,
}

/// Bytes, and when they may arrive.
type Held = (Instant, Vec<u8>);

impl Pump {
    async fn run(self, from: OwnedReadHalf, to: OwnedWriteHalf) -> io::Result<()> {
        let (hold, held) = mpsc::channel(MAX_HELD_CHUNKS);
        let modes = self.modes.clone();
        let both = try_join(read(from, modes, hold), self.write(held, to));
        both.await.map(|((), ())| ())
    }

    async fn write(
        mut self,
        mut held: mpsc::Receiver<Held>,
        mut to: OwnedWriteHalf,
    ) -> io::Result<()> {
        while let Some((due, chunk)) = held.recv().await {
            sleep_until(due).await;
            self.passable().await?;
            to.write_all(&chunk).await?;
            let carried = self.carried.of(self.way);
            carried.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        self.passable().await?;
        to.shutdown().await
    }

    async fn passable(&mut self) -> io::Result<()> {
        let way = self.way;
        let passes = self.modes.wait_for(|mode| mode.carries(way)).await;
        passes.map(|_mode| ()).map_err(io::Error::other)
    }
}

/// Reads until the end, which a broken connection is too: the other side must not learn of it
/// while the link is cut.
async fn read(
    mut from: OwnedReadHalf,
    modes: watch::Receiver<LinkMode>,
    hold: mpsc::Sender<Held>,
) -> io::Result<()> {
    loop {
        let mut chunk = vec![0; CHUNK_BYTES];
        let Ok(len @ 1..) = from.read(&mut chunk).await else {
            return Ok(());
        };
        chunk.truncate(len);
        let due = Instant::now() + modes.borrow().delay();
        if hold.send((due, chunk)).await.is_err() {
            return Ok(());
        }
    }
}
