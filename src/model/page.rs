//! One page of a list: what was asked for, and what it holds.

use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Asc,
    Desc,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asc => "asc",
            Self::Desc => "desc",
        })
    }
}

impl FromStr for Order {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "asc" => Ok(Self::Asc),
            "desc" => Ok(Self::Desc),
            _ => Err(()),
        }
    }
}

/// Which part of a list, in which order. `sort_by` is one of the list's own sort fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<Sort> {
    pub limit: u32,
    pub offset: u32,
    pub sort_by: Sort,
    pub order: Order,
}

/// A row that is not read yet: which it is, and about how many bytes it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread<Id> {
    pub id: Id,
    pub bytes: u64,
}

/// The rows of one page and how many there are in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub total: u64,
}
