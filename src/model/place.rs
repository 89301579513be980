//! Where an attempt is, and whether the observations of a cluster's engine apply to it. An engine that replaced
//! another has none of its objects: what it does not show would otherwise count as lost, and be started again.

use super::EngineId;

/// The identity of the engine that answers in a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineIdentity {
    Known(EngineId),
    /// The engine answers, but does not let us read its identity: a replaced engine can't be distinguished from the
    /// one before.
    NotTold,
}

impl EngineIdentity {
    #[must_use]
    pub const fn id(&self) -> Option<&EngineId> {
        match self {
            Self::Known(id) => Some(id),
            Self::NotTold => None,
        }
    }
}

/// Why nothing is concluded about an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// It is on the machine of another server.
    Server { server_id: String },
    /// It is on another engine than the one that answers.
    Engine { had: EngineId, has: EngineId },
    /// It is on a known engine, and the one that answers does not give its identity.
    Unclear { had: EngineId },
}

impl Elsewhere {
    /// `None` if the engine that answers has the attempt. An attempt whose engine was never observed belongs to the
    /// first engine that is.
    #[must_use]
    pub fn of(had: Option<&EngineId>, answers: &EngineIdentity) -> Option<Self> {
        match (had, answers) {
            (None, _) => None,
            (Some(had), EngineIdentity::Known(has)) if had == has => None,
            (Some(had), EngineIdentity::Known(has)) => Some(Self::Engine { had: had.clone(), has: has.clone() }),
            (Some(had), EngineIdentity::NotTold) => Some(Self::Unclear { had: had.clone() }),
        }
    }

    /// The reason in words for the owner of the run.
    #[must_use]
    pub fn reason(&self, cluster: &str) -> String {
        match self {
            Self::Server { server_id } => format!(
                "it runs on the machine of another server, which has the data directory {server_id}: only that server can \
                 say how it is, unless an operator says that it is gone (`flotilla adopt {cluster}`)"
            ),
            Self::Engine { had, has } => format!(
                "the cluster {cluster} now has another engine ({has}) than the one that has this run ({had}): nothing is \
                 concluded about it until that one is back, or an operator says that it is gone (`flotilla adopt {cluster}`)"
            ),
            Self::Unclear { had } => format!(
                "the cluster {cluster} does not say whether it is still the one that has this run ({had}): nothing is \
                 concluded about it until the server may read which cluster it is"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_engine_that_has_an_attempt_speaks_about_it() {
        let id = |text: &str| EngineId::from_text(text);
        let known = |text: &str| EngineIdentity::Known(id(text));
        assert_eq!(Elsewhere::of(Some(&id("a")), &known("a")), None);
        assert_eq!(Elsewhere::of(Some(&id("a")), &known("b")), Some(Elsewhere::Engine { had: id("a"), has: id("b") }));
        assert_eq!(Elsewhere::of(Some(&id("a")), &EngineIdentity::NotTold), Some(Elsewhere::Unclear { had: id("a") }));
        for answers in [known("a"), EngineIdentity::NotTold] {
            assert_eq!(Elsewhere::of(None, &answers), None);
        }
    }
}
