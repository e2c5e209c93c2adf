//! Routes of other programs in a VPC's table of the kernel are the VPC's; rules and other tables are shown and change nothing.

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
