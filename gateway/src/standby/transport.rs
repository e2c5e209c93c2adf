//! What carries the protocol: TCP, and in tests a pipe.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use crate::Error;

/// How long a connection may take to be made.
const PATIENCE: Duration = Duration::from_secs(5);

/// A way to the other gateway: reliable, in order, and lost at any time.
pub(super) trait Transport: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// The next connection. May be given up and asked again.
    fn open(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// TCP to a standby that listens.
pub(super) struct Connect(pub(super) SocketAddr);

impl Transport for Connect {
    type Stream = TcpStream;

    async fn open(&mut self) -> io::Result<TcpStream> {
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(self.0)).await??;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// TCP from one gateway.
pub(super) struct Accept {
    listener: TcpListener,
    from: IpAddr,
}

impl Accept {
    /// Listens.
    ///
    /// # Errors
    /// [`Error::Standby`].
    pub(super) async fn new(address: SocketAddr, from: IpAddr) -> Result<Self, Error> {
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| Error::Standby { address, source })?;
        Ok(Self { listener, from })
    }
}

impl Transport for Accept {
    type Stream = TcpStream;

    async fn open(&mut self) -> io::Result<TcpStream> {
        loop {
            let (stream, peer) = self.listener.accept().await?;
            if peer.ip().to_canonical() == self.from.to_canonical() {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            tracing::warn!(%peer, primary = %self.from, "refused: connections are taken from `standby.primary` alone");
        }
    }
}
