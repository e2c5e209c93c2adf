//! What a speaker tells its owner, awaited.

use bgp::Event;
use net::{Prefix, RouteChange};
use tokio::sync::mpsc;

use super::PATIENCE;

pub(crate) fn prefix(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

/// The events of a speaker, kept so that their order does not matter to a test that waits for several.
pub(crate) struct Watch {
    events: mpsc::Receiver<Event>,
    pub(crate) seen: Vec<Event>,
}

impl Watch {
    pub(crate) fn new(capacity: usize) -> (mpsc::Sender<Event>, Self) {
        let (sender, events) = mpsc::channel(capacity);
        (
            sender,
            Self {
                events,
                seen: Vec::new(),
            },
        )
    }

    /// Waits for the event that `wanted` picks, among those seen since [`Watch::forget`] and those to come.
    pub(crate) async fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Event) -> Option<T>) -> T {
        if let Some(found) = self.seen.iter().find_map(&wanted) {
            return found;
        }
        let search = async {
            loop {
                let event = self
                    .events
                    .recv()
                    .await
                    .unwrap_or_else(|| panic!("speaker ended before {what}"));
                let found = wanted(&event);
                self.seen.push(event);
                if let Some(found) = found {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search)
            .await
            .unwrap_or_else(|_| panic!("no {what} within {PATIENCE:?}"))
    }

    /// Takes what has come without waiting.
    pub(crate) fn collect(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
    }

    /// From here on only what comes later counts.
    pub(crate) fn forget(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            drop(event);
        }
        self.seen.clear();
    }
}

pub(crate) fn change(event: &Event, of: &str) -> Option<RouteChange> {
    let of = prefix(of);
    match event {
        Event::Routes(changes) => changes.iter().find(|change| change.prefix == of).cloned(),
        _ => None,
    }
}

pub(crate) fn is_up(event: &Event) -> Option<()> {
    matches!(event, Event::PeerUp { .. }).then_some(())
}
