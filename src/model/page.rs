//! One page of a list: the request and the result.

use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Asc,
    Desc,
}

impl Order {
    pub const ALL: [Self; 2] = [Self::Asc, Self::Desc];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Order {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|order| order.as_str() == text).ok_or(())
    }
}

/// The requested part of a list, and its order. `sort_by` is one of the list's own sort fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<Sort> {
    pub limit: u32,
    pub offset: u32,
    pub sort_by: Sort,
    pub order: Order,
}

/// A row that is not read yet: its id and its approximate size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread<Id> {
    pub id: Id,
    pub bytes: u64,
}

/// The rows of one page and the total number of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub total: u64,
}
