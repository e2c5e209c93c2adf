//! The thread that runs the sessions: sockets and the clock around [`super::engine`].
//!
//! What has come is taken before timers are looked at: a thread that was kept from running must not take its own silence
//! for the neighbour's.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{self, IpAddr};
use std::time::Instant;

use ::net::IfIndex;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use super::engine::Engine;
use super::session::{Cause, Config, Output};
use super::{BfdState, PORT, socket};
use crate::Error;

/// Packets taken from a socket before timers get their turn.
const BATCH: usize = 1024;

/// Called when the path to a neighbour has failed.
type Failed = Box<dyn Fn(Cause) + Send>;

/// A session to have.
pub(crate) struct Wanted {
    /// Address of the neighbour.
    pub(crate) neighbor: IpAddr,
    /// Where a link-local neighbour is.
    pub(crate) interface: Option<IfIndex>,
    /// Address to send from.
    pub(crate) local: Option<IpAddr>,
    /// Intervals and multiplier.
    pub(crate) config: Config,
    /// Whom to tell of a failure.
    pub(crate) failed: Failed,
}

enum Order {
    Listen(net::UdpSocket),
    Set(Wanted),
    Remove(IpAddr),
    View(oneshot::Sender<BfdState>),
    Stop(oneshot::Sender<()>),
}

/// The running sessions. Dropping it ends them; the neighbours are told.
#[derive(Debug)]
pub(crate) struct Bfd {
    orders: mpsc::UnboundedSender<Order>,
    /// Listening sockets that are open: IPv4, IPv6.
    listening: [bool; 2],
}

impl Bfd {
    /// Starts the thread, without sessions.
    ///
    /// # Errors
    /// The system has no thread or no event queue left.
    pub(crate) fn start() -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::BfdThread)?;
        let (orders, received) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || runtime.block_on(Driver::new().run(received)))
            .map_err(Error::BfdThread)?;
        Ok(Self {
            orders,
            listening: [false; 2],
        })
    }

    /// Listens for neighbours of a family, if it does not yet.
    ///
    /// # Errors
    /// The port is taken, or the right to bind is missing.
    pub(crate) fn listen(&mut self, v6: bool) -> Result<(), Error> {
        let open = &mut self.listening[usize::from(v6)];
        if !*open {
            let socket = socket::listen(v6).map_err(|source| Error::BfdListen { port: PORT, source })?;
            *open = true;
            self.order(Order::Listen(socket));
        }
        Ok(())
    }

    /// Begins a session, or gives the one that there is other intervals.
    pub(crate) fn set(&self, wanted: Wanted) {
        self.order(Order::Set(wanted));
    }

    /// Ends a session.
    pub(crate) fn remove(&self, neighbor: IpAddr) {
        self.order(Order::Remove(neighbor));
    }

    /// Has every session answered to `reply`.
    pub(crate) fn view(&self, reply: oneshot::Sender<BfdState>) {
        self.order(Order::View(reply));
    }

    /// Ends every session, and waits until the neighbours have been told.
    pub(crate) async fn stop(self) {
        let (reply, done) = oneshot::channel();
        self.order(Order::Stop(reply));
        // The thread drops the sender when it is done, or has died: both mean that nothing is left to wait for.
        let _ = done.await;
    }

    fn order(&self, order: Order) {
        // A thread that has died shows in the view; sessions of BGP go on without it.
        let _ = self.orders.send(order);
    }
}

struct Speaking {
    socket: Option<net::UdpSocket>,
    interface: Option<IfIndex>,
    local: Option<IpAddr>,
    failed: Failed,
    /// The log has been told that packets do not leave.
    complained: bool,
}

struct Driver {
    engine: Engine,
    listening: [Option<UdpSocket>; 2],
    speaking: HashMap<IpAddr, Speaking>,
    random: RandomState,
}

/// What woke the thread.
enum Turn {
    Order(Option<Order>),
    Wake,
}

