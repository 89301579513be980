//! Parts shared by several pages.

pub mod ansi;
pub mod cluster_card;
pub mod fold;
pub mod form;
pub mod layout;
pub mod links;
pub mod log_tail;
pub mod pager;
pub mod run_row;
pub mod state;
pub mod words;
