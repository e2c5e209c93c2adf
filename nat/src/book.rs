//! IPv6 addresses by short numbers, so that an entry of either family is one cache line.
//!
//! Every address that a connection has is in the book once, with the number of its users. An address that is not in it
//! belongs to no connection: a packet of one needs no look into the table.
//!
//! Numbers lie where no IPv4 address of a host is (240.0.0.0/4), so that columns that hold both can be searched for one
//! family by its prefix.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use crate::connections::NONE;

/// Short numbers of IPv6 addresses.
#[derive(Debug, Default)]
pub(crate) struct Book {
    numbers: HashMap<u128, u32, RandomState>,
    pages: Vec<Page>,
    free: Vec<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Page {
    address: u128,
    users: u32,
}

impl Book {
    /// The first number; its leading bits are those of all.
    pub(crate) const FIRST: u32 = 0xf000_0000;
    /// Numbers that there are, without [`NONE`] and room for one connection.
    const MOST: usize = (NONE - Self::FIRST) as usize - 8;

    /// Room for addresses up to a number, so that none of them costs a copy of the others. Memory is touched when it is used.
    pub(crate) fn reserve(&mut self, addresses: usize) {
        let more = addresses.min(Self::MOST).saturating_sub(self.numbers.len());
        self.numbers.reserve(more);
        self.pages
            .reserve(addresses.min(Self::MOST).saturating_sub(self.pages.len()));
    }

    /// True without a number for each address of one more connection.
    pub(crate) fn is_full(&self) -> bool {
        self.numbers.len() >= Self::MOST
    }

    /// The number of an address that some connection has.
    #[inline]
    pub(crate) fn number(&self, address: u128) -> Option<u32> {
        self.numbers.get(&address).copied()
    }

    /// The address with a number; 0 for a number that no address has.
    #[inline]
    pub(crate) fn address(&self, number: u32) -> u128 {
        let page = self.pages.get(number.wrapping_sub(Self::FIRST) as usize);
        page.map_or(0, |page| page.address)
    }

    /// The number of an address, for one more user of it. Not to be called on a full book.
    pub(crate) fn enter(&mut self, address: u128) -> u32 {
        let (pages, free) = (&mut self.pages, &mut self.free);
        let number = *self.numbers.entry(address).or_insert_with(|| {
            let page = Page { address, users: 0 };
            match free.pop() {
                Some(number) => {
                    pages[(number - Self::FIRST) as usize] = page;
                    number
                }
                None => {
                    pages.push(page);
                    Self::FIRST + (pages.len() - 1) as u32
                }
            }
        });
        self.pages[(number - Self::FIRST) as usize].users += 1;
        number
    }

    /// One user of an address less; the last one takes it out of the book.
    pub(crate) fn leave(&mut self, number: u32) {
        let Some(page) = self.pages.get_mut(number.wrapping_sub(Self::FIRST) as usize) else {
            return;
        };
        page.users = page.users.saturating_sub(1);
        if page.users == 0 {
            self.numbers.remove(&page.address);
            self.free.push(number);
        }
    }

    /// Addresses that are in the book.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn an_address_keeps_its_number_while_somebody_uses_it() {
        let mut book = Book::default();
        let mut random = Random::new(8);
        let mut users = [0_u32; 40];
        let mut numbers = [0_u32; 40];
        for _ in 0..20_000 {
            let at = random.below(40) as usize;
            let address = u128::from(at as u64) << 70 | 1;
            if random.below(2) == 0 {
                let number = book.enter(address);
                assert!(users[at] == 0 || numbers[at] == number);
                (users[at], numbers[at]) = (users[at] + 1, number);
            } else if users[at] > 0 {
                book.leave(numbers[at]);
                users[at] -= 1;
            }
            for (other, count) in users.iter().enumerate() {
                let address = u128::from(other as u64) << 70 | 1;
                let expected = (*count > 0).then_some(numbers[other]);
                assert_eq!(book.number(address), expected);
                assert!(expected.is_none_or(|number| book.address(number) == address));
            }
        }
        assert_eq!(book.len(), users.iter().filter(|count| **count > 0).count());
        assert!(book.pages.len() <= 40, "numbers are used again");
    }

    #[test]
    fn numbers_that_nobody_has_mean_nothing() {
        let mut book = Book::default();
        assert_eq!(
            (book.address(0), book.address(Book::FIRST), book.address(NONE)),
            (0, 0, 0)
        );
        book.leave(NONE);
        book.leave(7);
        assert_eq!(book.len(), 0);
    }
}
