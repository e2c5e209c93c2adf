//! The store holds what was committed, through every change, crash and misuse.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::Candidate;
use crate::generate::config;

fn info(comment: &str) -> CommitInfo {
    CommitInfo {
        actor: "test".to_owned(),
        comment: comment.to_owned(),
        time: 1_700_000_000_000,
    }
}

fn example() -> Checked {
    Candidate::new("example", include_str!("../../turnpike.example.toml"))
        .check()
        .expect("valid")
}

fn edited(from: &str, to: &str) -> Checked {
    let text = include_str!("../../turnpike.example.toml");
    assert!(text.contains(from), "{from}");
    Candidate::new("example", text.replace(from, to))
        .check()
        .expect("valid")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

#[test]
fn nobody_else_may_read_a_store() {
    let folder = folder();
    let path = folder.path().join("config.db");
    let mut store = Store::open(&path).expect("opens");
    store.commit(example(), info("start")).expect("commits");
    for entry in fs::read_dir(folder.path()).expect("folder") {
        let entry = entry.expect("entry");
        let holds_rows = !entry.file_name().to_string_lossy().ends_with(".lock");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert!(!holds_rows || mode & 0o077 == 0, "{entry:?} {mode:o}");
    }
}

#[test]
fn first_commit_is_revision_1_and_a_changed_file_revision_2() {
    let folder = folder();
    let path = folder.path().join("new/config.db");
    let mut store = Store::open(&path).expect("opens");
    assert_eq!(store.head(), None);
    let first = store.commit(example(), info("start")).expect("commits");
    assert_eq!((first.revision, first.changed), (Revision(1), true));
    drop(store);

    let mut store = Store::open(&path).expect("opens again");
    assert_eq!(store.head().map(|head| head.config), Some(first.config));
    let same = store.commit(example(), info("start again")).expect("nothing to do");
    assert_eq!((same.revision, same.changed), (Revision(1), false));
    let second = store
        .commit(edited("hold-time = 9 ", "hold-time = 10 "), info("slower"))
        .expect("commits");
    assert_eq!((second.revision, second.changed), (Revision(2), true));
    let log = store.log().expect("reads");
    assert_eq!(
        log.iter()
            .map(|entry| (entry.revision.0, entry.parent.0))
            .collect::<Vec<_>>(),
        [(1, 0), (2, 1)]
    );
    assert_eq!(
        (log[1].actor.as_str(), log[1].comment.as_str(), log[1].time),
        ("test", "slower", 1_700_000_000_000)
    );
    assert_ne!(log[0].hash, log[1].hash);
}

#[test]
fn order_in_the_file_changes_nothing() {
    let folder = folder();
    let mut store = Store::open(&folder.path().join("config.db")).expect("opens");
    store.commit(example(), info("")).expect("commits");
    let turned = edited(
        r#"["192.0.2.1/31", "2001:db8::1/64"]"#,
        r#"["2001:db8::1/64", "192.0.2.1/31"]"#,
    );
    assert!(!store.commit(turned, info("")).expect("nothing to do").changed);
}

#[test]
fn changeset_holds_only_what_changed() {
    let folder = folder();
    let mut store = Store::open(&folder.path().join("config.db")).expect("opens");
    store.commit(example(), info("")).expect("commits");
    store
        .commit(edited("hold-time = 9 ", "hold-time = 10 "), info(""))
        .expect("commits");
    let read = "SELECT changeset FROM revision WHERE number = 2";
    let changeset: Vec<u8> = store.connection.query_row(read, [], |row| row.get(0)).expect("reads");
    let mut changes = Vec::new();
    let input: &mut dyn std::io::Read = &mut changeset.as_slice();
    let mut items = rusqlite::session::ChangesetIter::start_strm(&input).expect("a changeset");
    use rusqlite::fallible_streaming_iterator::FallibleStreamingIterator;
    while let Some(item) = items.next().expect("readable") {
        let operation = item.op().expect("an operation");
        changes.push((operation.table_name().to_owned(), operation.code()));
    }
    assert_eq!(
        changes,
        [("bgp_peer".to_owned(), rusqlite::hooks::Action::SQLITE_UPDATE)]
    );
}

#[test]
fn unique_values_may_be_swapped_and_swapped_back() {
    let folder = folder();
    let mut store = Store::open(&folder.path().join("config.db")).expect("opens");
    let before = store.commit(example(), info("")).expect("commits").config;
    let mut config = before.clone();
    let (red, blue) = (config.vpcs[0].name.clone(), config.vpcs[1].name.clone());
    (config.vpcs[0].name, config.vpcs[1].name) = (blue, red);
    let (red, blue) = (
        config.vpcs[0].host_interface.clone(),
        config.vpcs[1].host_interface.clone(),
    );
    (config.vpcs[0].host_interface, config.vpcs[1].host_interface) = (blue, red);
    store
        .commit(Checked::from_config(config.clone()).expect("valid"), info("swap"))
        .expect("commits");
    assert_eq!(store.show(Revision(2)).expect("head"), config);
    assert_eq!(store.show(Revision(1)).expect("undone"), before);
}

#[test]
fn outcomes_of_subsystems_are_kept_and_the_last_counts() {
    let folder = folder();
    let mut store = Store::open(&folder.path().join("config.db")).expect("opens");
    store.commit(example(), info("")).expect("commits");
    store.mark_applied(Revision(1), "rib", Ok(())).expect("recorded");
    store
        .mark_applied(Revision(1), "dataplane", Err("no huge pages".to_owned()))
        .expect("recorded");
    store
        .mark_applied(Revision(1), "rib", Err("late".to_owned()))
        .expect("recorded");
    let outcome = |subsystem: &str, error: &str| Applied {
        subsystem: subsystem.into(),
        error: Some(error.into()),
    };
    assert_eq!(
        store.log().expect("reads")[0].applied,
        [outcome("dataplane", "no huge pages"), outcome("rib", "late")]
    );
    let error = store
        .mark_applied(Revision(2), "rib", Ok(()))
        .expect_err("no such revision");
    assert_eq!(error.to_string(), "revision 2 does not exist: the newest is 1");
    assert!(matches!(store.show(Revision(0)), Err(Error::NoSuchRevision { .. })));
}

#[test]
fn store_has_one_owner_at_a_time() {
    let folder = folder();
    let path = folder.path().join("config.db");
    let store = Store::open(&path).expect("opens");
    let error = Store::open(&path).expect_err("locked");
    let holder = format!("process {}", std::process::id());
    assert!(
        matches!(&error, Error::StoreLocked { holder: found, .. } if *found == holder),
        "{error}"
    );
    drop(store);
    // A child that another test starts just then holds a copy of the lock until it runs its own program.
    let again = (0..3_000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        Store::open(&path).ok()
    });
    assert!(again.is_some(), "opens after the first is closed");
}

