//! `scheme` of a source: what is signed, where the signature stands and how it is written.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checks;
use super::fault::Complaint;
use super::reader::Reader;
use super::secret::Secret;
use super::values::{text, word};

/// How a request of a source is signed: an HMAC of the raw body, or of the body behind a time and an id.
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
    /// What stands between several signatures and other members of the header; none: its value is one signature.
    pub separator: Option<char>,
    /// What is signed before the body, in order; empty where the body is signed alone. Behind a time or an id there is
    /// always text that tells where it ends.
    pub before_body: Vec<Part>,
    /// Where the signed time stands; there if and only if a time is signed.
    pub timestamp: Option<TimeAt>,
    /// The header with the signed id; there if and only if an id is signed.
    pub id_header: Option<String>,
    /// How far a signed time may be from ours, in either direction.
    pub tolerance: Duration,
    /// How the secrets are written.
    pub key: KeyForm,
}

/// A piece of what is signed before the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// This text.
    Text(String),
    /// The time, as the request writes it.
    Timestamp,
    /// The id, as the request writes it.
    Id,
}

/// Where the signed time stands: seconds since 1970, in decimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeAt {
    /// In a header of this name.
    Header(String),
    /// In the signature's header, as the member that begins with this text, e.g. `t=`.
    Member(String),
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

/// Ways to write a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// The secret's bytes are the key.
    Text,
    /// The key in base64 behind `whsec_`, which may be missing, as Standard Webhooks has it.
    Whsec,
}

const ALGORITHMS: [(&str, Algorithm); 3] = [
    ("hmac-sha1", Algorithm::HmacSha1),
    ("hmac-sha256", Algorithm::HmacSha256),
    ("hmac-sha512", Algorithm::HmacSha512),
];

const ENCODINGS: [(&str, Encoding); 2] = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
const KEYS: [(&str, KeyForm); 2] = [("text", KeyForm::Text), ("whsec", KeyForm::Whsec)];
/// None of them stands in hex or base64.
const SEPARATORS: [(&str, char); 3] = [(",", ','), (";", ';'), (" ", ' ')];

const BODY: &str = "{body}";
const TIMESTAMP: &str = "{timestamp}";
const ID: &str = "{id}";
const WHSEC: &str = "whsec_";

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
    /// What was signed and how, as evidence keeps it: `hmac-sha256` for the body alone, else with what is signed, each
    /// place by its header, as in `hmac-sha256 v0:{x-slack-request-timestamp}:{body}` and, for a member of a header,
    /// `hmac-sha256 {stripe-signature:t=}.{body}`. With the headers kept it can be computed again whatever the
    /// configuration says by then.
    pub fn notation(&self) -> String {
        let mut notation = self.algorithm.as_str().to_owned();
        for (n, part) in self.before_body.iter().enumerate() {
            notation.push_str(if n == 0 { " " } else { "" });
            match (part, &self.timestamp, &self.id_header) {
                (Part::Text(text), ..) => notation.push_str(text),
                (Part::Timestamp, Some(TimeAt::Header(name)), _) | (Part::Id, _, Some(name)) => {
                    notation.push_str(&format!("{{{}}}", name.to_ascii_lowercase()));
                }
                (Part::Timestamp, Some(TimeAt::Member(member)), _) => {
                    notation.push_str(&format!("{{{}:{member}}}", self.header.to_ascii_lowercase()));
                }
                // Refused when the configuration is read.
                (Part::Timestamp, None, _) | (Part::Id, _, None) => {}
            }
        }
        if !self.before_body.is_empty() {
            notation.push_str(BODY);
        }
        notation
    }

    /// Headers whose values are signed, beside the signature's own.
    pub fn signed_headers(&self) -> impl Iterator<Item = &str> {
        let time = match &self.timestamp {
            Some(TimeAt::Header(name)) => Some(name.as_str()),
            Some(TimeAt::Member(_)) | None => None,
        };
        time.into_iter().chain(self.id_header.as_deref())
    }

    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let before_body = r.require("signed", "", |node| template(&text(node)?));
        let separators: Vec<String> = SEPARATORS.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let scheme = Self {
            header: r.text("header", checks::header),
            algorithm: r.choice("algorithm", &ALGORITHMS).unwrap_or(Algorithm::HmacSha256),
            encodings: r.items("encodings", |text| word(text, &ENCODINGS)),
            prefix: r.optional_text("prefix", checks::some),
            prefix_required: r.flag("prefix_required"),
            separator: r.take("separator", &separators.join(" or "), |node| word(&text(node)?, &SEPARATORS)),
            before_body: before_body.unwrap_or_default(),
            timestamp: r.optional_text("timestamp_header", checks::header).map(TimeAt::Header),
            id_header: r.optional_text("id_header", checks::header),
            // A day: beyond it a tolerance tells nothing any more.
            tolerance: r.duration("tolerance", Duration::from_secs(1)..=Duration::from_secs(86_400)),
            key: r.choice("key", &KEYS).unwrap_or(KeyForm::Text),
        };
        let member = r.optional_text("timestamp_member", checks::some);
        scheme.check(&r, member.as_deref());
        r.finish();
        Self { timestamp: scheme.timestamp.or(member.map(TimeAt::Member)), ..scheme }
    }

    fn check(&self, r: &Reader<'_>, member: Option<&str>) {
        if r.clean("encodings") && self.encodings.is_empty() {
            r.fault("encodings", Complaint::new("is empty").hint("\"hex\", \"base64\" or both"));
        }
        if self.prefix_required && self.prefix.is_none() && !r.spoilt("prefix") {
            let complaint = Complaint::new("is true, and there is no prefix");
            r.fault("prefix_required", complaint.hint("set `prefix`, as in \"sha256=\""));
        }
        for (key, text) in [("prefix", self.prefix.as_deref()), ("timestamp_member", member)] {
            if text.zip(self.separator).is_some_and(|(text, separator)| text.contains(separator)) {
                r.fault(key, Complaint::new("has the separator in it: no member could begin with it"));
            }
        }
        if member.is_some() && self.separator.is_none() && !r.spoilt("separator") {
            let complaint = Complaint::new("is a member of the header, and nothing separates its members");
            r.fault("timestamp_member", complaint.hint("set `separator`, as in \",\""));
        }
        if member.is_some() && self.timestamp.is_some() {
            let complaint = Complaint::new("is a second place for the time");
            r.fault("timestamp_member", complaint.hint("either `timestamp_header` or `timestamp_member`"));
            return;
        }
        if !r.clean("signed") {
            return;
        }
        let time = ["timestamp_header", "timestamp_member"];
        for (part, place, there, keys) in [
            (Part::Timestamp, TIMESTAMP, self.timestamp.is_some() || member.is_some(), &time[..]),
            (Part::Id, ID, self.id_header.is_some(), &["id_header"]),
        ] {
            let is_signed = self.before_body.contains(&part);
            let key = keys.iter().find(|key| r.clean(key));
            if let Some(key) = key.filter(|_| there && !is_signed) {
                r.fault(key, Complaint::new(format!("is not signed: `signed` has no {place}")));
            }
            if is_signed && !there && !keys.iter().any(|key| r.spoilt(key)) {
                let complaint = Complaint::new(format!("has {place}, and nothing says where it stands"));
                r.fault("signed", complaint.hint(format!("set `{}`", keys.join("` or `"))));
            }
        }
    }
}

