//! Random enough for moments; the seed is printed, and taken from `FLOTILLA_TEST_SEED` to see a failure again.

pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        let given = std::env::var("FLOTILLA_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| {
            u64::from(std::process::id()) ^ u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap()
        });
        eprintln!("FLOTILLA_TEST_SEED={seed}");
        Self(seed)
    }

    /// Another sequence, for another task.
    pub fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX))
    }

    /// A number below `most`, by the generator `SplitMix64`.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % most
    }
}
