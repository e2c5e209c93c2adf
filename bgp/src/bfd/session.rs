//! One BFD session without sockets and without a clock (RFC 5880 section 6): asynchronous mode, active role.
//!
//! [`Session::handle`] takes what happens and the time, [`Session::poll_output`] says what to do until it says nothing
//! more, and [`Event::Timeout`] is due at [`Session::poll_timeout`].

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::packet::{Control, Diagnostic, LENGTH, State};

/// Interval while the session is not up, at least (RFC 5880 section 6.8.3).
const SLOW: Duration = Duration::from_secs(1);
/// What a side that was never heard is taken to receive (RFC 5880 section 6.8.1).
const UNHEARD_MIN_RX: Duration = Duration::from_micros(1);
/// Copies of the last packet: one that is lost would make the neighbour believe in a failure.
const FAREWELLS: usize = 3;

/// What a session is told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Shortest interval at which we want to send; not 0.
    pub min_tx: Duration,
    /// Shortest interval at which we can receive; not 0.
    pub min_rx: Duration,
    /// Packets in a row that the neighbour may miss; not 0.
    pub multiplier: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_tx: Duration::from_millis(300),
            min_rx: Duration::from_millis(300),
            multiplier: 3,
        }
    }
}

/// What happens to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A packet of the neighbour that is for this session.
    Received(Control),
    /// Other intervals or another multiplier; a session that is up stays so.
    Configure(Config),
    /// The operator does not want the session any more: the neighbour is told that this is no failure.
    AdminDown,
    /// The time of [`Session::poll_timeout`] has come.
    Timeout,
}

/// What to do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Send to the neighbour.
    Send([u8; LENGTH]),
    /// The neighbour is reached, both ways.
    Up,
    /// It was, and is no more.
    Down(Cause),
}

/// Why a session that was up is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Nothing was heard for the detection time.
    TimeExpired,
    /// The neighbour does not hear us, or has restarted; its diagnostic.
    NeighborDown(Diagnostic),
    /// The neighbour's operator ended the session: says nothing of the path (RFC 5882 section 3.2).
    NeighborAdminDown,
    /// Our operator did.
    AdminDown,
}

impl Cause {
    /// True if the path to the neighbour has failed.
    pub const fn is_failure(self) -> bool {
        matches!(self, Self::TimeExpired | Self::NeighborDown(_))
    }
}

/// What the neighbour last said of itself.
#[derive(Debug, Clone, Copy)]
struct Remote {
    state: State,
    diagnostic: Diagnostic,
    discriminator: u32,
    min_tx: Duration,
    min_rx: Duration,
    multiplier: u8,
    demand: bool,
}

impl Remote {
    const UNHEARD: Self = Self {
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        discriminator: 0,
        min_tx: Duration::ZERO,
        min_rx: UNHEARD_MIN_RX,
        multiplier: 0,
        demand: false,
    };
}

/// Counts of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Packets of the neighbour that were taken.
    pub packets_in: u64,
    /// Packets to the neighbour.
    pub packets_out: u64,
    /// Times that the session came up.
    pub ups: u64,
    /// Times that it left `Up`.
    pub downs: u64,
}

/// One session with one neighbour.
#[derive(Debug)]
pub struct Session {
    config: Config,
    discriminator: u32,
    random: u64,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    /// Our intervals in use. What is announced runs ahead of them while a poll is under way (RFC 5880 section 6.8.3).
    tx: Duration,
    rx: Duration,
    polling: bool,
    last_sent: Option<Instant>,
    next_send: Option<Instant>,
    /// The base of `next_send`, before jitter.
    interval: Option<Duration>,
    expires: Option<Instant>,
    up_since: Option<Instant>,
    last_down: Option<Cause>,
    statistics: Statistics,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session that begins to send at once. `discriminator` is its name among ours and not 0; `seed` feeds the jitter.
    pub fn new(config: Config, discriminator: u32, seed: u64, now: Instant) -> Self {
        let mut session = Self {
            config,
            discriminator,
            random: seed,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::UNHEARD,
            tx: Duration::ZERO,
            rx: config.min_rx,
            polling: false,
            last_sent: None,
            next_send: Some(now),
            interval: None,
            expires: None,
            up_since: None,
            last_down: None,
            statistics: Statistics::default(),
            outputs: VecDeque::new(),
        };
        session.tx = session.desired_min_tx();
        session
    }

