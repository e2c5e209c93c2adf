//! Reads `[standby]`.

use super::reader::Reader;
use crate::fault::Fault;
use crate::model::{Standby, StandbyListen};

pub(super) fn standby(reader: &mut Reader<'_, '_>) -> Option<Standby> {
    let peer = reader.optional("peer");
    let listen = reader.has("listen").then(|| reader.required("listen"));
    let primary = match &listen {
        Some(_) => reader.required("primary"),
        None if reader.has("primary") => {
            let object = reader.object();
            reader.fault_at(
                "primary",
                Fault::Meaningless {
                    object,
                    key: "primary",
                    reason: "nothing is received without `listen`",
                },
            );
            None
        }
        None => None,
    };
    if listen.is_none() && !reader.has("peer") {
        let object = reader.object();
        reader.fault(Fault::MissingKey { object, key: "peer" });
    }
    let listen = match (listen.flatten(), primary) {
        (Some(address), Some(primary)) => Some(StandbyListen { address, primary }),
        _ => None,
    };
    (peer.is_some() || listen.is_some()).then_some(Standby { peer, listen })
}