#[test]
fn what_is_not_our_store_is_refused_and_left_alone() {
    let folder = folder();
    let refused = |name: &str| Store::open(&folder.path().join(name)).expect_err("refused");

    fs::write(
        folder.path().join("text"),
        "this is not a database, but it is longer than a header ".repeat(40),
    )
    .expect("writes");
    assert!(matches!(refused("text"), Error::StoreCorrupt { .. }));

    let other = Connection::open(folder.path().join("other")).expect("opens");
    other
        .execute_batch("CREATE TABLE theirs (a); PRAGMA user_version = 1")
        .expect("creates");
    drop(other);
    let error = refused("other");
    assert!(
        matches!(&error, Error::StoreCorrupt { reason, .. } if reason.contains("another program")),
        "{error}"
    );

    drop(Store::open(&folder.path().join("newer")).expect("opens"));
    let newer = Connection::open(folder.path().join("newer")).expect("opens");
    newer.pragma_update(None, "user_version", SCHEMA + 1).expect("updates");
    drop(newer);
    assert!(matches!(
        refused("newer"),
        Error::StoreNewer { found, known: SCHEMA, .. } if found == SCHEMA + 1
    ));

    fs::write(folder.path().join("file"), "").expect("writes");
    assert!(matches!(refused("file/config.db"), Error::StoreUnwritable { .. }));
    fs::create_dir(folder.path().join("folder")).expect("creates");
    assert!(matches!(refused("folder"), Error::StoreUnwritable { .. }));
}