impl KeyForm {
    /// The bytes of the key that a secret of this form holds. No message quotes it.
    pub(super) fn key(self, secret: Secret) -> Result<Secret, Complaint> {
        if self == Self::Text {
            return Ok(secret);
        }
        let key = secret.expose_str().map(str::trim).and_then(|text| {
            BASE64.decode(text.strip_prefix(WHSEC).unwrap_or(text)).ok().filter(|key| !key.is_empty())
        });
        key.map(Secret::new).ok_or_else(|| {
            Complaint::new("leads to a secret that is not of the form whsec_<base64>")
                .hint("copy it whole from the provider; `scheme.key = \"text\"` takes its bytes as they are")
        })
    }
}

/// What stands before the body in `{id}.{timestamp}.{body}`.
///
/// A place has to end where text begins: were `{timestamp}{body}` allowed, a body's first digits could pass for the
/// time's last, and one signature would be good for two requests.
fn template(text: &str) -> Result<Vec<Part>, Complaint> {
    let example = "as in \"{body}\", \"{timestamp}.{body}\" or \"{id}.{timestamp}.{body}\"";
    let bad = |what: &str| Err(Complaint::new(what).hint(example));
    let Some(mut rest) = text.strip_suffix(BODY) else {
        return bad("does not end with {body}");
    };
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (part, left) = if let Some(left) = rest.strip_prefix(TIMESTAMP) {
            (Part::Timestamp, left)
        } else if let Some(left) = rest.strip_prefix(ID) {
            (Part::Id, left)
        } else if rest.starts_with(['{', '}']) {
            return bad("has another place than {id}, {timestamp} and, at its end, {body}");
        } else {
            let (text, left) = rest.split_at(rest.find(['{', '}']).unwrap_or(rest.len()));
            (Part::Text(text.to_owned()), left)
        };
        if !matches!(part, Part::Text(_)) {
            if parts.contains(&part) {
                return bad("has the same place twice");
            }
            if left.is_empty() || left.starts_with(|c: char| c == '{' || c.is_ascii_digit()) {
                return bad("has no text, or a digit, behind a place: where it ends could not be told");
            }
        }
        parts.push(part);
        rest = left;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_written_as_they_are_read() {
        for (word, algorithm) in ALGORITHMS {
            assert_eq!(algorithm.as_str(), word);
        }
    }

    #[test]
    fn templates() {
        let text = |text: &str| Part::Text(text.to_owned());
        for (written, parts) in [
            ("{body}", vec![]),
            ("{timestamp}.{body}", vec![Part::Timestamp, text(".")]),
            ("v0:{timestamp}:{body}", vec![text("v0:"), Part::Timestamp, text(":")]),
            ("{id}.{timestamp}.{body}", vec![Part::Id, text("."), Part::Timestamp, text(".")]),
        ] {
            assert_eq!(template(written), Ok(parts), "{written}");
        }
        for bad in [
            "",
            "body",
            "{body}.{timestamp}",
            "{body}{body}",
            "{timestamp}{body}",
            "{id}{timestamp}.{body}",
            "{timestamp}0{body}",
            "{timestamp}.{timestamp}.{body}",
            "{url}{body}",
            "{.{body}",
        ] {
            assert!(template(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_in_base64_is_decoded_and_never_repeated() {
        let whsec = |text: &str| KeyForm::Whsec.key(Secret::new(text)).map(|key| key.expose().to_vec());
        for good in ["whsec_Y2FuYXJ5", "Y2FuYXJ5", " whsec_Y2FuYXJ5\n"] {
            assert_eq!(whsec(good), Ok(b"canary".to_vec()), "{good}");
        }
        for bad in ["whsec_", "whsec_canary!", "canary-5f1c", "\u{fffd}"] {
            let complaint = whsec(bad).unwrap_err();
            assert!(!format!("{complaint:?}").contains("canary"), "{complaint:?}");
        }
        assert_eq!(KeyForm::Text.key(Secret::new("whsec_x")).unwrap().expose(), b"whsec_x");
    }
}
