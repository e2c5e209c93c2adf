//! The pair that this gateway is half of.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::{Failure, Shared, Shown};
use crate::api::{StandbyView, Takeover};

/// How far sending and receiving are.
pub(super) async fn show(State(shared): State<Arc<Shared>>) -> Shown<StandbyView> {
    let mut sending = shared.standby.sending();
    if let Some(sending) = &mut sending {
        for worker in 0..shared.workers() {
            sending.backlog += shared.ask_worker(worker, |engine| engine.stream_backlog()).await?;
        }
    }
    let receiving = shared.standby.receiving();
    Ok(Json(StandbyView { sending, receiving }))
}

/// Puts the received connections into the engines.
pub(super) async fn takeover(State(shared): State<Arc<Shared>>) -> Shown<Takeover> {
    let pick_up = shared.config.nat.pick_up;
    let taken = shared.standby.take_over(&shared.dataplane, pick_up).await;
    taken.map(Json).map_err(|text| Failure(StatusCode::CONFLICT, text))
}
