//! Two more speakers beside the one of the lab, which tell it and the router the same prefixes: so both have several paths of
//! each, and the two tell each other of them.

use bgp::{Action, AddPath, Family, PeerConfig, Policy, PrefixList, PrefixRule, SendPaths, Speaker, SpeakerConfig};

use super::routers::{Program, Router};
use super::watch::{Watch, prefix};
use super::{Daemon, FRR_V4, Lab, speaker_config};

/// What the feeders tell the router, which tells the speaker.
pub(crate) const TO_ROUTER: [&str; 2] = ["192.0.2.0/24", "2001:db8:100::/48"];
/// What they tell the speaker, which tells the router.
pub(crate) const TO_SPEAKER: [&str; 2] = ["203.0.113.0/24", "2001:db8:200::/48"];
/// The last number of a feeder's address; its AS is 65000 more.
pub(crate) const FEEDERS: [u8; 2] = [11, 12];

fn only(prefixes: [&str; 2]) -> Policy {
    let rules = prefixes.map(|of| PrefixRule {
        action: Action::Accept,
        prefix: prefix(of),
        ge: None,
        le: None,
    });
    Policy::PrefixList(PrefixList { rules: rules.to_vec() })
}

/// The speaker of the lab, which takes and tells all paths.
pub(crate) fn speaker() -> SpeakerConfig {
    let mut config = speaker_config();
    let router = &mut config.peers[0];
    router.add_path = AddPath {
        receive: true,
        send: SendPaths::All,
    };
    router.advertise_learned = true;
    router.import = only(TO_ROUTER);
    router.export = only(TO_SPEAKER);
    for feeder in FEEDERS {
        let mut peer = PeerConfig::new(
            format!("10.99.0.{feeder}").parse().expect("ip"),
            65000 + u32::from(feeder),
        );
        peer.passive = true;
        peer.import = Policy::Accept;
        peer.export = Policy::Deny;
        config.peers.push(peer);
    }
    // Of those on the interface, and not one of the feeders'.
    for peer in &mut config.peers {
        peer.next_hop_v6 = Some("2001:db8:99::1".parse().expect("ip"));
    }
    config
}

/// A feeder that tells its prefixes, or nothing.
fn feeder(host: u8, telling: bool) -> SpeakerConfig {
    let address = format!("10.99.0.{host}").parse().expect("ip");
    let mut config = SpeakerConfig::new(65000 + u32::from(host), address);
    if telling {
        config.originate = TO_ROUTER.into_iter().chain(TO_SPEAKER).map(prefix).collect();
    }
    for (to, asn, told) in [("10.99.0.1", 65000, TO_SPEAKER), (FRR_V4, 65001, TO_ROUTER)] {
        let mut peer = PeerConfig::new(to.parse().expect("ip"), asn);
        peer.local_address = Some(address.into());
        peer.next_hop_v6 = Some(format!("2001:db8:99::{host}").parse().expect("ip"));
        peer.import = Policy::Deny;
        peer.export = only(told);
        config.peers.push(peer);
    }
    config
}

/// A running feeder.
pub(crate) struct Feeder {
    host: u8,
    speaker: Speaker,
    _watch: Watch,
}

impl Feeder {
    /// Starts one, with addresses of its own.
    pub(crate) async fn start(lab: &Lab, host: u8) -> Self {
        lab.speaker_ip(&format!("address add 10.99.0.{host}/24 dev fabric"));
        lab.speaker_ip(&format!("address add 2001:db8:99::{host}/64 dev fabric nodad"));
        let (events, watch) = Watch::new(4096);
        Self {
            host,
            speaker: Speaker::start(feeder(host, true), events)
                .await
                .expect("speaker starts"),
            _watch: watch,
        }
    }

    /// Withdraws its prefixes, or tells them again.
    pub(crate) async fn tell(&self, telling: bool) {
        self.speaker.apply(feeder(self.host, telling)).await.expect("applies");
    }
}

