//! Shared parts of lists with free filters: conditions, pages and totals.

use tokio::time::Instant;

use super::StoreError;
use super::db::Db;
use super::row::FromRow;
use super::statement::{Builder, json};
use crate::model::{EnvVar, Order, Page};

/// ` IN (…)` for any number of texts, bound as one value, so that the statement stays the same.
pub(super) fn push_in(sql: &mut Builder, db: &Db, texts: &[&str]) {
    let (before, after) = match db.is_postgres() {
        true => (" IN (SELECT json_array_elements_text(CAST(", " AS json)))"),
        false => (" IN (SELECT value FROM json_each(", "))"),
    };
    sql.push(before).bind(json(&texts)).push(after);
}

/// The column has any of these values; adds no condition if there are none.
pub(super) fn push_any(sql: &mut Builder, column: &str, values: &[String]) {
    if !values.is_empty() {
        sql.push(&format!(" AND {column} IN ("));
        sql.bind_all(values.iter().map(String::as_str)).push(")");
    }
}

/// The task has each of these variables with this value. Its JSON text is searched for the variable as serde writes
/// it: within a JSON string a quote is always escaped, so the text can't match anywhere else. No index serves this;
/// combined with another filter, it checks only the rows which that one leaves.
pub(super) fn push_env(sql: &mut Builder, db: &Db, column: &str, env: &[EnvVar]) {
    for var in env {
        sql.push(&format!(" AND {}({column}, ", db.position_function())).bind(json(var)).push(") > 0");
    }
}

/// `id_column` makes the order total, so that pages neither repeat nor miss a row.
pub(super) fn push_page(sql: &mut Builder, sort: &str, id_column: &str, order: Order, limit: u32, offset: u32) {
    sql.push(&format!(" ORDER BY {sort} {order}, {id_column} {order} LIMIT "));
    sql.bind(limit).push(" OFFSET ").bind(offset);
}

/// The rows of a page and the total. A search uses connections of its own and has a deadline over both.
pub(super) async fn page_of<T: FromRow + Send + 'static>(
    db: &Db,
    is_search: bool,
    select: Builder,
    count: Builder,
) -> Result<Page<T>, StoreError> {
    let until = is_search.then(|| db.search_deadline());
    let rows = db.list(select.build(), until).await?;
    Ok(Page { rows, total: count_of(db, count, until).await? })
}

pub(super) async fn count_of(db: &Db, count: Builder, until: Option<Instant>) -> Result<u64, StoreError> {
    let counted: Vec<u64> = db.list(count.build(), until).await?;
    Ok(counted.first().copied().unwrap_or(0))
}

/// A `LIKE` pattern for a substring of a lower-cased text, with its wildcards taken literally.
pub(super) fn substring_pattern(part: &str) -> String {
    let escaped = part.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    format!("%{escaped}%")
}
