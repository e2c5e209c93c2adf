//! The tasks that write: routes, paced by acknowledgements, and requests to resolve neighbours.

use std::net::IpAddr;
use std::sync::Arc;

use net::IfIndex;
use nix::libc;
use tokio::sync::mpsc;

use crate::Error;
use crate::frame::Nack;
use crate::message::{Mark, use_neighbor};
use crate::mirror::Shared;
use crate::outbound::{Outcome, Write};
use crate::socket::Netlink;

/// Writes that are sent in one go; the next ones go when all of them are answered.
const WINDOW: usize = 64;
/// Rounds of dump and delete at shutdown, for what is written between the two by somebody with our mark.
const ROUNDS: usize = 3;

/// Writes routes as long as there are any, then sleeps until there are more.
pub(crate) async fn write_routes(shared: Arc<Shared>, mut socket: Netlink) {
    let mut batch = Vec::with_capacity(WINDOW);
    loop {
        {
            let mut outbound = shared.outbound();
            batch.extend(std::iter::from_fn(|| outbound.next_write()).take(WINDOW));
        }
        if batch.is_empty() {
            shared.work.notified().await;
            continue;
        }
        let requests = batch
            .iter()
            .map(|(table, prefix, write)| shared.mark(*table).route(*prefix, write));
        let answers = socket.request("write routes", requests).await;
        let mut outbound = shared.outbound();
        match answers {
            Ok(answers) => {
                for ((table, prefix, write), answer) in batch.drain(..).zip(answers) {
                    outbound.done(table, prefix, outcome(&write, answer));
                }
            }
            // Not known to be written or not: a check finds out.
            Err(error) => {
                tracing::warn!(%error, routes = batch.len(), "routes could not be written");
                for (table, prefix, _) in batch.drain(..) {
                    outbound.done(table, prefix, Outcome::Refused(error.to_string()));
                }
                shared.unsure.notify_one();
            }
        }
    }
}

fn outcome(write: &Write, answer: Result<(), Nack>) -> Outcome {
    match (write, answer) {
        (_, Ok(())) => Outcome::Done,
        (
            Write::Remove,
            Err(Nack {
                errno: libc::ESRCH | libc::ENOENT | libc::ENODEV,
                ..
            }),
        )
        | (
            Write::Replace(_),
            Err(Nack {
                errno: libc::ENOENT, ..
            }),
        ) => Outcome::Missing,
        (_, Err(nack)) => Outcome::Refused(nack.to_string()),
    }
}

/// Asks the kernel for the neighbours that come in by `wanted`.
pub(crate) async fn resolve_neighbors(mut socket: Netlink, mut wanted: mpsc::Receiver<(IfIndex, IpAddr)>) {
    let mut batch = Vec::with_capacity(WINDOW);
    while wanted.recv_many(&mut batch, WINDOW).await > 0 {
        let requests = batch
            .iter()
            .map(|&(interface, address)| use_neighbor(interface, address));
        match socket.request("resolve neighbours", requests).await {
            Ok(answers) => {
                for ((interface, address), answer) in batch.drain(..).zip(answers) {
                    if let Err(reason) = answer {
                        tracing::debug!(%interface, %address, %reason, "the kernel does not resolve the neighbour");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "neighbours could not be asked for");
                batch.clear();
            }
        }
    }
}

/// Removes every route of our protocol in our tables, except those of the metric `but`: a change of the configured metric
/// leaves none of an earlier run behind.
pub(crate) async fn remove_ours(socket: &mut Netlink, shared: &Shared, but: Option<u32>) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        let mut ours = socket.dump_routes(Some(shared.config.protocol)).await?;
        ours.retain(|r| shared.is_written(r.table) && Some(r.metric) != but);
        if ours.is_empty() {
            break;
        }
        for batch in ours.chunks(WINDOW) {
            let requests = batch.iter().map(|r| {
                Mark {
                    metric: r.metric,
                    ..shared.mark(r.table)
                }
                .route(r.prefix, &Write::Remove)
            });
            for (route, answer) in batch.iter().zip(socket.request("remove our routes", requests).await?) {
                if let Outcome::Refused(reason) = outcome(&Write::Remove, answer) {
                    tracing::warn!(prefix = %route.prefix, reason, "our route could not be removed");
                }
            }
        }
    }
    Ok(())
}
