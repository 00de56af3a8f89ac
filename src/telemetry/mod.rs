//! What the program says of itself: metrics, health, logs, refused requests.

pub mod health;
pub mod logs;
pub mod metrics;
pub mod rejected;

pub use health::{Health, RoleHealth};
pub use metrics::Metrics;
pub use rejected::RejectedRequests;