/// The AS path of a feeder's route behind that of `from`.
pub(crate) fn path(from: u32, feeder: u8) -> String {
    format!("{from} {}", 65000 + u32::from(feeder))
}

/// Appended to bgpd's configuration: it has the feeders as peers, and tells the speaker all paths.
pub(crate) fn frr_lines() -> String {
    let mut lines = "router bgp 65001\n".to_owned();
    for feeder in FEEDERS {
        let address = format!("10.99.0.{feeder}");
        lines += &format!(
            " neighbor {address} remote-as {}\n neighbor {address} passive\n neighbor {address} timers 3 9\n \
             neighbor {address} advertisement-interval 0\n",
            65000 + u32::from(feeder)
        );
    }
    for family in ["ipv4", "ipv6"] {
        lines += &format!(" address-family {family} unicast\n  neighbor 10.99.0.1 addpath-tx-all-paths\n");
        for feeder in FEEDERS.iter().filter(|_| family == "ipv6") {
            lines += &format!("  neighbor 10.99.0.{feeder} activate\n");
        }
        for of in ["192.0.2.0/24", "198.51.100.0/24", "2001:db8:100::/48"] {
            if of.contains(':') == (family == "ipv6") {
                lines += &format!("  no network {of}\n");
            }
        }
        lines += " exit-address-family\n";
    }
    lines
}

impl Lab {
    /// Starts BIRD or GoBGP with the feeders as peers, and several paths both ways with the speaker.
    pub(crate) fn start_several(&self, program: Program) -> Router<'_> {
        let daemon = match program {
            Program::Bird => self.bird_of_several(),
            Program::GoBgp => self.gobgp_of_several(),
            Program::OpenBgpd | Program::ExaBgp => unreachable!("not asked for"),
        };
        Router {
            lab: self,
            program,
            _daemon: daemon,
        }
    }

    fn bird_of_several(&self) -> Daemon {
        let session = |name: &str, host: u8, asn: u32, channel: &str| {
            format!(
                "protocol bgp {name} {{\n  local 10.99.0.2 as 65001;\n  neighbor 10.99.0.{host} as {asn};\n  hold time 9;\n  \
                 connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  \
                 ipv4 {{ {channel} }};\n  ipv6 {{ {channel} next hop address 2001:db8:99::2; }};\n}}\n"
            )
        };
        let feeders = FEEDERS.map(|host| {
            let channel = "import all; export none;";
            session(&format!("feeder{host}"), host, 65000 + u32::from(host), channel)
        });
        let speaker = session("turnpike", 1, 65000, "import all; export all; add paths on;");
        self.spawn_bird_as(&format!(
            "router id 10.99.0.2;\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; interface \"fabric\"; }}\n{speaker}{}",
            feeders.concat()
        ))
    }

    fn gobgp_of_several(&self) -> Daemon {
        let neighbor = |host: u8, asn: u32, several: bool| {
            let families = Family::UNICAST.map(|family| {
                let paths = if several {
                    "    [neighbors.afi-safis.add-paths.config]\n      receive = true\n      send-max = 8\n"
                } else {
                    ""
                };
                format!(
                    "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      \
                     afi-safi-name = \"{family}\"\n{paths}"
                )
            });
            format!(
                "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"10.99.0.{host}\"\n    \
                 peer-as = {asn}\n  [neighbors.timers.config]\n    hold-time = 9\n    keepalive-interval = 3\n    \
                 connect-retry = 1\n{}",
                families.concat()
            )
        };
        let feeders = FEEDERS.map(|host| neighbor(host, 65000 + u32::from(host), false));
        let text = format!(
            "[global.config]\n  as = 65001\n  router-id = \"10.99.0.2\"\n{}{}",
            neighbor(1, 65000, true),
            feeders.concat()
        );
        let file = self.write("gobgpd.toml", &text);
        self.spawn("gobgpd", &["-f", &file, "--api-hosts", "127.0.0.1:50051"])
    }
}
