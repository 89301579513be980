//! Finds the containers of attempts. Labels identify a container's attempt, because anyone may rename a container;
//! our name for it is only the fast path.
//!
//! An image made from one of our containers (`docker commit`) has its labels, and so does every container of that
//! image. The image distinguishes such a copy from a renamed container: our images never have these labels.

use std::collections::HashMap;

use bollard::models::{ContainerInspectResponse, ContainerSummary};
use bollard::query_parameters::ListContainersOptions;

use super::Inner;
use super::container::{attempt_of, name_of};
use super::image::in_path;
use super::link::ApiError;
use crate::model::AttemptId;

impl Inner {
    /// All of our containers, by attempt. Drops cached observations of all other attempts.
    pub(super) async fn list(&self) -> Result<HashMap<AttemptId, ContainerSummary>, ApiError> {
        let listed = self.choose(self.list_labelled(self.identity.filters()).await?).await?;
        self.seen.retain(|attempt_id| listed.contains_key(&attempt_id));
        Ok(listed)
    }

    /// The container of an attempt, even if it was renamed.
    pub(super) async fn find(&self, attempt_id: AttemptId) -> Result<Option<ContainerInspectResponse>, ApiError> {
        let named = self.inspect(&name_of(attempt_id)).await?;
        if let Some(container) = named.filter(|container| self.is_of(container, attempt_id)) {
            return Ok(Some(container));
        }
        let labelled = self.list_labelled(self.identity.filters_of(attempt_id)).await?;
        match self.choose(labelled).await?.remove(&attempt_id).and_then(|container| container.id) {
            Some(id) => self.inspect(&id).await,
            None => Ok(None),
        }
    }

    async fn inspect(&self, name: &str) -> Result<Option<ContainerInspectResponse>, ApiError> {
        match self.link.call(async |docker| docker.inspect_container(name, None).await).await {
            Ok(container) => Ok(Some(container)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn is_of(&self, container: &ContainerInspectResponse, attempt_id: AttemptId) -> bool {
        let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
        labels.is_some_and(|labels| self.identity.owns(labels) && attempt_of(labels) == Some(attempt_id))
    }

    async fn list_labelled(&self, filters: HashMap<String, Vec<String>>) -> Result<Vec<ContainerSummary>, ApiError> {
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        self.link.call(async |docker| docker.list_containers(Some(options)).await).await
    }

    /// Chooses one container per attempt among those that carry its labels: the one with its name, otherwise the
    /// oldest that is not a copy.
    async fn choose(&self, labelled: Vec<ContainerSummary>) -> Result<HashMap<AttemptId, ContainerSummary>, ApiError> {
        let mut chosen = HashMap::new();
        let mut renamed = Vec::new();
        for container in labelled {
            let Some(attempt_id) = container.labels.as_ref().and_then(attempt_of) else { continue };
            if has_name(&container, &name_of(attempt_id)) {
                chosen.insert(attempt_id, container);
            } else {
                renamed.push((attempt_id, container));
            }
        }
        renamed.sort_by_key(|(_, container)| container.created);
        for (attempt_id, container) in renamed {
            if !chosen.contains_key(&attempt_id) && !self.is_copy(attempt_id, &container).await? {
                chosen.insert(attempt_id, container);
            }
        }
        Ok(chosen)
    }

    async fn is_copy(&self, attempt_id: AttemptId, container: &ContainerSummary) -> Result<bool, ApiError> {
        let Some(image_id) = container.image_id.as_deref() else { return Ok(false) };
        if let Some(of_image) = self.seen.attempt_of_image(image_id) {
            return Ok(of_image == Some(attempt_id));
        }
        let path = in_path(image_id);
        let image = match self.link.call(async |docker| docker.inspect_image(&path).await).await {
            Ok(image) => image,
            // The image was removed by force, so this is unknown; a container with our labels counts as ours.
            Err(error) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let of_image = image.config.and_then(|config| config.labels).as_ref().and_then(attempt_of);
        self.seen.add_attempt_of_image(image_id, of_image);
        Ok(of_image == Some(attempt_id))
    }
}

/// Docker prefixes names with a slash.
fn has_name(container: &ContainerSummary, name: &str) -> bool {
    container.names.iter().flatten().any(|known| known.strip_prefix('/').unwrap_or(known) == name)
}
