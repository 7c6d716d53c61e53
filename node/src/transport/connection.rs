//! A connection that was accepted, for as long as it behaves.
//!
//! Invariant: it fails, and so is closed, if it does not say in time what it is here for, if it is
//! told to make room, or if it falls silent where that is not allowed.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::acceptor::{Place, Room};
use crate::metrics;

/// How a connection is told to go.
#[derive(Debug, Default)]
pub(super) struct Order {
    go: AtomicBool,
    task: AtomicWaker,
}

impl Order {
    pub(super) fn go(&self) {
        self.go.store(true, Ordering::Release);
        self.task.wake();
    }
}

/// An accepted connection.
pub struct Connection {
    stream: TcpStream,
    room: Arc<Room>,
    place: Place,
    /// None once it may stay for as long as it likes.
    silence: Option<Silence>,
}

/// What a connection that may be told to go is watched with.
struct Silence {
    order: Arc<Order>,
    deadline: Pin<Box<Sleep>>,
    head: Head,
}

/// Looks for the empty line that ends an HTTP/1 request's head, and is in HTTP/2's preface too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    matched: usize,
}

const EMPTY_LINE: [u8; 4] = *b"\r\n\r\n";

impl Head {
    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match EMPTY_LINE.get(self.matched) {
                None => return,
                Some(wanted) if wanted == byte => self.matched += 1,
                Some(_) => self.matched = usize::from(*byte == b'\r'),
            }
        }
    }

    const fn is_whole(self) -> bool {
        self.matched == EMPTY_LINE.len()
    }
}

impl Connection {
    /// None if there is no place for it.
    pub(super) fn enter(stream: TcpStream, room: &Arc<Room>) -> Option<Self> {
        let order = Arc::<Order>::default();
        let place = room.enter(&order)?;
        Some(Self {
            stream,
            room: Arc::clone(room),
            place,
            silence: Some(Silence {
                order,
                deadline: Box::pin(sleep(room.manners.first)),
                head: Head::default(),
            }),
        })
    }

