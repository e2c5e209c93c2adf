//! Two namespaces, a veth pair, and FRR or another router in one of them. Everything goes when the lab is dropped.
#![allow(dead_code, reason = "each test binary uses a part of the lab")]

pub(crate) mod bird;
pub(crate) mod evpn;
pub(crate) mod policy;
pub(crate) mod routers;
pub(crate) mod watch;

use std::fs::{self, File};
use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bgp::{PeerConfig, Policy, Speaker, SpeakerConfig};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, User, geteuid};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// Appended to bgpd's configuration: it restarts gracefully, and says that forwarding goes on meanwhile.
pub(crate) const GRACEFUL: &str = "
router bgp 65001
 bgp graceful-restart
 bgp graceful-restart preserve-fw-state
";
/// Appended to bgpd's configuration: the session is with whoever is at the other end of the link ([`Lab::unnumber`]).
pub(crate) const UNNUMBERED: &str = "
router bgp 65001
 no neighbor 10.99.0.1
 no neighbor 2001:db8:99::1
 neighbor fabric interface remote-as external
 neighbor fabric timers 3 9
 neighbor fabric timers connect 1
 neighbor fabric advertisement-interval 0
 address-family ipv6 unicast
  neighbor fabric activate
 exit-address-family
";
pub(crate) const FRR_V4: &str = "10.99.0.2";
pub(crate) const FRR_V6: &str = "2001:db8:99::2";
/// Longest wait for anything that is to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const DAEMONS: &str = "/usr/lib/frr";
const BGPD_CONF: &str = "
router bgp 65001
 bgp router-id 10.99.0.2
 no bgp ebgp-requires-policy
 no bgp network import-check
 coalesce-time 0
 neighbor 10.99.0.1 remote-as 65000
 neighbor 10.99.0.1 timers 3 9
 neighbor 10.99.0.1 timers connect 1
 neighbor 10.99.0.1 advertisement-interval 0
 neighbor 2001:db8:99::1 remote-as 65000
 neighbor 2001:db8:99::1 timers 3 9
 neighbor 2001:db8:99::1 timers connect 1
 neighbor 2001:db8:99::1 advertisement-interval 0
 address-family ipv4 unicast
  network 192.0.2.0/24
  network 198.51.100.0/24
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:100::/48
  neighbor 10.99.0.1 activate
  neighbor 2001:db8:99::1 activate
 exit-address-family
";

/// The speaker's side of the lab.
pub(crate) fn speaker_config() -> SpeakerConfig {
    let mut config = SpeakerConfig::new(65000, "10.99.0.1".parse().expect("ip"));
    config.listen = vec!["[::]:179".parse().expect("address")];
    let mut peer = PeerConfig::new(FRR_V4.parse().expect("ip"), 65001);
    peer.import = Policy::Accept;
    peer.export = Policy::Accept;
    config.peers.push(peer);
    config
}

/// Polls until `condition` holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll)
        .await
        .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"));
}

/// Runs a speaker on a runtime of its own until `enough`, then takes the runtime away: its sockets close without a word,
/// as those of a killed process do.
pub(crate) async fn speak_and_die(config: SpeakerConfig, enough: impl AsyncFnOnce()) {
    let namespace = File::open("/proc/thread-self/ns/net").expect("namespace");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let speaking = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("setns");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("runtime");
        runtime.block_on(async {
            let (sender, mut watch) = watch::Watch::new(64);
            let speaker = Speaker::start(config, sender).await.expect("speaker starts");
            watch.wait("session", watch::is_up).await;
            // The test has failed elsewhere if nobody says so.
            let _ = stopped.await;
            std::mem::forget(speaker);
        });
        runtime.shutdown_background();
    });
    enough().await;
    drop(stop);
    let ended = tokio::task::spawn_blocking(move || speaking.join());
    ended.await.expect("thread").expect("speaker died");
}

