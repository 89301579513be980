//! Definitions, and the groups and tags used by live ones.

use std::collections::HashMap;

use jiff::Timestamp;

use super::db::Db;

use super::row::{FromRow, Row};

use super::lists::{page_of, push_any, push_env, push_in, push_page, substring_pattern};
use super::statement::{Builder, Statement, json};
use super::{Store, StoreError, summaries};
use crate::model::{
    Definition, DefinitionFilter, DefinitionId, DefinitionSort, DefinitionSummary, NameList, Page, PageRequest, Unread,
};

const COLUMNS: &str = "definition_id, alias, group_name, task, task_type, created_at, updated_at";
/// A definition's id and the approximate size of its row in bytes.
const UNREAD: &str = "definition_id, octet_length(task)";

impl FromRow for Definition {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self {
            definition_id: DefinitionId::from_text(row.text()?),
            alias: row.maybe_text()?,
            group_name: row.text()?,
            task: row.json()?,
            task_type: row.text()?,
            created_at: row.time()?,
            updated_at: row.time()?,
        })
    }
}

impl FromRow for Unread<DefinitionId> {
    fn from_row(row: &mut Row) -> Result<Self, StoreError> {
        Ok(Self { id: DefinitionId::from_text(row.text()?), bytes: row.count()? })
    }
}

impl Store {
    /// Stores a new definition; [`StoreError::Duplicate`] if a live one has its alias.
    pub async fn insert_definition(&self, definition: &Definition) -> Result<(), StoreError> {
        let mut statements = vec![Statement::new(
            "INSERT INTO definitions
               (definition_id, alias, group_name, image, memory_mb, cpu_millis, task, task_type, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            [
                definition.definition_id.as_str().into(),
                definition.alias.clone().into(),
                definition.group_name.as_str().into(),
                definition.task.image.as_str().into(),
                definition.task.memory_mb.into(),
                definition.task.cpu_millis.into(),
                json(&definition.task),
                definition.task_type.as_str().into(),
                definition.created_at.into(),
                definition.updated_at.into(),
            ],
        )];
        statements.extend(tag_statements(definition));
        self.db.write(statements).await.map(|_| ())
    }

    /// Replaces a live definition if it was last changed at `seen`. Otherwise returns `false`: the caller reads it
    /// again. [`StoreError::Duplicate`] if another live one has its alias.
    pub async fn replace_definition(&self, definition: &Definition, seen: Timestamp) -> Result<bool, StoreError> {
        let update = Statement::new(
            "UPDATE definitions
             SET alias = $2, image = $3, memory_mb = $4, cpu_millis = $5, task = $6, task_type = $7, updated_at = $8
             WHERE definition_id = $1 AND updated_at = $9 AND deregistered_at IS NULL",
            [
                definition.definition_id.as_str().into(),
                definition.alias.clone().into(),
                definition.task.image.as_str().into(),
                definition.task.memory_mb.into(),
                definition.task.cpu_millis.into(),
                json(&definition.task),
                definition.task_type.as_str().into(),
                definition.updated_at.into(),
                seen.into(),
            ],
        );
        let mut statements = vec![update.required(), delete_tags(&definition.definition_id)];
        statements.extend(tag_statements(definition));
        Ok(self.db.write(statements).await?.is_done())
    }

    /// Removes a live definition from lists, look-ups and launches, and frees its alias. `false` if there is none.
    pub async fn deregister_definition(&self, id: &DefinitionId, now: Timestamp) -> Result<bool, StoreError> {
        let update = Statement::new(
            "UPDATE definitions SET deregistered_at = $2 WHERE definition_id = $1 AND deregistered_at IS NULL",
            [id.as_str().into(), now.into()],
        );
        Ok(self.db.write(vec![update.required(), delete_tags(id)]).await?.is_done())
    }

    pub async fn live_definition(&self, id: &DefinitionId) -> Result<Option<Definition>, StoreError> {
        let mut select = Builder::new(&format!("SELECT {COLUMNS} FROM definitions WHERE definition_id = "));
        select.bind(id.as_str()).push(" AND deregistered_at IS NULL");
        self.db.read_one(select.build()).await
    }

    pub async fn live_definition_by_alias(&self, alias: &str) -> Result<Option<Definition>, StoreError> {
        let mut select = Builder::new(&format!("SELECT {COLUMNS} FROM definitions WHERE alias = "));
        select.bind(alias).push(" AND deregistered_at IS NULL");
        self.db.read_one(select.build()).await
    }

    /// Whether the definition exists or ever existed: the history of a deregistered one stays readable.
    pub async fn definition_ever_existed(&self, id: &DefinitionId) -> Result<bool, StoreError> {
        let select =
            Statement::new("SELECT definition_id FROM definitions WHERE definition_id = $1", [id.as_str().into()]);
        Ok(self.db.read_one::<String>(select).await?.is_some())
    }

    /// The definitions on a page, as ids and sizes: the full rows together may be too large to hold in memory, see
    /// [`Store::definitions`].
    pub async fn list_definitions(
        &self,
        filter: &DefinitionFilter,
        page: PageRequest<DefinitionSort>,
    ) -> Result<Page<Unread<DefinitionId>>, StoreError> {
        self.list_as(UNREAD, filter, page).await
    }

    /// Like `list_definitions`, with what a page's row shows of each.
    pub async fn list_definition_summaries(
        &self,
        filter: &DefinitionFilter,
        page: PageRequest<DefinitionSort>,
    ) -> Result<Page<DefinitionSummary>, StoreError> {
        self.list_as(&summaries::of_definition(&self.db), filter, page).await
    }

    /// These definitions, in this order, without ids that never existed. They may have been deregistered meanwhile.
    pub async fn definitions(&self, ids: &[DefinitionId]) -> Result<Vec<Definition>, StoreError> {
        let texts: Vec<_> = ids.iter().map(DefinitionId::as_str).collect();
        let mut select = Builder::new(&format!("SELECT {COLUMNS} FROM definitions WHERE definition_id"));
        push_in(&mut select, &self.db, &texts);
        let mut definitions: Vec<Definition> = self.db.read(select.build()).await?;
        let places: HashMap<_, _> = texts.into_iter().enumerate().map(|(place, id)| (id, place)).collect();
        definitions.sort_by_key(|definition| places.get(definition.definition_id.as_str()).copied());
        Ok(definitions)
    }

    async fn list_as<T: FromRow + Send + 'static>(
        &self,
        columns: &str,
        filter: &DefinitionFilter,
        page: PageRequest<DefinitionSort>,
    ) -> Result<Page<T>, StoreError> {
        let mut count = Builder::new("SELECT COUNT(*) FROM definitions WHERE deregistered_at IS NULL");
        push_filter(&mut count, &self.db, filter);
        let mut select = Builder::new(&format!("SELECT {columns} FROM definitions WHERE deregistered_at IS NULL"));
        push_filter(&mut select, &self.db, filter);
        push_page(&mut select, sort_expression(page.sort_by), "definition_id", page.order, page.limit, page.offset);
        // No index serves a substring search.
        let is_search = !(filter.env.is_empty() && filter.alias.is_empty() && filter.words.is_empty());
        page_of(&self.db, is_search, select, count).await
    }

