//! How long the server tries to start a run: a bound on one attempt, and bounds on the failing attempts for each kind
//! of fault.

use jiff::SignedDuration;

use crate::model::{RetryLimit, StartLimits};
use crate::settings::Section;
use crate::settings::checks::within;

/// The longest accepted time: ten years.
const MOST_SECS: i128 = 10 * 366 * 24 * 3600;
const MOST_ATTEMPTS: i128 = 1_000_000;

/// For each key, 0 means no limit.
pub(super) fn read(section: &mut Section<'_>) -> StartLimits {
    let usual = StartLimits::default();
    let seconds = |section: &mut Section<'_>, key, usual: Option<SignedDuration>| {
        let usual = usual.map_or(0, |usual| usual.as_secs());
        let secs: i64 = section.read(key, usual, within(0..=MOST_SECS));
        (secs > 0).then(|| SignedDuration::from_secs(secs))
    };
    let attempts = |section: &mut Section<'_>, key, usual: Option<u32>| {
        let attempts: u32 = section.read(key, usual.unwrap_or_default(), within(0..=MOST_ATTEMPTS));
        Some(attempts).filter(|attempts| *attempts > 0)
    };
    StartLimits {
        longest: seconds(section, "start_secs", usual.longest),
        image: RetryLimit {
            attempts: attempts(section, "image_attempts", usual.image.attempts),
            time: seconds(section, "image_secs", usual.image.time),
        },
        machine: RetryLimit {
            attempts: attempts(section, "machine_attempts", usual.machine.attempts),
            time: seconds(section, "machine_secs", usual.machine.time),
        },
        displaced: RetryLimit {
            attempts: attempts(section, "displaced_attempts", usual.displaced.attempts),
            time: seconds(section, "displaced_secs", usual.displaced.time),
        },
    }
}
