//! BIRD 2 at the other end of the lab.

use std::fs;
use std::process::Stdio;

use super::{Daemon, Lab, wait_for_file};

/// Its configuration but for the BGP protocol: the same prefixes that FRR announces in the lab.
const BASE: &str = "
router id 10.99.0.2;
protocol device {}
protocol static routes4 {
  ipv4;
  route 192.0.2.0/24 blackhole;
  route 198.51.100.0/24 blackhole;
}
protocol static routes6 { ipv6; route 2001:db8:100::/48 blackhole; }
";

/// A running BIRD; killed when dropped.
pub(crate) struct Bird<'l> {
    lab: &'l Lab,
    _daemon: Daemon,
}

impl Lab {
    /// Starts BIRD with these lines in its BGP protocol towards the speaker, and these for what it announces.
    pub(crate) fn start_bird(&self, session: &str, export: &str) -> Bird<'_> {
        Bird {
            lab: self,
            _daemon: self.spawn_bird(session, export),
        }
    }

    /// Starts BIRD with these static IPv4 routes besides its own.
    pub(crate) fn start_bird_with_routes(&self, routes: &str) -> Bird<'_> {
        let more = format!("protocol static more {{ ipv4; {routes} }}");
        Bird {
            lab: self,
            _daemon: self.spawn_bird_and(&more, "", ""),
        }
    }

    pub(crate) fn spawn_bird(&self, session: &str, export: &str) -> Daemon {
        self.spawn_bird_and("", session, export)
    }

    fn spawn_bird_and(&self, more: &str, session: &str, export: &str) -> Daemon {
        self.spawn_bird_as(&format!(
            "{BASE}{more}
protocol bgp turnpike {{
  local 10.99.0.2 as 65001;
  neighbor 10.99.0.1 as 65000;
  hold time 9;
  connect delay time 1;
  connect retry time 1;
  error wait time 1, 2;
  {session}
  ipv4 {{ import all; export filter {{ {export} accept; }}; }};
  ipv6 {{ import all; export filter {{ {export} accept; }}; next hop address 2001:db8:99::2; }};
}}
"
        ))
    }

    /// Starts BIRD with this configuration.
    pub(crate) fn spawn_bird_as(&self, configuration: &str) -> Daemon {
        let file = self.path("bird.conf");
        fs::write(&file, configuration).expect("write");
        let (file, socket, pid) = (
            file.to_string_lossy().into_owned(),
            self.path("bird.ctl"),
            self.path("bird.pid"),
        );
        let _ = fs::remove_file(&socket);
        let daemon = self.spawn(
            "/usr/sbin/bird",
            &[
                "-f",
                "-c",
                &file,
                "-s",
                &socket.to_string_lossy(),
                "-P",
                &pid.to_string_lossy(),
            ],
        );
        wait_for_file(&socket);
        daemon
    }
}

impl Bird<'_> {
    /// What BIRD answers to a command.
    pub(crate) async fn ask(&self, command: &str) -> String {
        let answer = tokio::process::Command::new("/usr/sbin/birdc")
            .arg("-s")
            .arg(self.lab.path("bird.ctl"))
            .args(command.split(' '))
            .stdin(Stdio::null())
            .output()
            .await
            .expect("birdc runs: apt-get install bird2");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }
}
