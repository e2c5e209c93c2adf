-- Schema 2: what schema 1 did not have. It runs on stores of schema 1 that hold revisions, and after schema-1.sql on new ones.
--
-- A new key is a column at the end of its table, with the value that means "as before" as its default:
--     ALTER TABLE vpc ADD COLUMN word TEXT NOT NULL DEFAULT 'value';
-- or a new table, which starts out empty. Changesets of older revisions have fewer columns; undoing them fills in the defaults.
-- The field of the model is left out of the canonical form while it has that value (serde's `skip_serializing_if`), so
-- that older revisions keep their hashes. A constraint of an older table cannot be changed.

ALTER TABLE bgp_peer ADD COLUMN add_path_receive INTEGER NOT NULL DEFAULT 0 CHECK (add_path_receive IN (0, 1));
ALTER TABLE bgp_peer ADD COLUMN add_path_send TEXT NOT NULL DEFAULT 'none'; -- or 'all', or how many

-- The part of a VPC in EVPN, if it has one; without `rd`, the distinguisher is made.
CREATE TABLE vpc_evpn (
    vpc INTEGER NOT NULL PRIMARY KEY REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    rd  TEXT,
    redistribute_connected TEXT REFERENCES bgp_policy (name) DEFERRABLE INITIALLY DEFERRED,
    redistribute_static    TEXT REFERENCES bgp_policy (name) DEFERRABLE INITIALLY DEFERRED,
    redistribute_kernel    TEXT REFERENCES bgp_policy (name) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE vpc_evpn_target (
    vpc       INTEGER NOT NULL REFERENCES vpc_evpn (vpc) DEFERRABLE INITIALLY DEFERRED,
    direction TEXT    NOT NULL CHECK (direction IN ('import', 'export')),
    target    TEXT    NOT NULL,
    PRIMARY KEY (vpc, direction, target)
) STRICT;

CREATE TABLE vpc_evpn_announce (
    vpc    INTEGER NOT NULL REFERENCES vpc_evpn (vpc) DEFERRABLE INITIALLY DEFERRED,
    prefix TEXT    NOT NULL,
    PRIMARY KEY (vpc, prefix)
) STRICT;

-- The other gateway of a pair: where ours are sent, where another's are received, or both.
CREATE TABLE standby (
    id              INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    peer            TEXT,
    listen          TEXT,
    primary_address TEXT,
    CHECK ((listen IS NULL) = (primary_address IS NULL)),
    CHECK (peer IS NOT NULL OR listen IS NOT NULL)
) STRICT;

CREATE TABLE nat_npt (
    vpc     INTEGER NOT NULL REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    inside  TEXT    NOT NULL,
    outside TEXT    NOT NULL UNIQUE,
    PRIMARY KEY (vpc, inside)
) STRICT;

-- What is logged of each connection; without a row nothing is.
CREATE TABLE session_log (
    id   INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    what TEXT    NOT NULL
) STRICT;
