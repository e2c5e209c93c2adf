//! Looks at the pools every second, and warns in the log, on its own target `nat::pool`, before one runs out.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use config::Config;
use dataplane::Dataplane;
use nat::{PoolUse, PoolView, PoolWatch};
use tokio::sync::oneshot;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was seen last, to be shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pools(Arc<Mutex<PoolWatch>>);

impl Pools {
    pub(crate) fn lock(&self) -> MutexGuard<'_, PoolWatch> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Runs until the data plane ends.
pub(crate) async fn run(dataplane: Weak<Dataplane>, config: Config, pools: Pools) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let mut answers = Vec::new();
        {
            let Some(dataplane) = dataplane.upgrade() else { return };
            for worker in 0..dataplane.counters().len() {
                let (sender, receiver) = oneshot::channel();
                let asked = dataplane.with_connections(worker, move |engine| {
                    // Nobody waits for the answer any more: nothing to do.
                    let _ = sender.send(engine.pools());
                });
                if asked {
                    answers.push(receiver);
                }
            }
        }
        if let Some(shares) = collect(answers).await {
            let news = pools.lock().look(&shares);
            news.iter().for_each(|pool| report(pool, config.vrf_name(pool.vrf)));
        }
    }
}

/// What all of them say; `None` if one does not answer: the others alone would look like another pool.
async fn collect(answers: Vec<oneshot::Receiver<Vec<PoolUse>>>) -> Option<Vec<PoolUse>> {
    let mut shares = Vec::new();
    for answer in answers {
        shares.extend(tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()?);
    }
    Some(shares)
}

fn report(pool: &PoolView, vpc: &str) {
    let PoolView {
        position,
        kind,
        used,
        capacity,
        percent,
        ..
    } = *pool;
    if pool.warned {
        tracing::warn!(
            target: "nat::pool", vpc, position, ?kind, used, capacity, percent,
            "a pool is nearly used up: give it more addresses or ports, or limit hosts"
        );
    } else {
        tracing::info!(target: "nat::pool", vpc, position, ?kind, used, capacity, percent, "a pool has room again");
    }
}
