//! The kinds of engines, each with its own settings. This is the only list of them.

use super::Reports;
use super::docker::DockerSettings;
use super::kind::{Kind, Made, Surroundings};
use super::kubernetes::KubernetesSettings;
use super::local::LocalSettings;
use crate::settings::Section;

macro_rules! engines {
    ($($name:literal => $kind:ident($settings:ty)),+ $(,)?) => {
        /// What executes a cluster's runs, with the settings specific to this kind of engine.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum EngineSettings {
            $($kind(Box<$settings>)),+
        }

        /// By the value of a section's key `engine`.
        const KINDS: &[(&str, fn(&mut Section<'_>) -> EngineSettings)] =
            &[$(($name, |section| EngineSettings::$kind(Box::new(<$settings>::read(section))))),+];

        impl EngineSettings {
            fn kind(&self) -> &dyn Kind {
                match self {
                    $(Self::$kind(settings) => settings.as_ref()),+
                }
            }
        }
    };
}

engines! {
    "local" => Local(LocalSettings),
    "docker" => Docker(DockerSettings),
    "kubernetes" => Kubernetes(KubernetesSettings),
}

impl EngineSettings {
    /// Reads a section: the kind from its key `engine`, and that kind's settings. The first kind is the default.
    pub fn read(section: &mut Section<'_>) -> Self {
        let kind = |name: &str| KINDS.iter().find(|(known, _)| *known == name).map(|(_, read)| *read);
        let read = section.text("engine", KINDS[0].1, |name| {
            kind(name).ok_or_else(|| format!("must be {}, not {name:?}", known_names()))
        });
        read(section)
    }

    /// Whether its runs are tied to the machine of one server.
    #[must_use]
    pub fn is_of_one_machine(&self) -> bool {
        self.kind().is_of_one_machine()
    }

    /// Identifies the place, as far as the settings say. While anything runs there, only settings with the same
    /// endpoint may take over.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.kind().endpoint()
    }

    /// Makes the engine. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The settings can't be used on this machine.
    pub fn make(&self, surroundings: &Surroundings<'_>, reports: Reports) -> Made {
        self.kind().make(surroundings, reports)
    }
}

/// "`a`, `b` or `c`".
fn known_names() -> String {
    let names: Vec<_> = KINDS.iter().map(|(name, _)| format!("`{name}`")).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}
