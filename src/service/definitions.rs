//! Definitions: created, changed, deregistered, found.

use super::{Service, ServiceError};
use crate::model::{Definition, DefinitionId, DefinitionUpdate, Faults, NewDefinition, Page, PageRequest};
use crate::model::{DefinitionFilter, DefinitionSort, NameList};
use crate::store::StoreError;

/// How often an update is tried again after somebody else changed the definition in between.
const UPDATE_TRIES: u32 = 10;

/// What an update makes of a definition as it stands.
pub type DefinitionChange<'a> = &'a (dyn Fn(&Definition) -> Result<DefinitionUpdate, Faults> + Send + Sync);

impl Service {
    /// Stores a new definition.
    pub async fn define(&self, new: NewDefinition) -> Result<Definition, ServiceError> {
        let definition = new.validate(self.clock.now())?;
        match self.store.insert_definition(&definition).await {
            Err(StoreError::Duplicate(_)) => Err(alias_taken(&definition)),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(definition),
        }
    }

    /// Changes a live definition. The change is worked out anew where somebody else was quicker, so that no update is
    /// lost.
    pub async fn update(&self, id: &DefinitionId, change: DefinitionChange<'_>) -> Result<Definition, ServiceError> {
        for _ in 0..UPDATE_TRIES {
            let current = self.definition(id).await?;
            let seen = current.updated_at;
            let update = change(&current)?;
            // Two updates within one tick of the clock must still differ, for the store tells versions apart by it.
            let now = self.clock.now().max(seen.saturating_add(jiff::SignedDuration::from_micros(1)).unwrap_or(seen));
            let updated = current.updated(update, now)?;
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

    /// Takes a definition out of use; its runs go on and their history stays.
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

    pub async fn definitions(
        &self,
        filter: &DefinitionFilter,
        page: PageRequest<DefinitionSort>,
    ) -> Result<Page<Definition>, ServiceError> {
        Ok(self.store.list_definitions(filter, page).await?)
    }

    /// The groups or tags in use that hold `part`.
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
    let alias = definition.alias.as_deref().unwrap_or_default();
    ServiceError::Conflict(format!("`alias` {alias:?} is taken by another task definition"))
}
