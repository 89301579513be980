//! Environment variables: an ordered list of names and values, merged by name.

use serde::{Deserialize, Serialize};

use super::{Faults, limits};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    pub name: String,
    pub value: String,
}

impl EnvVar {
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// Later layers override earlier ones by name; a name keeps the position where it first appeared, and the last of
/// several equal names in one layer wins.
#[must_use]
pub fn merge_env<'a>(layers: impl IntoIterator<Item = &'a [EnvVar]>) -> Vec<EnvVar> {
    let mut merged: Vec<EnvVar> = Vec::new();
    let mut place_of = std::collections::HashMap::new();
    for var in layers.into_iter().flatten() {
        match place_of.get(var.name.as_str()) {
            Some(&place) => {
                let known: &mut EnvVar = &mut merged[place];
                known.value.clone_from(&var.value);
            }
            None => {
                place_of.insert(var.name.as_str(), merged.len());
                merged.push(var.clone());
            }
        }
    }
    merged
}

pub(super) fn check_env(faults: &mut Faults, env: &[EnvVar]) {
    check_variables(faults, env);
    check_env_bounds(faults, env);
}

/// Checks each variable by itself.
pub(super) fn check_variables(faults: &mut Faults, env: &[EnvVar]) {
    for (i, EnvVar { name, value }) in env.iter().enumerate() {
        let field = format!("env[{i}].name");
        match name.contains('=') {
            true => faults.add(field, format!("must not hold `=`: {name:?}")),
            false => faults.check_name(&field, name),
        }
        faults.check_text(&format!("env[{i}].value"), value, limits::ARGUMENT_BYTES - limits::NAME_BYTES - 1);
    }
}

/// Checks all variables together.
pub(super) fn check_env_bounds(faults: &mut Faults, env: &[EnvVar]) {
    if env.len() > limits::ENV_ITEMS {
        faults.add("env", format!("has {} variables, at most {} are allowed", env.len(), limits::ENV_ITEMS));
    }
    // With `=` between name and value, and a NUL at the end.
    let total: usize = env.iter().map(|EnvVar { name, value }| name.len() + value.len() + 2).sum();
    if total > limits::ENV_BYTES {
        faults.add("env", format!("is {total} bytes in all, at most {} are allowed", limits::ENV_BYTES));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layer() -> impl Strategy<Value = Vec<EnvVar>> {
        prop::collection::vec(("[A-E]", "[a-z]{0,3}").prop_map(|(name, value)| EnvVar::new(name, value)), 0..8)
    }

    proptest! {
        #[test]
        fn a_merge_holds_each_name_once_with_its_last_value(a in layer(), b in layer()) {
            let merged = merge_env([a.as_slice(), b.as_slice()]);
            for name in ["A", "B", "C", "D", "E"] {
                let last = a.iter().chain(&b).rev().find(|var| var.name == name).map(|var| &var.value);
                let found: Vec<_> = merged.iter().filter(|var| var.name == name).map(|var| &var.value).collect();
                prop_assert_eq!(found, last.into_iter().collect::<Vec<_>>());
            }
        }

        #[test]
        fn merging_twice_changes_nothing(a in layer(), b in layer()) {
            let once = merge_env([a.as_slice(), b.as_slice()]);
            prop_assert_eq!(merge_env([once.as_slice()]), once.clone());
            prop_assert_eq!(merge_env([once.as_slice(), b.as_slice()]), once);
        }
    }

    #[test]
    fn names_that_no_process_can_have_or_that_hide_something_are_refused() {
        let mut faults = Faults::default();
        check_env(&mut faults, &[EnvVar::new("", "x"), EnvVar::new("A=B", "x"), EnvVar::new("C", "a\0b")]);
        assert_eq!(
            faults.to_string(),
            "`env[0].name` must not be empty; `env[1].name` must not hold `=`: \"A=B\"; \
             `env[2].value` must not hold a NUL character"
        );
        for name in [" A", "A ", "A\n", "A\0", "A\nB", "A\u{202e}B", "A\u{200b}", "\u{3164}", "\u{1b}[2J"] {
            let mut faults = Faults::default();
            check_env(&mut faults, &[EnvVar::new(name, "x")]);
            assert!(!faults.is_empty(), "{name:?}");
        }
        let mut faults = Faults::default();
        check_env(&mut faults, &["A", "a.b-c", "MY VAR", "été", "2BAD"].map(|name| EnvVar::new(name, "a\nb")));
        assert!(faults.is_empty(), "{faults}");
    }

    #[test]
    fn variables_have_a_bound_in_number_and_in_bytes() {
        let told = |env: &[EnvVar]| {
            let mut faults = Faults::default();
            check_env(&mut faults, env);
            faults.to_string()
        };
        let number = |most: usize| (0..most).map(|i| EnvVar::new(format!("V{i}"), "")).collect::<Vec<_>>();
        assert_eq!(told(&number(limits::ENV_ITEMS)), "");
        assert_eq!(told(&number(limits::ENV_ITEMS + 1)), "`env` has 1001 variables, at most 1000 are allowed");
        // A name of one byte, `=` and the terminating NUL.
        let bytes = |value: usize| (0..8).map(|i| EnvVar::new(i.to_string(), "x".repeat(value))).collect::<Vec<_>>();
        let most = limits::ENV_BYTES / 8 - 3;
        assert_eq!(told(&bytes(most)), "");
        assert_eq!(told(&bytes(most + 1)), "`env` is 524296 bytes in all, at most 524288 are allowed");
    }
}
