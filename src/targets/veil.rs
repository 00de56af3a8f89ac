//! Takes secrets out of what a target says: some answer with the very token that was wrong.

use std::sync::{PoisonError, RwLock};

use crate::config::Secret;

/// Shorter ones stand in any text by chance, and hiding them would only tell where.
const SHORTEST: usize = 4;
/// Tokens of the past that are still known: an answer may name the one before.
const TOKENS: usize = 8;

/// The secrets of one target.
#[derive(Default)]
pub(super) struct Veil {
    fixed: Vec<Secret>,
    tokens: RwLock<Vec<Secret>>,
}

impl Veil {
    /// A veil over these.
    pub(super) fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self { fixed: secrets.into_iter().collect(), tokens: RwLock::default() }
    }

    /// One more, which was given to us.
    pub(super) fn add(&self, token: Secret) {
        let mut tokens = self.tokens.write().unwrap_or_else(PoisonError::into_inner);
        if !tokens.contains(&token) {
            if tokens.len() == TOKENS {
                tokens.remove(0);
            }
            tokens.push(token);
        }
    }

    /// The text without them.
    pub(super) fn over(&self, text: &str) -> String {
        let tokens = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let secrets = self.fixed.iter().chain(tokens.iter()).filter_map(Secret::expose_str).map(str::trim);
        secrets
            .filter(|secret| secret.len() >= SHORTEST)
            .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_the_rest_stays() {
        let veil = Veil::new([Secret::new("canary-1"), Secret::new("ab"), Secret::new([0xff, 0xfe, 0xfd, 0xfc])]);
        assert_eq!(veil.over("abc token canary-1 is wrong, canary-2 too"), "abc token *** is wrong, canary-2 too");
        veil.add(Secret::new("canary-2"));
        assert_eq!(veil.over("canary-1canary-2"), "******");
        for n in 0..TOKENS {
            veil.add(Secret::new(format!("token-{n}")));
        }
        assert_eq!(veil.over("canary-2 token-0 token-7"), "canary-2 *** ***");
    }
}