#[test]
fn rows_that_were_tampered_with_are_noticed() {
    let folder = folder();
    let path = folder.path().join("config.db");
    Store::open(&path)
        .expect("opens")
        .commit(example(), info(""))
        .expect("commits");
    for damage in [
        "UPDATE bgp_peer SET hold_time = 11",
        "UPDATE bgp_peer SET hold_time = 70000",
        "DELETE FROM settings",
    ] {
        let copy = folder.path().join("copy.db");
        fs::copy(&path, &copy).expect("copies");
        Connection::open(&copy)
            .and_then(|other| other.execute_batch(damage))
            .expect("tampers");
        assert!(
            matches!(Store::open(&copy), Err(Error::StoreCorrupt { .. })),
            "{damage}"
        );
    }
}

#[test]
fn dangling_references_do_not_commit() {
    let folder = folder();
    let mut store = Store::open(&folder.path().join("config.db")).expect("opens");
    store.commit(example(), info("")).expect("commits");
    let error = store
        .connection
        .execute("DELETE FROM vpc WHERE id = 2", [])
        .expect_err("referenced");
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::ConstraintViolation));
}

/// What the fixture of schema 1 was made of.
const RELEASED_1: &str = include_str!("released/schema-1.toml");

/// A store as the version with schema 1 left it.
fn released_1(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("config.db");
    Connection::open(&path)
        .and_then(|connection| connection.execute_batch(include_str!("released/schema-1.sql")))
        .expect("the dump is a store");
    path
}

/// The configuration of a text that the version with schema 1 took.
fn was_valid(text: &str) -> Config {
    Candidate::new("released", text)
        .check()
        .expect("still valid")
        .into_config()
}

#[test]
fn store_of_schema_1_is_brought_forward_with_its_whole_history() {
    let folder = folder();
    let path = released_1(&folder);
    let third = RELEASED_1
        .replace("mtu = 1450", "mtu = 1400")
        .replace("kernel-table = 1001", "kernel-table = 1002");
    let revisions = [was_valid(RELEASED_1), was_valid(&third)];

    let mut store = Store::open(&path).expect("opens");
    assert_eq!(store.head().expect("holds revisions").config, revisions[1]);
    let changed = store
        .commit(edited("mtu = 1450", "mtu = 1300"), info("after"))
        .expect("commits");
    assert_eq!((changed.revision, changed.changed), (Revision(4), true));
    drop(store);

    let mut store = Store::open(&path).expect("opens again");
    assert_eq!(store.show(Revision(1)).expect("undoes"), revisions[0]);
    assert_eq!(store.show(Revision(2)).expect("undoes").vpcs, []);
    assert_eq!(store.show(Revision(3)).expect("undoes"), revisions[1]);
    assert_eq!(store.show(Revision(4)).expect("is the newest"), changed.config);
    assert_eq!(store.log().expect("reads")[2].applied.len(), 1);
    let back = Checked::from_config(revisions[0].clone()).expect("valid");
    assert_eq!(store.commit(back, info("back")).expect("commits").revision, Revision(5));
    assert_eq!(store.show(Revision(4)).expect("undoes"), changed.config);
}

#[test]
fn store_that_was_brought_forward_has_the_tables_of_a_new_one() {
    let folder = folder();
    let tables = |path: &Path| {
        drop(Store::open(path).expect("opens"));
        let connection = Connection::open(path).expect("opens");
        let mut select = connection
            .prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
            .expect("prepares");
        let found = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        let found: rusqlite::Result<Vec<(String, String)>> = found.expect("queries").collect();
        found.expect("reads")
    };
    assert_eq!(tables(&released_1(&folder)), tables(&folder.path().join("new.db")));
}

