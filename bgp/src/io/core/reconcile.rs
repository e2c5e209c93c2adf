//! A configuration is applied: only what differs is touched.

use std::net::IpAddr;

use tracing::info;

use super::Core;
use super::peers::{AbortOnDrop, Handle, Origin, watch};
use crate::bfd::Bfd;
use crate::io::unnumbered;
use crate::rib::Rib;
use crate::wire::Cease;
use crate::{Error, PeerConfig, SpeakerConfig};

impl Core {
    pub(super) fn apply(&mut self, config: SpeakerConfig) -> Result<(), Error> {
        config.check()?;
        self.listeners.set(&config, &self.directory)?;
        self.listen_for_bfd(&config)?;
        self.reconcile(config);
        Ok(())
    }

    /// Makes ready for the BFD sessions that `config` wants.
    pub(super) fn listen_for_bfd(&mut self, config: &SpeakerConfig) -> Result<(), Error> {
        let peers = config.peers.iter().map(|peer| (peer.address.is_ipv6(), peer));
        let ranges = config
            .dynamic
            .iter()
            .map(|range| (!range.range.is_v4(), &range.template));
        // Over the link-local addresses that they will be found at.
        let unnumbered = config.unnumbered.iter().map(|peer| (true, &peer.template));
        let all = peers.chain(ranges).chain(unnumbered);
        for (v6, _) in all.filter(|(_, peer)| peer.bfd.is_some()) {
            if self.bfd.is_none() {
                self.bfd = Some(Bfd::start()?);
            }
            if let Some(bfd) = &mut self.bfd {
                bfd.listen(v6)?;
            }
        }
        Ok(())
    }

    /// Makes peers and prefixes what `config` says, touching only what differs.
    pub(super) fn reconcile(&mut self, config: SpeakerConfig) {
        let identity = |config: &SpeakerConfig| (config.asn, config.router_id, config.vrf);
        let same_speaker = identity(&self.config) == identity(&config);
        let leaving: Vec<(IpAddr, Cease)> = self
            .peers
            .iter()
            .filter_map(|(address, handle)| match wanted(&config, handle) {
                None => Some((*address, Cease::PeerDeconfigured)),
                Some(peer) if !same_speaker || !peer.0.same_session(&handle.config) || peer.1 != handle.origin => {
                    Some((*address, Cease::ConfigurationChange))
                }
                Some(_) => None,
            })
            .collect();
        for (address, cease) in leaving {
            self.remove_peer(address, cease);
        }
        if !same_speaker {
            self.rib.set_originated(&[]);
            self.evpn.set_vrfs(&[]);
            self.flush();
            let offered = self.rib.offered();
            self.rib = Rib::new(config.asn, config.router_id, config.vrf);
            self.evpn = self.evpn.anew(config.asn, config.router_id);
            self.next_hops = Default::default();
            self.rib.watch(self.collectors.are_listening());
            self.rib.offer(offered);
            self.held.clear();
            self.deliveries.clear();
        }
        self.collectors.set(&config.bmp, &config.name);
        self.caches.set(&config.rpki);
        self.rib.set_vrps(self.caches.vrps());
        self.rib.track_next_hops(config.track_next_hops);
        self.evpn.track_next_hops(config.track_next_hops);
        self.evpn.set_rules(config.rules);
        self.evpn.set_vrfs(&config.evpn);
        self.rib.hold(config.advertise_installed);
        self.rib.set_rules(config.rules);
        self.rib.set_originated(&config.originate);
        self.rib.set_redistribution(&config.redistribute);
        self.directory
            .set_ranges(config.dynamic.iter().map(|dynamic| dynamic.range).collect());
        let looked_for = |interface: &String| config.unnumbered.iter().any(|peer| peer.interface == *interface);
        self.discoveries.retain(|interface, _| looked_for(interface));
        for unnumbered in &config.unnumbered {
            let interface = unnumbered.interface.clone();
            let to_found = self.to_found.clone();
            self.discoveries.entry(interface.clone()).or_insert_with(|| {
                let task = tokio::spawn(unnumbered::discover(interface, to_found));
                AbortOnDrop(task.abort_handle())
            });
        }
        self.config = config;
        for peer in self.config.peers.clone() {
            if !self.peers.contains_key(&peer.address) {
                self.add_peer(peer, Origin::Address);
            }
        }
        self.flush();
        for (address, handle) in &mut self.peers {
            // Those that differ in more have gone, and come back as they are to be.
            if let Some((peer, _)) = wanted(&self.config, handle).filter(|(peer, _)| *peer != handle.config) {
                info!(peer = %address, "BGP policy changed");
                self.rib.set_policies(*address, &peer.import, &peer.export);
                self.evpn.set_policies(*address, &peer.import, &peer.export);
                let bfd_changed = handle.config.bfd != peer.bfd;
                handle.config = peer;
                if let Some(bfd) = self.bfd.as_ref().filter(|_| bfd_changed) {
                    watch(bfd, handle);
                }
            }
        }
        self.flush();
    }
}

/// What a configuration says of somebody who is a peer, and what makes it one.
fn wanted(config: &SpeakerConfig, handle: &Handle) -> Option<(PeerConfig, Origin)> {
    let address = handle.config.address;
    if let Some(own) = config.peers.iter().find(|peer| peer.address == address) {
        return Some((own.clone(), Origin::Address));
    }
    if let (Origin::Interface(interface), IpAddr::V6(v6)) = (&handle.origin, address) {
        let here = config.unnumbered.iter().find(|peer| peer.interface == *interface)?;
        return Some((here.peer(v6, handle.config.interface?), handle.origin.clone()));
    }
    let dynamic = config.dynamic_at(address)?;
    Some((dynamic.peer(address), Origin::Range(dynamic.range)))
}