    /// Our name of the session.
    pub const fn discriminator(&self) -> u32 {
        self.discriminator
    }

    /// The neighbour's name of the session; 0 while it is not known.
    pub const fn remote_discriminator(&self) -> u32 {
        self.remote.discriminator
    }

    /// Our state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// The neighbour's state as it last said.
    pub const fn remote_state(&self) -> State {
        self.remote.state
    }

    /// Why we last left `Up`, as the neighbour is told.
    pub const fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// Why the neighbour last left `Up`, as it says.
    pub const fn remote_diagnostic(&self) -> Diagnostic {
        self.remote.diagnostic
    }

    /// Since when the session is up.
    pub const fn up_since(&self) -> Option<Instant> {
        self.up_since
    }

    /// Why the session last left `Up`.
    pub const fn last_down(&self) -> Option<Cause> {
        self.last_down
    }

    /// Counts since the session was made.
    pub const fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Interval of our packets before jitter; `None` while the neighbour wants none.
    pub fn send_interval(&self) -> Option<Duration> {
        // Both are up and it is sure of that by other means (RFC 5880 section 6.8.7).
        let on_demand =
            self.remote.demand && self.state == State::Up && self.remote.state == State::Up && !self.polling;
        (!on_demand && !self.remote.min_rx.is_zero() && self.state != State::AdminDown)
            .then(|| self.tx.max(self.remote.min_rx))
    }

