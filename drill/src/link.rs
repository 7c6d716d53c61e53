//! The network between nodes: one small TCP proxy for each directed peer link, node i dialling
//! node j, each of which can be cut in one or both directions or be made slow.
//!
//! Or its connections can be severed, which loses what is under way.
//!
//! Invariant: a cut loses no byte and breaks no socket. What is under way is held and delivered
//! when the link heals, as TCP would after a partition, so nodes find out by their own deadlines
//! alone. A one-way cut is harsher than a real one: the open direction goes on for ever, although
//! no acknowledgement could come back.

mod proxy;

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::AbortHandle,
};

/// What a link does with bytes. *Forward* is from the node that dials to the one dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkMode {
    /// Carries all.
    #[default]
    Open,
    /// Carries nothing.
    Cut {
        /// Whether new connections are closed at once, instead of being held like all else.
        refuse_new: bool,
    },
    /// Holds what the dialling node sends.
    CutForward,
    /// Holds what the dialled node answers.
    CutBackward,
    /// Carries all, each way so much later.
    Delay(Duration),
}

/// One direction of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the node that dials.
    Forward,
    /// To the node that dials.
    Backward,
}

impl LinkMode {
    /// Whether bytes may go this way now.
    #[must_use]
    pub const fn carries(self, way: Way) -> bool {
        match self {
            Self::Open | Self::Delay(_) => true,
            Self::Cut { .. } => false,
            Self::CutForward => matches!(way, Way::Backward),
            Self::CutBackward => matches!(way, Way::Forward),
        }
    }

    const fn delay(self) -> Duration {
        match self {
            Self::Delay(delay) => delay,
            Self::Open | Self::Cut { .. } | Self::CutForward | Self::CutBackward => Duration::ZERO,
        }
    }
}

/// Bytes that a link has carried.
#[derive(Debug, Default)]
struct Carried {
    forward: AtomicU64,
    backward: AtomicU64,
}

impl Carried {
    const fn of(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Forward => &self.forward,
            Way::Backward => &self.backward,
        }
    }
}

/// The proxy of one directed link. Dropping it breaks its connections.
pub struct Link {
    listen: SocketAddr,
    mode: watch::Sender<LinkMode>,
    severed: Arc<Notify>,
    carried: Arc<Carried>,
    serving: AbortHandle,
}

impl Link {
    /// Listens on a free port of this machine and carries what comes there to `target`.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let listen = listener.local_addr()?;
        let (mode, modes) = watch::channel(LinkMode::Open);
        let carried = Arc::new(Carried::default());
        let severed = Arc::<Notify>::default();
        let serve = proxy::serve(
            listener,
            target,
            modes,
            Arc::clone(&severed),
            Arc::clone(&carried),
        );
        let serving = tokio::spawn(serve).abort_handle();
        Ok(Self {
            listen,
            mode,
            severed,
            carried,
            serving,
        })
    }

    /// Where to dial so as to go through this link.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Changes what the link does, for present connections too.
    pub fn set(&self, mode: LinkMode) {
        self.mode.send_replace(mode);
    }

    /// Breaks the connections that there are, with what is under way on them. New ones are carried.
    pub fn sever(&self) {
        self.severed.notify_one();
    }

    /// What the link does now.
    #[must_use]
    pub fn mode(&self) -> LinkMode {
        *self.mode.borrow()
    }

    /// Bytes carried so far: a link that is cut carries no more, which shows that it is cut.
    #[must_use]
    pub fn carried(&self, way: Way) -> u64 {
        self.carried.of(way).load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// All links between the nodes of a cluster. Nodes are numbered from 0.
pub struct Links {
    /// `rows[i][j]` is how node i reaches node j; none where i = j.
    rows: Vec<Vec<Option<Link>>>,
}

impl Links {
    /// One link for each ordered pair of the nodes that listen for peers at `peers`.
    ///
    /// # Errors
    /// If a port cannot be bound.
    pub async fn start(peers: &[SocketAddr]) -> io::Result<Self> {
        let mut rows = Vec::with_capacity(peers.len());
        for from in 0..peers.len() {
            let mut row = Vec::with_capacity(peers.len());
            for (to, target) in peers.iter().enumerate() {
                let link = if from == to {
                    None
                } else {
                    Some(Link::start(*target).await?)
                };
                row.push(link);
            }
            rows.push(row);
        }
        Ok(Self { rows })
    }

    /// How node `from` reaches node `to`; none where they are the same or unknown.
    #[must_use]
    pub fn get(&self, from: usize, to: usize) -> Option<&Link> {
        self.rows.get(from)?.get(to)?.as_ref()
    }

    fn each(&self) -> impl Iterator<Item = (usize, usize, &Link)> {
        let rows = self.rows.iter().enumerate();
        rows.flat_map(|(from, row)| {
            let links = row.iter().enumerate();
            links.filter_map(move |(to, link)| Some((from, to, link.as_ref()?)))
        })
    }

    /// Sets the link through which `from` dials `to`.
    pub fn set(&self, from: usize, to: usize, mode: LinkMode) {
        if let Some(link) = self.get(from, to) {
            link.set(mode);
        }
    }

    /// Breaks the present connections that `from` has to `to`.
    pub fn sever(&self, from: usize, to: usize) {
        if let Some(link) = self.get(from, to) {
            link.sever();
        }
    }

    /// Nothing passes between `a` and `b` any more.
    pub fn cut(&self, a: usize, b: usize) {
        let cut = LinkMode::Cut { refuse_new: false };
        self.set(a, b, cut);
        self.set(b, a, cut);
    }

    /// What `from` sends no longer reaches `to`, whoever dialled; the other way stays open.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.set(from, to, LinkMode::CutForward);
        self.set(to, from, LinkMode::CutBackward);
    }

    /// Nothing passes between `node` and any other.
    pub fn isolate(&self, node: usize) {
        (0..self.rows.len()).for_each(|other| self.cut(node, other));
    }

    /// What `node` sends reaches nobody; it still hears the others.
    pub fn mute(&self, node: usize) {
        (0..self.rows.len()).for_each(|other| self.cut_one_way(node, other));
    }

    /// `node` hears nobody; the others still hear it.
    pub fn deafen(&self, node: usize) {
        (0..self.rows.len()).for_each(|other| self.cut_one_way(other, node));
    }

    /// All links carry all again, at once.
    pub fn heal(&self) {
        self.each()
            .for_each(|(_, _, link)| link.set(LinkMode::Open));
    }

    /// Bytes carried by all links together, each way.
    #[must_use]
    pub fn carried(&self) -> u64 {
        let both = |link: &Link| link.carried(Way::Forward) + link.carried(Way::Backward);
        self.each().map(|(_, _, link)| both(link)).sum()
    }
}

impl fmt::Display for Links {
    /// Names the links that are not open.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closed = self
            .each()
            .filter(|(_, _, link)| link.mode() != LinkMode::Open);
        for (from, to, link) in closed {
            write!(f, "[{} -> {} {:?}]", from + 1, to + 1, link.mode())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