    /// Fails if it was told to go.
    fn obey(&self, cx: &Context<'_>) -> io::Result<()> {
        let Some(silence) = &self.silence else {
            return Ok(());
        };
        silence.order.task.register(cx.waker());
        if silence.order.go.load(Ordering::Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "closed to make room: it was the longest silent",
            ));
        }
        Ok(())
    }

    fn heard(&mut self, bytes: &[u8]) {
        let Some(silence) = &mut self.silence else {
            return;
        };
        silence.head.take(bytes);
        if !silence.head.is_whole() {
            return;
        }
        match self.room.manners.idle {
            None => {
                self.room.stays(self.place);
                self.silence = None;
            }
            Some(idle) => {
                silence.deadline.as_mut().reset(Instant::now() + idle);
                self.room.heard(&mut self.place, &silence.order);
            }
        }
    }

    fn late(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(silence) = &mut self.silence else {
            return Poll::Pending;
        };
        std::task::ready!(silence.deadline.as_mut().poll(cx));
        metrics::get().connections.timed_out(self.room.manners.name);
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "nothing was asked in time",
        )))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.room.left(self.place);
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.obey(cx)?;
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                let read = buffer.filled().get(before..).unwrap_or_default();
                self.heard(read);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.late(cx),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.obey(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.obey(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::{super::acceptor::Manners, *};

    const FOR_EVER: Duration = Duration::from_secs(3_600);

    struct Stage {
        listener: TcpListener,
        room: Arc<Room>,
    }

    impl Stage {
        async fn new(first: Duration, idle: Option<Duration>, most: usize) -> Self {
            let manners = Manners {
                name: "test",
                first,
                idle,
            };
            Self {
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
                room: Room::new(manners, most),
            }
        }

        /// The two ends of a new connection; the server's is none if there is no place.
        async fn connect(&self) -> (TcpStream, Option<Connection>) {
            let address = self.listener.local_addr().unwrap();
            let (theirs, ours) = tokio::join!(TcpStream::connect(address), self.listener.accept());
            let (ours, _) = ours.unwrap();
            (theirs.unwrap(), Connection::enter(ours, &self.room))
        }
    }

    async fn fails(connection: &mut Connection) -> io::ErrorKind {
        connection.read_u8().await.unwrap_err().kind()
    }

    async fn says(theirs: &mut TcpStream, ours: &mut Connection, words: &[u8]) {
        theirs.write_all(words).await.unwrap();
        let mut heard = vec![0; words.len()];
        ours.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, words);
    }

    #[tokio::test]
    async fn a_new_one_takes_the_place_of_the_longest_silent_and_of_no_other() {
        let stage = Stage::new(FOR_EVER, None, 3).await;
        let (mut at_work, at_work_here) = stage.connect().await;
        let mut at_work_here = at_work_here.unwrap();
        says(
            &mut at_work,
            &mut at_work_here,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        )
        .await;
        let (mut half, half_here) = stage.connect().await;
        let mut half_here = half_here.unwrap();
        says(&mut half, &mut half_here, b"PRI * HTTP/2.0\r\n").await;
        let (_silent, silent) = stage.connect().await;
        let mut silent = silent.unwrap();

        let (_first, first) = stage.connect().await;
        let mut first = first.unwrap();
        assert_eq!(
            fails(&mut half_here).await,
            io::ErrorKind::ConnectionAborted
        );
        drop(half_here);
        let (_second, second) = stage.connect().await;
        assert!(second.is_some());
        assert_eq!(fails(&mut silent).await, io::ErrorKind::ConnectionAborted);
        drop(silent);
        says(&mut at_work, &mut at_work_here, b"more").await;
        assert_eq!(stage.room.count(), 3);

        // Where all are at work, there is no place.
        let (mut peer, also) = (_first, &mut first);
        says(&mut peer, also, b"GET / HTTP/1.1\r\n\r\n").await;
        let (mut peer, mut also) = (_second, second.unwrap());
        says(&mut peer, &mut also, b"GET / HTTP/1.1\r\n\r\n").await;
        assert!(stage.connect().await.1.is_none());
        drop(also);
        assert!(stage.connect().await.1.is_some());
    }

    #[tokio::test]
    async fn one_that_waits_is_woken_to_go() {
        let stage = Stage::new(FOR_EVER, None, 1).await;
        let (_silent, silent) = stage.connect().await;
        let mut silent = silent.unwrap();
        let waits = tokio::spawn(async move { fails(&mut silent).await });
        tokio::task::yield_now().await;
        assert!(stage.connect().await.1.is_some());
        assert_eq!(waits.await.unwrap(), io::ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn silence_has_its_time() {
        let short = Duration::from_millis(20);
        let stage = Stage::new(short, None, 3).await;
        let (_silent, silent) = stage.connect().await;
        assert_eq!(fails(&mut silent.unwrap()).await, io::ErrorKind::TimedOut);
        assert_eq!(stage.room.count(), 0);

        let stage = Stage::new(FOR_EVER, Some(short), 3).await;
        let (mut asked, asked_here) = stage.connect().await;
        let mut asked_here = asked_here.unwrap();
        says(&mut asked, &mut asked_here, b"GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(fails(&mut asked_here).await, io::ErrorKind::TimedOut);
    }

    #[test]
    fn the_empty_line_is_found_however_it_arrives() {
        let cases: [(&[&[u8]], bool); 5] = [
            (&[b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"], true),
            (&[b"\r", b"\n", b"\r", b"\n"], true),
            (&[b"a\r\r\n\r\n"], true),
            (&[b"\r\n\rx\r\n"], false),
            (&[b"a\n\nb\r\n"], false),
        ];
        for (parts, whole) in cases {
            let mut head = Head::default();
            parts.iter().for_each(|part| head.take(part));
            assert_eq!(head.is_whole(), whole, "{parts:?}");
        }
    }
}
