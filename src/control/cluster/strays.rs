//! Strays: removes objects of ours on the engine that belong to no attempt.

use super::Control;
use crate::model::Elsewhere;
use crate::store::{AttemptPlace, StoreError};

impl Control {
    /// An object is a stray only if the database says that nothing of its attempt is left. An object unknown to the
    /// database may belong to a newer copy of it: it is logged and left alone.
    pub async fn remove_strays(&self) -> Result<(), StoreError> {
        let handles = match self.engine.list_ours().await {
            Ok(handles) => handles,
            Err(error) => {
                self.note_engine(Some(error.to_string()));
                return Ok(());
            }
        };
        if handles.is_empty() {
            return Ok(());
        }
        let Ok(answers) = self.here().await else { return Ok(()) };
        for handle in handles {
            if !self.tenure.is_held() {
                return Ok(());
            }
            let attempt_id = handle.attempt_id;
            match self.store.attempt_place(attempt_id).await? {
                // What another engine had, and this one shows too, is a copy of which nothing is known.
                Some(place) if Elsewhere::of(place.engine_id.as_ref(), &answers).is_some() => {}
                Some(AttemptPlace { is_cleaned: true, .. }) => match self.engine.remove(&handle).await {
                    Ok(()) => {
                        tracing::info!(%attempt_id, cluster = self.cluster, "removed what was left of an ended attempt");
                    }
                    Err(error) => tracing::warn!(%attempt_id, reason = %error, "a stray could not be removed yet"),
                },
                Some(AttemptPlace { is_cleaned: false, .. }) => {}
                None => {
                    tracing::debug!(%attempt_id, cluster = self.cluster, "the engine has an attempt the database does not know");
                }
            }
        }
        Ok(())
    }
}
