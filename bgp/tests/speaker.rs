//! Two speakers over loopback, and what the edge does with mistakes. Needs no rights.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use bgp::{Error, Event, Feedback, MaxPrefixes, PeerConfig, Policy, Speaker, SpeakerConfig};
use net::policy::RouteSource;
use net::{Prefix, Route, Source};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

fn loopback(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 77, host))
}

/// A port that is free now; each test has addresses of its own, so only foreign programs could take it.
fn free_port(host: u8) -> u16 {
    let listener = TcpListener::bind((loopback(host), 0)).expect("bind");
    listener.local_addr().expect("address").port()
}

/// Speaker at `own`, with the speaker at `other` as its peer; both listen on `port`.
fn config(own: u8, other: u8, port: u16) -> SpeakerConfig {
    let asn = |host: u8| 64600 + u32::from(host);
    let mut config = SpeakerConfig::new(asn(own), Ipv4Addr::new(10, 0, 0, own));
    config.listen = vec![SocketAddr::new(loopback(own), port)];
    let mut peer = PeerConfig::new(loopback(other), asn(other));
    peer.port = port;
    peer.local_address = Some(loopback(own));
    peer.next_hop_v4 = Some(Ipv4Addr::new(192, 0, 2, own));
    peer.next_hop_v6 = Some(format!("2001:db8::{own}").parse().expect("address"));
    peer.import = Policy::Accept;
    peer.export = Policy::Accept;
    config.peers.push(peer);
    config
}

async fn start(config: SpeakerConfig) -> (Speaker, mpsc::Receiver<Event>) {
    let (sender, events) = mpsc::channel(16);
    (Speaker::start(config, sender).await.expect("speaker starts"), events)
}

/// The next announcement or withdrawal of a prefix.
async fn change(events: &mut mpsc::Receiver<Event>, of: &str) -> (Source, Option<Route>) {
    let of = prefix(of);
    let search = async {
        loop {
            if let Event::Routes(changes) = events.recv().await.expect("the speaker runs")
                && let Some(change) = changes.into_iter().find(|change| change.prefix == of)
            {
                return (change.source, change.route);
            }
        }
    };
    timeout(PATIENCE, search)
        .await
        .unwrap_or_else(|_| panic!("no change of {of}"))
}

