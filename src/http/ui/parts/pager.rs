//! Lists on pages: their URL with one parameter changed, and links to the next and previous page.

use std::fmt;

use form_urlencoded::Serializer;

use crate::model::{Order, PageRequest};

/// The URL of a list as currently requested: its path, and its parameters in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    path: String,
    pairs: Vec<(String, String)>,
}

impl Address {
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), pairs: Vec::new() }
    }

    /// The same URL with a parameter's values replaced by these; empty values are left out.
    #[must_use]
    pub fn with<T: ToString>(&self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let mut changed = self.clone();
        changed.pairs.retain(|(known, _)| known != name);
        let values = values.into_iter().map(|value| value.to_string()).filter(|value| !value.is_empty());
        changed.pairs.extend(values.map(|value| (name.to_owned(), value)));
        changed
    }

    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if !self.pairs.is_empty() {
            let query = Serializer::new(String::new()).extend_pairs(&self.pairs).finish();
            write!(f, "?{query}")?;
        }
        Ok(())
    }
}

/// The position of a page in its list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pager {
    /// First and last row shown, counted from 1; both 0 if there is none.
    pub first: u64,
    pub last: u64,
    pub total: u64,
    pub previous: Option<Address>,
    pub next: Option<Address>,
}

impl Pager {
    pub fn new<Sort>(address: &Address, page: &PageRequest<Sort>, rows: usize, total: u64) -> Self {
        let (offset, limit) = (u64::from(page.offset), u64::from(page.limit.max(1)));
        let at = |offset: u64| address.with("offset", Some(offset).filter(|offset| *offset > 0));
        let last = offset + rows as u64;
        Self {
            first: if rows > 0 { offset + 1 } else { 0 },
            last: if rows > 0 { last } else { 0 },
            total,
            previous: (offset > 0)
                .then(|| at(offset.saturating_sub(limit).min(total.saturating_sub(1) / limit * limit))),
            next: (rows > 0 && last < total).then(|| at(last)),
        }
    }
}

/// A column that a list can be sorted by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortLink {
    pub name: &'static str,
    pub address: Address,
    /// `ascending` or `descending` if the list is currently sorted by it, else `none`: the values of `aria-sort`.
    pub state: &'static str,
}

impl SortLink {
    /// Sorts by this column, in the opposite order if the list is already sorted by it.
    pub fn new<Sort: PartialEq + Copy>(
        name: &'static str,
        address: &Address,
        (sort, word): (Sort, &str),
        first: Order,
        page: &PageRequest<Sort>,
    ) -> Self {
        let (order, state) = match (sort == page.sort_by, page.order) {
            (false, _) => (first, "none"),
            (true, Order::Asc) => (Order::Desc, "ascending"),
            (true, Order::Desc) => (Order::Asc, "descending"),
        };
        let address = address.with("offset", None::<&str>).with("sort_by", [word]).with("order", [order]);
        Self { name, address, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(offset: u32) -> PageRequest<u8> {
        PageRequest { limit: 50, offset, sort_by: 1, order: Order::Asc }
    }

    #[test]
    fn an_address_changes_one_thing_and_keeps_the_rest() {
        let address = Address::new("/ui/tasks").with("q", ["a&b <c>"]).with("offset", [50]);
        assert_eq!(address.to_string(), "/ui/tasks?q=a%26b+%3Cc%3E&offset=50");
        assert_eq!(address.with("offset", None::<u32>).to_string(), "/ui/tasks?q=a%26b+%3Cc%3E");
        assert_eq!(address.with("q", [""]).with("offset", [""]).to_string(), "/ui/tasks");
    }

    #[test]
    fn a_pager_leads_to_the_pages_beside_this_one() {
        let address = Address::new("/x").with("offset", [50]);
        let pager = Pager::new(&address, &page(50), 50, 120);
        assert_eq!((pager.first, pager.last), (51, 100));
        assert_eq!(pager.previous.unwrap().to_string(), "/x");
        assert_eq!(pager.next.unwrap().to_string(), "/x?offset=100");
        let pager = Pager::new(&address, &page(100), 20, 120);
        assert_eq!(pager.next, None);
    }

    #[test]
    fn a_page_beyond_the_end_leads_back_to_the_last_one() {
        let pager = Pager::new(&Address::new("/x"), &page(4000), 0, 120);
        assert_eq!((pager.first, pager.last, pager.next), (0, 0, None));
        assert_eq!(pager.previous.unwrap().to_string(), "/x?offset=100");
    }

    #[test]
    fn a_column_sorts_the_other_way_the_second_time() {
        let address = Address::new("/x").with("offset", [50]);
        let link = |sort, word| SortLink::new("N", &address, (sort, word), Order::Desc, &page(0));
        assert_eq!(
            (link(1, "a").address.to_string().as_str(), link(1, "a").state),
            ("/x?sort_by=a&order=desc", "ascending")
        );
        assert_eq!(
            (link(2, "b").address.to_string().as_str(), link(2, "b").state),
            ("/x?sort_by=b&order=desc", "none")
        );
    }
}
