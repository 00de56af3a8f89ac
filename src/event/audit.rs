//! What operators did.

use super::Timestamp;
use super::json::wire_record;

wire_record! {
    /// One action of an operator; topic `audit`, key the actor. Schema: `schemas/AuditEntry.avsc`.
    AuditEntry {
        /// When.
        at: Timestamp,
        /// Who: `user@host` for the command line.
        actor: String,
        /// What, e.g. `quarantine.replay`.
        action: String,
        /// To what.
        subject: String,
        /// Arguments and result as JSON text.
        detail: Option<String>,
        /// Id of the request; none for the command line.
        request_id: Option<String>,
    }
}
