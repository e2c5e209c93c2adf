-- Schema 1, released and so never edited again: what comes after it is in the next file.
-- Config tables hold the newest revision, row by row; each has an explicit NOT NULL primary key, which is what
-- the session extension needs to record changes. Foreign keys wait for COMMIT and never cascade: undoing a cascade works
-- and redoing it aborts. For the same reason no trigger may write a config table.

CREATE TABLE settings (
    id                    INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    gateway_name          TEXT    NOT NULL,
    poll                  TEXT    NOT NULL,
    memory                TEXT    NOT NULL,
    memory_mb             INTEGER NOT NULL,
    buffers               INTEGER NOT NULL,
    connections           INTEGER NOT NULL,
    kernel_table          INTEGER NOT NULL,
    kernel_protocol       INTEGER NOT NULL,
    kernel_metric         INTEGER NOT NULL,
    kernel_audit_interval INTEGER NOT NULL,
    tcp_established       INTEGER NOT NULL,
    tcp_transitory        INTEGER NOT NULL,
    udp                   INTEGER NOT NULL,
    icmp                  INTEGER NOT NULL,
    other                 INTEGER NOT NULL,
    pick_up               INTEGER NOT NULL,
    api_socket            TEXT    NOT NULL
) STRICT;

CREATE TABLE rib (
    id                  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    batch_size          INTEGER NOT NULL,
    batch_time_ms       INTEGER NOT NULL,
    large_batch_size    INTEGER NOT NULL,
    large_batch_time_ms INTEGER NOT NULL,
    publish_interval_ms INTEGER NOT NULL,
    static_distance     INTEGER NOT NULL,
    ebgp_distance       INTEGER NOT NULL,
    ibgp_distance       INTEGER NOT NULL,
    kernel_distance     INTEGER NOT NULL,
    fpm_distance        INTEGER NOT NULL
) STRICT;

CREATE TABLE worker (
    core INTEGER NOT NULL PRIMARY KEY
) STRICT;

CREATE TABLE vxlan (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    address TEXT    NOT NULL,
    port    INTEGER NOT NULL
) STRICT;

CREATE TABLE fpm (
    id         INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    listen     TEXT    NOT NULL,
    stale_time INTEGER NOT NULL
) STRICT;

CREATE TABLE port (
    name           TEXT    NOT NULL PRIMARY KEY,
    device         TEXT    NOT NULL UNIQUE,
    host_interface TEXT    NOT NULL UNIQUE,
    mac            TEXT,
    mtu            INTEGER NOT NULL,
    offload        INTEGER NOT NULL CHECK (offload IN (0, 1))
) STRICT;

CREATE TABLE port_address (
    port    TEXT NOT NULL REFERENCES port (name) DEFERRABLE INITIALLY DEFERRED,
    address TEXT NOT NULL,
    PRIMARY KEY (port, address)
) STRICT;

CREATE TABLE vpc (
    id             INTEGER NOT NULL PRIMARY KEY CHECK (id BETWEEN 1 AND 65535),
    name           TEXT    NOT NULL UNIQUE,
    host_interface TEXT    NOT NULL UNIQUE,
    mac            TEXT    NOT NULL,
    mtu            INTEGER NOT NULL,
    kernel_table   INTEGER UNIQUE,
    vni            INTEGER UNIQUE,
    vlan_port      TEXT REFERENCES port (name) DEFERRABLE INITIALLY DEFERRED,
    vlan_id        INTEGER,
    UNIQUE (vlan_port, vlan_id),
    CHECK ((vni IS NULL) <> (vlan_id IS NULL)),
    CHECK ((vlan_port IS NULL) = (vlan_id IS NULL))
) STRICT;

CREATE TABLE vpc_address (
    vpc     INTEGER NOT NULL REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    address TEXT    NOT NULL,
    PRIMARY KEY (vpc, address)
) STRICT;

CREATE TABLE vpc_vtep (
    vpc     INTEGER NOT NULL REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    address TEXT    NOT NULL,
    PRIMARY KEY (vpc, address)
) STRICT;

-- Row 0 is the default VRF; the others are those of the VPCs, under the same number.
CREATE TABLE vrf (
    id  INTEGER NOT NULL PRIMARY KEY,
    vpc INTEGER UNIQUE REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    CHECK (id = coalesce(vpc, 0))
) STRICT;

