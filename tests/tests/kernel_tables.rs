//! A VPC's table of the kernel: routes of other programs there are the VPC's, and its winners are written there; rules and other
//! tables are shown and change nothing.

use std::time::Duration;

use turnpike_tests::config::Memory;
use turnpike_tests::topology::TENANT;
use turnpike_tests::turnpiked::rows;
use turnpike_tests::wait::ensure;
use turnpike_tests::{Topology, Turnpiked, eventually};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_table_of_the_kernel_is_a_vpcs_and_the_rest_is_shown() {
    let net = Topology::new();
    let config = net
        .config(Memory::NoHuge)
        .replacen("name = \"red\"\n", "name = \"red\"\nkernel-table = 1001\n", 1)
        + "\n[kernel]\naudit-interval = 1\n";
    let gateway = Turnpiked::start(&net.gateway, &config, &net.scratch);
    for line in [
        format!("route add 10.77.0.0/24 via {TENANT} dev tp-red onlink table 1001"),
        format!("route add 10.78.0.0/24 via {TENANT} dev tp-red onlink table 1002"),
        "rule add from 10.77.0.0/24 lookup 1002 priority 77".to_owned(),
        format!("nexthop add id 5 via {TENANT} dev tp-red onlink"),
        "route add 10.79.0.0/24 nhid 5 table 1001".to_owned(),
    ] {
        net.gateway.ip(&line);
    }
    for address in ["10.77.0.9", "10.79.0.9"] {
        eventually(SOON, || {
            let told = gateway.explain_route("red", address)?;
            let hop = &told["lookup"]["next_hops"][0];
            ensure(hop["gateway"] == TENANT, || format!("{told:#}"))
        });
    }
    let other = gateway.explain_route("red", "10.78.0.9").expect("answered");
    assert_ne!(
        other["lookup"]["prefix"], "10.78.0.0/24",
        "table 1002 is nobody's: {other:#}"
    );

    eventually(SOON, || {
        let kernel = gateway.show("kernel");
        let table = |number: u64| {
            rows(&kernel["tables"])
                .iter()
                .find(|table| table["table"] == number)
                .cloned()
        };
        let (red, nobodys) = (table(1001).ok_or("no table 1001")?, table(1002).ok_or("no table 1002")?);
        ensure(red["vrf"] == 1 && red["prefixes_v4"] == 2, || red.to_string())?;
        ensure(nobodys["vrf"].is_null() && nobodys["prefixes_v4"] == 1, || {
            nobodys.to_string()
        })?;
        let rule = rows(&kernel["rules"])
            .iter()
            .find(|rule| rule["priority"] == 77)
            .cloned();
        let rule = rule.ok_or_else(|| kernel["rules"].to_string())?;
        ensure(
            rule["action"]["lookup"] == 1002 && rule["from"] == "10.77.0.0/24",
            || rule.to_string(),
        )?;
        ensure(kernel["digest"] == kernel["kernel_digest"], || kernel.to_string())
    });

    net.gateway.ip("route del 10.77.0.0/24 table 1001");
    eventually(SOON, || {
        let told = gateway.explain_route("red", "10.77.0.9")?;
        ensure(told["lookup"]["prefix"] != "10.77.0.0/24", || format!("{told:#}"))
    });
}

#[test]
fn winners_of_a_vpc_are_in_its_table_and_a_restart_keeps_to_what_is_wanted() {
    let net = Topology::new();
    let routes = |last: &str| {
        format!(
            "\n[kernel]\naudit-interval = 1\n\n[[route]]\nvrf = \"red\"\nprefix = \"10.81.0.0/24\"\nvia = [\"{TENANT}\"]\n\n\
             [[route]]\nvrf = \"red\"\nprefix = \"10.82.0.0/24\"\nkind = \"blackhole\"\n\n\
             [[route]]\nvrf = \"red\"\nprefix = \"10.83.0.0/24\"\nin-vrf = \"default\"\n{last}"
        )
    };
    let of = |last: &str| {
        net.config(Memory::NoHuge)
            .replacen("name = \"red\"\n", "name = \"red\"\nkernel-table = 1001\n", 1)
            + &routes(last)
    };
    net.gateway
        .ip("route add 192.168.99.0/24 dev lo table 1001 proto static metric 10");
    let last = "\n[[route]]\nvrf = \"red\"\nprefix = \"10.84.0.0/24\"\nkind = \"unreachable\"\n";
    let gateway = Turnpiked::start(&net.gateway, &of(last), &net.scratch);
    // As `ip` shows them: destination, and type or gateway.
    let ours = || -> Vec<(String, String)> {
        let shown = net.gateway.ip("-json route show table 1001 proto 212");
        let list: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
        let line = |route: &serde_json::Value| {
            let to = route["gateway"].as_str().or(route["type"].as_str()).unwrap_or("-");
            (route["dst"].as_str().unwrap_or("-").to_owned(), to.to_owned())
        };
        rows(&list).iter().map(line).collect()
    };
    let expect = |wanted: &[(&str, &str)]| {
        eventually(SOON, || {
            let wanted: Vec<_> = wanted
                .iter()
                .map(|(to, by)| ((*to).to_owned(), (*by).to_owned()))
                .collect();
            let ours: Vec<_> = ours().into_iter().filter(|(to, _)| to.starts_with("10.8")).collect();
            ensure(ours == wanted, || format!("{ours:?}"))
        });
    };
    let (first, second, fourth) = (
        ("10.81.0.0/24", TENANT),
        ("10.82.0.0/24", "blackhole"),
        ("10.84.0.0/24", "unreachable"),
    );
    expect(&[first, second, fourth]);
    eventually(SOON, || {
        let told = gateway.explain_route("red", "10.81.0.9")?;
        let step = rows(&told["steps"]).iter().find(|step| step["step"] == "kernel");
        ensure(step.is_some_and(|step| step["outcome"] == "passed"), || {
            format!("{told:#}")
        })
    });
    // Taken away behind our back, and written again.
    net.gateway.ip("route del 10.81.0.0/24 table 1001 proto 212");
    eventually(SOON, || {
        ensure(gateway.show("kernel")["drift"] != 0, || {
            gateway.show("kernel").to_string()
        })
    });
    expect(&[first, second, fourth]);
    let shown = gateway.show("kernel");
    assert!(shown["inexpressible"].as_u64() >= Some(1), "the leak: {shown}");

    // Killed and started without one of them: the rest is adopted, that one swept with the start's last table.
    // Those that led through the host interface went with it.
    gateway.kill();
    expect(&[second, fourth]);
    let gateway = Turnpiked::start(&net.gateway, &of(""), &net.scratch);
    expect(&[first, second]);
    assert!(
        net.gateway
            .ip("route show table 1001 proto static")
            .contains("192.168.99.0/24")
    );
    assert!(gateway.terminate().success());
    expect(&[]);
    assert!(
        net.gateway
            .ip("route show table 1001 proto static")
            .contains("192.168.99.0/24")
    );
}
