//! Every path of the admin port, and its answers.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use uuid::Uuid;

use super::access::may_see;
use crate::config::Secret;
use crate::telemetry::health::State;
use crate::telemetry::{Health, Metrics, RejectedRequests};

const INDEX: &str = "Ledgerhook admin port

/healthz           the process lives
/readyz            whether every role can work; /readyz?role=router for one
/metrics           metrics in Prometheus' text format
/api/v1/rejected   requests that this process's receiver refused, the newest first
";

struct Console {
    health: Health,
    metrics: Arc<Metrics>,
    rejected: RejectedRequests,
    token: Option<Secret>,
}

/// How a request went wrong, as `code` of the answer.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    NotFound,
    MethodNotAllowed,
    TokenRequired,
    UnknownRole,
}

/// Every path. Health is for orchestrators, which have no token; it names roles and reasons, and no data.
pub(super) fn routes(
    health: Health,
    metrics: Arc<Metrics>,
    rejected: RejectedRequests,
    token: Option<Secret>,
) -> Router {
    let console = Arc::new(Console { health, metrics, rejected, token });
    Router::new().fallback(move |request: Request| async move { console.answer(&request).unwrap_or_else(refuse) })
}

impl Console {
    fn answer(&self, request: &Request) -> Result<Response, Refusal> {
        let path = request.uri().path();
        let is_open = ["/healthz", "/readyz"].contains(&path);
        if !is_open && !may_see(self.token.as_ref(), request.headers()) {
            return Err(Refusal::TokenRequired);
        }
        let look = match path {
            "/healthz" => |_: &Self, _: Option<&str>| Ok(of_json(StatusCode::OK, &json!({ "alive": true }))),
            "/readyz" => Self::readiness,
            "/metrics" => |console: &Self, _: Option<&str>| Ok(of_text(Metrics::CONTENT_TYPE, console.measured())),
            "/api/v1/rejected" => {
                |console: &Self, _: Option<&str>| Ok(of_json(StatusCode::OK, &console.rejected.to_json()))
            }
            "/" => |_: &Self, _: Option<&str>| Ok(of_text("text/plain; charset=utf-8", INDEX.to_owned())),
            _ => return Err(Refusal::NotFound),
        };
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            return Err(Refusal::MethodNotAllowed);
        }
        look(self, request.uri().query())
    }

    /// All metrics; roles say for themselves how they are whenever it is asked.
    fn measured(&self) -> String {
        for (role, state) in self.health.states() {
            self.metrics.role_ready.with_label_values(&[role]).set(i64::from(state == State::Ready));
        }
        self.metrics.render()
    }

    /// All roles of the process, or the one that `role=` in the query names.
    fn readiness(&self, query: Option<&str>) -> Result<Response, Refusal> {
        let wanted = query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("role="));
        let mut states = self.health.states();
        states.retain(|role, _| wanted.is_none_or(|wanted| wanted == *role));
        if wanted.is_some() && states.is_empty() {
            return Err(Refusal::UnknownRole);
        }
        let ready = states.values().all(|state| *state == State::Ready);
        let roles: serde_json::Map<_, _> = states
            .into_iter()
            .map(|(role, state)| {
                let state = match state {
                    State::Ready => json!({ "ready": true }),
                    State::NotReady(reason) => json!({ "ready": false, "reason": reason }),
                };
                (role.to_owned(), state)
            })
            .collect();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Ok(of_json(status, &json!({ "ready": ready, "roles": roles })))
    }
}

