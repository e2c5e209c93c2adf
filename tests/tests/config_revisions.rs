//! Each changed configuration is a new revision; the same one again is not.

use turnpike_tests::Cables;

#[test]
fn a_changed_file_is_the_next_revision() {
    let cables = Cables::new();
    let route = "\n[[route]]\nprefix = \"10.9.0.0/16\"\nvia = [\"192.0.2.10\"]\n";
    for (more, revision, routed) in [("", 1, false), ("", 1, false), (route, 2, true), ("", 3, false)] {
        let gateway = cables.start(more);
        let summary = gateway.show("summary");
        assert_eq!(summary["revision"], revision, "{summary}");
        assert_eq!(gateway.show("generations")["revision"], revision);
        let found = gateway.show("routes").to_string().contains("10.9.0.0/16");
        assert_eq!(found, routed, "revision {revision}");
        assert!(gateway.terminate().success());
    }
}
