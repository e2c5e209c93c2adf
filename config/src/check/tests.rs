//! One bad file for each check: the exact message, the exact line.

use crate::Candidate;

/// A valid file; line numbers in the tests count from its first line.
const BASE: &str = r#"[gateway]
name = "gw1"
[dataplane]
workers = [0]
[vxlan]
address = "192.0.2.1"
[[port]]
name = "fabric"
device = "net_tap0"
mac = "02:00:00:00:00:01"
addresses = ["192.0.2.1/31", "2001:db8::1/64"]
[[port]]
name = "tenants"
device = "net_tap1,iface=x"
[[vpc]]
id = 1
name = "red"
vni = 100
vteps = ["198.51.100.2"]
addresses = ["10.0.0.1/24"]
[[vpc]]
id = 2
name = "blue"
vlan = { port = "tenants", id = 20 }
addresses = ["10.0.0.1/24"]
[[route]]
prefix = "0.0.0.0/0"
vrf = "red"
in-vrf = "default"
[[route]]
prefix = "10.0.0.0/24"
in-vrf = "red"
[bgp]
asn = 65001
router-id = "192.0.2.1"
[[bgp.peer]]
address = "192.0.2.0"
asn = 65000
[[nat.masquerade]]
vpc = "red"
pool = ["203.0.113.0/30"]
[[nat.port-forward]]
vpc = "red"
address = "203.0.113.2"
protocol = "tcp"
port = 80
target = "10.0.0.10"
"#;

/// Problems of [`BASE`] with `from` replaced by `to`, each as `line: what`; the remedies are tested with the reader.
fn replaced(from: &str, to: &str) -> Vec<String> {
    assert_eq!(BASE.matches(from).count(), 1, "`{from}` is there once");
    problems(&BASE.replace(from, to))
}

/// Problems of [`BASE`] with more at its end, which is from line 48 on.
fn appended(more: &str) -> Vec<String> {
    problems(&format!("{BASE}{more}"))
}

fn problems(text: &str) -> Vec<String> {
    let Err(error) = Candidate::new("t", text).check() else {
        return Vec::new();
    };
    let crate::Error::Invalid(invalid) = error else {
        panic!("{error}")
    };
    assert_eq!(invalid.file(), Some("t"));
    let line = |problem: &crate::Problem| problem.place().expect("has a place").line;
    invalid
        .problems()
        .iter()
        .map(|problem| format!("{}: {}", line(problem), problem.fault()))
        .collect()
}

const NONE: [&str; 0] = [];

#[test]
fn base_is_valid() {
    assert_eq!(problems(BASE), NONE);
}

