//! Traffic of ordinary hosts: ping, HTTP, and echo over TCP and UDP.
//!
//! Servers run in this process on sockets that were opened inside a namespace. Both echo servers answer with the
//! address that they saw the client under, so a client knows its translated port without asking the gateway.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Namespace;

/// Patience with one answer of an echo server; short, so that a lost datagram is asked for again soon.
const ANSWER: Duration = Duration::from_millis(100);
/// Patience with a connection being opened.
const OPEN: Duration = Duration::from_secs(3);
/// Pause between two exchanges of a [`Flow`].
const PAUSE: Duration = Duration::from_millis(5);

/// Sends `count` pings, 0.2 s apart; `Ok` if all were answered.
///
/// # Errors
/// What `ping` printed.
pub fn ping(from: &Namespace, to: &str, count: u32) -> Result<(), String> {
    let output = from.try_run(&format!("ping -n -i 0.2 -W 1 -c {count} {to}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() && text.contains(" 0% packet loss") {
        Ok(())
    } else {
        Err(text)
    }
}

/// Fetches `url` with curl inside `from`.
///
/// # Errors
/// What curl says.
pub fn fetch(from: &Namespace, url: &str) -> Result<Vec<u8>, String> {
    curl(from, &[url])
}

/// The same from an address of `from` that the kernel would not choose by itself.
///
/// # Errors
/// What curl says.
pub fn fetch_as(from: &Namespace, address: &str, url: &str) -> Result<Vec<u8>, String> {
    curl(from, &["--interface", address, url])
}

fn curl(from: &Namespace, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let mut curl = from.command("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--noproxy",
        "*",
        "--max-time",
        "5",
    ])
    .args(arguments);
    let output = curl.output().map_err(|error| format!("cannot start curl: {error}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A file of `length` bytes that do not repeat soon, so that a lost, doubled or swapped segment shows.
pub fn file(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(step).collect()
}

/// An HTTP/1.1 server (axum on hyper) that answers `GET /file` with fixed bytes; stopped when dropped.
#[derive(Debug)]
pub struct HttpServer {
    runtime: Option<tokio::runtime::Runtime>,
}

impl HttpServer {
    /// Serves `content` at `address` inside the namespace.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub fn start(namespace: &Namespace, address: &str, content: Vec<u8>) -> Self {
        let listener = listen(namespace, address);
        listener.set_nonblocking(true).expect("a fresh socket takes the option");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
            let content = axum::body::Bytes::from(content);
            let app = axum::Router::new().route("/file", axum::routing::get(move || async move { content.clone() }));
            axum::serve(listener, app).await
        });
        Self { runtime: Some(runtime) }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A TCP and UDP echo server on one address; stopped when dropped.
#[derive(Debug)]
pub struct EchoServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl EchoServer {
    /// Serves at `address` inside the namespace.
    ///
    /// # Panics
    /// If the address cannot be bound.
    pub fn start(namespace: &Namespace, address: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let listener = listen(namespace, address);
        listener.set_nonblocking(true).expect("a fresh socket takes the option");
        let socket = bind(namespace, address);
        socket
            .set_read_timeout(Some(ANSWER))
            .expect("a fresh socket takes the option");
        let (tcp_stop, udp_stop) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            thread::spawn(move || accept(&listener, &tcp_stop)),
            thread::spawn(move || answer_datagrams(&socket, &udp_stop)),
        ];
        let address = address.parse().expect("parsed when it was bound");
        Self { address, stop, threads }
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, peer)) => {
                let stop = Arc::clone(stop);
                thread::spawn(move || answer_lines(&stream, peer, &stop));
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Answers each line with `<peer> <line>` until the client closes.
fn answer_lines(stream: &TcpStream, peer: SocketAddr, stop: &AtomicBool) {
    let ready = stream.set_nonblocking(false).and_then(|()| stream.set_nodelay(true));
    if ready.and_then(|()| stream.set_read_timeout(Some(ANSWER))).is_err() {
        return;
    }
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !stop.load(Ordering::Relaxed) {
        match reader.read_line(&mut line) {
            Ok(0) => return,
            Ok(_) if line.ends_with('\n') => {
                if (&*stream).write_all(format!("{peer} {line}").as_bytes()).is_err() {
                    return;
                }
                line.clear();
            }
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(_) => return,
        }
    }
}

/// Answers each datagram with `<peer> <datagram>`.
fn answer_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{peer} ").into_bytes();
            answer.extend_from_slice(&buffer[..length]);
            // A client that went away is no concern of an echo server.
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// A client of an [`EchoServer`], with one socket for its whole life.
#[derive(Debug)]
pub enum EchoClient {
    /// One TCP connection.
    Tcp(BufReader<TcpStream>),
    /// One UDP socket.
    Udp(UdpSocket),
}

impl EchoClient {
    /// Connects to `server` from inside the namespace.
    ///
    /// # Errors
    /// If no connection can be opened.
    pub fn tcp(namespace: &Namespace, server: SocketAddr) -> io::Result<Self> {
        let stream = namespace.enter(|| TcpStream::connect_timeout(&server, OPEN))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(OPEN))?;
        Ok(Self::Tcp(BufReader::new(stream)))
    }

    /// Opens a socket for `server` inside the namespace.
    ///
    /// # Errors
    /// If there is no route to the server.
    pub fn udp(namespace: &Namespace, server: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = if server.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        };
        let socket = namespace.enter(|| UdpSocket::bind((any, 0)))?;
        // The route is looked up here, on the socket, in the namespace that it was opened in.
        socket.connect(server)?;
        socket.set_read_timeout(Some(ANSWER))?;
        Ok(Self::Udp(socket))
    }

    /// The same client with a minute's patience for each answer over TCP, for one whose way may not be there at the moment.
    ///
    /// # Panics
    /// If the socket does not take the option.
    pub fn patient(self) -> Self {
        if let Self::Tcp(stream) = &self {
            let patience = Some(Duration::from_secs(60));
            stream.get_ref().set_read_timeout(patience).expect("an open socket");
        }
        self
    }

    /// Says `word` (one line) and returns the address that the server saw it come from.
    ///
    /// # Errors
    /// If no answer came, or another one than it should be.
    pub fn exchange(&mut self, word: &str) -> io::Result<SocketAddr> {
        let answer = match self {
            Self::Tcp(stream) => {
                stream.get_mut().write_all(format!("{word}\n").as_bytes())?;
                let mut line = String::new();
                stream.read_line(&mut line)?;
                line
            }
            Self::Udp(socket) => {
                socket.send(word.as_bytes())?;
                let mut buffer = [0; 2048];
                let length = socket.recv(&mut buffer)?;
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            }
        };
        let wrong = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("`{word}` was answered with `{answer}`"),
            )
        };
        let (peer, echo) = answer.trim_end().split_once(' ').ok_or_else(wrong)?;
        if echo != word {
            return Err(wrong());
        }
        peer.parse().map_err(|_| wrong())
    }
}

