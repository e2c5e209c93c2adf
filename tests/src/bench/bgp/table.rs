//! The routes of a feed, encoded: prefixes with the Internet's mix of lengths, and attributes spread as in its tables.
//!
//! Prefixes come in groups that share their attributes: half the groups have one prefix, the mean is about eight. AS paths
//! have one to seven ASes; of the groups, six of ten carry communities, one in six a MED, one in ten large communities, one
//! in twenty an aggregator. The first feed has AS paths of odd length, the second of even length, so it is known which
//! path wins whatever a program does with ties.

use std::collections::HashMap;

use net::Prefix;

use super::super::random::Random;
use super::{FEEDS, address, address_v6, asn, codec};

/// What the receivers have to end with.
#[derive(Debug)]
pub struct Table {
    /// IPv4 prefixes, then IPv6 ones.
    pub prefixes: Vec<Prefix>,
    /// Position of each prefix, by [`codec::key`].
    pub index: HashMap<u128, u32, foldhash::fast::RandomState>,
    /// AS of the feed with the better path of each prefix.
    pub winner: Vec<u16>,
    /// What each feed sends.
    pub feeds: Vec<Feed>,
    /// Withdrawals of all.
    pub withdrawals: Vec<u8>,
}

/// What one peer announces.
#[derive(Debug)]
pub struct Feed {
    /// UPDATEs, one after the other.
    pub bytes: Vec<u8>,
    /// Distinct attribute sets in them.
    pub sets: usize,
    lengths: Vec<u8>,
}

impl Table {
    /// As many prefixes of each family, told by every feed.
    pub fn new(ipv4: usize, ipv6: usize) -> Self {
        let mut random = Random::new(11);
        let mut prefixes = random.prefixes_v4(ipv4);
        prefixes.extend(random.prefixes_v6(ipv6));
        let index = prefixes.iter().zip(0..).map(|(prefix, at)| (codec::key_of(prefix), at));
        let index = index.collect();
        let feeds: Vec<Feed> = FEEDS.iter().map(|peer| Feed::new(*peer, &prefixes, ipv4)).collect();
        let winner = |at: usize| {
            let best = FEEDS.iter().min_by_key(|peer| feeds[usize::from(**peer)].lengths[at]);
            best.map_or(0, |peer| asn(*peer))
        };
        Self {
            winner: (0..prefixes.len()).map(winner).collect(),
            withdrawals: codec::withdrawals(&prefixes),
            prefixes,
            index,
            feeds,
        }
    }
}

impl Feed {
    fn new(peer: u16, prefixes: &[Prefix], ipv4: usize) -> Self {
        let mut random = Random::new(u64::from(peer) + 100);
        let mut feed = Self {
            bytes: Vec::new(),
            sets: 0,
            lengths: vec![0; prefixes.len()],
        };
        for family in [0..ipv4, ipv4..prefixes.len()] {
            let mut order: Vec<usize> = family.collect();
            random.shuffle(&mut order);
            let mut rest = &order[..];
            while !rest.is_empty() {
                let (group, later) = rest.split_at(group_size(&mut random).min(rest.len()));
                let length = path_length(peer, &mut random);
                group.iter().for_each(|at| feed.lengths[*at] = length);
                feed.announce(peer, length, group, prefixes, &mut random);
                rest = later;
            }
        }
        feed
    }

    fn announce(&mut self, peer: u16, length: u8, group: &[usize], prefixes: &[Prefix], random: &mut Random) {
        self.sets += 1;
        let attributes = Attributes::new(peer, length, random);
        let v4 = prefixes[group[0]].is_v4();
        // Large groups are cut so that each message is well within its bounds.
        for part in group.chunks(200) {
            let mut routes = Vec::new();
            part.iter().for_each(|at| codec::nlri(&mut routes, &prefixes[*at]));
            self.bytes.extend(attributes.update(peer, v4, &routes));
        }
    }
}

/// A single route of `peer`, for probes.
pub fn single(peer: u16, prefix: &Prefix) -> Vec<u8> {
    let mut routes = Vec::new();
    codec::nlri(&mut routes, prefix);
    let attributes = Attributes::new(peer, 3, &mut Random::new(u64::from(peer)));
    attributes.update(peer, prefix.is_v4(), &routes)
}

