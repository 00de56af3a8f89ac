//! Where events are: reads the topics and puts one event's life together.
//!
//! | | |
//! |---|---|
//! | reads | `received`, `seen`, record topics, `quarantine`, `attempts`, `dead-letters`, `parked.<target>` |
//! | writes | nothing |
//! | promise | what it shows is committed and complete up to the moment it was asked |

mod trace;

pub use trace::{Trace, TraceError, trace};
