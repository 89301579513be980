//! Definitions: create, change, deregister, find.

use jiff::Timestamp;

use super::{Acting, ServiceError};
use crate::model::{
    Definition, DefinitionId, DefinitionSummary, DefinitionUpdate, Faults, NewDefinition, Page, PageRequest, Unread,
};
use crate::model::{DefinitionFilter, DefinitionSort, NameList};
use crate::store::StoreError;

/// How often an update is retried after a concurrent change to the definition.
const UPDATE_TRIES: u32 = 10;

/// Turns the current definition into the updated one.
pub type DefinitionChange<'a> = &'a (dyn Fn(&Definition) -> Result<DefinitionUpdate, Faults> + Send + Sync);

impl Acting {
    /// Stores a new definition.
    pub async fn define(&self, new: NewDefinition) -> Result<Definition, ServiceError> {
        let definition = new.validate(self.clock.now())?;
        match self.store.insert_definition(&definition).await {
            Err(StoreError::Duplicate(_)) => Err(alias_taken(&definition)),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(definition),
        }
    }

    /// Changes a live definition. The change is recomputed after a concurrent update, so that no update is lost.
    pub async fn update(&self, id: &DefinitionId, change: DefinitionChange<'_>) -> Result<Definition, ServiceError> {
        for _ in 0..UPDATE_TRIES {
            let current = self.definition(id).await?;
            let seen = current.updated_at;
            let update = change(&current)?;
            let updated = current.updated(update, self.later_than(seen))?;
            match self.store.replace_definition(&updated, seen).await {
                Ok(true) => return Ok(updated),
                Ok(false) => {}
                Err(StoreError::Duplicate(_)) => return Err(alias_taken(&updated)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(ServiceError::Conflict(format!(
            "the task definition {id} is being changed by others all the time; try again"
        )))
    }

    /// Replaces a live definition with `new` if it is unchanged since `seen`.
    pub async fn replace(
        &self,
        id: &DefinitionId,
        new: NewDefinition,
        seen: Timestamp,
    ) -> Result<Definition, ServiceError> {
        let changed_since = || {
            let message = "somebody else has changed the task since you opened this form; save again to overwrite that";
            ServiceError::Conflict(message.to_owned())
        };
        let current = self.definition(id).await?;
        if current.updated_at != seen {
            return Err(changed_since());
        }
        let replaced = current.replaced(new, self.later_than(seen))?;
        match self.store.replace_definition(&replaced, seen).await {
            Ok(true) => Ok(replaced),
            Ok(false) => Err(changed_since()),
            Err(StoreError::Duplicate(_)) => Err(alias_taken(&replaced)),
            Err(error) => Err(error.into()),
        }
    }

    /// The faults of a definition being edited: a new one, or a new version of `current`.
    pub async fn check(&self, new: NewDefinition, current: Option<&Definition>) -> Result<Faults, ServiceError> {
        let alias = new.fields.alias.clone().filter(|alias| !alias.is_empty());
        let now = self.clock.now();
        let checked = match current {
            Some(current) => current.clone().replaced(new, now),
            None => new.validate(now),
        };
        let mut faults = checked.err().unwrap_or_default();
        if let Some(alias) = alias
            && let Some(holder) = self.store.live_definition_by_alias(&alias).await?
            && current.is_none_or(|current| current.definition_id != holder.definition_id)
        {
            faults.add("alias", format!("{alias:?} is taken by another task"));
        }
        Ok(faults)
    }

    /// Two updates within one clock tick must still differ, because the store distinguishes versions by it.
    fn later_than(&self, seen: Timestamp) -> Timestamp {
        self.clock.now().max(seen.saturating_add(jiff::SignedDuration::from_micros(1)).unwrap_or(seen))
    }

    /// Deregisters a definition; its runs continue and their history stays.
    pub async fn deregister(&self, id: &DefinitionId) -> Result<(), ServiceError> {
        let is_done = self.store.deregister_definition(id, self.clock.now()).await?;
        if is_done { Ok(()) } else { Err(ServiceError::no_definition(id)) }
    }

    pub async fn definition(&self, id: &DefinitionId) -> Result<Definition, ServiceError> {
        self.store.live_definition(id).await?.ok_or_else(|| ServiceError::no_definition(id))
    }

    pub async fn definition_by_alias(&self, alias: &str) -> Result<Definition, ServiceError> {
        self.store.live_definition_by_alias(alias).await?.ok_or_else(|| ServiceError::no_alias(alias))
    }

    /// The ids of the definitions on a page; [`Acting::read_definitions`] returns their contents.
    pub async fn definitions(
        &self,
        filter: &DefinitionFilter,
        page: PageRequest<DefinitionSort>,
    ) -> Result<Page<Unread<DefinitionId>>, ServiceError> {
        Ok(self.store.list_definitions(filter, page).await?)
    }

    /// The current state of these definitions, in this order. Callers must ensure that they are not too large
    /// together.
    pub async fn read_definitions(&self, ids: &[DefinitionId]) -> Result<Vec<Definition>, ServiceError> {
        Ok(self.store.definitions(ids).await?)
    }

    /// The fields of the page's definitions that table rows show.
    pub async fn definition_summaries(
        &self,
        filter: &DefinitionFilter,
        page: PageRequest<DefinitionSort>,
    ) -> Result<Page<DefinitionSummary>, ServiceError> {
        Ok(self.store.list_definition_summaries(filter, page).await?)
    }

    /// The groups or tags in use that contain `part`.
    pub async fn names(
        &self,
        list: NameList,
        part: &str,
        limit: u32,
        offset: u32,
    ) -> Result<Page<String>, ServiceError> {
        Ok(self.store.list_names(list, part, limit, offset).await?)
    }
}

fn alias_taken(definition: &Definition) -> ServiceError {
    ServiceError::AliasTaken(definition.alias.clone().unwrap_or_default())
}
