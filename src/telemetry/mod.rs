//! What the program says of itself: metrics, health, logs.

pub mod health;
pub mod logs;
pub mod metrics;

pub use health::{Health, RoleHealth};
pub use metrics::Metrics;
