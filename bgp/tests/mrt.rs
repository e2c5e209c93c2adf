//! MRT table dumps (RFC 6396), read by bgpdump.

mod lab;

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use bgp::mrt::{Table, TableDump};
use bgp::{Policy, Speaker};
use lab::watch::{Watch, prefix};
use lab::{Lab, eventually, speaker_config};
use tempfile::TempDir;

/// bgpdump's lines, each without its time: kind, peer, AS, prefix, AS path, origin, next hop.
async fn dumped(speaker: &Speaker, table: Table) -> Vec<String> {
    let folder = TempDir::new().expect("temporary directory");
    let path = folder.path().join("table.mrt");
    let snapshot = speaker.snapshot(table).await;
    let dump = TableDump::new(snapshot, Duration::from_secs(1_000_000_000)).expect("few peers");
    let mut file = File::create(&path).expect("create");
    for record in dump {
        file.write_all(&record).expect("write");
    }
    drop(file);
    let output = Command::new("bgpdump").arg("-m").arg(&path).output();
    let output = output.expect("this test needs bgpdump: apt-get install bgpdump");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('|').collect();
            assert_eq!(fields[..3], ["TABLE_DUMP2", "1000000000", "B"], "{line}");
            fields[3..9].join("|")
        })
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn bgpdump_reads_both_tables_of_both_families() {
    Lab::run(|lab| async move {
        let _bgpd = lab.start_bgpd();
        let mut config = speaker_config();
        config.originate = vec![prefix("203.0.113.0/24"), prefix("2001:db8:200::/48")];
        // FRR would tell them back to us.
        config.peers[0].export = Policy::Deny;
        // The same routes over two sessions.
        let mut v6 = config.peers[0].clone();
        v6.address = lab::FRR_V6.parse().expect("ip");
        config.peers.push(v6);
        let (sender, _watch) = Watch::new(1024);
        let speaker = Speaker::start(config, sender).await.expect("speaker starts");
        eventually("every path", async || {
            let routes = speaker.routes(None).await;
            routes.iter().map(|route| route.paths.len()).sum::<usize>() == 8
        })
        .await;
        let of = |peer: &str, prefix: &str, next_hop: &str| format!("{peer}|65001|{prefix}|65001|IGP|{next_hop}");
        let v4 = ["192.0.2.0/24", "198.51.100.0/24"];
        let dump = dumped(&speaker, Table::AdjRibIn).await;
        assert_eq!(dump.len(), 6, "{dump:#?}");
        for prefix in v4 {
            assert!(dump.contains(&of("10.99.0.2", prefix, "10.99.0.2")), "{dump:#?}");
        }
        assert!(
            dump.contains(&of("10.99.0.2", "2001:db8:100::/48", "2001:db8:99::2")),
            "{dump:#?}"
        );
        assert!(
            dump.contains(&of("2001:db8:99::2", "2001:db8:100::/48", "2001:db8:99::2")),
            "{dump:#?}"
        );

        let dump = dumped(&speaker, Table::LocRib).await;
        assert_eq!(dump.len(), 5, "{dump:#?}");
        let ours = dump.iter().filter(|line| line.starts_with("0.0.0.0|65000|")).count();
        assert_eq!(ours, 2, "{dump:#?}");
        speaker.shutdown("").await;
        drop(lab);
    });
}
