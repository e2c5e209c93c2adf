//! MRT table dumps, written while they are sent: a full table is never in memory as a file.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes};
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use bgp::mrt::{Table, TableDump};
use futures::stream;
use tokio::sync::mpsc;

use super::{Failure, Shared, policy};

/// Bytes of one piece, about.
const PIECE: usize = 64 * 1024;
/// Pieces that wait for the client.
const PIECES: usize = 4;

/// The adj-rib-ins, or with `table=loc-rib` the loc-rib.
pub(super) async fn mrt(
    State(shared): State<Arc<Shared>>,
    Parameters(parameters): Parameters<HashMap<String, String>>,
) -> Result<Body, Failure> {
    let table = match parameters.get("table").map(String::as_str) {
        None | Some("adj-rib-in") => Table::AdjRibIn,
        Some("loc-rib") => Table::LocRib,
        Some(other) => {
            let text = format!("table `{other}` is not known: say adj-rib-in or loc-rib");
            return Err(Failure(StatusCode::BAD_REQUEST, text));
        }
    };
    let snapshot = policy::speaker(&shared)?.snapshot(table).await;
    let dump = tokio::task::spawn_blocking(move || TableDump::new(snapshot, now()))
        .await
        .map_err(|error| Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
        .map_err(|error| Failure(StatusCode::CONFLICT, error.to_string()))?;
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || write(dump, &sender));
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        let piece: Bytes = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), receiver))
    });
    Ok(Body::from_stream(pieces))
}

fn write(dump: TableDump, sender: &mpsc::Sender<Bytes>) {
    let mut piece = Vec::with_capacity(PIECE);
    for record in dump {
        piece.extend_from_slice(&record);
        if piece.len() >= PIECE && sender.blocking_send(std::mem::take(&mut piece).into()).is_err() {
            // The client has gone.
            return;
        }
    }
    // So it may have now.
    let _ = sender.blocking_send(piece.into());
}

#[allow(clippy::disallowed_methods, reason = "an edge: a dump says when it was made")]
fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