CREATE TABLE route (
    vrf      INTEGER NOT NULL REFERENCES vrf (id) DEFERRABLE INITIALLY DEFERRED,
    prefix   TEXT    NOT NULL,
    target   TEXT    NOT NULL CHECK (target IN ('via', 'in-vrf', 'blackhole', 'unreachable', 'prohibit')),
    in_vrf   INTEGER REFERENCES vrf (id) DEFERRABLE INITIALLY DEFERRED,
    distance INTEGER NOT NULL,
    metric   INTEGER NOT NULL,
    PRIMARY KEY (vrf, prefix),
    CHECK ((target = 'in-vrf') = (in_vrf IS NOT NULL))
) STRICT;

-- In the order of the values: gateway, interface (the name of a port or a VPC), VRF, weight.
CREATE TABLE route_via (
    vrf         INTEGER NOT NULL,
    prefix      TEXT    NOT NULL,
    position    INTEGER NOT NULL,
    gateway     TEXT,
    interface   TEXT,
    gateway_vrf INTEGER REFERENCES vrf (id) DEFERRABLE INITIALLY DEFERRED,
    weight      INTEGER NOT NULL CHECK (weight > 0),
    PRIMARY KEY (vrf, prefix, position),
    CHECK (gateway IS NOT NULL OR interface IS NOT NULL),
    FOREIGN KEY (vrf, prefix) REFERENCES route (vrf, prefix) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE bgp (
    id        INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    asn       INTEGER NOT NULL,
    router_id TEXT    NOT NULL,
    multipath INTEGER NOT NULL,
    multipath_internal INTEGER NOT NULL,
    always_compare_med INTEGER NOT NULL CHECK (always_compare_med IN (0, 1)),
    prefer_oldest INTEGER NOT NULL CHECK (prefer_oldest IN (0, 1)),
    advertise_installed INTEGER NOT NULL CHECK (advertise_installed IN (0, 1)),
    selection_deferral_time INTEGER NOT NULL,
    redistribute_connected TEXT REFERENCES bgp_policy (name) DEFERRABLE INITIALLY DEFERRED,
    redistribute_static    TEXT REFERENCES bgp_policy (name) DEFERRABLE INITIALLY DEFERRED,
    redistribute_kernel    TEXT REFERENCES bgp_policy (name) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE bgp_listen (
    bgp     INTEGER NOT NULL REFERENCES bgp (id) DEFERRABLE INITIALLY DEFERRED,
    address TEXT    NOT NULL,
    PRIMARY KEY (bgp, address)
) STRICT;

CREATE TABLE bgp_announce (
    bgp    INTEGER NOT NULL REFERENCES bgp (id) DEFERRABLE INITIALLY DEFERRED,
    prefix TEXT    NOT NULL,
    PRIMARY KEY (bgp, prefix)
) STRICT;

-- Prefix, AS path and community sets; a member is text in the notation of its kind.
CREATE TABLE bgp_set (
    kind TEXT NOT NULL CHECK (kind IN ('prefix-set', 'as-path-set', 'community-set')),
    name TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;

CREATE TABLE bgp_set_member (
    kind  TEXT NOT NULL,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (kind, name, value),
    FOREIGN KEY (kind, name) REFERENCES bgp_set (kind, name) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE bgp_policy (
    name              TEXT    NOT NULL PRIMARY KEY,
    accept_by_default INTEGER NOT NULL CHECK (accept_by_default IN (0, 1))
) STRICT;

CREATE TABLE bgp_term (
    policy   TEXT    NOT NULL REFERENCES bgp_policy (name) DEFERRABLE INITIALLY DEFERRED,
    position INTEGER NOT NULL,
    name     TEXT    NOT NULL,
    outcome  TEXT    NOT NULL,
    PRIMARY KEY (policy, position)
) STRICT;

-- Conditions and changes of a term, each with its key and value; one that names a set refers to it.
CREATE TABLE bgp_clause (
    policy   TEXT    NOT NULL,
    term     INTEGER NOT NULL,
    part     TEXT    NOT NULL CHECK (part IN ('match', 'set')),
    position INTEGER NOT NULL,
    key      TEXT    NOT NULL,
    value    TEXT    NOT NULL,
    set_kind TEXT,
    set_name TEXT,
    PRIMARY KEY (policy, term, part, position),
    FOREIGN KEY (policy, term) REFERENCES bgp_term (policy, position) DEFERRABLE INITIALLY DEFERRED,
    FOREIGN KEY (set_kind, set_name) REFERENCES bgp_set (kind, name) DEFERRABLE INITIALLY DEFERRED,
    CHECK ((set_kind IS NULL) = (set_name IS NULL))
) STRICT;

CREATE TABLE bgp_peer (
    bgp            INTEGER NOT NULL REFERENCES bgp (id) DEFERRABLE INITIALLY DEFERRED,
    address        TEXT    NOT NULL UNIQUE, -- with dynamic_limit: the prefix of dynamic peers; with interface: that, once more
    asn            INTEGER, -- NULL: any but ours
    port           INTEGER NOT NULL,
    passive        INTEGER NOT NULL CHECK (passive IN (0, 1)),
    advertise_learned INTEGER NOT NULL CHECK (advertise_learned IN (0, 1)),
    hold_time      INTEGER NOT NULL,
    connect_retry  INTEGER NOT NULL,
    max_prefixes   INTEGER,
    max_prefixes_warn    INTEGER NOT NULL, -- percents
    max_prefixes_restart INTEGER,
    local_address        TEXT,
    password             TEXT,
    ttl_security         INTEGER,
    multihop             INTEGER,
    send_hold_time       INTEGER NOT NULL,
    graceful_restart     TEXT    NOT NULL,
    restart_time         INTEGER NOT NULL,
    stale_time           INTEGER NOT NULL,
    long_lived_stale_time INTEGER NOT NULL,
    role                 TEXT,
    strict_role          INTEGER NOT NULL CHECK (strict_role IN (0, 1)),
    bfd_min_tx_ms        INTEGER, -- NULL: no BFD
    bfd_min_rx_ms        INTEGER,
    bfd_multiplier       INTEGER,
    dynamic_limit        INTEGER, -- NULL: one peer
    interface            TEXT REFERENCES port (name) DEFERRABLE INITIALLY DEFERRED, -- of an unnumbered peer
    PRIMARY KEY (bgp, address),
    CHECK ((bfd_min_tx_ms IS NULL) = (bfd_min_rx_ms IS NULL) AND (bfd_min_tx_ms IS NULL) = (bfd_multiplier IS NULL))
) STRICT;

CREATE TABLE bgp_rpki (
    bgp        INTEGER NOT NULL REFERENCES bgp (id) DEFERRABLE INITIALLY DEFERRED,
    cache      TEXT    NOT NULL,
    preference INTEGER NOT NULL,
    PRIMARY KEY (bgp, cache)
) STRICT;

CREATE TABLE bgp_bmp (
    bgp                 INTEGER NOT NULL REFERENCES bgp (id) DEFERRABLE INITIALLY DEFERRED,
    collector           TEXT    NOT NULL,
    pre_policy          INTEGER NOT NULL CHECK (pre_policy IN (0, 1)),
    post_policy         INTEGER NOT NULL CHECK (post_policy IN (0, 1)),
    statistics_interval INTEGER NOT NULL, -- seconds; 0: no reports
    PRIMARY KEY (bgp, collector)
) STRICT;

CREATE TABLE bgp_peer_family (
    peer   TEXT NOT NULL REFERENCES bgp_peer (address) DEFERRABLE INITIALLY DEFERRED,
    family TEXT NOT NULL,
    PRIMARY KEY (peer, family)
) STRICT;

-- A named policy, or rules of its own and what happens to a prefix that none of them matches.
CREATE TABLE bgp_peer_policy (
    peer      TEXT NOT NULL REFERENCES bgp_peer (address) DEFERRABLE INITIALLY DEFERRED,
    direction TEXT NOT NULL CHECK (direction IN ('import', 'export')),
    family    TEXT NOT NULL,
    policy    TEXT REFERENCES bgp_policy (name) DEFERRABLE INITIALLY DEFERRED,
    fallback  TEXT,
    PRIMARY KEY (peer, direction, family),
    CHECK ((policy IS NULL) <> (fallback IS NULL))
) STRICT;

CREATE TABLE bgp_peer_rule (
    peer      TEXT    NOT NULL,
    direction TEXT    NOT NULL,
    family    TEXT    NOT NULL,
    position  INTEGER NOT NULL,
    prefix    TEXT    NOT NULL,
    ge        INTEGER NOT NULL,
    le        INTEGER NOT NULL,
    action    TEXT    NOT NULL,
    PRIMARY KEY (peer, direction, family, position),
    FOREIGN KEY (peer, direction, family) REFERENCES bgp_peer_policy (peer, direction, family)
        DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE masquerade (
    vpc        INTEGER NOT NULL REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    position   INTEGER NOT NULL,
    first_port INTEGER NOT NULL,
    last_port  INTEGER NOT NULL,
    mapping    TEXT    NOT NULL,
    filtering  TEXT    NOT NULL,
    pairing    TEXT    NOT NULL,
    parity     INTEGER NOT NULL CHECK (parity IN (0, 1)),
    deterministic    INTEGER NOT NULL CHECK (deterministic IN (0, 1)),
    block_size       INTEGER, -- NULL: no blocks
    block_count      INTEGER,
    block_quarantine INTEGER,
    CHECK ((block_size IS NULL) = (block_count IS NULL)),
    CHECK ((block_size IS NULL) = (block_quarantine IS NULL)),
    CHECK (block_size IS NULL OR deterministic = 0),
    PRIMARY KEY (vpc, position)
) STRICT;

CREATE TABLE masquerade_source (
    vpc      INTEGER NOT NULL,
    position INTEGER NOT NULL,
    prefix   TEXT    NOT NULL,
    PRIMARY KEY (vpc, position, prefix),
    FOREIGN KEY (vpc, position) REFERENCES masquerade (vpc, position) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE masquerade_pool (
    vpc      INTEGER NOT NULL,
    position INTEGER NOT NULL,
    prefix   TEXT    NOT NULL,
    PRIMARY KEY (vpc, position, prefix),
    FOREIGN KEY (vpc, position) REFERENCES masquerade (vpc, position) DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE nat_limit (
    vpc                     INTEGER NOT NULL PRIMARY KEY REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    sessions                INTEGER, -- NULL, here and below: any number
    new_sessions            INTEGER,
    subscriber_sessions     INTEGER,
    subscriber_new_sessions INTEGER
) STRICT;

-- Seen as `outside` in a VRF: the default one, or that of a VPC.
CREATE TABLE static_nat (
    vpc     INTEGER NOT NULL REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    seen_in INTEGER NOT NULL REFERENCES vrf (id) DEFERRABLE INITIALLY DEFERRED,
    inside  TEXT    NOT NULL,
    outside TEXT    NOT NULL,
    PRIMARY KEY (vpc, seen_in, inside),
    UNIQUE (seen_in, outside),
    CHECK (vpc <> seen_in)
) STRICT;

CREATE TABLE port_forward (
    address    TEXT    NOT NULL,
    protocol   TEXT    NOT NULL,
    first_port INTEGER NOT NULL,
    last_port  INTEGER NOT NULL,
    vpc        INTEGER NOT NULL REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    affinity   INTEGER NOT NULL CHECK (affinity IN (0, 1)),
    PRIMARY KEY (address, protocol, first_port)
) STRICT;

CREATE TABLE port_forward_target (
    address    TEXT    NOT NULL,
    protocol   TEXT    NOT NULL,
    first_port INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    target     TEXT    NOT NULL,
    port       INTEGER NOT NULL,
    weight     INTEGER NOT NULL,
    PRIMARY KEY (address, protocol, first_port, position),
    FOREIGN KEY (address, protocol, first_port) REFERENCES port_forward (address, protocol, first_port)
        DEFERRABLE INITIALLY DEFERRED
) STRICT;

CREATE TABLE vpc_timers (
    vpc             INTEGER NOT NULL PRIMARY KEY REFERENCES vpc (id) DEFERRABLE INITIALLY DEFERRED,
    tcp_established INTEGER NOT NULL,
    tcp_transitory  INTEGER NOT NULL,
    udp             INTEGER NOT NULL,
    icmp            INTEGER NOT NULL,
    other           INTEGER NOT NULL
) STRICT;

-- The op log. `changeset` turns the parent into the revision, and its inverse the revision into the parent.
CREATE TABLE revision (
    number    INTEGER NOT NULL PRIMARY KEY CHECK (number > 0),
    parent    INTEGER NOT NULL CHECK (parent = number - 1),
    actor     TEXT    NOT NULL,
    comment   TEXT    NOT NULL,
    time      INTEGER NOT NULL, -- milliseconds since 1970-01-01 UTC
    changeset BLOB    NOT NULL,
    hash      TEXT    NOT NULL, -- SHA-256 of the canonical configuration
    schema    INTEGER NOT NULL  -- schema that the changeset and the hash are of
) STRICT;

CREATE TABLE applied (
    revision  INTEGER NOT NULL REFERENCES revision (number) DEFERRABLE INITIALLY DEFERRED,
    subsystem TEXT    NOT NULL,
    error     TEXT, -- NULL: applied
    PRIMARY KEY (revision, subsystem)
) STRICT;