#[test]
fn names() {
    assert_eq!(
        replaced(r#"name = "gw1""#, r#"name = "Gw_1""#),
        ["2: gateway name `Gw_1` is not made of a-z, 0-9 and -"]
    );
    assert_eq!(
        replaced("name = \"tenants\"\n", "name = \"fabric\"\nhost-interface = \"tp2\"\n"),
        [
            "13: port name `fabric` is used twice: by port number 1 and by port number 2",
            "25: no port is called `tenants`"
        ]
    );
    assert_eq!(
        replaced(r#"name = "blue""#, "name = \"red\"\nhost-interface = \"tp2\""),
        ["23: vpc name `red` is used twice: by vpc number 1 and by vpc number 2"]
    );
    assert_eq!(
        replaced(r#"name = "blue""#, r#"name = "default""#),
        ["23: a VPC cannot be called `default`: that is the VRF of the ports"]
    );
}

#[test]
fn numbers() {
    assert_eq!(
        replaced("id = 2\n", "id = 1\n"),
        ["22: vpc id `1` is used twice: by vpc `red` and by vpc `blue`"]
    );
    assert_eq!(
        replaced(
            r#"vlan = { port = "tenants", id = 20 }"#,
            "vni = 100\nvteps = [\"198.51.100.2\"]"
        ),
        ["24: VNI 100 is used twice: by vpc `red` and by vpc `blue`"]
    );
    assert_eq!(
        appended("[[vpc]]\nid = 3\nname = \"green\"\nvlan = { id = 20, port = \"tenants\" }\n"),
        ["51: VLAN 20 of port `tenants` is used twice: by vpc `blue` and by vpc `green`"]
    );
    assert_eq!(
        replaced("workers = [0]", "workers = []"),
        ["4: [dataplane]: `workers` is empty"]
    );
    assert_eq!(
        replaced("workers = [0]", "workers = [1, 0, 1]"),
        ["4: core `1` is used twice: by one worker and by another"]
    );
}

#[test]
fn devices_and_host_interfaces() {
    assert_eq!(
        replaced("net_tap1,iface=x", "net_tap0,iface=x"),
        ["14: device `net_tap0` is used twice: by port `fabric` and by port `tenants`"]
    );
    assert_eq!(
        replaced(r#"device = "net_tap0""#, r#"device = """#),
        ["9: `device`: it is empty or holds control characters"]
    );
    assert_eq!(
        replaced(
            "name = \"tenants\"\n",
            "name = \"tenants\"\nhost-interface = \"tp-red\"\n"
        ),
        ["16: host interface `tp-red` is used twice: by port `tenants` and by vpc `red`"]
    );
    assert_eq!(
        replaced("name = \"tenants\"\n", "name = \"tenants\"\nhost-interface = \"a/b\"\n"),
        [
            "14: host interface `a/b` of port `tenants` is not a name for a kernel interface: it holds a character that the kernel refuses"
        ]
    );
    assert_eq!(
        appended("[[port]]\nname = \"a-rather-long-one\"\ndevice = \"net_tap2\"\n"),
        [
            "48: host interface `tp-a-rather-long-one` of port `a-rather-long-one` is not a name for a kernel interface: it is longer than 15 bytes"
        ]
    );
}

#[test]
fn references() {
    assert_eq!(
        replaced(r#"port = "tenants""#, r#"port = "tenant""#),
        ["24: no port is called `tenant`"]
    );
    assert_eq!(
        replaced(r#"in-vrf = "red""#, r#"in-vrf = "rad""#),
        ["32: no vrf is called `rad`"]
    );
    assert_eq!(
        appended(
            "[[nat.port-forward]]\nvpc = \"purple\"\naddress = \"203.0.113.3\"\nprotocol = \"udp\"\nport = 1\ntarget = \"10.0.0.1\"\n"
        ),
        ["49: no vpc is called `purple`"]
    );
}

#[test]
fn addresses() {
    assert_eq!(
        replaced(r#"mac = "02:00:00:00:00:01""#, r#"mac = "01:00:00:00:00:01""#),
        ["10: MAC address 01:00:00:00:00:01 of port `fabric` is a group address"]
    );
    assert_eq!(
        replaced(r#"mac = "02:00:00:00:00:01""#, r#"mac = "00:00:00:00:00:00""#),
        ["10: MAC address 00:00:00:00:00:00 of port `fabric` is all zero"]
    );
    assert_eq!(
        replaced(r#"mac = "02:00:00:00:00:01""#, "mtu = 1279"),
        ["10: MTU 1279 of port `fabric` is out of range: IPv6 needs 1280 bytes (RFC 8200 section 5)"]
    );
    assert_eq!(
        replaced(r#"mac = "02:00:00:00:00:01""#, "mtu = 9001"),
        ["10: MTU 9001 of port `fabric` is out of range: packet buffers hold 9000 bytes"]
    );
    assert_eq!(
        replaced(r#"net_tap1,iface=x""#, "net_tap1\"\nmtu = 67"),
        ["15: MTU 67 of port `tenants` is out of range: IPv4 needs 68 bytes (RFC 791)"]
    );
    assert_eq!(
        replaced(
            r#"net_tap1,iface=x""#,
            "net_tap1\"\naddresses = [\"10.0.0.0/24\", \"10.0.1.255/24\", \"127.0.0.1/8\", \"224.0.0.1/32\", \"::/128\"]"
        ),
        [
            "15: 10.0.0.0 in port `tenants` is the address of the subnet itself",
            "15: 10.0.1.255 in port `tenants` is the subnet's broadcast address",
            "15: 127.0.0.1 in port `tenants` is a loopback address",
            "15: 224.0.0.1 in port `tenants` is a multicast address",
            "15: :: in port `tenants` is the unspecified address"
        ]
    );
}

#[test]
fn subnets() {
    assert_eq!(
        replaced(r#"net_tap1,iface=x""#, "net_tap1\"\naddresses = [\"192.0.2.9/24\"]"),
        ["15: subnets 192.0.2.1/31 of port `fabric` and 192.0.2.9/24 of port `tenants` overlap in VRF `default`"]
    );
    assert_eq!(
        replaced(r#"net_tap1,iface=x""#, "net_tap1\"\naddresses = [\"2001:db8::2/64\"]"),
        ["15: subnets 2001:db8::1/64 of port `fabric` and 2001:db8::2/64 of port `tenants` overlap in VRF `default`"]
    );
    assert_eq!(
        replaced(
            r#"net_tap1,iface=x""#,
            "net_tap1\"\naddresses = [\"10.0.0.1/24\", \"10.0.0.2/24\", \"fe80::1/64\"]"
        ),
        NONE
    );
    assert_eq!(
        replaced(
            r#"net_tap1,iface=x""#,
            "net_tap1\"\naddresses = [\"10.0.0.1/24\", \"10.0.0.2/25\"]"
        ),
        ["15: subnets 10.0.0.1/24 of port `tenants` and 10.0.0.2/25 of port `tenants` overlap in VRF `default`"]
    );
}

#[test]
fn vxlan() {
    assert_eq!(
        replaced("[vxlan]\naddress = \"192.0.2.1\"\n", ""),
        ["16: vpc `red` has a VNI, and there is no [vxlan]"]
    );
    assert_eq!(
        replaced("[vxlan]\naddress = \"192.0.2.1\"", "[vxlan]\naddress = \"192.0.2.7\""),
        ["6: [vxlan] address 192.0.2.7 is not an address of a port"]
    );
    assert_eq!(
        replaced(r#"vteps = ["198.51.100.2"]"#, "vteps = []"),
        ["19: vpc `red`: `vteps` is empty"]
    );
    assert_eq!(
        replaced(
            r#"vteps = ["198.51.100.2"]"#,
            r#"vteps = ["192.0.2.1", "2001:db8::9", "239.0.0.1"]"#
        ),
        [
            "19: VTEP 192.0.2.1 of vpc `red` is our own endpoint",
            "19: VTEP 2001:db8::9 of vpc `red` is of the other address family than our endpoint",
            "19: VTEP 239.0.0.1 of vpc `red` is not a unicast address"
        ]
    );
    assert_eq!(
        replaced("vlan = { port", "vteps = [\"198.51.100.2\"]\nvlan = { port"),
        ["24: `vteps` means nothing in vpc `blue`: only a VPC with a `vni` has remote endpoints"]
    );
}

#[test]
fn routes() {
    assert_eq!(
        appended("[[route]]\nprefix = \"10.0.0.0/24\"\nkind = \"blackhole\"\n"),
        ["49: static route 10.0.0.0/24 in VRF `default` is there twice"]
    );
    assert_eq!(
        appended("[[route]]\nprefix = \"192.168.0.0/16\"\nvia = [\"2001:db8::2\", \"0.0.0.0\"]\n"),
        [
            "50: next hop 2001:db8::2 of route 192.168.0.0/16 is of the other address family",
            "50: 0.0.0.0 in route `192.168.0.0/16` is the unspecified address"
        ]
    );
    assert_eq!(
        appended("[[route]]\nprefix = \"192.168.0.0/16\"\nvia = []\n"),
        ["50: route `192.168.0.0/16`: `via` is empty"]
    );
    assert_eq!(
        appended("[[route]]\nprefix = \"192.168.0.0/16\"\nvia = [\"192.0.2.0\"]\ndistance = 0\n"),
        ["51: `distance`: 0 is out of range"]
    );
}

#[test]
fn leaks_that_never_end() {
    assert_eq!(
        replaced(r#"in-vrf = "red""#, r#"in-vrf = "default""#),
        ["32: leaked routes lead in a circle: 10.0.0.0/24 in `default` -> in `default`"]
    );
    assert_eq!(
        appended("[[route]]\nprefix = \"10.0.0.0/16\"\nin-vrf = \"red\"\n"),
        ["50: leaked routes lead in a circle: 10.0.0.0/16 in `default` -> in `red` -> in `default`"]
    );
    assert_eq!(
        appended(
            "[[route]]\nprefix = \"10.0.0.0/16\"\nin-vrf = \"red\"\n[[route]]\nprefix = \"10.0.0.0/16\"\nvrf = \"red\"\nkind = \"blackhole\"\n"
        ),
        NONE
    );
    assert_eq!(
        appended(
            "[[route]]\nprefix = \"::/0\"\nvrf = \"red\"\nin-vrf = \"blue\"\n[[route]]\nprefix = \"::/0\"\nvrf = \"blue\"\nin-vrf = \"default\"\n[[route]]\nprefix = \"::/0\"\nin-vrf = \"red\"\n"
        ),
        ["51: leaked routes lead in a circle: ::/0 in `red` -> in `blue` -> in `default` -> in `red`"]
    );
}

#[test]
fn bgp() {
    assert_eq!(replaced("asn = 65001", "asn = 0"), ["34: AS 0 in [bgp] is reserved"]);
    assert_eq!(
        replaced("asn = 65000", "asn = 23456"),
        ["38: AS 23456 in bgp peer `192.0.2.0` is reserved"]
    );
    assert_eq!(
        replaced(r#"router-id = "192.0.2.1""#, r#"router-id = "0.0.0.0""#),
        ["35: [bgp] router-id is 0.0.0.0"]
    );
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nhold-time = 2"),
        ["39: hold-time 2 of bgp peer 192.0.2.0 is too short"]
    );
    assert_eq!(replaced("asn = 65000", "asn = 65000\nhold-time = 0"), NONE);
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nsend-hold-time = 90"),
        ["39: send-hold-time 90 of bgp peer 192.0.2.0 is not above its hold-time 90"]
    );
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nlocal-address = \"2001:db8::1\""),
        ["39: local-address 2001:db8::1 of bgp peer 192.0.2.0 is of the other address family"]
    );
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nstrict-role = true"),
        ["39: bgp peer 192.0.2.0 has to say its role (strict-role), and ours is not given"]
    );
    assert_eq!(
        replaced("asn = 65000", "asn = 65001\nrole = \"customer\""),
        ["39: bgp peer 192.0.2.0 is internal and has a role"]
    );
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nmultihop = 2\nbfd = {}"),
        ["40: bgp peer 192.0.2.0 has bfd, and may be several hops away"]
    );
    assert_eq!(replaced("asn = 65000", "asn = 65000\nttl-security = 1\nbfd = {}"), NONE);
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nbfd = { min-tx-ms = 9, multiplier = 0 }"),
        [
            "39: `min-tx-ms`: 9 is out of range",
            "39: `multiplier`: 0 is out of range"
        ]
    );
    let caches = "[[bgp.rpki]]\ncache = \"192.0.2.5:323\"\n[[bgp.rpki]]\ncache = \"192.0.2.5:323\"\n[[bgp.peer]]";
    assert_eq!(
        replaced("[[bgp.peer]]", caches),
        ["39: rpki cache `192.0.2.5:323` is used twice: by cache number 1 and by cache number 2"]
    );
    let collectors = "[[bgp.bmp]]\ncollector = \"192.0.2.5:1790\"\npre-policy = false\npost-policy = false
[[bgp.bmp]]\ncollector = \"192.0.2.5:1790\"\nstatistics-interval = 86401\n[[bgp.peer]]";
    assert_eq!(
        replaced("[[bgp.peer]]", collectors),
        [
            "39: bmp collector 192.0.2.5:1790 gets routes neither before nor after policy",
            "41: bmp collector `192.0.2.5:1790` is used twice: by collector number 1 and by collector number 2",
            "42: `statistics-interval`: 86401 is out of range"
        ]
    );
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nttl-security = 1\nmultihop = 2"),
        ["40: bgp peer 192.0.2.0 has both ttl-security and multihop"]
    );
    assert_eq!(
        replaced(
            "asn = 65000",
            "asn = 65000\nttl-security = 0\nrestart-time = 4096\nmax-prefixes-warn = 101"
        ),
        [
            "39: `ttl-security`: 0 is out of range",
            "40: `restart-time`: 4096 is out of range",
            "41: `max-prefixes-warn`: 101 is out of range"
        ]
    );
    let password = format!("asn = 65000\npassword = \"{}\"", "x".repeat(81));
    assert_eq!(
        replaced("asn = 65000", &password),
        ["39: `password`: its length or a character is not possible"]
    );
}

#[test]
fn bgp_peer_groups() {
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\ngroup = \"spines\""),
        ["39: there is no [[bgp.peer-group]] `spines`"]
    );
    let groups = "[[bgp.peer-group]]\nname = \"a\"\n[[bgp.peer-group]]\nname = \"a\"\n[[bgp.peer]]";
    assert_eq!(
        replaced("[[bgp.peer]]", groups),
        ["39: [[bgp.peer-group]] `a` is there twice"]
    );
    assert_eq!(
        replaced("asn = 65000", "").len(),
        1,
        "an AS is needed, here or in the group"
    );
    let group = "[[bgp.peer-group]]\nname = \"a\"\nhold-time = 1\nasn = 65000\n[[bgp.peer]]\ngroup = \"a\"";
    let problems = problems(
        &BASE
            .replace("[[bgp.peer]]", group)
            .replace("192.0.2.0\"\nasn = 65000", "192.0.2.0\""),
    );
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].ends_with("hold-time 1 of bgp peer 192.0.2.0 is too short"),
        "{problems:?}"
    );
}

#[test]
fn bgp_dynamic_peers() {
    let dynamic = |limit: u32| {
        let range = format!("[[bgp.dynamic]]\nprefix = \"10.1.0.0/16\"\nasn = 65000\nlimit = {limit}\n");
        problems(&BASE.replace("[[nat.masquerade]]", &format!("{range}[[nat.masquerade]]")))
    };
    assert_eq!(dynamic(1), NONE);
    assert_eq!(dynamic(0), ["42: `limit`: 0 is out of range"]);
    let twice = "[[bgp.dynamic]]\nprefix = \"10.1.0.0/16\"\nasn = 65000\n".repeat(2);
    let problems = problems(&BASE.replace("[[nat.masquerade]]", &format!("{twice}[[nat.masquerade]]")));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("range of dynamic bgp peers"), "{problems:?}");
}

#[test]
fn bgp_unnumbered_peers() {
    let with = |lines: &str| {
        let peer = format!("[[bgp.unnumbered]]\nasn = \"external\"\n{lines}");
        problems(&BASE.replace("[[nat.masquerade]]", &format!("{peer}[[nat.masquerade]]")))
    };
    assert_eq!(with("interface = \"fabric\"\n"), NONE);
    assert_eq!(with("interface = \"nowhere\"\n"), ["41: no port is called `nowhere`"]);
    assert_eq!(
        with("interface = \"fabric\"\npassword = \"x\"\nlocal-address = \"fe80::1\"\n"),
        [
            "42: bgp unnumbered `fabric` has a password, and no address",
            "43: bgp unnumbered `fabric` has a local-address, and no address"
        ]
    );
    let twice = with("interface = \"fabric\"\n[[bgp.unnumbered]]\nasn = 65000\ninterface = \"fabric\"\n");
    assert_eq!(twice.len(), 1, "{twice:?}");
    assert!(twice[0].contains("interface of an unnumbered bgp peer"), "{twice:?}");
    assert_eq!(
        replaced("asn = 65000", "asn = \"internal\""),
        ["38: `asn`: there is no AS `internal`"]
    );
}

#[test]
fn bgp_peers() {
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nfamilies = []\nport = 0"),
        [
            "39: bgp peer `192.0.2.0`: `families` is empty",
            "40: `port`: 0 is out of range"
        ]
    );
    assert_eq!(
        replaced(r#"address = "192.0.2.0""#, r#"address = "192.0.2.1""#),
        ["37: bgp peer 192.0.2.1 is an address of this gateway"]
    );
    assert_eq!(
        replaced(r#"address = "192.0.2.0""#, r#"address = "ff02::1""#),
        ["37: ff02::1 in bgp peer `ff02::1` is a multicast address"]
    );
    assert_eq!(
        replaced(
            "asn = 65000",
            "asn = 65000\n[[bgp.peer]]\naddress = \"192.0.2.0\"\nasn = 65002"
        ),
        ["40: bgp peer address `192.0.2.0` is used twice: by peer number 1 and by peer number 2"]
    );
    assert_eq!(
        replaced(
            "asn = 65000",
            "asn = 65000\nimport = { prefixes = [{ prefix = \"10.0.0.0/8\", ge = 9 }, { prefix = \"10.0.0.0/8\", ge = 7 }, { prefix = \"10.0.0.0/8\", le = 33 }] }"
        ),
        [
            "39: policy rule 10.0.0.0/8 cannot have ge 7 and le 32",
            "39: policy rule 10.0.0.0/8 cannot have ge 8 and le 33"
        ]
    );
}

#[test]
fn masquerade() {
    assert_eq!(
        replaced(r#"pool = ["203.0.113.0/30"]"#, "pool = []"),
        ["41: masquerade `red`: `pool` is empty"]
    );
    assert_eq!(
        replaced(r#"pool = ["203.0.113.0/30"]"#, r#"pool = ["192.0.2.0/30"]"#),
        ["41: masquerade pool 192.0.2.0/30 of vpc `red` holds 192.0.2.1, an address of port `fabric`"]
    );
    assert_eq!(
        replaced(r#"pool = ["203.0.113.0/30"]"#, r#"pool = ["224.0.0.0/30"]"#),
        ["41: 224.0.0.0 in masquerade `red` is a multicast address"]
    );
    assert_eq!(
        appended("[[nat.masquerade]]\nvpc = \"blue\"\npool = [\"203.0.113.1\"]\n"),
        ["50: masquerade pools 203.0.113.0/30 of vpc `red` and 203.0.113.1/32 of vpc `blue` share addresses and ports"]
    );
    assert_eq!(
        appended("[[nat.masquerade]]\nvpc = \"blue\"\npool = [\"203.0.113.1\"]\nports = \"512-1023\"\n"),
        NONE
    );
    assert_eq!(
        appended("[[nat.masquerade]]\nvpc = \"red\"\nsources = [\"10.0.0.0/25\"]\npool = [\"203.0.113.1\"]\n"),
        ["50: masquerade sources 10.0.0.0/25 of vpc `red` are all taken by an earlier rule"]
    );
}

#[test]
fn filtering_by_mapping_alone_needs_a_shared_mapping() {
    let pool = r#"pool = ["203.0.113.0/30"]"#;
    let with = |more: &str| replaced(pool, &format!("{pool}\n{more}"));
    assert_eq!(
        with("filtering = \"endpoint-independent\""),
        ["42: `filtering`: a port that is not one host's own cannot let others in"]
    );
    assert_eq!(
        with("filtering = \"endpoint-independent\"\nmapping = \"endpoint-independent\""),
        NONE
    );
}

#[test]
fn choices_of_ports_fit_the_pool() {
    let pool = r#"pool = ["203.0.113.0/30"]"#;
    let with = |more: &str| replaced(pool, &format!("{pool}\n{more}"));
    assert_eq!(with("blocks = { size = 512, count = 2 }\npairing = \"strict\""), NONE);
    assert_eq!(
        with("ports = \"1024-2047\"\nblocks = { size = 1025 }"),
        ["43: `size`: 1025 does not fit into the 1024 ports of the pool"]
    );
    assert_eq!(
        with("blocks = { size = 512, count = 0 }"),
        ["42: `count`: 0 blocks are no ports"]
    );
    assert_eq!(
        with("parity = true\nblocks = { size = 512 }"),
        ["42: `parity`: blocks are handed out whole"]
    );
    assert_eq!(
        with("mapping = \"overloading\"\nblocks = { size = 512 }"),
        ["42: `mapping`: ports of a block are its subscriber's alone"]
    );
    assert_eq!(
        with("sources = [\"10.0.0.0/24\"]\ndeterministic = true\nparity = true"),
        NONE
    );
    assert_eq!(
        with("deterministic = true"),
        [
            "42: `deterministic`: 4294967296 addresses in `sources` share 4 with 64512 ports each, which leaves none for some"
        ]
    );
    assert_eq!(
        with("deterministic = true\nblocks = { size = 512 }"),
        ["42: `deterministic` means nothing in masquerade `red`: ports of blocks are not determined"]
    );
    let other = "[[nat.masquerade]]\nvpc = \"red\"\nsources = [\"10.0.0.0/25\"]\npool = [\"203.0.113.1\"]\n";
    let narrow = BASE.replace(
        pool,
        &format!("sources = [\"10.0.0.128/25\"]\n{pool}\nblocks = {{ size = 64 }}"),
    );
    assert_eq!(
        problems(&(narrow + other)),
        ["53: masquerade pool 203.0.113.1/32 of vpc `red` has port blocks or meets some, and another rule uses it"]
    );
}

#[test]
fn nat_limits() {
    let limit = |more: &str| format!("[[nat.limit]]\nvpc = \"red\"\n{more}");
    assert_eq!(appended(&limit("sessions = 100\nsubscriber-new-sessions = 5\n")), NONE);
    assert_eq!(
        appended(&limit("subscriber-sessions = 0\n")),
        ["50: `subscriber-sessions`: 0 connections are no NAT at all"]
    );
    assert_eq!(appended(&limit("")), ["48: NAT limit `red` has no `sessions`"]);
    assert_eq!(
        appended(&(limit("sessions = 1\n") + &limit("sessions = 2\n"))),
        ["51: NAT limit `red` is used twice: by one and by another"]
    );
}

#[test]
fn static_nat() {
    let rule = |vpc: &str, inside: &str, outside: &str, more: &str| {
        format!("[[nat.static]]\nvpc = \"{vpc}\"\ninside = \"{inside}\"\noutside = \"{outside}\"\n{more}")
    };
    let red = rule("red", "10.0.0.0/28", "198.51.100.0/28", "");
    assert_eq!(appended(&red), NONE);
    let twice = rule("red", "10.0.0.0/24", "100.64.1.0/24", "peer = \"blue\"\n")
        + &rule("blue", "10.0.0.0/24", "100.64.1.0/24", "peer = \"red\"\n");
    assert_eq!(appended(&(red.clone() + &twice)), NONE, "each side is told apart");
    assert_eq!(
        appended(&rule("red", "10.0.0.0/28", "198.51.100.0/27", "")),
        ["51: static NAT of vpc `red` pairs 10.0.0.0/28 with 198.51.100.0/27"]
    );
    assert_eq!(
        appended(&rule("red", "10.0.0.0/28", "198.51.100.0/28", "peer = \"red\"\n")),
        ["52: static NAT of vpc `red` has the same VPC as its peer"]
    );
    assert_eq!(
        appended(&rule("red", "10.0.0.0/28", "224.0.0.0/28", "")),
        ["51: 224.0.0.0 in static NAT of vpc `red` is a multicast address"]
    );
    assert_eq!(
        appended(&(red.clone() + &rule("red", "10.0.0.8/29", "198.51.101.0/29", ""))),
        ["54: static NAT of vpc `red` uses 10.0.0.8/29, which is also that of vpc `red`"]
    );
    assert_eq!(
        appended(&(red + &rule("blue", "10.0.0.0/30", "198.51.100.4/30", ""))),
        ["55: static NAT of vpc `blue` uses 198.51.100.4/30, which is also that of vpc `red`"]
    );
    assert_eq!(
        appended(&rule("red", "10.0.0.0/30", "203.0.113.0/30", "")),
        [
            "51: static NAT of vpc `red` uses 203.0.113.0/30, which is also in the masquerade pool 203.0.113.0/30",
            "51: static NAT of vpc `red` uses 203.0.113.0/30, which is also that of the port forward `203.0.113.2`"
        ]
    );
    assert_eq!(
        appended(&rule("red", "10.0.0.0/30", "192.0.2.0/30", "")),
        ["51: static NAT of vpc `red` uses 192.0.2.0/30, which is also that of port `fabric`"]
    );
}

#[test]
fn port_forwards() {
    assert_eq!(
        replaced("port = 80\n", "port = 8080\n"),
        ["46: port forward 203.0.113.2 tcp 8080 lies in the ports 1024-65535 of the masquerade pool 203.0.113.0/30"]
    );
    assert_eq!(
        appended(
            "[[nat.port-forward]]\nvpc = \"blue\"\naddress = \"203.0.113.2\"\nprotocol = \"tcp\"\nport = 80\ntarget = \"10.0.0.11\"\n"
        ),
        ["48: public port `203.0.113.2 tcp 80` is used twice: by 10.0.0.10:80 and by 10.0.0.11:80"]
    );
    assert_eq!(
        appended(
            "[[nat.port-forward]]\nvpc = \"blue\"\naddress = \"203.0.113.2\"\nprotocol = \"udp\"\nport = 80\ntarget = \"10.0.0.11\"\n"
        ),
        NONE
    );
    let range = |port: &str, targets: &str| {
        replaced(
            "port = 80\ntarget = \"10.0.0.10\"\n",
            &format!("port = {port}\n{targets}\n"),
        )
    };
    assert_eq!(range("\"80-99\"", "target = \"10.0.0.10\"\ntarget-port = 8000"), NONE);
    assert_eq!(
        range("\"1000-1999\"", "target = \"10.0.0.10\""),
        [
            "46: port forward 203.0.113.2 tcp 1000-1999 lies in the ports 1024-65535 of the masquerade pool 203.0.113.0/30"
        ]
    );
    assert_eq!(
        range("\"80-99\"", "target = \"10.0.0.10\"\ntarget-port = 65530"),
        ["48: `target-port`: 65530 is out of range"]
    );
    assert_eq!(range("0", "target = \"10.0.0.10\""), ["46: `port`: 0 is out of range"]);
    let targets = |more: &str| {
        range(
            "80",
            &format!("targets = [{{ address = \"10.0.0.10\", weight = 0 }}{more}]"),
        )
    };
    assert_eq!(
        targets(""),
        ["47: `targets`: nobody has a share of the clients, or more than 512 do"]
    );
    assert_eq!(targets(", { address = \"10.0.0.11\", port = 81 }"), NONE);
    assert_eq!(
        targets(", { address = \"224.0.0.1\", port = 0 }"),
        [
            "47: 224.0.0.1 in port forward `203.0.113.2` is a multicast address",
            "47: `port`: 0 is out of range"
        ]
    );
    assert_eq!(
        range("80", "targets = []"),
        ["47: port forward `203.0.113.2`: `targets` is empty"]
    );
    assert_eq!(
        range("80", "targets = [{ address = \"10.0.0.10\" }]\ntarget-port = 81"),
        ["48: `target-port` means nothing in port forward `203.0.113.2`: it has `targets`, which say each their own"]
    );
    assert_eq!(
        appended(
            "[[nat.port-forward]]\nvpc = \"blue\"\naddress = \"203.0.113.2\"\nprotocol = \"tcp\"\nport = \"70-80\"\ntarget = \"10.0.0.11\"\n"
        ),
        ["48: public port `203.0.113.2 tcp 70-80` is used twice: by 10.0.0.10:80 and by 10.0.0.11:70"]
    );
    assert_eq!(
        replaced(r#"address = "203.0.113.2""#, r#"address = "192.0.2.1""#),
        ["44: port forward 192.0.2.1 tcp 80 uses an address of port `fabric`"]
    );
    assert_eq!(
        replaced(r#"target = "10.0.0.10""#, "target = \"0.0.0.0\"\ntarget-port = 0"),
        [
            "47: 0.0.0.0 in port forward `203.0.113.2` is the unspecified address",
            "48: `target-port`: 0 is out of range"
        ]
    );
}

#[test]
fn kernel_tables() {
    let table = |number: &str| replaced("name = \"blue\"", &format!("name = \"blue\"\nkernel-table = {number}"));
    assert_eq!(table("1001"), [""; 0]);
    assert_eq!(
        table("254"),
        ["24: `kernel-table`: 254 cannot be the table of vpc `blue`: it is main, whose routes are the default VRF's"]
    );
    assert_eq!(
        table("255"),
        ["24: `kernel-table`: 255 cannot be the table of vpc `blue`: the kernel keeps it for itself"]
    );
    let both = BASE.replace("vni = 100", "vni = 100\nkernel-table = 7");
    let both = both.replace("name = \"blue\"", "name = \"blue\"\nkernel-table = 7");
    assert_eq!(
        problems(&both),
        ["25: kernel table `7` is used twice: by vpc `red` and by vpc `blue`"]
    );
    let written = "[kernel]\ntable = 7\n";
    assert_eq!(
        problems(&(BASE.replace("vni = 100", "vni = 100\nkernel-table = 7") + written)),
        [
            "19: `kernel-table`: 7 cannot be the table of vpc `red`: it is where winners of the default VRF are written \
          (`kernel.table`)"
        ]
    );
}

#[test]
fn timers_of_a_vpc() {
    assert_eq!(appended("[[nat.vpc-timers]]\nvpc = \"red\"\nudp = 20\n"), NONE);
    assert_eq!(
        appended("[[nat.vpc-timers]]\nvpc = \"red\"\nother = 0\n"),
        ["50: `other`: 0 is out of range"]
    );
    assert_eq!(
        appended("[[nat.vpc-timers]]\nvpc = \"red\"\n[[nat.vpc-timers]]\nvpc = \"red\"\n"),
        ["50: vpc `red` is used twice: by [[nat.vpc-timers]] 1 and by [[nat.vpc-timers]] 2"]
    );
    assert_eq!(
        appended("[nat]\npick-up = 4000\n"),
        ["49: `pick-up`: 4000 is out of range"]
    );
}

#[test]
fn limits() {
    assert_eq!(appended("[nat.timers]\nudp = 0\n"), ["49: `udp`: 0 is out of range"]);
    assert_eq!(
        appended("[kernel]\nprotocol = 4\n"),
        ["49: `protocol`: 4 is out of range"]
    );
    assert_eq!(
        appended("[kernel]\naudit-interval = 0\n"),
        ["49: `audit-interval`: 0 is out of range"]
    );
    assert_eq!(
        appended(
            "[rib]\nbatch-size = 0\nbatch-time-ms = 20\nlarge-batch-time-ms = 10\npublish-interval-ms = 1001\ndistance = { ibgp = 0 }\n"
        ),
        [
            "49: `batch-size`: 0 is out of range",
            "51: `large-batch-time-ms`: 10 is out of range",
            "52: `publish-interval-ms`: 1001 is out of range",
            "53: `ibgp`: 0 is out of range"
        ]
    );
    assert_eq!(
        appended("[fpm]\nlisten = \"192.0.2.1:2620\"\nstale-time = 0\n"),
        [
            "49: `listen`: 192.0.2.1 is not on the loopback interface, and FPM has no authentication",
            "50: `stale-time`: 0 is out of range"
        ]
    );
    assert_eq!(appended("[fpm]\n"), [""; 0]);
    assert_eq!(
        appended("[api]\nsocket = \"api.sock\"\n"),
        ["49: `socket`: it does not start at /"]
    );
}

#[test]
fn a_standby_is_another_gateway_and_has_an_end() {
    assert_eq!(appended("[standby]\npeer = \"100.64.0.2:4790\"\n"), [""; 0]);
    let pair = "peer = \"100.64.0.2:4790\"\nlisten = \"100.64.0.1:4790\"\nprimary = \"100.64.0.2\"\n";
    assert_eq!(appended(&format!("[standby]\n{pair}")), [""; 0]);
    assert_eq!(appended("[standby]\n"), ["48: [standby] has no `peer`"]);
    assert_eq!(
        appended("[standby]\nlisten = \"100.64.0.1:4790\"\n"),
        ["48: [standby] has no `primary`"]
    );
    assert_eq!(
        appended("[standby]\npeer = \"100.64.0.2:0\"\nprimary = \"100.64.0.2\"\n"),
        [
            "49: `peer`: 0 is out of range",
            "50: `primary` means nothing in [standby]: nothing is received without `listen`"
        ]
    );
    assert_eq!(
        appended("[standby]\nlisten = \"100.64.0.1:4790\"\nprimary = \"2001:db8::7\"\n"),
        ["50: `primary`: 100.64.0.1 cannot be reached from 2001:db8::7"]
    );
    assert_eq!(
        appended("[standby]\npeer = \"192.0.2.1:4790\"\n"),
        ["49: `peer`: 192.0.2.1 is this gateway itself"]
    );
    assert_eq!(
        appended("[standby]\nlisten = \"[::]:4790\"\nprimary = \"0.0.0.0\"\n"),
        ["50: `primary`: 0.0.0.0 is no gateway"]
    );
}

#[test]
fn what_is_broken_is_not_reported_again_as_absent() {
    assert_eq!(
        replaced("[vxlan]\naddress = \"192.0.2.1\"", "[vxlan]\naddress = \"192.0.2\""),
        ["6: `address`: `192.0.2` is not an IP address"]
    );
    assert_eq!(
        replaced(r#"net_tap1,iface=x""#, "net_tap1\"\nmtu = \"9\""),
        ["15: `mtu` is a text, not a whole number"]
    );
    assert_eq!(
        replaced(r#"device = "net_tap1,iface=x""#, r#"devise = "net_tap1,iface=x""#),
        [
            "12: port `tenants` has no `device`",
            "14: port `tenants` has no key `devise`"
        ]
    );
    assert_eq!(replaced("id = 1\n", "id = 0\n"), ["16: `id`: 0 is out of range"]);
}

/// Problems of [`BASE`] with sets and policies, which begin on line 54.
fn with_policies(sections: &str) -> Vec<String> {
    let peer = r#"address = "192.0.2.0"
asn = 65000
"#;
    let named = format!("{peer}import = \"in\"\n");
    let policy = "[[bgp.policy]]\nname = \"in\"\n[[bgp.policy.term]]\nname = \"all\"\nthen = \"accept\"\n";
    assert_eq!(BASE.matches(peer).count(), 1);
    problems(&format!("{}{policy}{sections}", BASE.replace(peer, &named)))
}

#[test]
fn policies_and_sets() {
    const NONE: [&str; 0] = [];
    let term = |inside: &str| {
        with_policies(&format!(
            "[[bgp.policy]]\nname = \"x\"\n[[bgp.policy.term]]\nname = \"t\"\nthen = \"accept\"\n{inside}"
        ))
    };
    assert_eq!(with_policies(""), NONE);
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nexport = \"tenant\""),
        ["39: no policy is called `tenant`"]
    );
    assert_eq!(
        replaced("asn = 65000", "asn = 65000\nexport = { ipv6-unicast = \"tenant\" }"),
        ["39: no policy is called `tenant`"]
    );
    assert_eq!(
        term("match = { prefix-set = \"s\" }"),
        ["59: no prefix-set is called `s`"]
    );
    assert_eq!(
        term("match = { as-path-set = \"b\", community-any = \"a\" }"),
        ["59: no as-path-set is called `b`", "59: no community-set is called `a`"]
    );
    assert_eq!(
        term("match = { neighbor = [], source = [], rpki = [] }"),
        [
            "59: term `t` of policy `x`: `neighbor` is empty",
            "59: term `t` of policy `x`: `source` is empty",
            "59: term `t` of policy `x`: `rpki` is empty"
        ]
    );
    assert_eq!(term("set = { prepend = 0 }"), ["59: `prepend`: 0 is out of range"]);
    assert_eq!(
        term("set = { prepend = { asn = 0 } }"),
        ["59: AS 0 in term `t` of policy `x` is reserved"]
    );
    assert_eq!(
        term("set = { next-hop = \"224.0.0.1\" }"),
        ["59: 224.0.0.1 in term `t` of policy `x` is a multicast address"]
    );
    assert_eq!(
        term("set = { add-communities = [] }"),
        ["59: term `t` of policy `x`: `add-communities` is empty"]
    );
    assert_eq!(
        term("set = { med = \"10\" }"),
        ["59: `med`: `10` is not a change of the MED"]
    );
    assert_eq!(
        term("set = { add-communities = [\"65001:*\"] }"),
        ["59: `add-communities`: `65001:*` is not a community"]
    );
    assert_eq!(
        with_policies("[[bgp.policy]]\nname = \"accept\"\n"),
        [
            "54: policy `accept`: `term` is empty",
            "55: a policy cannot be called `accept`: that is a word where policies are named"
        ]
    );
    assert_eq!(
        with_policies("[[bgp.prefix-set]]\nname = \"In\"\nprefixes = []\n"),
        [
            "54: prefix-set `In`: `prefixes` is empty",
            "55: prefix-set name `In` is not made of a-z, 0-9 and -"
        ]
    );
    assert_eq!(
        with_policies("[[bgp.prefix-set]]\nname = \"a\"\nprefixes = [{ prefix = \"10.0.0.0/8\", ge = 7 }]\n"),
        ["56: policy rule 10.0.0.0/8 cannot have ge 7 and le 32"]
    );
    assert_eq!(
        with_policies("[[bgp.as-path-set]]\nname = \"a\"\npatterns = [\"(65010\"]\n"),
        ["56: `patterns`: `(65010`: unclosed group"]
    );
    assert_eq!(
        with_policies("[[bgp.as-path-set]]\nname = \"a\"\n[[bgp.community-set]]\nname = \"a\"\ncommunities = []\n"),
        [
            "54: as-path-set `a`: `patterns` is empty",
            "56: community-set `a`: `communities` is empty"
        ]
    );
    let twice = "[[bgp.policy]]\nname = \"in\"\nterm = [{ name = \"t\", then = \"reject\" }, { name = \"t\", then = \"reject\" }]\n";
    assert_eq!(
        with_policies(twice),
        [
            "55: policy `in` is used twice: by number 1 and by number 2",
            "56: term `t` is used twice: by number 1 and by number 2"
        ]
    );
}

#[test]
fn a_broken_set_is_not_called_unknown_as_well() {
    let sections = "[[bgp.policy]]\nname = \"x\"\nterm = [{ name = \"t\", then = \"accept\", match = { as-path-set = \"a\" } }]\n\
                    [[bgp.as-path-set]]\nname = 5\n";
    assert_eq!(with_policies(sections).len(), 1);
}

#[test]
fn unknown_sets_get_a_remedy() {
    let text = format!(
        "{BASE}[[bgp.prefix-set]]\nname = \"tenants\"\nprefixes = [{{ prefix = \"10.0.0.0/8\" }}]\n[[bgp.policy]]\nname = \"x\"\n\
         term = [{{ name = \"t\", then = \"accept\", match = {{ prefix-set = \"tenant\" }} }}]\n"
    );
    let Err(crate::Error::Invalid(invalid)) = Candidate::new("t", text).check() else {
        panic!("unknown")
    };
    let help = miette::Diagnostic::help(invalid.problems()[0].fault())
        .expect("has a remedy")
        .to_string();
    assert_eq!(help, "did you mean `tenants`?");
}

/// Red of [`BASE`] in EVPN with these lines, on the lines from 21.
fn in_evpn(lines: &str) -> Vec<String> {
    let before = "vteps = [\"198.51.100.2\"]\naddresses = [\"10.0.0.1/24\"]\n";
    replaced(before, &format!("addresses = [\"10.0.0.1/24\"]\n[vpc.evpn]\n{lines}"))
}

#[test]
fn evpn() {
    let targets = "import-rt = [\"65000:1\"]\nexport-rt = [\"65000:1\", \"192.0.2.1:7\", \"4200000000:1\"]\n";
    assert_eq!(
        in_evpn(&format!("{targets}announce = [\"10.0.0.0/24\"]\n")),
        Vec::<String>::new()
    );
    assert_eq!(in_evpn(""), ["20: evpn of vpc `red` has no route target"]);
    assert_eq!(
        in_evpn("import-rt = [\"65000:1\"]\nannounce = [\"10.0.0.0/24\"]\n"),
        ["20: evpn of vpc `red` announces routes without a route target"]
    );
    assert_eq!(
        in_evpn("export-rt = [\"65000:1\", \"65000:2\", \"65000:1\"]\n"),
        ["21: route target `65000:1` is used twice: by `export-rt` of vpc `red` and by `export-rt` of vpc `red`"]
    );
    assert_eq!(
        in_evpn("import-rt = [\"65000\"]\nexport-rt = [\"65000:1\"]\n"),
        ["21: `import-rt`: `65000` is not a route target"]
    );
    assert_eq!(
        in_evpn("rd = \"192.0.2.1:70000\"\nexport-rt = [\"65000:1\"]\n"),
        ["21: `rd`: `192.0.2.1:70000` is not a route distinguisher"]
    );
    assert_eq!(
        in_evpn(&format!("{targets}redistribute-static = \"nobody\"\n")),
        ["23: no policy is called `nobody`"]
    );
    let vlan = "vlan = { port = \"tenants\", id = 20 }\n";
    assert_eq!(
        replaced(vlan, &format!("{vlan}evpn = {{ import-rt = [\"65000:1\"] }}\n")),
        ["25: vpc `blue` is in EVPN, and has no VNI"]
    );
    // The second has the distinguisher that is made for the first.
    let third = "[[vpc]]\nid = 3\nname = \"green\"\nvni = 300\n\
                 evpn = { rd = \"192.0.2.1:4\", import-rt = [\"65000:1\"] }\n\
                 [[vpc]]\nid = 4\nname = \"gold\"\nvni = 400\nevpn = { import-rt = [\"65000:1\"] }\n";
    assert_eq!(
        appended(third),
        ["57: route distinguisher `192.0.2.1:4` is used twice: by vpc `green` and by vpc `gold`"]
    );
    assert_eq!(
        problems(
            "[gateway]\nname = \"a\"\n[vxlan]\naddress = \"192.0.2.1\"\n[[port]]\nname = \"p\"\ndevice = \"d\"\n\
             addresses = [\"192.0.2.1/24\"]\n[[vpc]]\nid = 1\nname = \"red\"\nvni = 1\nevpn = { import-rt = [\"1:1\"] }\n"
        ),
        ["13: vpc `red` is in EVPN, and there is no [bgp]"]
    );
}

#[test]
fn a_vpc_in_evpn_has_the_mac_of_its_endpoint() {
    let evpn = "vteps = [\"198.51.100.2\"]\nevpn = { import-rt = [\"65000:1\"] }\n";
    let text = BASE.replace("vteps = [\"198.51.100.2\"]\n", evpn);
    let checked = Candidate::new("t", &text).check().expect("valid");
    let macs: Vec<String> = checked.config().vpcs.iter().map(|vpc| vpc.mac.to_string()).collect();
    assert_eq!(macs, ["02:54:c0:00:02:01", "02:54:50:00:00:02"]);
}

#[test]
fn nat_of_ipv6() {
    let rule = |more: &str| format!("[[nat.masquerade]]\nvpc = \"blue\"\n{more}");
    assert_eq!(
        appended(&rule("pool = [\"2001:db8:cc::1\", \"2001:db8:cc::80/121\"]\n")),
        NONE
    );
    assert_eq!(
        appended(&rule(
            "sources = [\"fd00::/64\"]\npool = [\"2001:db8:cc::1\"]\nblocks = { size = 9 }\n"
        )),
        NONE
    );
    let mixed = "a rule is for IPv4 or for IPv6, and this one names both";
    for (key, text) in [
        ("sources", "sources = [\"10.1.0.0/16\"]\npool = [\"2001:db8:cc::1\"]\n"),
        ("pool", "pool = [\"203.0.113.77\", \"2001:db8:cc::1\"]\n"),
    ] {
        let found = appended(&rule(text));
        assert!(
            found.len() == 1 && found[0].contains(&format!("`{key}`: {mixed}")),
            "{found:?}"
        );
    }
    for (text, fault) in [
        ("pool = [\"2001:db8:cc::/64\"]\n", "more addresses than a pool may have"),
        (
            "pool = [\"2001:db8:cc::1\"]\nsources = [\"fd00::/64\"]\ndeterministic = true\n",
            "more subscribers",
        ),
        ("pool = [\"fe80::1\"]\n", "a link-local address"),
        ("pool = [\"::ffff:203.0.113.9\"]\n", "an IPv4-mapped address"),
    ] {
        let found = appended(&rule(text));
        assert!(found.len() == 1 && found[0].contains(fault), "{found:?}");
    }
    let fixed = |inside: &str, outside: &str| {
        appended(&format!(
            "[[nat.static]]\nvpc = \"red\"\ninside = \"{inside}\"\noutside = \"{outside}\"\n"
        ))
    };
    assert_eq!(fixed("fd00::/64", "2001:db8:cd::/64"), NONE);
    assert_eq!(fixed("fd00::5", "2001:db8:cd::5"), NONE);
    assert!(fixed("10.0.0.0/24", "2001:db8:cd::/120")[0].contains(mixed));
    assert!(fixed("fd00::/64", "2001:db8:cd::/56")[0].contains("pairs fd00::/64 with"));
    let forward = |target: &str| {
        appended(&format!(
            "[[nat.port-forward]]\nvpc = \"red\"\naddress = \"2001:db8:cc::9\"\nprotocol = \"tcp\"\nport = 80\ntarget = \"{target}\"\n"
        ))
    };
    assert_eq!(forward("fd00::5"), NONE);
    assert!(forward("10.0.0.5")[0].contains(mixed));
}

#[test]
fn nptv6() {
    let rule = |vpc: &str, inside: &str, outside: &str| {
        format!("[[nat.npt]]\nvpc = \"{vpc}\"\ninside = \"{inside}\"\noutside = \"{outside}\"\n")
    };
    let first = rule("red", "fd00:1::/48", "2001:db8:c1::/48");
    assert_eq!(appended(&first), NONE);
    assert_eq!(
        appended(&(first.clone() + &rule("blue", "fd00:1::/48", "2001:db8:c2::/48"))),
        NONE
    );
    for (more, fault) in [
        (rule("red", "fd00:2::/48", "2001:db8:c2::/52"), "is not as long as"),
        (rule("red", "fd00:2::/72", "2001:db8:c2::/72"), "leaves no room"),
        (rule("red", "fe80::/64", "2001:db8:c2::/64"), "a link-local address"),
        (
            rule("red", "fd00:1:0:9::/64", "2001:db8:c2::/64"),
            "uses fd00:1:0:9::/64, which is also that of vpc `red`",
        ),
        (
            rule("blue", "fd00:9::/64", "2001:db8:c1:7::/64"),
            "uses 2001:db8:c1:7::/64, which is also that of vpc `red`",
        ),
        (
            "[[nat.masquerade]]\nvpc = \"blue\"\npool = [\"2001:db8:c1::1\"]\n".to_owned(),
            "uses 2001:db8:c1::/48, which is also that of another NAT rule",
        ),
    ] {
        let found = appended(&(first.clone() + &more));
        assert!(found.len() == 1 && found[0].contains(fault), "{found:?}");
    }
    assert!(problems(&(BASE.to_owned() + &rule("red", "10.0.0.0/8", "2001:db8:c1::/48")))[0].contains("is IPv4"));
}
