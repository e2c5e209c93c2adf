//! BIRD, GoBGP, OpenBGPD and ExaBGP at the other end of the lab, all with the same routes to tell and one way to ask them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bgp::{Family, PeerConfig, SpeakerConfig};

use super::{Daemon, FRR_V6, Lab, eventually, speaker_config, wait_for_file};

/// A large community of the first of the routes that each tells: 192.0.2.0/24, 198.51.100.0/24, 2001:db8:100::/48.
pub(crate) const LARGE: &str = "65001:1:2";
/// Where OpenBGPD shuts itself in; its package leaves it to systemd to make it.
const OPENBGPD_CHROOT: &str = "/run/openbgpd";

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Bird,
    GoBgp,
    OpenBgpd,
    ExaBgp,
}

/// One of them, running; killed when dropped.
pub(crate) struct Router<'l> {
    pub(super) lab: &'l Lab,
    pub(super) program: Program,
    pub(super) _daemon: Daemon,
}

impl Lab {
    /// Starts a program that speaks to the speaker over IPv4, with a password or without.
    pub(crate) async fn start_router(&self, program: Program, password: Option<&str>) -> Router<'_> {
        let daemon = match program {
            Program::Bird => self.bird(password),
            Program::GoBgp => self.gobgpd(password),
            Program::OpenBgpd => self.openbgpd(password),
            Program::ExaBgp => self.exabgp(password),
        };
        let router = Router {
            lab: self,
            program,
            _daemon: daemon,
        };
        if program == Program::GoBgp {
            router.fill_gobgp().await;
        }
        router
    }

    fn bird(&self, password: Option<&str>) -> Daemon {
        let session = password.map_or_else(String::new, |password| format!("password \"{password}\";"));
        let large = LARGE.replace(':', ",");
        let export = format!("if net = 192.0.2.0/24 then bgp_large_community.add(({large}));");
        self.spawn_bird(&session, &export)
    }

    fn gobgpd(&self, password: Option<&str>) -> Daemon {
        let password = password.map_or_else(String::new, |password| format!("    auth-password = \"{password}\"\n"));
        let families: String = ["ipv4-unicast", "ipv6-unicast"]
            .map(|family| {
                format!(
                    "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{family}\"\n"
                )
            })
            .concat();
        let text = format!(
            "[global.config]\n  as = 65001\n  router-id = \"10.99.0.2\"\n[[neighbors]]\n  [neighbors.config]\n    \
             neighbor-address = \"10.99.0.1\"\n    peer-as = 65000\n{password}  [neighbors.timers.config]\n    \
             hold-time = 9\n    keepalive-interval = 3\n    connect-retry = 1\n{families}"
        );
        let file = self.write("gobgpd.toml", &text);
        self.spawn("gobgpd", &["-f", &file, "--api-hosts", "127.0.0.1:50051"])
    }

    fn openbgpd(&self, password: Option<&str>) -> Daemon {
        fs::create_dir_all(OPENBGPD_CHROOT).expect("directory");
        let password = password.map_or_else(String::new, |password| format!("  tcp md5sig password {password}\n"));
        let socket = self.path("openbgpd.sock");
        let text = format!(
            "AS 65001\nrouter-id 10.99.0.2\nsocket \"{}\"\nfib-update no\n\
             network 192.0.2.0/24 set large-community {LARGE}\nnetwork 198.51.100.0/24\nnetwork 2001:db8:100::/48\n\
             neighbor 10.99.0.1 {{\n  remote-as 65000\n  announce IPv4 unicast\n  holdtime 9\n{password}}}\n\
             neighbor 2001:db8:99::1 {{\n  remote-as 65000\n  announce IPv4 none\n  announce IPv6 unicast\n  holdtime 9\n}}\n\
             allow from any\nallow to any\n",
            socket.display()
        );
        let file = self.write("openbgpd.conf", &text);
        let daemon = self.spawn("/usr/sbin/bgpd", &["-d", "-f", &file]);
        wait_for_file(&socket);
        daemon
    }

    fn exabgp(&self, password: Option<&str>) -> Daemon {
        // Its helper programs run as nobody.
        fs::set_permissions(self.path("."), Permissions::from_mode(0o755)).expect("permissions");
        let heard = self.path("exabgp.heard");
        fs::write(&heard, "").expect("write");
        fs::set_permissions(&heard, Permissions::from_mode(0o666)).expect("permissions");
        // Its standard input does not block, so that `cat` would end.
        let script = format!(
            "#!/usr/bin/python3\nimport os, select\nwith open('{}', 'ab', 0) as heard:\n    while True:\n        \
             select.select([0], [], [])\n        octets = os.read(0, 65536)\n        if not octets:\n            break\n        \
             heard.write(octets)\n",
            heard.display()
        );
        let script = self.write("exabgp.helper", &script);
        fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("permissions");
        let password = password.map_or_else(String::new, |password| format!("  md5-password \"{password}\";\n"));
        let text = format!(
            "process heard {{\n  run {script};\n  encoder json;\n}}\nneighbor 10.99.0.1 {{\n  router-id 10.99.0.2;\n  \
             local-address 10.99.0.2;\n  local-as 65001;\n  peer-as 65000;\n  hold-time 9;\n{password}  \
             family {{ ipv4 unicast; ipv6 unicast; }}\n  api {{ processes [ heard ]; receive {{ parsed; update; }} }}\n  \
             static {{\n    route 192.0.2.0/24 next-hop 10.99.0.2 large-community [ {LARGE} ];\n    \
             route 198.51.100.0/24 next-hop 10.99.0.2;\n    route 2001:db8:100::/48 next-hop 2001:db8:99::2;\n  }}\n}}\n"
        );
        let file = self.write("exabgp.conf", &text);
        let settings = ["exabgp.daemon.user=root", "exabgp.api.cli=false"];
        self.spawn("env", &[settings[0], settings[1], "/usr/sbin/exabgp", &file])
    }

    pub(super) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("write");
        // OpenBGPD takes no file that others may read.
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("permissions");
        path.to_string_lossy().into_owned()
    }
}