/// Attributes in front of and behind the place of NEXT_HOP.
struct Attributes {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Attributes {
    fn new(peer: u16, length: u8, random: &mut Random) -> Self {
        let chance = |random: &mut Random, of: usize| random.below(of) == 0;
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let incomplete = u8::from(chance(random, 10)) * 2;
        codec::attribute(&mut before, 0x40, 1, &[incomplete]);
        let mut path = vec![2, length];
        path.extend(u32::from(asn(peer)).to_be_bytes());
        for _ in 1..length {
            path.extend(public_as(random).to_be_bytes());
        }
        codec::attribute(&mut before, 0x40, 2, &path);
        if chance(random, 6) {
            codec::attribute(&mut after, 0x80, 4, &(random.below(500) as u32).to_be_bytes());
        }
        if chance(random, 20) {
            codec::attribute(&mut after, 0x40, 6, &[]);
            let mut aggregator = public_as(random).to_be_bytes().to_vec();
            aggregator.extend(random.public_v4().octets());
            codec::attribute(&mut after, 0xc0, 7, &aggregator);
        }
        if random.below(10) < 6 {
            let communities = (0..=random.below(8)).flat_map(|_| {
                let high = 1000 + random.below(60_000) as u32;
                (high << 16 | random.below(3000) as u32).to_be_bytes()
            });
            codec::attribute(&mut after, 0xc0, 8, &communities.collect::<Vec<_>>());
        }
        if chance(random, 10) {
            let large = (0..=random.below(3)).flat_map(|_| {
                let values = [public_as(random), random.below(100) as u32, random.below(1000) as u32];
                values.into_iter().flat_map(u32::to_be_bytes)
            });
            codec::attribute(&mut after, 0xc0, 32, &large.collect::<Vec<_>>());
        }
        Self { before, after }
    }

    fn update(&self, peer: u16, v4: bool, routes: &[u8]) -> Vec<u8> {
        let mut attributes = Vec::with_capacity(self.before.len() + self.after.len() + routes.len() + 32);
        if v4 {
            attributes.extend(&self.before);
            codec::attribute(&mut attributes, 0x40, 3, &address(peer).octets());
            attributes.extend(&self.after);
            return codec::update(&[], &attributes, routes);
        }
        let mut reach = vec![0, 2, 1, 16];
        reach.extend(address_v6(peer).octets());
        reach.push(0);
        reach.extend(routes);
        codec::attribute(&mut attributes, 0x80, 14, &reach);
        attributes.extend(&self.before);
        attributes.extend(&self.after);
        codec::update(&[], &attributes, &[])
    }
}

/// Half the groups have one prefix; the largest have 500.
fn group_size(random: &mut Random) -> usize {
    match random.below(100) {
        0..50 => 1,
        50..80 => 2 + random.below(4),
        80..95 => 6 + random.below(15),
        95..99 => 20 + random.below(60),
        _ => 80 + random.below(420),
    }
}

/// ASes in the path: odd for the first feed, even for the second.
fn path_length(peer: u16, random: &mut Random) -> u8 {
    let odd = peer == FEEDS[0];
    match random.below(10) {
        0 => 1 + u8::from(!odd),
        1..5 => 3 + u8::from(!odd),
        5..9 => 5 - u8::from(!odd),
        _ => 7 - u8::from(!odd),
    }
}

/// An AS that is nobody's here.
fn public_as(random: &mut Random) -> u32 {
    if random.below(3) == 0 {
        196_608 + random.below(80_000) as u32
    } else {
        1000 + random.below(60_000) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feed_tells_every_prefix_and_one_is_better() {
        let table = Table::new(3000, 500);
        for (peer, feed) in FEEDS.iter().zip(&table.feeds) {
            let mut told = vec![0; 3500];
            let mut rest = &feed.bytes[..];
            while !rest.is_empty() {
                let length = usize::from(u16::from_be_bytes([rest[16], rest[17]]));
                assert!(length <= codec::LARGEST, "{length}");
                let update = codec::parse(&rest[codec::HEADER..length]).expect("an UPDATE");
                for (v4, field) in [(true, update.announced), (false, update.announced_v6)] {
                    for (length, octets) in codec::prefixes(field) {
                        told[table.index[&codec::key(v4, length, octets)] as usize] += 1;
                    }
                }
                rest = &rest[length..];
            }
            assert!(told.iter().all(|times| *times == 1));
            let wins = table.winner.iter().filter(|winner| **winner == asn(*peer)).count();
            assert!(wins > 500, "feed {peer} wins {wins}");
            assert!((3500 / 12..3500 / 3).contains(&feed.sets), "{} sets", feed.sets);
        }
        assert!((0..3500).all(|at| table.feeds[0].lengths[at] != table.feeds[1].lengths[at]));
    }
}
