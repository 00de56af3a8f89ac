//! Who we are to a target. Secrets are named here, never written.

use std::time::Duration;

use super::request::{Request, Tree, members};
use crate::config::checks;
use crate::config::reader::Reader;

/// How a request says who we are. Texts with `{name}` hold a secret of that name there.
#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    /// It does not.
    None,
    /// HTTP Basic.
    Basic {
        /// Template of the user.
        user: String,
        /// The secret.
        password: String,
    },
    /// A header with secrets in it.
    Header {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// OAuth 2.
    OAuth(OAuth),
    /// The signature of Standard Webhooks.
    Signature {
        /// The secret.
        secret: String,
    },
}

/// A token by OAuth 2 (RFC 6749).
#[derive(Clone, Debug, PartialEq)]
pub struct OAuth {
    /// How it is granted.
    pub grant: Grant,
    /// Template of the token endpoint's URL.
    pub token_url: String,
    /// Template of the client's id.
    pub client_id: String,
    /// Secret of the client.
    pub client_secret: String,
    /// Where id and secret of the client stand.
    pub client_authentication: ClientAuthentication,
    /// Template of the scope.
    pub scope: Option<String>,
    /// Further parameters of the token request.
    pub parameters: Vec<(String, Tree)>,
}

/// Grants of OAuth 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The client's own credentials.
    ClientCredentials,
    /// A refresh token: the secret of this name. One that the endpoint gives in its place is kept.
    RefreshToken(String),
}

/// Where a token request has id and secret of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// In the header `Authorization`.
    Basic,
    /// In the body.
    Body,
}

/// A request made before others, whose answer they carry. Texts of its body with `{name}` hold a secret there.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// The request.
    pub request: Request,
    /// Where the token stands; none where the cookies are all.
    pub token: Option<TokenAt>,
    /// Headers of later requests; `{token}` stands for the token.
    pub headers: Vec<(String, String)>,
    /// Whether later requests carry the cookies of the answer.
    pub cookies: bool,
    /// Statuses that say that the session is over, beside 401.
    pub expired: Vec<super::answer::Statuses>,
    /// How long it is good at most.
    pub lifetime: Duration,
}

/// Where a token stands in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenAt {
    /// In a header.
    Header(String),
    /// In the body, at a JSON pointer.
    Pointer(String),
    /// In a body of text, behind the first match of this and up to the next quote, line or `;`.
    Text(String),
}

#[derive(Clone, Copy)]
enum Kind {
    None,
    Basic,
    Bearer,
    Header,
    OAuth,
    Signature,
}

const KINDS: [(&str, Kind); 6] = [
    ("none", Kind::None),
    ("basic", Kind::Basic),
    ("bearer", Kind::Bearer),
    ("header", Kind::Header),
    ("oauth2", Kind::OAuth),
    ("signature", Kind::Signature),
];

#[derive(Clone, Copy)]
enum GrantName {
    ClientCredentials,
    RefreshToken,
}

const GRANTS: [(&str, GrantName); 2] =
    [("client_credentials", GrantName::ClientCredentials), ("refresh_token", GrantName::RefreshToken)];

const CLIENTS: [(&str, ClientAuthentication); 2] =
    [("basic", ClientAuthentication::Basic), ("body", ClientAuthentication::Body)];

const DAY: Duration = Duration::from_secs(86_400);

