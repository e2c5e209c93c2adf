//! The pools and counters of NAT.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nat::Stats;

use super::{Shared, Shown};
use crate::api::{NatView, PoolRow};

/// Pools as they were last looked at, and counters of all workers together.
pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Shown<NatView> {
    let mut view = NatView::default();
    for worker in 0..shared.workers() {
        view.add(&shared.ask_worker(worker, |engine| engine.stats()).await?);
    }
    let pools = shared.pools.lock();
    view.pool_warnings = pools.warnings();
    let row = |pool: &nat::PoolView| PoolRow {
        vpc_name: shared.config.vrf_name(pool.vrf).to_owned(),
        pool: *pool,
    };
    view.pools = pools.pools().map(row).collect();
    Ok(Json(view))
}

impl NatView {
    fn add(&mut self, stats: &Stats) {
        self.connections += u64::from(stats.connections);
        self.capacity += u64::from(stats.capacity);
        self.unrouted += u64::from(stats.unrouted);
        self.mappings += u64::from(stats.mappings);
        self.blocks += u64::from(stats.blocks);
        self.created += stats.created;
        self.ended += stats.ended.total();
        self.evicted += stats.ended.evicted;
        self.ports_exhausted += stats.ports_exhausted;
        self.tenant_limited += stats.tenant_limited;
        self.subscriber_limited += stats.subscriber_limited;
        self.table_full += stats.table_full;
        self.block_events_lost += stats.block_events_lost;
        self.session_events_lost += stats.session_events_lost;
    }
}
