//! `traceparent` of [W3C trace context](https://www.w3.org/TR/trace-context/#traceparent-header): the sender's where it
//! is valid, else a new one. Pure.

use hyper::HeaderMap;
use uuid::Uuid;

/// The trace an event belongs to: the request's own, or one made of our id of the request, so that either leads to the
/// other.
pub(super) fn traceparent(headers: &HeaderMap, request: Uuid) -> String {
    let mut values = headers.get_all("traceparent").iter();
    let given = values.next().filter(|_| values.next().is_none());
    given.and_then(|value| value.to_str().ok()).and_then(taken).unwrap_or_else(|| made(request))
}

/// The header in the form of version 00, the one we speak; later versions begin with the same fields.
fn taken(value: &str) -> Option<String> {
    let mut fields = value.split('-');
    let [version, trace, parent, flags] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let named = |text: &str, length| hex(text, length) && text.bytes().any(|b| b != b'0');
    let fits = hex(version, 2) && version != "ff" && named(trace, 32) && named(parent, 16) && hex(flags, 2);
    let ends = version != "00" || fields.next().is_none();
    (fits && ends).then(|| format!("00-{trace}-{parent}-{flags}"))
}

/// Not sampled: nobody has recorded this trace. A UUID's variant bits keep the second half from being all zeros, which
/// would be invalid.
fn made(request: Uuid) -> String {
    let id = request.simple().to_string();
    format!("00-{id}-{}-00", &id[16..])
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::raw;
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_one_is_taken_and_any_other_replaced() {
        let later = VALID.replacen("00", "01", 1) + "-more";
        for (value, is_taken) in [
            (VALID.to_owned(), true),
            (later, true),
            (VALID.to_uppercase(), false),
            (VALID.replacen("00", "ff", 1), false),
            (format!("{VALID}-more"), false),
            (VALID[..54].to_owned(), false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(), false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(), false),
            (String::new(), false),
            ("----".to_owned(), false),
        ] {
            let request = raw(b"", &[("traceparent", value.as_bytes())]);
            let is = traceparent(&request.headers, request.id);
            assert_eq!(is == VALID, is_taken, "{value}");
            assert_eq!(taken(&is), Some(is.clone()), "{value}");
        }
    }

    #[test]
    fn of_two_none_is_taken() {
        let request = raw(b"", &[("traceparent", VALID.as_bytes()), ("traceparent", VALID.as_bytes())]);
        assert_eq!(traceparent(&request.headers, request.id), made(request.id));
    }
}