fn refuse(refusal: Refusal) -> Response {
    let (status, code, message) = match refusal {
        Refusal::NotFound => (StatusCode::NOT_FOUND, "not_found", "the admin port has no such path"),
        Refusal::MethodNotAllowed => {
            (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes GET alone")
        }
        Refusal::TokenRequired => {
            (StatusCode::UNAUTHORIZED, "token_required", "send the admin token: `Authorization: Bearer <token>`")
        }
        Refusal::UnknownRole => (StatusCode::NOT_FOUND, "unknown_role", "this process does not run that role"),
    };
    let body = json!({ "error": { "code": code, "message": message }, "request_id": Uuid::now_v7() });
    let mut response = of_json(status, &body);
    let extra = match refusal {
        Refusal::MethodNotAllowed => Some((header::ALLOW, "GET, HEAD")),
        Refusal::TokenRequired => Some((header::WWW_AUTHENTICATE, "Bearer")),
        Refusal::NotFound | Refusal::UnknownRole => None,
    };
    if let Some((name, value)) = extra {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn of_json(status: StatusCode, body: &serde_json::Value) -> Response {
    let mut response = of_text("application/json", body.to_string());
    *response.status_mut() = status;
    response
}

fn of_text(content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use crate::outcome::Answer;
    use crate::telemetry::rejected::Rejected;

    fn ask(console: &Console, method: Method, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        if let Some(token) = token {
            request.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        let response = console.answer(&request).unwrap_or_else(refuse);
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20);
        let body = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(body).unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn console(token: Option<&str>) -> Console {
        Console {
            health: Health::default(),
            metrics: Arc::new(Metrics::new().unwrap()),
            rejected: RejectedRequests::default(),
            token: token.map(|token| Secret::new(token.as_bytes())),
        }
    }

    #[test]
    fn readiness_speaks_for_all_roles_or_one() {
        let console = console(None);
        let (router, receiver) = (console.health.role("router"), console.health.role("receiver"));
        receiver.ready();
        router.not_ready("Kafka is away");
        let look = |path| ask(&console, Method::GET, path, None);
        assert_eq!(
            look("/readyz"),
            (503, r#"{"ready":false,"roles":{"receiver":{"ready":true},"router":{"ready":false,"reason":"Kafka is away"}}}"#.to_owned())
        );
        assert_eq!(
            look("/readyz?role=receiver"),
            (200, r#"{"ready":true,"roles":{"receiver":{"ready":true}}}"#.to_owned())
        );
        assert_eq!(look("/readyz?x=1&role=router").0, 503);
        let unknown = look("/readyz?role=lake");
        assert!(unknown.0 == 404 && unknown.1.contains(r#""code":"unknown_role""#), "{unknown:?}");
        router.ready();
        assert_eq!(look("/readyz").0, 200);
    }

    #[test]
    fn a_token_protects_everything_but_health() {
        let console = console(Some("s3cret"));
        for (path, token, status) in [
            ("/healthz", None, 200),
            ("/readyz", None, 200),
            ("/", None, 401),
            ("/metrics", None, 401),
            ("/api/v1/rejected", None, 401),
            ("/api/v1/rejected", Some("s3cret"), 200),
            ("/nothing", None, 401),
            ("/metrics", Some("wrong"), 401),
            ("/metrics", Some("s3cret"), 200),
            ("/", Some("s3cret"), 200),
            ("/nothing", Some("s3cret"), 404),
        ] {
            assert_eq!(ask(&console, Method::GET, path, token).0, status, "{path} {token:?}");
        }
        assert_eq!(ask(&console, Method::POST, "/metrics", Some("s3cret")).0, 405);
        assert_eq!(ask(&console, Method::HEAD, "/", Some("s3cret")).0, 200);
    }

    #[test]
    fn refused_requests_are_shown() {
        let console = console(None);
        let look = || ask(&console, Method::GET, "/api/v1/rejected", None);
        assert_eq!(look(), (200, r#"{"rejected":[]}"#.to_owned()));
        console.rejected.add(Rejected {
            at: Timestamp::from_micros(0),
            source: "accelex".to_owned(),
            reason: Answer::SignatureInvalid,
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            request_id: Uuid::nil(),
        });
        let shown = r#"{"rejected":[{"at":"1970-01-01T00:00:00.000000Z","source":"accelex","reason":"signature_invalid","address":"127.0.0.1","request_id":"00000000-0000-0000-0000-000000000000"}]}"#;
        assert_eq!(look(), (200, shown.to_owned()));
    }

    #[test]
    fn metrics_are_shown() {
        let console = console(None);
        console.metrics.receiver_requests.with_label_values(&["accelex", "accepted"]).inc();
        let (status, body) = ask(&console, Method::GET, "/metrics", None);
        assert!(status == 200 && body.contains("ledgerhook_receiver_requests_total{"), "{body}");
    }
}
