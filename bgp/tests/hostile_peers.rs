//! Peers that misbehave, and strangers, over loopback: the others do not notice. Needs no rights.

mod lab;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use bgp::wire::{
    AsPath, AsPathSegment, Attributes, Capabilities, Context, EXTENDED_MAX_MESSAGE, Message, NextHop, Open, Refresh,
    decode, encode_announcement, encode_keepalive, encode_route_refresh, split_message,
};
use bgp::{Event, Family, PeerConfig, Policy, Speaker, SpeakerConfig};
use bytes::{Bytes, BytesMut};
use lab::policy::loading;
use lab::watch::prefix;
use net::Prefix;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(120);
const LOCAL_AS: u32 = 64_600;

/// Addresses of this file's tests alone.
fn loopback(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 78, host))
}

fn free_port(host: u8) -> u16 {
    let listener = TcpListener::bind((loopback(host), 0)).expect("bind");
    listener.local_addr().expect("address").port()
}

/// A speaker at `own` that the peers connect to.
fn config(own: u8, port: u16, peers: &[u8]) -> SpeakerConfig {
    let mut config = SpeakerConfig::new(LOCAL_AS, Ipv4Addr::new(10, 0, 0, own));
    config.listen = vec![SocketAddr::new(loopback(own), port)];
    config.peers = peers.iter().map(|host| peer(*host)).collect();
    config
}

fn asn(host: u8) -> u32 {
    LOCAL_AS + 100 + u32::from(host)
}

fn peer(host: u8) -> PeerConfig {
    let mut peer = PeerConfig::new(loopback(host), asn(host));
    peer.passive = true;
    peer.import = Policy::Accept;
    peer.export = Policy::Accept;
    peer.next_hop_v4 = Some(Ipv4Addr::new(192, 0, 2, 1));
    peer
}