    /// Silence after which the neighbour is taken to be gone (RFC 5880 section 6.8.4); `None` while it is not heard.
    pub fn detection_time(&self) -> Option<Duration> {
        (self.remote.multiplier > 0).then(|| self.rx.max(self.remote.min_tx) * u32::from(self.remote.multiplier))
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Event::Timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.next_send, self.expires].into_iter().flatten().min()
    }

    /// Takes one event.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Received(control) => self.received(&control, now),
            Event::Configure(config) => self.configure(config),
            Event::AdminDown => {
                self.leave(State::AdminDown, Diagnostic::ADMIN_DOWN, Cause::AdminDown, now);
                self.polling = false;
                self.expires = None;
                for _ in 0..FAREWELLS {
                    self.send(false);
                }
            }
            Event::Timeout => {
                if self.expires.is_some_and(|at| at <= now) {
                    self.expired(now);
                    // At another interval the next packet may be due already.
                    self.schedule(now);
                }
                if self.next_send.is_some_and(|at| at <= now) {
                    self.last_sent = Some(now);
                    self.next_send = None;
                    self.interval = None;
                    self.send(false);
                }
            }
        }
        self.schedule(now);
    }

    /// RFC 5880 section 6.8.6, after the packet was found to be for this session.
    fn received(&mut self, control: &Control, now: Instant) {
        if self.state == State::AdminDown {
            return;
        }
        self.statistics.packets_in += 1;
        self.remote = Remote {
            state: control.state,
            diagnostic: control.diagnostic,
            discriminator: control.my_discriminator,
            min_tx: control.desired_min_tx,
            min_rx: control.required_min_rx,
            multiplier: control.multiplier,
            demand: control.demand,
        };
        if control.is_final && self.polling {
            self.polling = false;
            self.tx = self.desired_min_tx();
            self.rx = self.config.min_rx;
        }
        match (self.state, control.state) {
            (State::Up | State::Init, State::AdminDown) => {
                self.leave(State::Down, Diagnostic::NEIGHBOR_DOWN, Cause::NeighborAdminDown, now);
            }
            (State::Up, State::Down) => {
                let cause = Cause::NeighborDown(control.diagnostic);
                self.leave(State::Down, Diagnostic::NEIGHBOR_DOWN, cause, now);
            }
            (State::Down, State::Down) => self.enter(State::Init, now),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => self.enter(State::Up, now),
            _ => {}
        }
        self.expires = self.detection_time().map(|time| now + time);
        if control.poll {
            self.send(true);
        }
    }

    fn expired(&mut self, now: Instant) {
        self.expires = None;
        if matches!(self.state, State::Init | State::Up) {
            self.leave(State::Down, Diagnostic::TIME_EXPIRED, Cause::TimeExpired, now);
        }
        // Who comes back may have another name (RFC 5880 section 6.8.1), and has to ask for silence anew.
        self.remote = Remote {
            diagnostic: self.remote.diagnostic,
            ..Remote::UNHEARD
        };
    }

    fn configure(&mut self, config: Config) {
        let changed = (config.min_tx, config.min_rx) != (self.config.min_tx, self.config.min_rx);
        self.config = config;
        if self.state == State::Up && changed {
            self.polling = true;
        }
        self.settle_intervals();
    }

    /// Takes announced intervals into use, but for those that the neighbour has to know first.
    fn settle_intervals(&mut self) {
        let (tx, rx) = (self.desired_min_tx(), self.config.min_rx);
        if self.state != State::Up || tx < self.tx {
            self.tx = tx;
        }
        if self.state != State::Up || rx > self.rx {
            self.rx = rx;
        }
    }

    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        if state == State::Up {
            self.diagnostic = Diagnostic::NONE;
            self.up_since = Some(now);
            self.statistics.ups += 1;
            self.outputs.push_back(Output::Up);
            // From the slow interval to the configured one.
            self.polling = true;
            self.settle_intervals();
        }
        self.next_send = Some(now);
    }

    fn leave(&mut self, state: State, diagnostic: Diagnostic, cause: Cause, now: Instant) {
        let was_up = self.state == State::Up;
        self.state = state;
        self.diagnostic = diagnostic;
        self.polling = false;
        self.up_since = None;
        if was_up {
            self.statistics.downs += 1;
            self.last_down = Some(cause);
            self.outputs.push_back(Output::Down(cause));
        }
        self.settle_intervals();
        self.next_send = Some(now);
    }

    /// What we announce (RFC 5880 section 6.8.3).
    fn desired_min_tx(&self) -> Duration {
        if self.state == State::Up {
            self.config.min_tx
        } else {
            self.config.min_tx.max(SLOW)
        }
    }

    fn send(&mut self, is_final: bool) {
        let control = Control {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling && !is_final,
            is_final,
            control_plane_independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.config.min_rx,
        };
        self.statistics.packets_out += 1;
        self.outputs.push_back(Output::Send(control.encode()));
    }

    /// Sets the time of the next packet anew if the interval has changed; one that is due at once stays so.
    fn schedule(&mut self, now: Instant) {
        let interval = self.send_interval();
        if interval == self.interval && self.next_send.is_some() == interval.is_some() {
            return;
        }
        self.interval = interval;
        let Some(interval) = interval else {
            self.next_send = None;
            return;
        };
        if self.next_send.is_some_and(|at| at <= now) {
            return;
        }
        let jittered = self.jitter(interval);
        self.next_send = Some(self.last_sent.unwrap_or(now) + jittered);
    }

    /// 75 to 100 % of the interval, or to 90 % if a single loss ends the session (RFC 5880 section 6.8.7).
    fn jitter(&mut self, interval: Duration) -> Duration {
        let span = if self.config.multiplier == 1 { 151 } else { 251 };
        let parts = 750 + u32::try_from(draw(&mut self.random) % span).expect("a remainder of 251 fits");
        interval * parts / 1000
    }
}

/// SplitMix64: spreads well from any seed.
pub(super) const fn draw(random: &mut u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