impl Auth {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let auth = match r.choice("kind", &KINDS).unwrap_or(Kind::None) {
            Kind::None => Self::None,
            Kind::Basic => {
                Self::Basic { user: r.text("user", checks::some), password: r.text("password", checks::field) }
            }
            Kind::Bearer => {
                let token = r.text("token", checks::field);
                Self::Header { name: "Authorization".to_owned(), value: format!("Bearer {{{token}}}") }
            }
            Kind::Header => Self::Header { name: r.text("name", checks::header), value: r.text("value", checks::some) },
            Kind::OAuth => Self::OAuth(OAuth::read(&mut r)),
            Kind::Signature => Self::Signature { secret: r.text("secret", checks::field) },
        };
        r.finish();
        auth
    }

    /// The secrets that it names, each with the section that names it.
    pub(super) fn secrets(&self) -> Vec<(&'static str, String)> {
        let named: Vec<String> = match self {
            Self::None => Vec::new(),
            Self::Basic { password, .. } => vec![password.clone()],
            Self::Header { value, .. } => placeholders(value),
            Self::OAuth(oauth) => {
                let refresh = match &oauth.grant {
                    Grant::RefreshToken(secret) => Some(secret.clone()),
                    Grant::ClientCredentials => None,
                };
                refresh.into_iter().chain([oauth.client_secret.clone()]).collect()
            }
            Self::Signature { secret } => vec![secret.clone()],
        };
        named.into_iter().map(|secret| ("auth", secret)).collect()
    }
}

impl OAuth {
    fn read(r: &mut Reader<'_>) -> Self {
        Self {
            grant: match r.choice("grant", &GRANTS).unwrap_or(GrantName::ClientCredentials) {
                GrantName::ClientCredentials => Grant::ClientCredentials,
                GrantName::RefreshToken => Grant::RefreshToken(r.text("refresh_token", checks::field)),
            },
            token_url: r.text("token_url", checks::some),
            client_id: r.text("client_id", checks::some),
            client_secret: r.text("client_secret", checks::field),
            client_authentication: r.choice("client_authentication", &CLIENTS).unwrap_or(ClientAuthentication::Body),
            scope: r.optional_text("scope", checks::some),
            parameters: r.take("parameters", "", members).unwrap_or_default(),
        }
    }
}

impl Login {
    pub(super) fn read(mut r: Reader<'_>) -> Self {
        let token = if let Some(name) = r.optional_text("token_header", checks::header) {
            Some(TokenAt::Header(name))
        } else if let Some(text) = r.optional_text("token_text", checks::some) {
            Some(TokenAt::Text(text))
        } else {
            r.optional_text("token", checks::pointer).map(TokenAt::Pointer)
        };
        let login = Self {
            request: Request::read(&mut r),
            token,
            headers: r.take("use_headers", "", super::settings::texts).unwrap_or_default(),
            cookies: r.optional_flag("cookies"),
            expired: r.take("expired", "", super::answer::statuses).unwrap_or_default(),
            lifetime: r.optional_duration("lifetime", Duration::from_secs(1)..=400 * DAY).unwrap_or(DAY),
        };
        r.finish();
        login
    }

    /// The secrets that it names, each with the section that names it.
    pub(super) fn secrets(&self) -> Vec<(&'static str, String)> {
        let mut named = Vec::new();
        let mut leaves: Vec<&Tree> =
            self.request.headers.iter().chain(&self.request.query).map(|(_, tree)| tree).collect();
        match &self.request.body {
            super::Body::Empty => {}
            super::Body::Json(tree) => leaves.push(tree),
            super::Body::Form(form) => leaves.extend(form.iter().map(|(_, tree)| tree)),
        }
        while let Some(tree) = leaves.pop() {
            match tree {
                Tree::Text(text) => named.extend(placeholders(text)),
                Tree::List(items) => leaves.extend(items),
                Tree::Table(members) => leaves.extend(members.iter().map(|(_, tree)| tree)),
                Tree::Integer(_) | Tree::Flag(_) => {}
            }
        }
        named.into_iter().map(|secret| ("session", secret)).collect()
    }
}

/// Names in single braces: `{name}`. Braces of templates, which are double, are none.
pub(super) fn placeholders(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        rest = &rest[at + 1..];
        if rest.starts_with('{') {
            rest = rest.find("}}").map_or("", |end| &rest[end + 2..]);
        } else if let Some(end) = rest.find('}')
            && checks::field(&rest[..end]).is_ok()
        {
            names.push(rest[..end].to_owned());
        }
    }
    names
}