async fn start(config: SpeakerConfig) -> Speaker {
    let (sender, mut events) = mpsc::channel::<Event>(64);
    // Whoever does not read slows the peers down.
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    Speaker::start(config, sender).await.expect("speaker starts")
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let poll = async {
        while !condition().await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, poll)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// The other end of a session, by hand.
struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Raw {
    async fn connect(own: u8, to: u8, port: u16, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("socket");
        if let Some(size) = receive_buffer {
            socket.set_recv_buffer_size(size).expect("size");
        }
        socket.bind(SocketAddr::new(loopback(own), 0)).expect("bind");
        let stream = socket
            .connect(SocketAddr::new(loopback(to), port))
            .await
            .expect("connects");
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    async fn send(&mut self, bytes: Bytes) {
        // The speaker may have had enough; the test looks at its state.
        let _ = self.stream.write_all(&bytes).await;
    }

    async fn message(&mut self) -> Message {
        loop {
            let whole = split_message(&mut self.buffer, EXTENDED_MAX_MESSAGE).expect("valid headers");
            if let Some(whole) = whole {
                return decode(whole).expect("valid messages");
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
            assert!(read.expect("something comes").expect("readable") > 0, "closed");
        }
    }

    /// Up to Established, without hold time.
    async fn establish(&mut self, asn: u32, router_id: Ipv4Addr) {
        let open = Open {
            asn,
            hold_time: 0,
            router_id,
            capabilities: Capabilities {
                families: vec![Family::Ipv4Unicast],
                route_refresh: true,
                four_octet_as: true,
                ..Capabilities::default()
            },
        };
        self.send(open.encode()).await;
        self.send(encode_keepalive()).await;
        assert!(matches!(self.message().await, Message::Open(_)));
        assert_eq!(self.message().await, Message::Keepalive);
    }
}

fn context() -> Context {
    Context {
        four_octet_as: true,
        ibgp: false,
        families: vec![Family::Ipv4Unicast],
        ipv6_next_hop_for_ipv4: false,
        extended_messages: false,
    }
}

/// An UPDATE with 10.0.0.0/8 along a path.
fn announcement(path: &[u32]) -> Bytes {
    let mut attributes = Attributes::originated(NextHop::from(IpAddr::from([192, 0, 2, 77])));
    attributes.as_path = AsPath {
        segments: vec![AsPathSegment::AsSequence(path.to_vec())],
    };
    encode_announcement(&attributes, &[prefix("10.0.0.0/8")], &context())
        .expect("fits")
        .remove(0)
}

/// A well-behaved speaker at `own`, connected to `to`. Its hold time is longer than a busy machine keeps it waiting.
async fn well_behaved(own: u8, to: u8, port: u16) -> Speaker {
    let mut config = SpeakerConfig::new(asn(own), Ipv4Addr::new(10, 0, 0, own));
    let mut peer = PeerConfig::new(loopback(to), LOCAL_AS);
    peer.port = port;
    peer.local_address = Some(loopback(own));
    peer.hold_time = 60;
    peer.import = Policy::Accept;
    config.peers.push(peer);
    start(config).await
}

fn is_up(state: &bgp::State, host: u8) -> bool {
    let peer = state.peers.iter().find(|peer| peer.address == loopback(host));
    peer.is_some_and(|peer| peer.state == "Established" && peer.flaps == 0)
}

#[tokio::test]
async fn a_peer_that_never_reads_is_dropped_and_the_other_session_stays() {
    let port = free_port(1);
    let mut config = config(1, port, &[2, 3]);
    config.originate = (0..20_000_u32)
        .map(|i| Prefix::containing(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (i << 8))), 24).expect("length"))
        .collect();
    // Little fits into a message beside so many communities: the table is long.
    config.peers[0].export = loading(900);
    config.peers[0].hold_time = 0;
    config.peers[0].send_hold_time = Duration::from_secs(2);
    let speaker = start(config).await;
    let other = well_behaved(3, 1, port).await;
    eventually("the other session", async || is_up(&speaker.state().await, 3)).await;

    let mut raw = Raw::connect(2, 1, port, Some(4096)).await;
    raw.establish(asn(2), Ipv4Addr::new(10, 0, 0, 2)).await;
    // It asks again and again for what it does not read, until every buffer is full and the timer ends it.
    let asking = tokio::spawn(async move {
        loop {
            raw.send(encode_route_refresh(Family::Ipv4Unicast, Refresh::Request))
                .await;
            sleep(Duration::from_millis(50)).await;
        }
    });
    eventually("the send hold timer ends the session", async || {
        let peer = speaker.state().await.peers.remove(0);
        peer.flaps == 1 && peer.last_error.is_some_and(|error| error.contains("8/0"))
    })
    .await;
    asking.abort();
    assert!(is_up(&speaker.state().await, 3));
    other.shutdown("").await;
    speaker.shutdown("").await;
}

#[tokio::test]
async fn a_flood_of_strangers_is_counted_and_ends_no_session() {
    const STRANGERS: u64 = 3000;
    let port = free_port(11);
    let speaker = start(config(11, port, &[13])).await;
    let other = well_behaved(13, 11, port).await;
    eventually("the session", async || is_up(&speaker.state().await, 13)).await;
    for _ in 0..STRANGERS {
        let mut stranger = Raw::connect(12, 11, port, None).await;
        // Closed without a word, or reset.
        let mut octet = [0];
        let read = timeout(PATIENCE, stranger.stream.read(&mut octet))
            .await
            .expect("closed");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    let state = speaker.state().await;
    assert_eq!(state.unknown_refused, STRANGERS);
    assert!(is_up(&state, 13), "{:?}", state.peers);
    other.shutdown("").await;
    speaker.shutdown("").await;
}

#[tokio::test]
async fn two_external_peers_with_one_router_id_are_told_apart_by_address() {
    let port = free_port(21);
    let speaker = start(config(21, port, &[22, 23])).await;
    let mut raws = Vec::new();
    for host in [22, 23] {
        let mut raw = Raw::connect(host, 21, port, None).await;
        raw.establish(asn(host), Ipv4Addr::new(10, 9, 9, 9)).await;
        raw.send(announcement(&[asn(host)])).await;
        raws.push(raw);
    }
    eventually("the lower address wins", async || {
        let routes = speaker.routes(Some(prefix("10.0.0.0/8"))).await;
        routes.iter().any(|route| {
            route.paths.len() == 2
                && route.paths[0].best
                && route.paths[0].peer == Some(loopback(22))
                && route.paths[1].reason.as_deref() == Some("peer address")
        })
    })
    .await;
    speaker.shutdown("").await;
}

#[tokio::test]
async fn a_path_through_our_own_as_is_kept_out_with_the_reason() {
    let port = free_port(31);
    let speaker = start(config(31, port, &[32])).await;
    let mut raw = Raw::connect(32, 31, port, None).await;
    raw.establish(asn(32), Ipv4Addr::new(10, 0, 0, 32)).await;
    raw.send(announcement(&[asn(32), LOCAL_AS, 65_000])).await;
    eventually("the loop is seen", async || {
        let routes = speaker.routes(Some(prefix("10.0.0.0/8"))).await;
        let looped = |path: &bgp::PathView| !path.best && path.reason.as_deref() == Some("own AS in the AS path");
        routes.iter().any(|route| looped(&route.paths[0]))
    })
    .await;
    raw.send(announcement(&[asn(32), 65_000])).await;
    eventually("a path without it is used", async || {
        let routes = speaker.routes(Some(prefix("10.0.0.0/8"))).await;
        routes.iter().any(|route| route.paths[0].best)
    })
    .await;
    speaker.shutdown("").await;
}
