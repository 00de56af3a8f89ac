//! Secrets: a type that cannot be printed, and the references that lead to one.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};

use super::fault::Complaint;

/// A key or token takes less than a few KiB; the bound keeps a wrong path from being read whole.
const MAX_BYTES: usize = 64 * 1024;

/// A secret value. It has no `Display`, its `Debug` shows nothing, it is not serialisable, and the bytes
/// are wiped when the last copy goes.
///
/// Copies share one allocation, so that a section handed on by value does not multiply the secret in memory.
#[derive(Clone)]
pub struct Secret(Arc<SecretSlice<u8>>);

impl Secret {
    /// A secret from literal bytes, for tests and for secrets that come from elsewhere than the configuration.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Arc::new(SecretSlice::from(bytes.into())))
    }

    /// The bytes. Keep them out of anything that is stored or printed.
    pub fn expose(&self) -> &[u8] {
        self.0.expose_secret()
    }

    /// The text, for secrets that go into a header; none when the bytes are not UTF-8.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(self.expose()).ok()
    }
}

/// Whether a reload changed it. Not for what a stranger sent: the time it takes tells how much was right.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Follows `env:NAME` or `file:PATH` to the secret. No message quotes `reference`: it may be the secret itself.
pub(super) fn resolve(reference: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Secret, Complaint> {
    let (bytes, from) = if let Some(name) = reference.strip_prefix("env:") {
        if !is_variable(name) {
            return Err(Complaint::new("has no variable's name after `env:`")
                .hint("letters, digits and `_`, as in \"env:ACCELEX_SECRET\""));
        }
        let value = env(name).ok_or_else(|| {
            Complaint::new(format!("environment variable `{name}` is not set"))
                .hint("set it before the start, or refer to a file with \"file:PATH\"")
        })?;
        (value.into_bytes(), format!("environment variable `{name}`"))
    } else if let Some(path) = reference.strip_prefix("file:") {
        (read_file(path)?, format!("file `{path}`"))
    } else {
        return Err(Complaint::new("is not a reference to a secret")
            .hint("secrets do not stand in this file: write \"env:NAME\" or \"file:PATH\""));
    };
    if bytes.is_empty() {
        return Err(Complaint::new(format!("{from} is empty")));
    }
    Ok(Secret::new(bytes))
}

/// Whether a string is meant as a reference, for values that may be either literal or secret.
pub(super) fn is_reference(text: &str) -> bool {
    text.starts_with("env:") || text.starts_with("file:")
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn read_file(path: &str) -> Result<Vec<u8>, Complaint> {
    let failed = |error: std::io::Error| {
        Complaint::new(format!("cannot read secret file `{path}`: {error}")).hint("check the path and who may read it")
    };
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    // One byte more than allowed tells "at the bound" from "over it".
    let bound = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_BYTES {
        return Err(Complaint::new(format!("secret file `{path}` is over 64KiB")));
    }
    // Editors and `echo` end a file with a newline that is no part of the secret. Only one goes: a secret
    // that itself ends in one can still be written.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn it_shows_nothing() {
        let secret = Secret::new("canary");
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(***) Secret(***)");
        assert_eq!(secret.expose(), b"canary");
        assert_eq!(secret.expose_str(), Some("canary"));
        assert_eq!(Secret::new([0xff]).expose_str(), None);
    }

    #[test]
    fn from_a_variable() {
        let env = |name: &str| (name == "KEY").then(|| "value\n".to_owned());
        assert_eq!(resolve("env:KEY", &env).unwrap().expose(), b"value\n");
        let what = resolve("env:OTHER", &env).unwrap_err().what;
        assert_eq!(what, "environment variable `OTHER` is not set");
        let what = resolve("env:KEY", &|_| Some(String::new())).unwrap_err().what;
        assert_eq!(what, "environment variable `KEY` is empty");
        assert!(resolve("env:", &env).is_err());
        assert!(resolve("env:A=B", &env).is_err());
    }

    #[test]
    fn from_a_file_without_its_last_newline() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected) in [
            (&b"key"[..], &b"key"[..]),
            (b"key\n", b"key"),
            (b"key\r\n", b"key"),
            (b"key\n\n", b"key\n"),
            (b"\xff\x00", b"\xff\x00"),
        ] {
            let path = dir.path().join("secret");
            std::fs::write(&path, content).unwrap();
            let reference = format!("file:{}", path.display());
            assert_eq!(resolve(&reference, &none).unwrap().expose(), expected);
        }
        for (content, what) in
            [(vec![], "is empty"), (b"\n".to_vec(), "is empty"), (vec![b'x'; MAX_BYTES + 1], "is over 64KiB")]
        {
            let path = dir.path().join("secret");
            std::fs::write(&path, content).unwrap();
            let complaint = resolve(&format!("file:{}", path.display()), &none).unwrap_err();
            assert!(complaint.what.ends_with(what), "{complaint:?}");
        }
        let absent = format!("file:{}/absent", dir.path().display());
        assert!(resolve(&absent, &none).unwrap_err().what.contains("cannot read secret file"));
    }

    #[test]
    fn a_literal_is_refused_and_not_repeated() {
        let complaint = resolve("canary", &none).unwrap_err();
        assert!(!format!("{complaint:?}").contains("canary"));
        assert!(complaint.hint.unwrap().contains("env:NAME"));
    }
}