/// A process of the lab, killed when dropped.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Has a process that a test started killed with the lab.
    pub(crate) const fn of(child: Child) -> Self {
        Self(child)
    }

    /// Stops it, or lets it go on: its sockets stay open meanwhile.
    pub(crate) fn freeze(&self, frozen: bool) {
        let id = Pid::from_raw(i32::try_from(self.0.id()).expect("a process id"));
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        signal::kill(id, signal).expect("it runs");
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("kill");
        self.0.wait().expect("wait");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // May have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Lab {
    speaker: String,
    router: String,
    directory: TempDir,
    zebra: Option<Daemon>,
}

impl Lab {
    /// Builds a lab and runs `test` on a thread of its own inside the speaker's namespace.
    pub(crate) fn run<F: Future<Output = ()>>(test: impl FnOnce(Rc<Lab>) -> F + Send + 'static) {
        assert!(
            Path::new(DAEMONS).join("bgpd").exists(),
            "this test needs FRR: apt-get install frr"
        );
        Self::run_in(
            || {
                let mut lab = Lab::new();
                lab.start_zebra();
                lab
            },
            test,
        );
    }

    /// The same without FRR's zebra.
    pub(crate) fn without_frr<F: Future<Output = ()>>(test: impl FnOnce(Rc<Lab>) -> F + Send + 'static) {
        Self::run_in(Lab::new, test);
    }

