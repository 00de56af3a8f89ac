//! What the fuzz targets share: a source of each preset.
//!
//! An input is cut at line feeds into so many texts, so that a corpus can be read and written by hand; the rest is the
//! body.

use ledgerhook::config::{Config, Source};

/// Key of every source, as `standard-webhooks` writes it.
pub const SECRET: &str = "whsec_Y2FuYXJ5LTVmMWMtb2YtdGhlLWZ1enplcg==";

const PRESETS: [&str; 7] = ["accelex", "accbooks", "standard-webhooks", "stripe", "github", "shopify", "slack"];

/// A source of each preset.
///
/// # Panics
/// When an embedded preset is wrong.
pub fn sources() -> Vec<Source> {
    let of = |name: &&str| {
        let text = format!("[sources.{name}]\npath = \"/x\"\nsecrets = [{{ id = \"a\", value = \"env:S\" }}]\n");
        let config = Config::parse(&text, "fuzz.toml", &|_| Some(SECRET.to_owned()), &[]);
        config.expect("presets are valid").sources.remove(*name).expect("it was named")
    };
    PRESETS.iter().map(of).collect()
}

/// The first `N` lines of an input and what follows them; none where there are fewer.
pub fn cut<const N: usize>(input: &[u8]) -> Option<([&[u8]; N], &[u8])> {
    let mut parts = input.splitn(N + 1, |byte| *byte == b'\n');
    let mut lines: [&[u8]; N] = [&[]; N];
    for line in &mut lines {
        *line = parts.next()?;
    }
    Some((lines, parts.next()?))
}
