//! The end of a listening socket, at which nobody is cut off who was let in.
//!
//! The kernel lets callers in before the program knows: whoever is let in sends a request, and closing the
//! socket resets it. A gateway that sent something which must not be sent twice can only say 502 then.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// A handshake that was answered is over by then: a network between neighbours takes less than one. Short, since whoever
/// comes meanwhile waits a second for a refusal.
const UNDER_WAY: Duration = Duration::from_millis(5);

/// Closes the socket to new callers, and returns everybody who was let in and not taken yet.
///
/// On Linux a caller who comes in the last [`UNDER_WAY`] is not heard: his second attempt, a second later, is refused,
/// and nothing of his was sent. Elsewhere those of a last instant are reset.
pub(super) async fn close(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    if let Err(error) = hear_nobody_new(&listener) {
        tracing::warn!(%error, "callers of the last moment may be cut off");
    }
    tokio::time::sleep(UNDER_WAY).await;
    let mut waiting = Vec::new();
    // Of the kernel itself: tokio's `accept` knows of nobody who came since it last looked.
    match listener.into_std() {
        Ok(listener) => loop {
            match listener.accept() {
                Ok((stream, address)) => {
                    let ours = stream
                        .set_nonblocking(true)
                        .and_then(|()| TcpStream::from_std(stream));
                    match ours {
                        Ok(stream) => waiting.push((stream, address)),
                        Err(error) => tracing::warn!(%error, "a connection was not taken"),
                    }
                }
                // One that hung up says nothing of those behind it.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::warn!(%error, "callers of the last moment were cut off");
                    break;
                }
            }
        },
        Err(error) => tracing::warn!(%error, "callers of the last moment were cut off"),
    }
    waiting
}

/// Drops what asks for a new connection (SYN), and lets through what belongs to one.
#[cfg(target_os = "linux")]
fn hear_nobody_new(listener: &TcpListener) -> std::io::Result<()> {
    use socket2::SockFilter;

    // Classic BPF (linux/bpf_common.h), run for each segment with the TCP header in front (RFC 9293, 3.1).
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_ANY_BIT: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    socket2::SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_ANY_BIT, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(not(target_os = "linux"))]
fn hear_nobody_new(_: &TcpListener) -> std::io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ac_204_nobody_new_is_let_in_and_whoever_was_is_still_heard() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let before = TcpStream::connect(address).await.unwrap();
        hear_nobody_new(&listener).unwrap();
        let after = TcpStream::connect(address);
        let after = tokio::time::timeout(Duration::from_millis(300), after).await;
        assert!(after.is_err(), "somebody was let in: {after:?}");
        let waiting = close(listener).await;
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].1, before.local_addr().unwrap());
        // What was taken is a connection like any other.
        before.try_write(b"hear").unwrap();
        waiting[0].0.readable().await.unwrap();
        let mut heard = [0; 8];
        assert_eq!(waiting[0].0.try_read(&mut heard).unwrap(), 4);
    }
}
