//! Routers that speak EVPN with the speaker: what they are told to say, and a VRF to take it.

use std::collections::BTreeMap;

use bgp::{EvpnState, EvpnVrf, Family, Policy, SpeakerConfig};
use net::policy::RouteSource;
use net::{Mac, RouteChange, RouteTarget, Vni, VrfId};

use super::watch::prefix;
use super::{Daemon, Lab, eventually, speaker_config};

/// The VRF of the speaker.
pub(crate) const BLUE: VrfId = VrfId(7);
/// Its VNI.
pub(crate) const VNI: u32 = 5001;
/// Its MAC address.
pub(crate) const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// MAC address of the other router.
pub(crate) const THEIR_MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);
/// What every route for the VRF has.
pub(crate) const TARGET: &str = "65000:7";

/// A speaker whose VRF imports and exports [`TARGET`], announces a prefix and takes broadcasts.
pub(crate) fn evpn_config() -> SpeakerConfig {
    let target: RouteTarget = TARGET.parse().expect("route target");
    let mut config = speaker_config();
    config.peers[0].families = vec![Family::Ipv4Unicast, Family::L2vpnEvpn];
    config.evpn.push(EvpnVrf {
        vrf: BLUE,
        name: "blue".to_owned(),
        rd: "10.99.0.1:7".parse().expect("route distinguisher"),
        import: vec![target],
        export: vec![target],
        vni: Vni::new(VNI).expect("VNI"),
        vtep: "10.99.0.1".parse().expect("ip"),
        router_mac: ROUTER_MAC,
        multicast: true,
        announce: vec![prefix("203.0.113.0/24")],
        redistribute: BTreeMap::from([(RouteSource::Connected, Policy::Accept)]),
    });
    config
}

/// True if the change is a route of the VRF through this endpoint, addressed to [`THEIR_MAC`].
pub(crate) fn leads_to(change: &RouteChange, vtep: &str) -> bool {
    let hops = change.route.iter().flat_map(|route| &route.next_hops);
    let tunnels: Vec<_> = hops.filter_map(|hop| hop.vxlan).collect();
    change.vrf == BLUE
        && matches!(tunnels[..], [one] if one.vni.value() == VNI && one.mac == THEIR_MAC && one.vtep.to_string() == vtep)
}

/// The best path of a route in text, as `[type]:…`.
pub(crate) fn best<'s>(state: &'s EvpnState, route: &str) -> Option<&'s bgp::EvpnPathView> {
    let route = state.routes.iter().find(|known| known.route == route)?;
    route.paths.iter().find(|path| path.best)
}

impl Lab {
    /// Starts gobgpd with EVPN towards the speaker, and waits until it answers.
    pub(crate) async fn start_gobgp_evpn(&self) -> Daemon {
        let families = ["ipv4-unicast", "l2vpn-evpn"].map(|family| {
            format!("  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{family}\"\n")
        });
        let text = format!(
            "[global.config]\n  as = 65001\n  router-id = \"10.99.0.2\"\n[[neighbors]]\n  [neighbors.config]\n    \
             neighbor-address = \"10.99.0.1\"\n    peer-as = 65000\n  [neighbors.timers.config]\n    hold-time = 9\n    \
             keepalive-interval = 3\n    connect-retry = 1\n{}",
            families.concat()
        );
        let file = self.path("gobgpd.toml");
        std::fs::write(&file, text).expect("write");
        let daemon = self.spawn(
            "gobgpd",
            &["-f", &file.to_string_lossy(), "--api-hosts", "127.0.0.1:50051"],
        );
        eventually("gobgpd answers", async || {
            self.ask("gobgp", &["global"]).await.contains("65001")
        })
        .await;
        daemon
    }

    /// Has gobgpd announce an EVPN route, or withdraw it, and answers what it says of all of them.
    pub(crate) async fn gobgp_evpn(&self, words: &str) -> String {
        let words: Vec<&str> = words.split(' ').filter(|word| !word.is_empty()).collect();
        self.ask("gobgp", &[&["global", "rib", "-a", "evpn"], &words[..]].concat())
            .await
    }
}
