//! Both tasks over pipes: what one has the other keeps, also after a connection was lost.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nat::snapshot::{Pooled, SavedConnection};
use nat::standby::{Change, News, Place, Receiver, ReceiverState};
use nat::{ConnectionState, FlowKey};
use net::VrfId;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::send::{Sending, Source};
use super::transport::Transport;
use super::{Ended, Time, lock, receive, send};
use crate::api::SendingState;
use crate::manager::clock;

/// Connections that the test makes.
struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Transport for Pipes {
    type Stream = DuplexStream;

    async fn open(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(pipe) => Ok(pipe),
            None => std::future::pending().await,
        }
    }
}

/// One worker with so many connections, which tells of them all at each beginning.
struct Table {
    connections: u32,
    news: VecDeque<Change>,
    ended: Arc<Mutex<Vec<u64>>>,
}

impl Source for Table {
    fn workers(&self) -> u16 {
        1
    }

    async fn begin(&mut self, stream: u64) -> Result<(), Ended> {
        let connection = |slot: u32| {
            let key = FlowKey::v4(VrfId(1), 6, slot, 2, 3, 4);
            let place = Place { worker: 0, slot };
            let saved = SavedConnection {
                keys: [key, key.reversed()],
                pooled: Pooled::Own,
                state: ConnectionState::Established,
                fins: 0,
                sequences: [0; 2],
                flow_hash: 0,
                idle: 0,
                packets: [0; 2],
                bytes: [0; 2],
            };
            News::Is(place, saved)
        };
        let all = (0..self.connections).map(connection).chain([News::AllTold(0)]);
        self.news = all.map(|news| Change { stream, news }).collect();
        Ok(())
    }

    fn end(&mut self, stream: u64) {
        lock(&self.ended).push(stream);
    }

    fn next(&mut self) -> Option<Change> {
        self.news.pop_front()
    }
}

/// Waits for a minute at most.
async fn eventually(mut reached: impl FnMut() -> bool, what: &str) {
    for _ in 0..12_000 {
        if reached() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} does not happen");
}

#[tokio::test]
async fn a_standby_has_everything_and_has_it_again_after_a_lost_connection() {
    const CONNECTIONS: u32 = 20_000;
    let (to_sender, sender_pipes) = mpsc::unbounded_channel();
    let (to_receiver, receiver_pipes) = mpsc::unbounded_channel();
    // Smaller than a batch: writes are cut in the midst of messages.
    let connect = || {
        let (one, other) = tokio::io::duplex(1_000);
        to_receiver.send(other).expect("the receiver runs");
        to_sender.send(one).expect("the sender runs");
    };
    let time = Time(clock());
    let ended = Arc::default();
    let table = Table {
        connections: CONNECTIONS,
        news: VecDeque::new(),
        ended: Arc::clone(&ended),
    };
    let sending = Arc::new(Mutex::new(Sending::new(([127, 0, 0, 1], 1).into())));
    let receiver = Arc::new(Mutex::new(Receiver::new(CONNECTIONS)));
    let notes = Arc::default();
    let tasks = [
        tokio::spawn(send::run(
            Pipes(sender_pipes),
            table,
            Arc::clone(&sending),
            100,
            time.clone(),
        )),
        tokio::spawn(receive::run(
            Pipes(receiver_pipes),
            Arc::clone(&receiver),
            Arc::clone(&notes),
            time,
        )),
    ];
    let whole = |stream| {
        let (sending, receiver) = (lock(&sending).view(), lock(&receiver));
        sending.state == SendingState::Synchronized
            && sending.lag == 0
            && receiver.state() == ReceiverState::Synchronized
            && receiver.stream() == Some(stream)
            && receiver.connections() == CONNECTIONS as usize
    };
    connect();
    eventually(|| whole(101), "the first stream").await;
    // A newer connection takes the place of the older one, whose other end notices.
    connect();
    eventually(|| whole(102), "the second stream").await;
    let notes: receive::Notes = lock(&notes).clone();
    assert_eq!((notes.sessions, lock(&ended).clone()), (2, vec![101]));
    let last_error = lock(&sending).view().last_error;
    assert!(last_error.is_some_and(|error| error.contains("closed")));
    for task in tasks {
        assert!(!task.is_finished());
        task.abort();
    }
}
