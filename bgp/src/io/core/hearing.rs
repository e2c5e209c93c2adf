//! What the tasks of peers, collectors and caches tell the core.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tracing::{info, warn};

use super::peers::Handle;
use super::{Core, Event, now};
use crate::bmp::{self, Counts, Ended, Identity, Request, Watched};
use crate::io::peer::{Message, News, Order};
use crate::wire::{Cease, Context};
use crate::{Error, Family};

impl Core {
    pub(super) fn message(&mut self, Message { peer, serial, news }: Message) {
        if matches!(news, News::Up(..)) {
            // What a peer begins with is up to date.
            self.flush();
        }
        let Some(handle) = self.peers.get_mut(&peer).filter(|handle| handle.serial == serial) else {
            return;
        };
        match news {
            News::Up(epoch, info, opened, ending) => {
                handle.up = true;
                let kept = std::mem::take(&mut handle.kept);
                let mut info = *info;
                let watched = Watched {
                    identity: Identity {
                        address: peer,
                        asn: info.asn,
                        router_id: info.router_id,
                    },
                    opened: *opened,
                    context: Context {
                        four_octet_as: true,
                        ..info.context.clone()
                    },
                    since: bmp::now(),
                };
                // They may have changed since the session's task was started.
                info.import.clone_from(&handle.config.import);
                info.export.clone_from(&handle.config.export);
                let queue = self.rib.peer_up(info.clone());
                self.evpn.peer_up(&Arc::new(info), &queue);
                *handle.shared.queue.lock().unwrap_or_else(PoisonError::into_inner) = (epoch, queue);
                self.flush();
                self.collectors.peer_up(watched);
                if kept && self.collectors.are_listening() {
                    self.collectors.routes(self.rib.every_learned(Some(peer)));
                }
                self.pending.push_back(Event::PeerUp { peer });
                if let Some(deferral) = &mut self.deferral {
                    deferral.up(peer, &ending);
                    self.end_deferral();
                }
            }
            News::Update(mut update) => {
                let end_of_rib = update.end_of_rib;
                self.evpn.update(peer, std::mem::take(&mut update.evpn));
                if end_of_rib == Some(Family::L2vpnEvpn) {
                    self.evpn.sweep(peer);
                }
                let excess = self.rib.update(peer, update).is_err();
                if let Some(max) = handle.config.max_prefixes {
                    let received = self.rib.received(peer).saturating_add(self.evpn.received(peer));
                    let excess = excess || received > max.limit;
                    if received >= max.warn && !handle.warned {
                        warn!(%peer, received, limit = max.limit, "peer comes close to its limit of prefixes");
                    }
                    handle.warned = received >= max.warn;
                    if excess {
                        warn!(%peer, received, limit = max.limit, "too many prefixes");
                        // A task that has ended needs no order.
                        let _ = handle.orders.send(Order::Reset(Cease::MaxPrefixes, max.restart));
                    }
                }
                if let Some(family) = end_of_rib {
                    self.held.push(Event::EndOfRib { peer, family });
                    self.flush();
                    if family != Family::L2vpnEvpn {
                        self.collectors.end_of_rib(peer, family);
                    }
                    if let Some(deferral) = &mut self.deferral {
                        deferral.end_of_rib(peer, family);
                        self.end_deferral();
                    }
                }
            }
            News::Refresh(Family::L2vpnEvpn) => self.evpn.refresh(peer),
            News::RefreshBegins(Family::L2vpnEvpn) => self.evpn.refresh_begins(peer),
            News::RefreshEnds(Family::L2vpnEvpn) => self.evpn.refresh_ends(peer),
            News::Refresh(family) => self.rib.refresh(peer, family),
            News::RefreshBegins(family) => self.rib.refresh_begins(peer, family),
            News::RefreshEnds(family) => self.rib.refresh_ends(peer, family),
            News::Down(reason, kept, ended) => {
                handle.up = false;
                handle.kept = !kept.is_empty();
                self.down(peer, reason, &kept, ended);
            }
            News::Alone => self.forget(peer),
            News::LongLived(families) => {
                info!(%peer, ?families, "routes of the peer, which is still away, are a last resort from here on");
                self.rib.long_lived(peer, &families);
                if families.contains(&Family::L2vpnEvpn) {
                    self.evpn.long_lived(peer);
                }
            }
            News::StaleExpired(families) => {
                info!(%peer, ?families, "routes that the restarted peer did not tell again are withdrawn");
                self.rib.stale_expired(peer, &families);
                if families.contains(&Family::L2vpnEvpn) {
                    self.evpn.sweep(peer);
                }
                handle.kept = self.rib.is_known(peer) || self.evpn.is_known(peer);
                self.forget(peer);
            }
        }
    }

    /// Withdraws what the peer told, but for `kept` families, then says that it is down.
    pub(super) fn down(&mut self, peer: IpAddr, reason: String, kept: &[Family], ended: Ended) {
        self.held
            .retain(|event| !matches!(event, Event::EndOfRib { peer: told, .. } if *told == peer));
        if kept.is_empty() {
            self.rib.peer_down(peer);
        } else {
            self.rib.peer_restarts(peer, kept);
        }
        if kept.contains(&Family::L2vpnEvpn) {
            self.evpn.peer_restarts(peer);
        } else {
            self.evpn.peer_down(peer);
        }
        self.flush();
        self.collectors.peer_down(peer, ended);
        let kept = kept.to_vec();
        self.pending.push_back(Event::PeerDown { peer, reason, kept });
    }

    /// What the RPKI says has changed, or who says it.
    pub(super) fn validate(&mut self) {
        self.rib.set_vrps(self.caches.vrps());
        self.flush();
    }

    /// A collector's task asks something.
    pub(super) fn collector(&mut self, request: Request) {
        match request {
            Request::Join(collector, reply) => {
                // What is known of before is in what it is told first.
                self.flush();
                self.rib.watch(true);
                self.collectors.join(collector, self.rib.every_learned(None), reply);
            }
            Request::Statistics(collector) => {
                let counts = |peer: IpAddr| Counts {
                    treated_as_withdraw: self.peers.get(&peer).map_or(0, Handle::treated_as_withdraw),
                    received: self
                        .rib
                        .counters(peer)
                        .iter()
                        .map(|counters| (counters.family, u64::from(counters.received)))
                        .collect(),
                };
                self.collectors.statistics(collector, counts);
            }
        }
    }

    /// Lets the peers be told what they are to know, if the wait for tables is over.
    pub(super) fn end_deferral(&mut self) {
        if self.deferral.as_ref().is_some_and(|deferral| deferral.is_over(now())) {
            if let Some(deferral) = self.deferral.take() {
                let late: Vec<_> = deferral.awaited().map(|peer| peer.to_string()).collect();
                if late.is_empty() {
                    info!("every awaited BGP peer has told its table: routes are announced");
                } else {
                    warn!(
                        peers = late.join(", "),
                        "BGP peers have not told their tables in time: routes are announced"
                    );
                }
            }
            self.gate.store(true, Ordering::Release);
            self.flush();
        }
    }

    /// Asks a peer for everything again.
    pub(super) fn refresh(&self, peer: IpAddr) -> Result<(), Error> {
        let handle = self.peers.get(&peer).ok_or(Error::UnknownPeer(peer))?;
        let status = handle.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        let negotiated = status.negotiated.as_ref();
        if !negotiated.is_some_and(|negotiated| negotiated.capabilities.route_refresh) {
            return Err(Error::NoRefresh(peer));
        }
        drop(status);
        // A task that has ended needs no order.
        let _ = handle.orders.send(Order::Refresh);
        Ok(())
    }
}
