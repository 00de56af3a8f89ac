//! Records of the record topics, each by the type that goes with its topic.

use tokio::runtime::Handle;

use super::codec::{DecodeError, Decoder, Encoder};
use crate::avro::AvroError;
use crate::event::{
    CaseRecord, ComplianceRecord, ContractRecord, FeedRecord, InvoiceRecord, Record, ReviewRecord, TransactionRecord,
};

/// Decodes a record of this topic (without prefix). Blocks while the registry is asked for a schema not met before.
///
/// # Errors
/// When it is no such record, or the schema cannot be had.
pub fn decode(decoder: &Decoder, runtime: &Handle, topic: &str, value: Option<&[u8]>) -> Result<Record, DecodeError> {
    macro_rules! as_record {
        ($type:ty) => {
            decoder.decode_blocking::<$type>(runtime, value).map(Record::from)
        };
    }
    match topic {
        "invoices" => as_record!(InvoiceRecord),
        "contracts" => as_record!(ContractRecord),
        "cases" => as_record!(CaseRecord),
        "compliance" => as_record!(ComplianceRecord),
        "transactions" => as_record!(TransactionRecord),
        "reviews" => as_record!(ReviewRecord),
        "feeds" => as_record!(FeedRecord),
        _ => Err(DecodeError::NotFramed("not a record topic")),
    }
}

/// Encodes a record for its topic, whose encoder this is.
///
/// # Errors
/// When it does not fit the schema.
pub fn encode(encoder: &Encoder, record: &Record) -> Result<Vec<u8>, AvroError> {
    match record {
        Record::Invoice(record) => encoder.encode(record),
        Record::Contract(record) => encoder.encode(record),
        Record::Case(record) => encoder.encode(record),
        Record::Compliance(record) => encoder.encode(record),
        Record::Transaction(record) => encoder.encode(record),
        Record::Review(record) => encoder.encode(record),
        Record::Feed(record) => encoder.encode(record),
    }
}
