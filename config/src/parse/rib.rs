//! Reads `[rib]`.

use super::reader::Reader;
use crate::defaults;
use crate::model::{BatchBounds, Distances, Rib};

pub(super) fn rib(reader: &mut Reader<'_, '_>) -> Rib {
    let batch = BatchBounds {
        size: reader.optional("batch-size").unwrap_or(defaults::BATCH.size),
        time: reader.optional("batch-time-ms").unwrap_or(defaults::BATCH.time),
    };
    let large_batch = BatchBounds {
        size: reader
            .optional("large-batch-size")
            .unwrap_or(defaults::LARGE_BATCH.size),
        time: reader
            .optional("large-batch-time-ms")
            .unwrap_or(defaults::LARGE_BATCH.time),
    };
    Rib {
        batch,
        large_batch,
        publish_interval: reader
            .optional("publish-interval-ms")
            .unwrap_or(defaults::PUBLISH_INTERVAL),
        distance: reader.table("distance", "[rib.distance]", distances),
    }
}

fn distances(reader: &mut Reader<'_, '_>) -> Distances {
    let default = defaults::distances();
    Distances {
        fixed: reader.optional("static").unwrap_or(default.fixed),
        ebgp: reader.optional("ebgp").unwrap_or(default.ebgp),
        ibgp: reader.optional("ibgp").unwrap_or(default.ibgp),
        kernel: reader.optional("kernel").unwrap_or(default.kernel),
        fpm: reader.optional("fpm").unwrap_or(default.fpm),
    }
}
