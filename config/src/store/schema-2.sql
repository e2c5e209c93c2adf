-- Schema 2: what schema 1 did not have. It runs on stores of schema 1 that hold revisions, and after schema-1.sql on new ones.
--
-- A new key is a column at the end of its table, with the value that means "as before" as its default:
--     ALTER TABLE vpc ADD COLUMN word TEXT NOT NULL DEFAULT 'value';
-- or a new table, which starts out empty. Changesets of older revisions have fewer columns; undoing them fills in the defaults.
-- The field of the model is left out of the canonical form while it has that value (serde's `skip_serializing_if`), so
-- that older revisions keep their hashes. A constraint of an older table cannot be changed.

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
