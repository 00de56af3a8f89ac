//! `scheme` of a source: where the signature stands and how it is written.

use super::checks;
use super::fault::Complaint;
use super::reader::Reader;
use super::values::word;

/// How a request of a source is signed: an HMAC of the raw body in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheme {
    /// The header that holds the signature.
    pub header: String,
    /// The hash.
    pub algorithm: Algorithm,
    /// Ways in which the signature may be written; at least one.
    pub encodings: Vec<Encoding>,
    /// What stands before the signature, e.g. `sha256=`.
    pub prefix: Option<String>,
    /// Whether a signature without the prefix is refused.
    pub prefix_required: bool,
}

/// Hash functions of the HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA1, still common with older providers.
    HmacSha1,
    /// HMAC-SHA256.
    HmacSha256,
    /// HMAC-SHA512.
    HmacSha512,
}

/// Ways to write the signature's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64.
    Base64,
}

const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("hmac-sha1", Algorithm::HmacSha1),
    ("hmac-sha256", Algorithm::HmacSha256),
    ("hmac-sha512", Algorithm::HmacSha512),
];

const ENCODINGS: [(&str, Encoding); 2] = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];

impl Algorithm {
    /// Its name in the configuration and in evidence, e.g. `hmac-sha256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha1 => "hmac-sha1",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

impl Scheme {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let prefixed = r.has("prefix");
        let scheme = Self {
            header: r.text("header", checks::header),
            algorithm: r.choice("algorithm", &ALGORITHMS).unwrap_or(Algorithm::HmacSha256),
            encodings: r.items("encodings", |text| word(text, &ENCODINGS)),
            prefix: r.optional_text("prefix", checks::some),
            prefix_required: r.flag("prefix_required"),
        };
        if r.clean("encodings") && scheme.encodings.is_empty() {
            r.fault("encodings", Complaint::new("is empty").hint("\"hex\", \"base64\" or both"));
        }
        if scheme.prefix_required && !prefixed {
            let complaint = Complaint::new("is true, and there is no prefix");
            r.fault("prefix_required", complaint.hint("set `prefix`, as in \"sha256=\""));
        }
        r.finish();
        scheme
    }
}

#[cfg(test)]
mod tests {
    use super::ALGORITHMS;

    #[test]
    fn algorithms_are_written_as_they_are_read() {
        for (word, algorithm) in ALGORITHMS {
            assert_eq!(algorithm.as_str(), word);
        }
    }
}
