//! Forms of text that several sections share.

use std::net::SocketAddr;

use super::RECORD_TOPICS;
use super::fault::{Complaint, did_you_mean};

/// Anything but nothing.
pub(super) fn some(text: &str) -> Result<(), Complaint> {
    if text.trim().is_empty() {
        return Err(Complaint::new("is empty"));
    }
    Ok(())
}

/// A name that goes into topic names, metric labels and variables: it must be safe in all of them.
pub(super) fn name(text: &str) -> Result<(), Complaint> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if first && text.len() <= 63 && text.bytes().all(inside) {
        return Ok(());
    }
    Err(Complaint::new("is not a usable name").hint("up to 63 of a-z, 0-9, `-`, `_`, beginning with a letter or digit"))
}

/// A name of a field in a record.
pub(super) fn field(text: &str) -> Result<(), Complaint> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if first && text.bytes().all(inside) {
        return Ok(());
    }
    Err(Complaint::new("is not a record field's name").hint("a-z, 0-9 and `_`, as in `total_amount`"))
}

/// The short name of a topic that holds records.
pub(super) fn record_topic(text: &str) -> Result<(), Complaint> {
    if RECORD_TOPICS.contains(&text) {
        return Ok(());
    }
    let hint =
        did_you_mean(text, RECORD_TOPICS).unwrap_or_else(|| format!("record topics are {}", RECORD_TOPICS.join(", ")));
    Err(Complaint::new(format!("`{text}` is not a record topic")).hint(hint))
}

/// A JSON pointer (RFC 6901); the empty one means the whole document.
pub(super) fn pointer(text: &str) -> Result<(), Complaint> {
    if !text.is_empty() && !text.starts_with('/') {
        return Err(Complaint::new("is not a JSON pointer").hint(format!("\"/{}\"?", text.replace('.', "/"))));
    }
    let mut after_tilde = text.split('~').skip(1);
    if after_tilde.any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(
            Complaint::new("is not a JSON pointer").hint("`~` is written `~0`, a `/` inside a member's name `~1`")
        );
    }
    Ok(())
}

/// A JSON pointer to something inside the document.
pub(super) fn inner_pointer(text: &str) -> Result<(), Complaint> {
    if text.is_empty() {
        return Err(Complaint::new("is empty").hint("a JSON pointer such as \"/event_id\""));
    }
    pointer(text)
}

/// An address and port to listen on.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Complaint> {
    text.parse().map_err(|_| {
        Complaint::new("is not an IP address and port")
            .hint("as in \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::1]:8080\"")
    })
}

/// `host:port`.
pub(super) fn host_port(text: &str) -> Result<(), Complaint> {
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = !host.contains(':') || (host.starts_with('[') && host.ends_with(']'));
        bare && is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if fits {
        return Ok(());
    }
    Err(Complaint::new("is not a host and port").hint("as in \"kafka-1.example:9092\""))
}

/// An absolute http or https address. No message quotes it: addresses often carry tokens.
pub(super) fn url(text: &str) -> Result<(), Complaint> {
    let bad = |what: &str| Err(Complaint::new(what).hint("as in \"https://erp.example/api\""));
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return bad("is not an http or https URL");
    };
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return bad("is not a URL: only visible ASCII, the rest percent-encoded");
    }
    if rest.contains('#') {
        return bad("has a fragment, which is never sent");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(Complaint::new("has a user or password in it")
            .hint("secrets do not stand in this file: they are given as \"env:NAME\" or \"file:PATH\""));
    }
    let port_at = authority.rfind(':').filter(|at| !authority[*at..].contains(']'));
    let (host, port) = port_at.map_or((authority, None), |at| (&authority[..at], Some(&authority[at + 1..])));
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if !is_host(host) || !port_fits {
        return bad("is not a URL: host or port cannot be read");
    }
    Ok(())
}

/// The address of a proxy: http, host and port. No message quotes it.
pub(super) fn proxy(text: &str) -> Result<(), Complaint> {
    let hint = "as in \"http://proxy.example:3128\"";
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(Complaint::new("is not the http URL of a proxy").hint(hint));
    };
    if rest.contains('@') {
        return Err(Complaint::new("has a user or password in it")
            .hint("give them as `proxy_login`, a reference to \"user:password\""));
    }
    url(text)?;
    if rest.trim_end_matches('/').contains(['/', '?']) {
        return Err(Complaint::new("has something behind its port").hint(hint));
    }
    Ok(())
}

/// The name of an HTTP header (RFC 9110 token).
pub(super) fn header(text: &str) -> Result<(), Complaint> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(token) {
        return Ok(());
    }
    Err(Complaint::new("is not a header's name").hint("as in \"X-Signature\""))
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>);
        return address.is_some_and(|address| address.is_ok());
    }
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.' || b == b'_';
    !host.is_empty() && host.bytes().all(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(check: fn(&str) -> Result<(), Complaint>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in bad {
            let complaint = check(text).expect_err(text);
            assert!(complaint.hint.is_some(), "{text}: {complaint:?}");
        }
    }

    #[test]
    fn forms() {
        table(name, &["erp", "acc-books_2", "7"], &["", "-a", "Erp", "a.b", "ä", &"x".repeat(64)]);
        table(field, &["total_amount", "a1"], &["", "1a", "a.b", "A", "a-b"]);
        table(record_topic, &RECORD_TOPICS, &["invoice", "received", ""]);
        table(pointer, &["", "/", "/a/b", "/a~0b~1c", "/0"], &["a", "a.b", "/a~", "/a~2"]);
        table(inner_pointer, &["/a"], &["", "a"]);
        table(header, &["X-AccelEx-Signature", "a"], &["", "a b", "a:", "ä"]);
        table(
            host_port,
            &["127.0.0.1:9092", "kafka:9092", "[::1]:9092"],
            &["", "kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "::1:9092", "http://kafka:9092"],
        );
    }

    #[test]
    fn urls() {
        table(
            url,
            &[
                "http://127.0.0.1:8000/",
                "https://erp.example",
                "https://erp.example/a?b=c:d@e",
                "http://[::1]:8081/x",
                "http://[::1]",
            ],
            &[
                "",
                "erp.example",
                "ftp://erp.example",
                "https://",
                "https:///path",
                "https://erp.example:port/",
                "https://erp.example:0/",
                "https://user:pw@erp.example/",
                "https://erp.example/#a",
                "https://erp.example/a b",
                "https://[::1/",
                "https://{tenant}.example/",
            ],
        );
    }

    #[test]
    fn proxies() {
        table(
            proxy,
            &["http://proxy.example:3128", "http://proxy.example/", "http://10.0.0.1:8080", "http://[::1]:3128"],
            &[
                "",
                "proxy.example:3128",
                "https://proxy.example:3128",
                "socks5://proxy.example:1080",
                "http://user:pw@proxy.example:3128",
                "http://proxy.example:0",
                "http://proxy.example:3128/path",
                "http://proxy.example:3128?x",
                "http://proxy.example/#x",
            ],
        );
    }

    #[test]
    fn a_dotted_path_is_answered_with_the_pointer() {
        assert_eq!(pointer("data.id").unwrap_err().hint.as_deref(), Some("\"/data/id\"?"));
    }

    #[test]
    fn addresses() {
        assert!(listen("0.0.0.0:0").is_ok());
        assert!(listen("[::1]:8080").is_ok());
        for text in ["localhost:8080", "8080", ":8080", "127.0.0.1"] {
            assert!(listen(text).is_err(), "{text}");
        }
    }
}