#[test]
fn a_store_is_copied_before_it_is_brought_forward() {
    let folder = folder();
    let path = released_1(&folder);
    let copy = folder.path().join("config.db.schema-1");
    fs::write(&copy, "what an attempt before left").expect("writes");
    drop(Store::open(&path).expect("opens"));
    assert_eq!(fs::metadata(&copy).expect("exists").permissions().mode() & 0o077, 0);
    let copied = Connection::open(&copy).expect("opens");
    let schema: i64 = copied
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .expect("reads");
    let revisions: i64 = copied
        .query_row("SELECT count(*) FROM revision", [], |row| row.get(0))
        .expect("reads");
    assert_eq!((schema, revisions), (1, 3));
}

#[test]
fn a_store_that_cannot_be_brought_forward_is_left_as_it_was() {
    let folder = folder();
    let path = released_1(&folder);
    fs::create_dir(folder.path().join("config.db.schema-1")).expect("stands in the copy's place");
    assert!(matches!(Store::open(&path), Err(Error::StoreUnwritable { .. })));
    let schema: i64 = Connection::open(&path)
        .and_then(|connection| connection.pragma_query_value(None, "user_version", |row| row.get(0)))
        .expect("reads");
    assert_eq!(schema, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn head_is_what_was_committed(config in config()) {
        let folder = folder();
        let path = folder.path().join("config.db");
        let checked = Checked::from_config(config).expect("generated configurations are valid");
        let expected = checked.config().clone();
        Store::open(&path).expect("opens").commit(checked, info("")).expect("commits");
        prop_assert_eq!(Store::open(&path).expect("opens").head().map(|head| head.config), Some(expected));
    }

    #[test]
    fn every_revision_can_be_shown(configs in prop::collection::vec(config(), 2..6)) {
        let folder = folder();
        let mut store = Store::open(&folder.path().join("config.db")).expect("opens");
        let mut revisions = Vec::new();
        for config in configs {
            let checked = Checked::from_config(config).expect("generated configurations are valid");
            let committed = store.commit(checked, info("")).expect("commits");
            if committed.changed {
                revisions.push(committed.config);
            }
        }
        for (revision, expected) in (1..).map(Revision).zip(&revisions) {
            prop_assert_eq!(&store.show(revision).expect("shows"), expected);
        }
        prop_assert_eq!(store.head().map(|head| head.config), revisions.pop());
    }
}

/// Where the child of [`killed_in_the_middle_of_commits`] finds its store.
const CHILD_STORE: &str = "CONFIG_TEST_CHILD_STORE";

/// Not a test of its own: commits without end until it is killed.
#[test]
#[ignore = "the child of killed_in_the_middle_of_commits"]
fn child_commits_until_killed() {
    let Ok(path) = std::env::var(CHILD_STORE) else { return };
    let mut store = Store::open(Path::new(&path)).expect("opens");
    let mut config = example().into_config();
    for round in 0_u32.. {
        config.kernel.metric = round;
        config.vpcs[1].mtu = 1280 + (round % 64) as u16;
        store
            .commit(Checked::from_config(config.clone()).expect("valid"), info(""))
            .expect("commits");
        println!("{COMMITTED}");
    }
}

/// What the child says after each commit.
const COMMITTED: &str = "committed";

#[test]
fn killed_in_the_middle_of_commits() {
    let folder = folder();
    let path = folder.path().join("config.db");
    let mut newest = Revision(0);
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().expect("this test's program"))
            .args([
                "--exact",
                "store::tests::child_commits_until_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD_STORE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        // Kept open: a child that cannot write would end by itself.
        let mut said = BufReader::new(child.stdout.take().expect("piped"))
            .lines()
            .map_while(Result::ok);
        let commits = said.by_ref().filter(|line| line.contains(COMMITTED));
        assert_eq!(commits.take(2).count(), 2, "the child commits");
        std::thread::sleep(Duration::from_millis(7 * round));
        child.kill().expect("is killed");
        child.wait().expect("ends");
        drop(said);
        let store = Store::open(&path).expect("opens with a whole revision, and without the dead process's lock");
        let log = store.log().expect("reads");
        assert_eq!(store.newest().0, log.len() as u64);
        assert!(store.newest() >= newest, "nothing committed was lost");
        newest = store.newest();
        if newest.0 > 1 {
            store.show(Revision(1)).expect("all changesets undo");
        }
    }
    assert!(newest.0 >= 16, "each child committed twice at least: {newest}");
}
