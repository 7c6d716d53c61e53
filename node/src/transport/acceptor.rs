//! Accepts connections, no more than the listener's share.
//!
//! Invariant: a listener holds at most its share of descriptors, and [`LEAVING`] more for a moment.
//! When it is full, a new connection takes the place of the one that has been silent for longest;
//! only where none is silent is the new one turned away. So connections that say nothing never keep
//! out those that do. Failing to accept costs a pause, never a spinning loop, and is told.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use super::connection::{Connection, Order};
use crate::{metrics, throttle::Throttle};

/// Connections that were told to go and are not gone yet: they need their task to run once.
const LEAVING: usize = 32;
/// Pause after the system refused to accept. Descriptors do not come back sooner than connections end.
const PAUSE: Duration = Duration::from_millis(200);

/// What a listener is for, and how long its connections may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// In metrics and logs.
    pub name: &'static str,
    /// How long a new connection may take until its first request, or HTTP/2's preface, is there.
    pub first: Duration,
    /// How long it may say nothing after that; none where HTTP/2's pings see to it.
    pub idle: Option<Duration>,
}

/// A listener with a bounded number of connections.
pub struct Acceptor {
    listener: TcpListener,
    room: Arc<Room>,
    failing: Throttle,
}

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) manners: Manners,
    most: usize,
    present: Mutex<Present>,
    full: Throttle,
}

#[derive(Debug, Default)]
struct Present {
    /// Those that were told to go included.
    count: usize,
    arrivals: u64,
    /// Those that may be told to go, the longest silent first.
    silent: BTreeMap<Place, Arc<Order>>,
}

/// The order in which connections were heard last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

impl Present {
    fn place(&mut self, order: Arc<Order>) -> Place {
        let place = Place(self.arrivals);
        self.arrivals += 1;
        self.silent.insert(place, order);
        place
    }
}

impl Room {
    pub(super) fn new(manners: Manners, most: usize) -> Arc<Self> {
        metrics::get().connections.most(manners.name, most);
        Arc::new(Self {
            manners,
            most,
            present: Mutex::default(),
            full: Throttle::new(),
        })
    }

    /// A place for a connection, if need be that of a silent one. None if there is none.
    pub(super) fn enter(&self, order: &Arc<Order>) -> Option<Place> {
        let mut present = self.present.lock();
        let is_full = present.count >= self.most;
        if is_full {
            self.say_full();
            if present.count >= self.most + LEAVING {
                return None;
            }
            let (_, silent) = present.silent.pop_first()?;
            silent.go();
            metrics::get().connections.crowded_out(self.manners.name);
        }
        present.count += 1;
        metrics::get()
            .connections
            .present(self.manners.name, present.count);
        Some(present.place(Arc::clone(order)))
    }

    fn say_full(&self) {
        if let Some(times) = self.full.happened() {
            tracing::warn!(
                listener = self.manners.name,
                most = self.most,
                times,
                "as many connections are open as this listener may have: one that is silent makes room for each new one, or else the new one is turned away; raise the limit of open files for more"
            );
        }
    }

    /// It has said something.
    pub(super) fn heard(&self, place: &mut Place, order: &Arc<Order>) {
        let mut present = self.present.lock();
        // One that was told to go is not taken back.
        if present.silent.remove(place).is_some() {
            *place = present.place(Arc::clone(order));
        }
    }

    /// It has said what it is here for, and may stay.
    pub(super) fn stays(&self, place: Place) {
        self.present.lock().silent.remove(&place);
    }

    /// It is gone.
    pub(super) fn left(&self, place: Place) {
        let mut present = self.present.lock();
        present.silent.remove(&place);
        present.count -= 1;
        metrics::get()
            .connections
            .present(self.manners.name, present.count);
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.present.lock().count
    }
}

impl Acceptor {
    /// Accepts at most `most` connections at a time.
    #[must_use]
    pub(super) fn new(listener: TcpListener, manners: Manners, most: usize) -> Self {
        Self {
            listener,
            room: Room::new(manners, most),
            failing: Throttle::new(),
        }
    }

    /// The next connection.
    pub async fn next(&mut self) -> (Connection, SocketAddr) {
        let name = self.room.manners.name;
        loop {
            match self.listener.accept().await {
                Ok((stream, from)) => match self.admit(stream) {
                    Some(connection) => return (connection, from),
                    None => metrics::get().connections.turned_away(name),
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    metrics::get().connections.accept_failed(name);
                    if let Some(times) = self.failing.happened() {
                        tracing::error!(
                            listener = name,
                            times,
                            %error,
                            "connections cannot be accepted: trying again"
                        );
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream) -> Option<Connection> {
        // A socket that is closed already fails at the first read.
        let _ = stream.set_nodelay(true);
        Connection::enter(stream, &self.room)
    }
}

/// True if the next connection may be accepted at once: this one was over before it was accepted.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

/// The connections, for tonic. It never ends.
pub fn incoming(acceptor: Acceptor) -> impl Stream<Item = std::io::Result<Connection>> {
    stream::unfold(acceptor, |mut acceptor| async move {
        let (connection, _) = acceptor.next().await;
        Some((Ok(connection), acceptor))
    })
    .boxed()
}

impl axum::serve::Listener for Acceptor {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        self.next().await
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