    fn run_in<F: Future<Output = ()>>(make: impl FnOnce() -> Lab, test: impl FnOnce(Rc<Lab>) -> F + Send + 'static) {
        assert!(geteuid().is_root(), "this test needs root: it makes network namespaces");
        let lab = make();
        let body = move || {
            let namespace = File::open(Path::new("/run/netns").join(&lab.speaker)).expect("namespace");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("setns");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("runtime");
            runtime.block_on(test(Rc::new(lab)));
        };
        if let Err(panic) = std::thread::spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lab = Self {
            speaker: format!("bgp-s{name}"),
            router: format!("bgp-r{name}"),
            directory: TempDir::new().expect("temporary directory"),
            zebra: None,
        };
        for namespace in [&lab.speaker, &lab.router] {
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        ip(&format!(
            "-n {} link add fabric type veth peer name fabric netns {}",
            lab.speaker, lab.router
        ));
        for (namespace, host) in [(&lab.speaker, 1), (&lab.router, 2)] {
            ip(&format!("-n {namespace} address add 10.99.0.{host}/24 dev fabric"));
            ip(&format!(
                "-n {namespace} address add 2001:db8:99::{host}/64 dev fabric nodad"
            ));
            ip(&format!("-n {namespace} link set fabric up"));
        }
        lab
    }

    fn start_zebra(&mut self) {
        let frr = User::from_name("frr")
            .expect("user database")
            .expect("FRR's package makes the user frr");
        fs::set_permissions(self.directory.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        chown(self.directory.path(), Some(frr.uid.as_raw()), Some(frr.gid.as_raw())).expect("chown");
        fs::write(self.path("bgpd.conf"), BGPD_CONF).expect("write");
        fs::write(self.path("zebra.conf"), "").expect("write");
        self.zebra = Some(self.start("zebra"));
    }

    /// Starts bgpd and waits until it answers on its vty.
    pub(crate) fn start_bgpd(&self) -> Daemon {
        let vty = self.path("bgpd.vty");
        // A killed daemon leaves its socket behind.
        let _ = fs::remove_file(&vty);
        let daemon = self.start("bgpd");
        wait_for_file(&vty);
        daemon
    }

    /// Starts bfdd with this configuration and waits until it answers on its vty.
    pub(crate) fn start_bfdd(&self, conf: &str) -> Daemon {
        fs::write(self.path("bfdd.conf"), conf).expect("write");
        for left in ["bfdd.vty", "bfdd.sock"] {
            // A killed daemon leaves its sockets behind.
            let _ = fs::remove_file(self.path(left));
        }
        let daemon = self.start("bfdd");
        wait_for_file(&self.path("bfdd.vty"));
        daemon
    }

    /// Runs `ip` in the router's namespace.
    pub(crate) fn router_ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.router));
    }

    /// Runs `ip` in the speaker's namespace.
    pub(crate) fn speaker_ip(&self, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.speaker));
    }

    /// Adds to bgpd's configuration file, before it is started.
    pub(crate) fn extend_bgpd_conf(&self, lines: &str) {
        fs::write(self.path("bgpd.conf"), format!("{BGPD_CONF}{lines}")).expect("write");
    }

    /// Asks bgpd; the answer is JSON.
    pub(crate) async fn vtysh(&self, command: &str) -> Value {
        let answer = self.vtysh_lines("bgpd", &[command]).await;
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    /// Says lines to bfdd.
    pub(crate) async fn bfdd(&self, lines: &[&str]) -> Value {
        let answer = self.vtysh_lines("bfdd", lines).await;
        serde_json::from_slice(&answer).unwrap_or_default()
    }

    /// Changes bgpd's configuration, `line` within the two contexts.
    pub(crate) async fn configure(&self, outer: &str, inner: &str, line: &str) {
        self.vtysh_lines("bgpd", &["configure terminal", outer, inner, line])
            .await;
    }

    async fn vtysh_lines(&self, daemon: &str, lines: &[&str]) -> Vec<u8> {
        let mut vtysh = tokio::process::Command::new("vtysh");
        vtysh
            .arg("--vty_socket")
            .arg(self.directory.path())
            .args(["-d", daemon]);
        for line in lines {
            vtysh.args(["-c", line]);
        }
        vtysh.stdin(Stdio::null()).output().await.expect("vtysh runs").stdout
    }

    /// Leaves the link with link-local addresses alone.
    pub(crate) fn unnumber(&self) {
        for (namespace, host) in [(&self.speaker, 1), (&self.router, 2)] {
            ip(&format!("-n {namespace} address delete 10.99.0.{host}/24 dev fabric"));
            ip(&format!(
                "-n {namespace} address delete 2001:db8:99::{host}/64 dev fabric"
            ));
        }
    }

    /// A connection attempt from the router's namespace with a TTL of its own: true if it is made.
    pub(crate) fn connect_from_router(&self, to: &str, ttl: u32) -> impl FnOnce() -> bool + Send + use<> {
        let namespace = File::open(Path::new("/run/netns").join(&self.router)).expect("namespace");
        let to: SocketAddr = to.parse().expect("address");
        move || {
            // A thread of its own, whose namespace is nobody else's.
            let attempt = std::thread::spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("setns");
                let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("socket");
                socket.set_ttl_v4(ttl).expect("TTL");
                socket.connect_timeout(&to.into(), Duration::from_secs(5)).is_ok()
            });
            attempt.join().expect("thread")
        }
    }

    /// What a program in the router's namespace prints.
    pub(crate) async fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let answer = tokio::process::Command::new("ip")
            .args(["netns", "exec", &self.router, program])
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .await
            .expect("ip runs");
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    /// Starts a program in the router's namespace.
    pub(crate) fn spawn(&self, program: &str, arguments: &[&str]) -> Daemon {
        let child = Command::new("ip")
            .args(["netns", "exec", &self.router, program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("program starts");
        Daemon(child)
    }

    fn start(&self, daemon: &str) -> Daemon {
        // Its control socket is one of the whole host otherwise.
        let control = (daemon == "bfdd").then(|| ["--bfdctl".into(), self.path("bfdd.sock")]);
        let child = Command::new("ip")
            .args(["netns", "exec", &self.router])
            .arg(Path::new(DAEMONS).join(daemon))
            .args(["-u", "frr", "-g", "frr", "--vty_socket"])
            .arg(self.directory.path())
            .arg("-z")
            .arg(self.path("zserv.api"))
            .arg("-i")
            .arg(self.path(&format!("{daemon}.pid")))
            .arg("-f")
            .arg(self.path(&format!("{daemon}.conf")))
            .args(control.into_iter().flatten())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("daemon starts");
        let daemon_guard = Daemon(child);
        if daemon == "zebra" {
            wait_for_file(&self.path("zserv.api"));
        }
        daemon_guard
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.zebra = None;
        for namespace in [&self.speaker, &self.router] {
            // The other namespace's deletion takes the veth pair along.
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .expect("iproute2 is installed");
    assert!(status.success(), "ip {arguments}: {status}");
}

fn wait_for_file(path: &Path) {
    for _ in 0..1200 {
        if path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{} did not appear: see whether FRR starts by hand", path.display());
}
