//! The name that DNS gives to this machine's own address: `lockstep-node-2` in a container that
//! Docker Compose has scaled, where the host name is random and only that name says which of the
//! replicas it is.
//!
//! Invariant: what the resolver sends is never trusted for lengths or offsets; every read is checked
//! and every loop is bounded.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket},
    time::Duration,
};

/// How long one answer of the resolver may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Questions before giving up: a resolver that starts with the container may miss the first.
const TRIES: u32 = 5;
/// Most labels of a name, and so the most compression pointers followed (RFC 1035, 255 bytes a name).
const MAX_LABELS: usize = 128;
/// Largest answer over UDP without extensions (RFC 1035, section 4.2.1).
const MAX_ANSWER: usize = 512;
/// The identifier of the question. The answer is only taken from the resolver that was asked.
const QUESTION_ID: [u8; 2] = [0x10, 0xcb];
/// Length of a message's header (RFC 1035, section 4.1.1).
const HEADER: usize = 12;
/// A record that gives a name (RFC 1035, section 3.2.2).
const TYPE_PTR: u16 = 12;
/// The Internet (RFC 1035, section 3.2.4).
const CLASS_IN: u16 = 1;

/// Why this machine's name is not known.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The host name leads to no address.
    #[error("this machine's own address cannot be found: {0}")]
    Address(io::Error),
    /// There is no network.
    #[error("this machine has no IPv4 address but loopback: connect it to a network")]
    NoAddress,
    /// There is no DNS.
    #[error("/etc/resolv.conf names no resolver")]
    NoResolver,
    /// DNS is silent.
    #[error("the resolver {resolver} does not answer: {error}")]
    Silent {
        /// Which.
        resolver: SocketAddr,
        /// What came instead.
        error: io::Error,
    },
    /// DNS does not know.
    #[error(
        "the resolver {resolver} has no name for {address}: set the names in the configuration"
    )]
    NoName {
        /// Which.
        resolver: SocketAddr,
        /// This machine's.
        address: Ipv4Addr,
    },
}

/// The first label of the name of this machine's own address.
///
/// # Errors
/// If this machine has no address, or its resolver has no name for it.
pub(super) fn name() -> Result<String, HostError> {
    let address = own_address()?;
    let resolver = resolver()?;
    let mut tries = 1;
    let answer = loop {
        match ask(resolver, address) {
            Ok(answer) => break answer,
            Err(error) if tries == TRIES => return Err(HostError::Silent { resolver, error }),
            Err(_) => tries += 1,
        }
    };
    first_label(&answer).ok_or(HostError::NoName { resolver, address })
}

/// A name without the number at its end: what `lockstep-node-2` shares with its kin.
#[must_use]
pub(super) fn stem(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

fn own_address() -> Result<Ipv4Addr, HostError> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").map_err(HostError::Address)?;
    let found = (name.trim(), 0_u16)
        .to_socket_addrs()
        .map_err(HostError::Address)?;
    let mut found = found.map(|address| address.ip());
    found
        .find_map(|ip| match ip {
            IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .ok_or(HostError::NoAddress)
}

fn resolver() -> Result<SocketAddr, HostError> {
    let text = fs::read_to_string("/etc/resolv.conf").map_err(|_| HostError::NoResolver)?;
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .find_map(|address| address.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::from((ip, 53)))
        .ok_or(HostError::NoResolver)
}

fn ask(resolver: SocketAddr, address: Ipv4Addr) -> io::Result<Vec<u8>> {
    let any: IpAddr = match resolver {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(resolver)?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.send(&question(address))?;
    let mut answer = vec![0; MAX_ANSWER];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

/// "Which name has this address?" (RFC 1035, section 3.5).
fn question(address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = QUESTION_ID.to_vec();
    // Recursion desired; one question, no answers.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let [a, b, c, d] = address.octets();
    let labels = [d, c, b, a].map(|octet| octet.to_string());
    for label in labels.iter().map(String::as_str).chain(["in-addr", "arpa"]) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(TYPE_PTR.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes
}

fn first_label(answer: &[u8]) -> Option<String> {
    if answer.get(..2)? != QUESTION_ID {
        return None;
    }
    let questions = number(answer, 4)?;
    let answers = number(answer, 6)?;
    let mut at = HEADER;
    for _ in 0..questions.min(1) {
        at = after_name(answer, at)? + 4;
    }
    for _ in 0..answers {
        let record = after_name(answer, at)?;
        let (kind, length) = (number(answer, record)?, number(answer, record + 8)?);
        if kind == TYPE_PTR {
            return label(answer, record + 10);
        }
        at = record + 10 + usize::from(length);
    }
    None
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Where a name ends: after its empty label, or after a pointer to the rest of it.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..MAX_LABELS {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
    None
}

/// The first label of a name, which may stand elsewhere.
fn label(bytes: &[u8], mut at: usize) -> Option<String> {
    for _ in 0..MAX_LABELS {
        match *bytes.get(at)? {
            0 => return None,
            pointer if pointer >= 0xc0 => at = usize::from(number(bytes, at)? & 0x3fff),
            length => {
                let label = bytes.get(at + 1..at + 1 + usize::from(length))?;
                return String::from_utf8(label.to_vec()).ok();
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer: header, the question, and one record that points at `rdata`.
    fn answer(rdata: &[u8]) -> Vec<u8> {
        let mut bytes = question(Ipv4Addr::new(172, 18, 0, 3));
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 12, 0, 1, 0, 0, 2, 88, 0, rdata.len() as u8]);
        bytes.extend(rdata);
        bytes
    }

    #[test]
    fn the_first_label_is_the_containers_name() {
        let named = answer(b"\x0flockstep-node-2\x0fdistributed_net\x00");
        assert_eq!(first_label(&named).as_deref(), Some("lockstep-node-2"));
        assert_eq!(stem("lockstep-node-12"), "lockstep-node-");
        // By a pointer to the question's first label.
        assert_eq!(first_label(&answer(&[0xc0, 12])).as_deref(), Some("3"));
    }

    #[test]
    fn no_answer_of_any_length_or_loop_does_harm() {
        let whole = answer(b"\x0flockstep-node-2\x00");
        for length in 0..whole.len() {
            let _ = first_label(&whole[..length]);
        }
        let at = whole.len() - 17;
        let mut looped = whole[..at].to_vec();
        looped.extend([0xc0, at as u8]);
        assert_eq!(first_label(&looped), None);
        assert_eq!(first_label(&question(Ipv4Addr::LOCALHOST)), None);
    }
}
