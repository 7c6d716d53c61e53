//! A link against an echo server: what passes, what is held, and that nothing is lost.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

/// Long enough for a byte to pass on a busy machine.
const SOON: Duration = Duration::from_secs(5);
/// How long silence is listened to. A link that leaks passes bytes within microseconds.
const SILENCE: Duration = Duration::from_millis(100);

async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ended = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

async fn says(stream: &mut TcpStream, word: &[u8; 4]) -> bool {
    let mut heard = [0; 4];
    match timeout(SOON, stream.read_exact(&mut heard)).await {
        Ok(Ok(_)) => heard == *word,
        Ok(Err(_)) | Err(_) => false,
    }
}

async fn is_silent(stream: &mut TcpStream) -> bool {
    let mut byte = [0; 1];
    timeout(SILENCE, stream.read(&mut byte)).await.is_err()
}

#[tokio::test]
async fn every_kind_of_cut_holds_and_healing_delivers_in_order() {
    let link = Link::start(echo_server().await).await.unwrap();
    let mut stream = TcpStream::connect(link.address()).await.unwrap();
    stream.write_all(b"one.").await.unwrap();
    assert!(says(&mut stream, b"one.").await);

    let cuts = [
        (LinkMode::Cut { refuse_new: false }, 0, 0),
        (LinkMode::CutForward, 0, 0),
        (LinkMode::CutBackward, 4, 0),
    ];
    for (mode, passes_forward, passes_backward) in cuts {
        link.set(mode);
        let before = (link.carried(Way::Forward), link.carried(Way::Backward));
        stream.write_all(b"held").await.unwrap();
        assert!(is_silent(&mut stream).await, "{mode:?} leaks");
        let after = (link.carried(Way::Forward), link.carried(Way::Backward));
        let expected = (before.0 + passes_forward, before.1 + passes_backward);
        assert_eq!(after, expected, "{mode:?}");
        stream.write_all(b"next").await.unwrap();
        link.set(LinkMode::Open);
        assert!(says(&mut stream, b"held").await, "{mode:?} lost a word");
        assert!(says(&mut stream, b"next").await, "{mode:?} lost a word");
    }
}

#[tokio::test]
async fn new_connections_are_held_or_refused() {
    let link = Link::start(echo_server().await).await.unwrap();
    link.set(LinkMode::Cut { refuse_new: false });
    let mut held = TcpStream::connect(link.address()).await.unwrap();
    held.write_all(b"wait").await.unwrap();
    assert!(is_silent(&mut held).await);
    link.set(LinkMode::Cut { refuse_new: true });
    let mut refused = TcpStream::connect(link.address()).await.unwrap();
    let mut byte = [0; 1];
    let end = timeout(SOON, refused.read(&mut byte)).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    link.set(LinkMode::Open);
    assert!(says(&mut held, b"wait").await);
}

#[tokio::test]
async fn a_delay_is_each_way() {
    let link = Link::start(echo_server().await).await.unwrap();
    let delay = Duration::from_millis(60);
    link.set(LinkMode::Delay(delay));
    let mut stream = TcpStream::connect(link.address()).await.unwrap();
    let begin = tokio::time::Instant::now();
    stream.write_all(b"slow").await.unwrap();
    assert!(says(&mut stream, b"slow").await);
    assert!(begin.elapsed() >= delay * 2);
}

#[tokio::test]
async fn the_end_of_the_dialled_side_is_heard_only_when_not_cut() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Link::start(listener.local_addr().unwrap()).await.unwrap();
    let mut stream = TcpStream::connect(link.address()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let (dialled, _) = listener.accept().await.unwrap();
    link.set(LinkMode::Cut { refuse_new: false });
    drop(dialled);
    assert!(is_silent(&mut stream).await);
    link.set(LinkMode::Open);
    let mut byte = [0; 1];
    let end = timeout(SOON, stream.read(&mut byte)).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn partitions_touch_the_links_they_name() {
    let server = echo_server().await;
    let links = Links::start(&[server; 3]).await.unwrap();
    let state = |from, to| links.get(from, to).unwrap().mode();
    let cut = LinkMode::Cut { refuse_new: false };

    links.isolate(0);
    assert_eq!((state(0, 1), state(1, 0), state(2, 0)), (cut, cut, cut));
    assert_eq!((state(1, 2), state(2, 1)), (LinkMode::Open, LinkMode::Open));
    links.heal();
    assert_eq!(links.to_string(), "");

    // Node 1 is heard by nobody: neither what it asks nor what it answers arrives.
    links.mute(0);
    assert_eq!(state(0, 1), LinkMode::CutForward);
    assert_eq!(state(1, 0), LinkMode::CutBackward);
    assert_eq!(state(1, 2), LinkMode::Open);
    links.heal();

    links.deafen(0);
    assert_eq!(state(0, 1), LinkMode::CutBackward);
    assert_eq!(state(1, 0), LinkMode::CutForward);
}

#[tokio::test]
async fn severed_connections_end_and_new_ones_are_carried() {
    let link = Link::start(echo_server().await).await.unwrap();
    let mut severed = TcpStream::connect(link.address()).await.unwrap();
    severed.write_all(b"one.").await.unwrap();
    assert!(says(&mut severed, b"one.").await);
    link.sever();
    let mut byte = [0; 1];
    let end = timeout(SOON, severed.read(&mut byte)).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    let mut new = TcpStream::connect(link.address()).await.unwrap();
    new.write_all(b"two.").await.unwrap();
    assert!(says(&mut new, b"two.").await);
}