async fn down(events: &mut mpsc::Receiver<Event>) -> String {
    let search = async {
        loop {
            if let Event::PeerDown { reason, .. } = events.recv().await.expect("the speaker runs") {
                return reason;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the session ends")
}

#[tokio::test]
async fn two_speakers_exchange_a_large_table_and_withdraw_it() {
    let port = free_port(1);
    let mut origin = config(1, 2, port);
    origin.originate = (0..20_000u32)
        .map(|i| Prefix::containing(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + (i << 8))), 24).expect("length"))
        .chain([prefix("2001:db8:1::/48")])
        .collect();
    let (left, _left_events) = start(origin.clone()).await;
    let (right, mut events) = start(config(2, 1, port)).await;
    let (source, route) = change(&mut events, "10.78.31.0/24").await;
    let gateway = route.expect("announced").next_hops[0].gateway;
    assert_eq!(
        (source, gateway),
        (Source::Ebgp, Some("192.0.2.1".parse().expect("ip")))
    );
    let settled = async {
        while right.state().await.prefixes < origin.originate.len() {
            // The channel is bounded: it has to be read for the speaker to go on.
            let _ = timeout(Duration::from_millis(50), events.recv()).await;
        }
    };
    timeout(PATIENCE, settled).await.expect("the whole table arrives");

    origin.originate.clear();
    left.apply(origin).await.expect("applies");
    // Its announcement may still wait in the channel.
    while change(&mut events, "2001:db8:1::/48").await.1.is_some() {}
    left.shutdown("").await;
    assert!(down(&mut events).await.contains("Administrative Shutdown"));
    right.shutdown("").await;
}

#[tokio::test]
async fn too_many_prefixes_end_the_session_and_take_the_routes_along() {
    let port = free_port(3);
    let mut origin = config(3, 4, port);
    origin.originate = vec![prefix("10.0.0.0/8"), prefix("11.0.0.0/8"), prefix("12.0.0.0/8")];
    let mut limited = config(4, 3, port);
    limited.peers[0].max_prefixes = Some(MaxPrefixes {
        limit: 2,
        warn: 2,
        restart: None,
    });
    let (left, _left_events) = start(origin).await;
    let (right, mut events) = start(limited).await;
    assert_eq!(
        down(&mut events).await,
        "sent 6/9 hard reset: 6/1 Maximum Number of Prefixes Reached"
    );
    assert!(right.routes(None).await.is_empty());
    left.shutdown("").await;
    right.shutdown("").await;
}

#[tokio::test]
async fn a_removed_peer_is_told_and_its_routes_go() {
    let port = free_port(5);
    let mut origin = config(5, 6, port);
    origin.originate = vec![prefix("10.0.0.0/8")];
    let (left, mut left_events) = start(origin).await;
    let mut receiving = config(6, 5, port);
    let (right, mut events) = start(receiving.clone()).await;
    assert!(change(&mut events, "10.0.0.0/8").await.1.is_some());
    receiving.peers.clear();
    right.apply(receiving).await.expect("applies");
    assert_eq!(change(&mut events, "10.0.0.0/8").await.1, None);
    down(&mut events).await;
    assert!(down(&mut left_events).await.contains("6/3"), "peer de-configured");
    assert!(right.state().await.peers.is_empty());
    left.shutdown("").await;
    right.shutdown("").await;
}

#[tokio::test]
async fn an_address_in_use_is_named_and_changes_nothing() {
    let taken = TcpListener::bind((loopback(7), 0)).expect("bind");
    let address = taken.local_addr().expect("address");
    let (sender, _events) = mpsc::channel(1);
    let mut bad = config(7, 8, free_port(8));
    bad.listen = vec![address];
    let Err(error) = Speaker::start(bad.clone(), sender).await else {
        panic!("the address is taken")
    };
    assert!(matches!(&error, Error::Listen { address: named, .. } if *named == address));
    assert!(error.to_string().contains(&address.to_string()), "{error}");

    let (speaker, _events) = start(config(7, 8, free_port(7))).await;
    bad.peers.clear();
    assert!(matches!(speaker.apply(bad).await, Err(Error::Listen { .. })));
    assert_eq!(speaker.state().await.peers.len(), 1);
    speaker.shutdown("").await;
}

#[tokio::test]
async fn a_connection_from_an_unknown_address_is_closed_without_a_word() {
    let port = free_port(9);
    let (speaker, _events) = start(config(9, 10, port)).await;
    let socket = TcpSocket::new_v4().expect("socket");
    socket.bind(SocketAddr::new(loopback(99), 0)).expect("bind");
    let mut stream = socket
        .connect(SocketAddr::new(loopback(9), port))
        .await
        .expect("connects");
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .expect("closed in time")
        .expect("closed in order");
    assert!(bytes.is_empty());
    speaker.shutdown("").await;
}

#[tokio::test]
async fn a_route_is_announced_when_the_owner_forwards_by_it() {
    // Three in a row: what 11 announces, 12 passes on to 13 when its owner has carried the route out.
    let port = free_port(11);
    let mut origin = config(11, 12, port);
    origin.originate = vec![prefix("10.0.0.0/8")];
    let mut middle = config(12, 11, port);
    middle.peers.extend(config(12, 13, port).peers);
    middle.peers.iter_mut().for_each(|peer| peer.advertise_learned = true);
    middle.advertise_installed = true;
    let (right, mut right_events) = start(config(13, 12, port)).await;
    let (middle, mut events) = start(middle).await;
    // The session that is to hear of it is up before.
    let up = async { while !matches!(events.recv().await, Some(Event::PeerUp { peer }) if peer == loopback(13)) {} };
    timeout(PATIENCE, up).await.expect("the session comes up");
    let (left, _left_events) = start(origin.clone()).await;
    assert!(change(&mut events, "10.0.0.0/8").await.1.is_some());
    // 12 knows and has told its owner; 13 was told nothing.
    let advertised = async |of: u8| {
        let state = middle.state().await;
        let peer = state.peers.into_iter().find(|peer| peer.address == loopback(of));
        peer.map(|peer| peer.messages_out)
    };
    let silent = advertised(13).await;
    assert!(right.routes(None).await.is_empty());
    middle.feedback().send(Feedback::Carried(1)).expect("the speaker runs");
    assert!(change(&mut right_events, "10.0.0.0/8").await.1.is_some());
    assert!(advertised(13).await > silent);

    // So it is with withdrawals.
    origin.originate.clear();
    left.apply(origin).await.expect("applies");
    while change(&mut events, "10.0.0.0/8").await.1.is_some() {}
    assert_eq!(right.routes(None).await.len(), 1);
    middle.feedback().send(Feedback::Carried(2)).expect("the speaker runs");
    while change(&mut right_events, "10.0.0.0/8").await.1.is_some() {}
    for speaker in [left, middle, right] {
        speaker.shutdown("").await;
    }
}

#[tokio::test]
async fn offered_routes_reach_the_peer_by_policy() {
    let port = free_port(14);
    let mut origin = config(14, 15, port);
    origin.redistribute.insert(RouteSource::Static, Policy::Accept);
    let (left, _left_events) = start(origin).await;
    let (right, mut events) = start(config(15, 14, port)).await;
    let offers = vec![
        (prefix("10.1.0.0/16"), Some(RouteSource::Kernel)),
        (prefix("10.2.0.0/16"), Some(RouteSource::Static)),
    ];
    left.feedback()
        .send(Feedback::Offers(offers))
        .expect("the speaker runs");
    assert!(change(&mut events, "10.2.0.0/16").await.1.is_some());
    assert_eq!(right.routes(None).await.len(), 1);
    let gone = vec![(prefix("10.2.0.0/16"), None)];
    left.feedback().send(Feedback::Offers(gone)).expect("the speaker runs");
    while change(&mut events, "10.2.0.0/16").await.1.is_some() {}
    left.shutdown("").await;
    right.shutdown("").await;
}
