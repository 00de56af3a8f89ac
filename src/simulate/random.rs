//! Numbers from a seed that are the same in every build: the generators of `rand` may change between its versions.

/// The number that belongs to `seed`, `purpose` and `n`: two rounds of SplitMix64's finaliser
/// (<https://prng.di.unimi.it/splitmix64.c>).
pub(super) const fn number(seed: u64, purpose: u64, n: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let base = mix(seed.wrapping_add(purpose.wrapping_mul(GOLDEN)));
    mix(base.wrapping_add(n.wrapping_add(1).wrapping_mul(GOLDEN)))
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
