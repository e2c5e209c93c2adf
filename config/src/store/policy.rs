//! Sets and policies as rows, both ways. Their members, conditions and changes are kept as text, in the notation of the
//! file.

use net::policy::{
    AsPathSet, Change, CommunitySet, Condition, Policies, Policy, PrefixRange, PrefixSet, SetKind, Term,
};

use super::decode::{Damage, Fields, list};
use super::encode::{number, text};
use super::rows::{Cell, Rows, table};

const MATCH: &str = "match";
const SET: &str = "set";

/// Adds the rows of sets and policies.
pub(super) fn rows(policies: &Policies, rows: &mut Rows) {
    for set in &policies.prefix_sets {
        let members = set.prefixes.iter();
        let members = members.map(|range| format!("{} {} {}", range.prefix, range.ge, range.le));
        add_set(SetKind::Prefix, &set.name, members, rows);
    }
    for set in &policies.as_path_sets {
        let members = set.patterns.iter().map(ToString::to_string);
        add_set(SetKind::AsPath, &set.name, members, rows);
    }
    for set in &policies.community_sets {
        let members = set.communities.iter().map(ToString::to_string);
        add_set(SetKind::Community, &set.name, members, rows);
    }
    for policy in &policies.policies {
        rows.add(
            table::BGP_POLICY,
            vec![text(&policy.name), number(policy.accept_by_default)],
        );
        for (position, term) in (0_i64..).zip(&policy.terms) {
            let key = || vec![text(&policy.name), number(position)];
            let row = key().into_iter().chain([text(&term.name), text(term.then)]);
            rows.add(table::BGP_TERM, row.collect());
            let part = |part| move || key().into_iter().chain([text(part)]).collect();
            rows.add_list(table::BGP_CLAUSE, part(MATCH), &term.conditions, |condition| {
                let (kind, name) = match condition.set() {
                    Some((kind, name)) => (text(kind), text(name)),
                    None => (Cell::Null, Cell::Null),
                };
                [text(condition.key()), text(condition.value()), kind, name]
            });
            rows.add_list(table::BGP_CLAUSE, part(SET), &term.changes, |change| {
                [text(change.key()), text(change.value()), Cell::Null, Cell::Null]
            });
        }
    }
}

fn add_set(kind: SetKind, name: &str, members: impl Iterator<Item = String>, rows: &mut Rows) {
    rows.add(table::BGP_SET, vec![text(kind), text(name)]);
    for member in members {
        rows.add(table::BGP_SET_MEMBER, vec![text(kind), text(name), text(member)]);
    }
}

/// The sets and policies that the rows say.
pub(super) fn policies(rows: &Rows) -> Result<Policies, Damage> {
    let names = |kind: SetKind| list(rows, table::BGP_SET, &[text(kind)], Fields::text);
    let mut policies = Policies {
        policies: list(rows, table::BGP_POLICY, &[], |fields| policy(rows, fields))?,
        ..Policies::default()
    };
    for name in names(SetKind::Prefix)? {
        let prefixes = members(rows, SetKind::Prefix, &name, range)?;
        policies.prefix_sets.push(PrefixSet { name, prefixes });
    }
    for name in names(SetKind::AsPath)? {
        let patterns = members(rows, SetKind::AsPath, &name, Fields::parse)?;
        policies.as_path_sets.push(AsPathSet { name, patterns });
    }
    for name in names(SetKind::Community)? {
        let communities = members(rows, SetKind::Community, &name, Fields::parse)?;
        policies.community_sets.push(CommunitySet { name, communities });
    }
    Ok(policies)
}

fn members<'r, T>(
    rows: &'r Rows,
    kind: SetKind,
    name: &str,
    read: impl Fn(&mut Fields<'r>) -> Result<T, Damage>,
) -> Result<Vec<T>, Damage> {
    list(rows, table::BGP_SET_MEMBER, &[text(kind), text(name)], read)
}

fn range(fields: &mut Fields<'_>) -> Result<PrefixRange, Damage> {
    let text = fields.text()?;
    let parts: Vec<&str> = text.split(' ').collect();
    let range = match parts[..] {
        [prefix, ge, le] => prefix.parse().ok().zip(ge.parse().ok()).zip(le.parse().ok()),
        _ => None,
    };
    let ((prefix, ge), le) = range.ok_or_else(|| fields.damage())?;
    Ok(PrefixRange { prefix, ge, le })
}

fn policy(rows: &Rows, fields: &mut Fields<'_>) -> Result<Policy, Damage> {
    Ok(Policy {
        terms: list(rows, table::BGP_TERM, fields.key(1), |fields| term(rows, fields))?,
        name: fields.text()?,
        accept_by_default: fields.flag()?,
    })
}

fn term(rows: &Rows, fields: &mut Fields<'_>) -> Result<Term, Damage> {
    // The row was read from after the policy's name.
    let key = fields.key(2).to_vec();
    fields.number::<i64>()?; // the position: rows come in its order
    let part = |part: &str| key.iter().cloned().chain([text(part)]).collect::<Vec<_>>();
    Ok(Term {
        name: fields.text()?,
        conditions: list(rows, table::BGP_CLAUSE, &part(MATCH), |fields| {
            clause(fields, Condition::parse)
        })?,
        changes: list(rows, table::BGP_CLAUSE, &part(SET), |fields| {
            clause(fields, Change::parse)
        })?,
        then: fields.parse()?,
    })
}

fn clause<T>(fields: &mut Fields<'_>, parse: impl Fn(&str, &str) -> Option<T>) -> Result<T, Damage> {
    fields.number::<i64>()?; // the position: rows come in its order
    let (key, value) = (fields.text()?, fields.text()?);
    parse(&key, &value).ok_or_else(|| fields.damage())
}
