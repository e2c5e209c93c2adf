//! A configuration as rows of tables, and how two sets of rows differ.

use std::collections::BTreeSet;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

/// A config table: its name, its columns with those of the primary key first, and how many these are.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    columns: &'static [&'static str],
    key: usize,
}

macro_rules! tables {
    ($($constant:ident $name:literal ($($key:literal)+) ($($column:literal)*);)*) => {
        /// Every config table. The position of each is its constant in [`table`].
        pub(super) const TABLES: &[Table] = &[$(Table {
            name: $name,
            columns: &[$($key,)+ $($column,)*],
            key: [$($key,)+].len(),
        },)*];

        /// Positions in [`TABLES`].
        pub(super) mod table {
            #[allow(clippy::upper_case_acronyms, non_camel_case_types, reason = "they name constants, not values")]
            enum Position { $($constant,)* }
            $(pub(in crate::store) const $constant: usize = Position::$constant as usize;)*
        }
    };
}

tables! {
    SETTINGS "settings" ("id") ("gateway_name" "poll" "memory" "memory_mb" "buffers" "connections" "kernel_table"
        "kernel_protocol" "kernel_metric" "kernel_audit_interval" "tcp_established" "tcp_transitory" "udp" "icmp" "other"
        "pick_up" "api_socket");
    RIB "rib" ("id") ("batch_size" "batch_time_ms" "large_batch_size" "large_batch_time_ms" "publish_interval_ms" "static_distance"
        "ebgp_distance" "ibgp_distance" "kernel_distance" "fpm_distance");
    WORKER "worker" ("core") ();
    VXLAN "vxlan" ("id") ("address" "port");
    FPM "fpm" ("id") ("listen" "stale_time");
    PORT "port" ("name") ("device" "host_interface" "mac" "mtu" "offload");
    PORT_ADDRESS "port_address" ("port" "address") ();
    VPC "vpc" ("id") ("name" "host_interface" "mac" "mtu" "kernel_table" "vni" "vlan_port" "vlan_id");
    VPC_ADDRESS "vpc_address" ("vpc" "address") ();
    VPC_VTEP "vpc_vtep" ("vpc" "address") ();
    VRF "vrf" ("id") ("vpc");
    ROUTE "route" ("vrf" "prefix") ("target" "in_vrf" "distance" "metric");
    ROUTE_VIA "route_via" ("vrf" "prefix" "position") ("gateway" "interface" "gateway_vrf" "weight");
    BGP "bgp" ("id") ("asn" "router_id" "multipath" "multipath_internal" "always_compare_med" "prefer_oldest"
        "advertise_installed" "selection_deferral_time" "redistribute_connected" "redistribute_static" "redistribute_kernel");
    BGP_LISTEN "bgp_listen" ("bgp" "address") ();
    BGP_ANNOUNCE "bgp_announce" ("bgp" "prefix") ();
    BGP_SET "bgp_set" ("kind" "name") ();
    BGP_SET_MEMBER "bgp_set_member" ("kind" "name" "value") ();
    BGP_POLICY "bgp_policy" ("name") ("accept_by_default");
    BGP_TERM "bgp_term" ("policy" "position") ("name" "outcome");
    BGP_CLAUSE "bgp_clause" ("policy" "term" "part" "position") ("key" "value" "set_kind" "set_name");
    BGP_PEER "bgp_peer" ("bgp" "address") ("asn" "port" "passive" "advertise_learned" "hold_time" "connect_retry" "max_prefixes"
        "max_prefixes_warn" "max_prefixes_restart" "local_address" "password"
        "ttl_security" "multihop" "send_hold_time" "graceful_restart" "restart_time" "stale_time"
        "long_lived_stale_time" "role" "strict_role"
        "bfd_min_tx_ms" "bfd_min_rx_ms" "bfd_multiplier" "dynamic_limit" "interface"
        "add_path_receive" "add_path_send");
    BGP_RPKI "bgp_rpki" ("bgp" "cache") ("preference");
    BGP_BMP "bgp_bmp" ("bgp" "collector") ("pre_policy" "post_policy" "statistics_interval");
    BGP_PEER_FAMILY "bgp_peer_family" ("peer" "family") ();
    BGP_PEER_POLICY "bgp_peer_policy" ("peer" "direction" "family") ("policy" "fallback");
    BGP_PEER_RULE "bgp_peer_rule" ("peer" "direction" "family" "position") ("prefix" "ge" "le" "action");
    MASQUERADE "masquerade" ("vpc" "position") ("first_port" "last_port" "mapping" "filtering" "pairing" "parity"
        "deterministic" "block_size" "block_count" "block_quarantine");
    MASQUERADE_SOURCE "masquerade_source" ("vpc" "position" "prefix") ();
    MASQUERADE_POOL "masquerade_pool" ("vpc" "position" "prefix") ();
    NAT_LIMIT "nat_limit" ("vpc") ("sessions" "new_sessions" "subscriber_sessions" "subscriber_new_sessions");
    STATIC_NAT "static_nat" ("vpc" "seen_in" "inside") ("outside");
    NAT_NPT "nat_npt" ("vpc" "inside") ("outside");
    PORT_FORWARD "port_forward" ("address" "protocol" "first_port") ("last_port" "vpc" "affinity");
    PORT_FORWARD_TARGET "port_forward_target" ("address" "protocol" "first_port" "position") ("target" "port" "weight");
    VPC_EVPN "vpc_evpn" ("vpc") ("rd" "redistribute_connected" "redistribute_static" "redistribute_kernel");
    VPC_EVPN_TARGET "vpc_evpn_target" ("vpc" "direction" "target") ();
    VPC_EVPN_ANNOUNCE "vpc_evpn_announce" ("vpc" "prefix") ();
    STANDBY "standby" ("id") ("peer" "listen" "primary_address");
    SESSION_LOG "session_log" ("id") ("what");
    VPC_TIMERS "vpc_timers" ("vpc") ("tcp_established" "tcp_transitory" "udp" "icmp" "other");
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(String),
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// Values in the order of the table's columns.
pub(super) type Row = Vec<Cell>;

/// The rows of every config table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rows(Vec<BTreeSet<Row>>);

impl Rows {
    /// Empty tables.
    pub(super) fn new() -> Self {
        Self(vec![BTreeSet::new(); TABLES.len()])
    }

    /// Adds a row.
    pub(super) fn add(&mut self, table: usize, row: Row) {
        self.0[table].insert(row);
    }

    /// Adds a row for each element of a list: the key, the element's position, and its own cells.
    pub(super) fn add_list<T, C: IntoIterator<Item = Cell>>(
        &mut self,
        table: usize,
        key: impl Fn() -> Row,
        list: &[T],
        cells: impl Fn(&T) -> C,
    ) {
        for (position, item) in (0_i64..).zip(list) {
            let row = key().into_iter().chain([Cell::Integer(position)]).chain(cells(item));
            self.add(table, row.collect());
        }
    }

    /// The rows of a table whose first values are these, in order.
    pub(super) fn of<'r>(&'r self, table: usize, first: &[Cell]) -> impl Iterator<Item = &'r Row> {
        self.0[table]
            .range(first.to_vec()..)
            .take_while(move |row| row.starts_with(first))
    }

    /// Reads every config table.
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut rows = Self::new();
        for (position, table) in TABLES.iter().enumerate() {
            let mut select = connection.prepare(&format!("SELECT {} FROM {}", table.columns.join(", "), table.name))?;
            let mut found = select.query([])?;
            while let Some(row) = found.next()? {
                let cells = (0..table.columns.len()).map(|column| {
                    Ok(match row.get_ref(column)? {
                        ValueRef::Null => Cell::Null,
                        ValueRef::Integer(number) => Cell::Integer(number),
                        other => Cell::Text(other.as_str()?.to_owned()),
                    })
                });
                let cells = cells.collect::<rusqlite::Result<Row>>()?;
                rows.add(position, cells);
            }
        }
        Ok(rows)
    }

    /// Edits the tables, which hold `self`, so that they hold `wanted`.
    ///
    /// What changed is deleted first and inserted afterwards, because rows may swap values that are unique; a session
    /// records the two as one update of the columns that differ.
    pub(super) fn edit_into(&self, wanted: &Self, connection: &Connection) -> rusqlite::Result<()> {
        for (table, (old, new)) in TABLES.iter().zip(self.0.iter().zip(&wanted.0)) {
            let condition: Vec<_> = table.columns[..table.key]
                .iter()
                .map(|column| format!("{column} = ?"))
                .collect();
            let mut delete =
                connection.prepare(&format!("DELETE FROM {} WHERE {}", table.name, condition.join(" AND ")))?;
            for row in old.difference(new) {
                delete.execute(params_from_iter(&row[..table.key]))?;
            }
            let places = vec!["?"; table.columns.len()].join(", ");
            let mut insert = connection.prepare(&format!(
                "INSERT INTO {} ({}) VALUES ({places})",
                table.name,
                table.columns.join(", ")
            ))?;
            for row in new.difference(old) {
                insert.execute(params_from_iter(row))?;
            }
        }
        Ok(())
    }
}