/// What a [`Flow`] has seen so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Answers received.
    pub answers: u64,
    /// Questions that got no answer in time (UDP) or ended the connection (TCP).
    pub failures: u64,
    /// Longest time between two answers, the running one included.
    pub longest_gap: Duration,
    /// Every address that the server has seen the client under.
    pub addresses: BTreeSet<SocketAddr>,
    /// Why the last question failed.
    pub last_error: Option<String>,
}

/// A client that never stops asking, on a thread of its own.
#[derive(Debug)]
pub struct Flow {
    state: Arc<Mutex<(Seen, Instant)>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flow {
    /// Asks over `client` until dropped.
    pub fn start(mut client: EchoClient) -> Self {
        let state = Arc::new(Mutex::new((Seen::default(), Instant::now())));
        let stop = Arc::new(AtomicBool::new(false));
        let (state_of_thread, stop_of_thread) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            for number in 0_u64.. {
                if stop_of_thread.load(Ordering::Relaxed) {
                    return;
                }
                let answer = client.exchange(&number.to_string());
                let lost_stream = answer.is_err() && matches!(client, EchoClient::Tcp(_));
                record(&state_of_thread, answer);
                if lost_stream {
                    return;
                }
                thread::sleep(PAUSE);
            }
        });
        Self {
            state,
            stop,
            thread: Some(thread),
        }
    }

    /// What has been seen since the start or the last [`Flow::reset`].
    pub fn seen(&self) -> Seen {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = state.0.clone();
        seen.longest_gap = seen.longest_gap.max(state.1.elapsed());
        seen
    }

    /// Starts to count afresh.
    pub fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = (Seen::default(), Instant::now());
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn record(state: &Mutex<(Seen, Instant)>, answer: io::Result<SocketAddr>) {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let (seen, last) = &mut *state;
    match answer {
        Ok(address) => {
            seen.answers += 1;
            seen.longest_gap = seen.longest_gap.max(last.elapsed());
            seen.addresses.insert(address);
            *last = Instant::now();
        }
        // A late answer to the question before: the client is in step again with the next one.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
        Err(error) => {
            seen.failures += 1;
            seen.last_error = Some(error.to_string());
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn listen(namespace: &Namespace, address: &str) -> TcpListener {
    namespace
        .enter(|| TcpListener::bind(address))
        .unwrap_or_else(|error| panic!("cannot listen on {address} in {}: {error}", namespace.name()))
}

fn bind(namespace: &Namespace, address: &str) -> UdpSocket {
    namespace
        .enter(|| UdpSocket::bind(address))
        .unwrap_or_else(|error| panic!("cannot bind {address} in {}: {error}", namespace.name()))
}