impl Router<'_> {
    /// Everything that it knows of a prefix.
    pub(crate) async fn knows(&self, prefix: &str) -> String {
        match self.program {
            Program::Bird => self.birdc(&format!("show route {prefix} all")).await,
            Program::GoBgp => {
                let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
                self.gobgp(&format!("global rib -a {family} {prefix}")).await
            }
            Program::OpenBgpd => self.bgpctl(&format!("show rib detail {prefix}")).await,
            // Everything that it has heard, one line an UPDATE.
            Program::ExaBgp => fs::read_to_string(self.lab.path("exabgp.heard")).unwrap_or_default(),
        }
    }

    /// Has it ask the speaker for its routes again.
    pub(crate) async fn ask_refresh(&self) {
        match self.program {
            Program::Bird => self.birdc("reload in turnpike").await,
            Program::OpenBgpd => self.bgpctl("neighbor 10.99.0.1 refresh").await,
            Program::GoBgp | Program::ExaBgp => unreachable!("they have no command for it"),
        };
    }

    async fn birdc(&self, command: &str) -> String {
        let socket = self.lab.path("bird.ctl");
        self.ask("/usr/sbin/birdc", &["-s", &socket.to_string_lossy()], command)
            .await
    }

    async fn gobgp(&self, command: &str) -> String {
        self.ask("gobgp", &[], command).await
    }

    async fn bgpctl(&self, command: &str) -> String {
        let socket = self.lab.path("openbgpd.sock");
        self.ask("bgpctl", &["-s", &socket.to_string_lossy()], command).await
    }

    async fn ask(&self, program: &str, options: &[&str], command: &str) -> String {
        let arguments: Vec<&str> = options.iter().copied().chain(command.split(' ')).collect();
        self.lab.ask(program, &arguments).await
    }

    /// GoBGP's routes are given to it over its API.
    async fn fill_gobgp(&self) {
        let route = format!("global rib add 192.0.2.0/24 nexthop 10.99.0.2 large-community {LARGE}");
        eventually("gobgpd answers", async || {
            self.gobgp(&route).await;
            self.gobgp("global rib").await.contains("192.0.2.0/24")
        })
        .await;
        self.gobgp("global rib add 198.51.100.0/24 nexthop 10.99.0.2").await;
        self.gobgp("global rib -a ipv6 add 2001:db8:100::/48 nexthop 2001:db8:99::2")
            .await;
    }
}

/// The speaker's side: one session for both families, or one each with OpenBGPD, which over IPv4 tells `::1` as the next hop
/// of its IPv6 routes.
pub(crate) fn sessions(program: Program) -> SpeakerConfig {
    let mut config = speaker_config();
    if program == Program::OpenBgpd {
        let v4 = &mut config.peers[0];
        v4.families = vec![Family::Ipv4Unicast];
        let v6 = PeerConfig {
            address: FRR_V6.parse().expect("ip"),
            families: vec![Family::Ipv6Unicast],
            ..v4.clone()
        };
        config.peers.push(v6);
    }
    config
}

/// Refuses to begin where a package is missing.
pub(crate) fn installed(program: Program) {
    let (path, package) = match program {
        Program::Bird => ("/usr/sbin/bird", "bird2"),
        Program::GoBgp => ("/usr/bin/gobgpd", "gobgpd"),
        Program::OpenBgpd => ("/usr/sbin/bgpd", "openbgpd"),
        Program::ExaBgp => ("/usr/sbin/exabgp", "exabgp"),
    };
    assert!(
        Path::new(path).exists(),
        "this test needs {package}: apt-get install {package}"
    );
}