impl Driver {
    fn new() -> Self {
        let random = RandomState::new();
        Self {
            engine: Engine::new(random.hash_one(PORT)),
            listening: [None, None],
            speaking: HashMap::new(),
            random,
        }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let more = self.receive();
            self.engine.timeout(now());
            self.perform();
            let [v4, v6] = &self.listening;
            let turn = tokio::select! {
                order = orders.recv() => Turn::Order(order),
                () = readable(v4.as_ref()) => Turn::Wake,
                () = readable(v6.as_ref()) => Turn::Wake,
                () = sleep_until(self.engine.poll_timeout()) => Turn::Wake,
                () = tokio::task::yield_now(), if more => Turn::Wake,
            };
            match turn {
                Turn::Order(Some(Order::Stop(done))) => {
                    self.end();
                    drop(done);
                    return;
                }
                Turn::Order(None) => return self.end(),
                Turn::Order(Some(order)) => self.order(order),
                Turn::Wake => {}
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Listen(socket) => {
                let v6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
                match UdpSocket::from_std(socket) {
                    Ok(socket) => self.listening[usize::from(v6)] = Some(socket),
                    Err(error) => warn!(%error, "cannot wait for BFD packets: sessions stay down"),
                }
            }
            Order::Set(wanted) => self.set(wanted),
            Order::Remove(neighbor) => {
                self.engine.remove(neighbor, now());
                self.perform();
                self.speaking.remove(&neighbor);
            }
            // Whoever asked may have stopped waiting for the answer.
            Order::View(reply) => drop(reply.send(self.engine.view(now()))),
            Order::Stop(_) => {}
        }
    }

    fn set(&mut self, wanted: Wanted) {
        let Wanted {
            neighbor,
            interface,
            local,
            config,
            failed,
        } = wanted;
        let same_place = |known: &Speaking| (known.interface, known.local) == (interface, local);
        let socket = self
            .speaking
            .remove(&neighbor)
            .filter(same_place)
            .and_then(|known| known.socket);
        let speaking = Speaking {
            socket,
            interface,
            local,
            failed,
            complained: false,
        };
        self.speaking.insert(neighbor, speaking);
        self.engine.set(neighbor, interface, config, now());
    }

    /// Takes what has come on either socket; true if there may be more.
    fn receive(&mut self) -> bool {
        let mut more = false;
        for listening in self.listening.iter().flatten() {
            let mut left = BATCH;
            while left > 0 {
                left -= 1;
                let engine = &mut self.engine;
                let taken = socket::receive(listening, |packet| {
                    if let Err(reason) = engine.receive(packet, now()) {
                        debug!(from = %packet.from, %reason, "BFD packet discarded");
                    }
                });
                match taken {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => debug!(%error, "cannot receive a BFD packet"),
                }
            }
            more |= left == 0;
        }
        more
    }

    fn perform(&mut self) {
        while let Some((neighbor, output)) = self.engine.poll_output() {
            match output {
                Output::Send(bytes) => self.send(neighbor, &bytes),
                Output::Up => info!(%neighbor, "BFD session up"),
                Output::Down(cause) => {
                    warn!(%neighbor, %cause, "BFD session down");
                    if cause.is_failure()
                        && let Some(speaking) = self.speaking.get(&neighbor)
                    {
                        (speaking.failed)(cause);
                    }
                }
            }
        }
    }

    /// Sends a packet. One that does not leave is lost like any other, and the next is tried anew.
    fn send(&mut self, neighbor: IpAddr, bytes: &[u8]) {
        let Some(speaking) = self.speaking.get_mut(&neighbor) else {
            return;
        };
        let destination = socket::destination(neighbor, speaking.interface);
        let sent = speak(speaking, neighbor, &self.random).and_then(|socket| socket.send_to(bytes, destination));
        match sent {
            Ok(_) => speaking.complained = false,
            Err(error) if speaking.complained => debug!(%neighbor, %error, "cannot send BFD packet once more"),
            Err(error) => {
                speaking.complained = true;
                warn!(%neighbor, %error, "cannot send BFD packets");
            }
        }
    }

    fn end(&mut self) {
        for neighbor in self.engine.neighbors() {
            self.engine.remove(neighbor, now());
        }
        self.perform();
    }
}

/// The socket of a session, opened when it is first needed: its address may not be there before.
fn speak<'a>(speaking: &'a mut Speaking, neighbor: IpAddr, random: &RandomState) -> io::Result<&'a net::UdpSocket> {
    let socket = match speaking.socket.take() {
        Some(socket) => socket,
        None => socket::speak(neighbor, speaking.local, speaking.interface, random.hash_one(neighbor))?,
    };
    Ok(speaking.socket.insert(socket))
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits until a socket may have something. What is there is taken before the next wait, whatever the runtime knows of it.
async fn readable(socket: Option<&UdpSocket>) {
    match socket {
        Some(socket) if socket.readable().await.is_ok() => {
            let forget = || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into());
            // Always the error that was asked for.
            let _ = socket.try_io(Interest::READABLE, forget);
        }
        // An error says that the runtime is gone.
        _ => std::future::pending().await,
    }
}
