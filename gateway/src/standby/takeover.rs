//! Takeover: received connections are put into the engines of this gateway.
//!
//! Routes are not touched: a connection that is taken over and whose packets go on elsewhere only grows old here. So it
//! does no harm to take over too early, or twice.

use std::sync::Arc;
use std::time::Duration;

use dataplane::Dataplane;
use nat::NotRestored;
use nat::snapshot::SavedConnection;
use tokio::sync::oneshot;

use super::{Standby, lock};
use crate::api::Takeover;

/// Connections that a worker is given between two bursts.
const PAGE: usize = 512;
/// How long a worker may take for them.
const PATIENCE: Duration = Duration::from_secs(5);

impl Standby {
    /// Puts every received connection into the workers' engines. TCP segments of connections that are not among them
    /// may begin some in their midst for `pick_up` seconds.
    ///
    /// # Errors
    /// Text that says what is missing: `listen`, or a worker that answers. What was not taken over is kept.
    pub(crate) async fn take_over(&self, dataplane: &Dataplane, pick_up: u32) -> Result<Takeover, String> {
        let (Some(receiving), Some(time)) = (&self.receiving, &self.time) else {
            return Err("no other gateway's connections are received here: set `standby.listen`".to_owned());
        };
        let (mut kept, passed) = {
            let mut receiver = lock(&receiving.receiver);
            let passed = receiver.silent(time.now()) / 1000;
            (receiver.take(), u32::try_from(passed).unwrap_or(u32::MAX))
        };
        let mut done = Takeover {
            received: kept.len(),
            ..Takeover::default()
        };
        for worker in 0..dataplane.counters().len() {
            dataplane.with_connections(worker, move |engine| engine.pick_up_for(pick_up));
        }
        while !kept.is_empty() {
            let rest = kept.split_off(kept.len().min(PAGE));
            let page: Arc<[SavedConnection]> = kept.iter().map(|(_, connection)| *connection).collect();
            match take_over_page(dataplane, &page, passed).await {
                Some(page) => done.add(&page),
                None => {
                    kept.extend(rest);
                    lock(&receiving.receiver).put_back(kept);
                    return Err(format!(
                        "{} connections are taken over; a worker did not answer in time for the others: ask again",
                        done.taken_over
                    ));
                }
            }
            kept = rest;
        }
        tracing::info!(
            received = done.received,
            taken_over = done.taken_over,
            silent_seconds = passed,
            "connections of the primary taken over"
        );
        Ok(done)
    }
}

/// Offers a page to every worker: each takes its own.
async fn take_over_page(dataplane: &Dataplane, page: &Arc<[SavedConnection]>, passed: u32) -> Option<Takeover> {
    let mut answers = Vec::new();
    for worker in 0..dataplane.counters().len() {
        let (sender, receiver) = oneshot::channel();
        let page = Arc::clone(page);
        let asked = dataplane.with_tables(worker, move |engine, tables| {
            let mut done = Takeover::default();
            for connection in page.iter() {
                done.count(engine.take_over(connection, passed, tables));
            }
            // Nobody waits for the answer any more: nothing to do.
            let _ = sender.send(done);
        });
        if !asked {
            return None;
        }
        answers.push(receiver);
    }
    let mut done = Takeover::default();
    for answer in answers {
        done.add(&tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?);
    }
    Some(done)
}

impl Takeover {
    fn count(&mut self, result: Result<(), NotRestored>) {
        let count = match result {
            Ok(()) => &mut self.taken_over,
            Err(NotRestored::NotOurs) => return,
            Err(NotRestored::TooOld) => &mut self.too_old,
            Err(NotRestored::Policy) => &mut self.not_allowed,
            Err(NotRestored::Taken) => &mut self.port_taken,
            Err(NotRestored::Full) => &mut self.table_full,
        };
        *count += 1;
    }

    fn add(&mut self, other: &Self) {
        self.taken_over += other.taken_over;
        self.too_old += other.too_old;
        self.not_allowed += other.not_allowed;
        self.port_taken += other.port_taken;
        self.table_full += other.table_full;
    }
}
