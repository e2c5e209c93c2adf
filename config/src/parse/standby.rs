//! Reads `[standby]`.

use super::reader::Reader;
use crate::fault::Fault;
use crate::model::{Standby, StandbyListen};

pub(super) fn standby(reader: &mut Reader<'_, '_>) -> Option<Standby> {
    let (peer, address, primary) = (
        reader.optional("peer"),
        reader.optional("listen"),
        reader.optional("primary"),
    );
    let object = reader.object();
    match (reader.has("listen"), reader.has("primary")) {
        (true, false) => {
            let key = "primary";
            reader.fault(Fault::MissingKey { object, key });
        }
        (false, true) => {
            let fault = Fault::Meaningless {
                object,
                key: "primary",
                reason: "nothing is received without `listen`",
            };
            reader.fault_at("primary", fault);
        }
        (false, false) if !reader.has("peer") => reader.fault(Fault::MissingKey { object, key: "peer" }),
        _ => {}
    }
    let listen = address
        .zip(primary)
        .map(|(address, primary)| StandbyListen { address, primary });
    (peer.is_some() || listen.is_some()).then_some(Standby { peer, listen })
}
