//! One plain HTTP question, as a load balancer or Prometheus would ask it.

use std::{
    io::{Error, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Health checks answer from what a node knows: one that takes longer is as good as silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// A status and a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    /// 200, 503, ...
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// Asks for `path`, over HTTP/1.0, so that the body is plain and ends with the connection.
///
/// # Errors
/// If there is no answer within a second, or it is not HTTP.
pub async fn get(address: SocketAddr, path: &str) -> std::io::Result<HttpAnswer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        parse(&String::from_utf8_lossy(&answer))
    };
    timeout(ANSWER_LIMIT, exchange)
        .await
        .map_err(|_elapsed| Error::from(ErrorKind::TimedOut))?
}

fn parse(answer: &str) -> std::io::Result<HttpAnswer> {
    let no_http = || Error::new(ErrorKind::InvalidData, format!("no HTTP: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(no_http)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(HttpAnswer {
        status: status.ok_or_else(no_http)?,
        body: body.to_owned(),
    })
}

/// Content if the answer is 200; else says what it was.
pub(super) async fn is_ok(address: SocketAddr, path: &str) -> Result<(), String> {
    match get(address, path).await {
        Ok(HttpAnswer { status: 200, .. }) => Ok(()),
        Ok(HttpAnswer { status, body }) => Err(format!("{path} says {status}: {}", body.trim())),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let answer = parse("HTTP/1.1 503 Service Unavailable\r\nx: y\r\n\r\nno leader\n").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (503, "no leader\n"));
        assert!(parse("SSH-2.0-x\r\n").is_err());
    }
}