    /// The groups or tags used by live definitions that contain `part`, ignoring case, ordered by name.
    pub async fn list_names(
        &self,
        list: NameList,
        part: &str,
        limit: u32,
        offset: u32,
    ) -> Result<Page<String>, StoreError> {
        let (column, table) = match list {
            NameList::Groups => ("group_name", "definitions WHERE deregistered_at IS NULL"),
            NameList::Tags => ("tag", "definition_tags WHERE 1 = 1"),
        };
        let matching = |start: &str| {
            let mut sql = Builder::new(start);
            if !part.is_empty() {
                sql.push(&format!(" AND LOWER({column}) LIKE ")).bind(substring_pattern(part)).push(" ESCAPE '\\'");
            }
            sql
        };
        let mut select = matching(&format!("SELECT DISTINCT {column} FROM {table}"));
        select.push(&format!(" ORDER BY {column} LIMIT ")).bind(limit).push(" OFFSET ").bind(offset);
        let count = matching(&format!("SELECT COUNT(DISTINCT {column}) FROM {table}"));
        page_of(&self.db, !part.is_empty(), select, count).await
    }
}

fn tag_statements(definition: &Definition) -> impl Iterator<Item = Statement> {
    definition.task.tags.iter().map(|tag| {
        Statement::new(
            "INSERT INTO definition_tags (tag, definition_id) VALUES ($1, $2)",
            [tag.as_str().into(), definition.definition_id.as_str().into()],
        )
    })
}

fn delete_tags(id: &DefinitionId) -> Statement {
    Statement::new("DELETE FROM definition_tags WHERE definition_id = $1", [id.as_str().into()])
}

const fn sort_expression(field: DefinitionSort) -> &'static str {
    match field {
        DefinitionSort::Alias => "COALESCE(alias, '')",
        DefinitionSort::Memory => "COALESCE(memory_mb, 0)",
        DefinitionSort::Cpu => "COALESCE(cpu_millis, 0)",
        DefinitionSort::GroupName
        | DefinitionSort::Image
        | DefinitionSort::TaskType
        | DefinitionSort::DefinitionId
        | DefinitionSort::CreatedAt
        | DefinitionSort::UpdatedAt => field.as_str(),
    }
}

fn push_filter(sql: &mut Builder, db: &Db, filter: &DefinitionFilter) {
    push_any(sql, "image", &filter.image);
    push_any(sql, "group_name", &filter.group_name);
    if !filter.tag.is_empty() {
        sql.push(" AND definition_id IN (SELECT definition_id FROM definition_tags WHERE tag IN (");
        sql.bind_all(filter.tag.iter().map(String::as_str)).push("))");
    }
    if !filter.alias.is_empty() {
        sql.push(" AND (");
        for (i, part) in filter.alias.iter().enumerate() {
            sql.push(if i > 0 { " OR LOWER(alias) LIKE " } else { "LOWER(alias) LIKE " });
            sql.bind(substring_pattern(part)).push(" ESCAPE '\\'");
        }
        sql.push(")");
    }
    for word in &filter.words {
        sql.push(" AND (");
        for column in ["alias", "group_name", "image"] {
            sql.push(&format!("LOWER({column}) LIKE ")).bind(substring_pattern(word)).push(" ESCAPE '\\' OR ");
        }
        sql.push("definition_id IN (SELECT definition_id FROM definition_tags WHERE LOWER(tag) LIKE ");
        sql.bind(substring_pattern(word)).push(" ESCAPE '\\'))");
    }
    push_env(sql, db, "task", &filter.env);
}
