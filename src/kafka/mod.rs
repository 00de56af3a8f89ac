//! Plumbing to Kafka and the schema registry, without decisions about events; the only module that names rdkafka.
//!
//! | file | what |
//! |---|---|
//! | `client` | settings of every client: what is ours to set, so that no promise can be configured away |
//! | `admin` | topics created and checked against the table |
//! | `complaints` | why a broker cannot be reached |
//! | `sight`, `retire` | whether a client still has a broker to speak to; the end of one |
//! | `layout` | waits for a broker or registry that is away, refuses a wrong one |
//! | `report` | what a topic is, compared with what it should be |
//! | `registry` | Confluent's REST API: subjects, ids, compatibility |
//! | `codec` | Confluent's wire format over `avro` |
//! | `group` | a consumer-group member whose start offsets are explicit |
//! | `standing` | under which names instances are members of groups |
//! | `assigned` | partitions read from given offsets, outside of any group |
//! | `lookup` | single records read from where they stand |
//! | `places` | where a time's records begin, and how far a group has come |
//! | `restore` | partitions read to their true end |
//! | `identity` | which topic it is, under a name that another one may have had |
//! | `transaction` | a transactional producer with three kinds of error |
//! | `leftovers` | partitions in which a transaction is open that has ended |
//! | `aside` | calls that may never return, given up |
//! | `headers`, `partition` | record headers; the partition of a key |

pub mod admin;
mod aside;
pub mod assigned;
pub mod client;
pub mod codec;
mod complaints;
pub mod control;
pub mod group;
pub mod headers;
pub mod identity;
pub mod layout;
pub mod leftovers;
pub mod lookup;
pub mod partition;
pub mod places;
pub mod produce;
pub mod records;
pub mod registry;
pub mod report;
pub mod restore;
pub mod retire;
mod sight;
pub mod standing;
pub mod transaction;

pub use rdkafka::types::RDKafkaErrorCode;
