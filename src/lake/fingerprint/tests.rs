//! What counts as the same row, and what does not.

use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::{
    BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array,
    LargeBinaryArray, LargeStringArray, StringArray, StructArray, TimestampMicrosecondArray, UInt8Array,
};
use arrow_schema::Field;
use iceberg::spec::{ListType, NestedField, PrimitiveType, StructType};

use super::*;

fn of(shape: &Shape, column: impl Array + 'static) -> Vec<u64> {
    let column: ArrayRef = Arc::new(column);
    fingerprints(column.len(), std::iter::once((shape, Some(&column)))).unwrap()
}

fn whole(column: impl Array + 'static) -> Vec<u64> {
    of(&Shape::Whole, column)
}

fn decimal(values: impl IntoIterator<Item = Option<i128>>, precision: u8) -> Decimal128Array {
    values.into_iter().collect::<Decimal128Array>().with_precision_and_scale(precision, 9).unwrap()
}

#[test]
fn a_value_is_the_same_however_it_is_kept() {
    assert_eq!(whole(Int32Array::from(vec![Some(7), None])), whole(Int64Array::from(vec![Some(7), None])));
    assert_eq!(whole(Float32Array::from(vec![0.5])), whole(Float64Array::from(vec![0.5])));
    assert_eq!(whole(decimal([Some(7)], 18)), whole(decimal([Some(7)], 38)));
    assert_eq!(whole(StringArray::from(vec!["ü"])), whole(LargeStringArray::from(vec!["ü"])));
    assert_eq!(whole(BinaryArray::from(vec![&b"a"[..]])), whole(LargeBinaryArray::from(vec![&b"a"[..]])));
    let zoned = TimestampMicrosecondArray::from(vec![7]).with_timezone("UTC");
    assert_eq!(whole(TimestampMicrosecondArray::from(vec![7])), whole(zoned));
    let run = RunArray::try_new(&Int32Array::from(vec![2]), &StringArray::from(vec!["EUR"])).unwrap();
    assert_eq!(whole(StringArray::from(vec!["EUR", "EUR"])), whole(run));
}

#[test]
fn another_value_is_another() {
    let differ = |prints: Vec<u64>| {
        let mut distinct = prints.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), prints.len(), "{prints:?}");
    };
    differ(whole(decimal([Some(1), Some(2), Some(-1), Some(0), None], 38)));
    differ(whole(StringArray::from(vec![Some("a"), Some("b"), Some(""), None])));
    differ(whole(BooleanArray::from(vec![Some(true), Some(false), None])));
    differ(whole(Date32Array::from(vec![1, 2])));
    differ(whole(Float64Array::from(vec![0.1, 0.2])));
    // What stands in one column is not taken for what stands in the next.
    let (a, b): (ArrayRef, ArrayRef) =
        (Arc::new(StringArray::from(vec!["ab", "a"])), Arc::new(StringArray::from(vec!["c", "bc"])));
    differ(fingerprints(2, [(&Shape::Whole, Some(&a)), (&Shape::Whole, Some(&b))].into_iter()).unwrap());
    let refused = fingerprints(1, std::iter::once((&Shape::Whole, Some(&(Arc::new(UInt8Array::from(vec![1])) as _)))));
    assert!(refused.unwrap_err().to_string().contains("UInt8"));
}

#[test]
fn items_belong_to_their_lists() {
    let lists = |rows: &[Option<&[Option<i64>]>]| {
        let mut lists = ListBuilder::new(Int64Builder::new());
        for row in rows {
            lists.append_option(row.map(|items| items.iter().copied()));
        }
        of(&Shape::List(Box::new(Shape::Whole)), lists.finish())
    };
    let prints = lists(&[
        None,
        Some(&[]),
        Some(&[None]),
        Some(&[Some(1)]),
        Some(&[Some(1), Some(2)]),
        Some(&[Some(2), Some(1)]),
        Some(&[Some(1)]),
    ]);
    let mut distinct = prints.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!((prints[3], distinct.len()), (prints[6], 6), "{prints:?}");
}

#[test]
fn a_map_has_no_order() {
    let map = |entries: &[(&str, &str)]| {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        for (key, value) in entries {
            map.keys().append_value(key);
            map.values().append_value(value);
        }
        map.append(true).unwrap();
        of(&Shape::Map(Box::new(Shape::Whole)), map.finish())
    };
    assert_eq!(map(&[("a", "1"), ("b", "2")]), map(&[("b", "2"), ("a", "1")]));
    assert_ne!(map(&[("a", "1"), ("b", "2")]), map(&[("a", "2"), ("b", "1")]));
}

#[test]
fn members_count_that_both_have_and_one_that_a_file_lacks_is_null() {
    let text = |id, name: &str| NestedField::optional(id, name, Type::Primitive(PrimitiveType::String)).into();
    let line = |id: i32, names: &[&str]| {
        let members = (id + 2..).zip(names).map(|(id, name)| text(id, name)).collect();
        let item = NestedField::list_element(id + 1, Type::Struct(StructType::new(members)), false).into();
        NestedField::optional(id, "lines", Type::List(ListType::new(item))).into()
    };
    let schema = |fields: Vec<NestedFieldRef>| Schema::builder().with_fields(fields).build().unwrap();
    let ours = schema(vec![text(1, "currency"), line(2, &["amount", "account"])]);
    // Numbered otherwise, in another order, without one and with one more.
    let theirs = schema(vec![line(1, &["account", "note", "amount"]), text(9, "mood")]);
    let of_lines = Shape::List(Box::new(Shape::Struct(vec![
        ("amount".to_owned(), Shape::Whole),
        ("account".to_owned(), Shape::Whole),
    ])));
    assert_eq!(common(&ours, &theirs), [("lines".to_owned(), of_lines)]);

    let column = |values: &[Option<&str>]| Arc::new(values.iter().copied().collect::<StringArray>()) as ArrayRef;
    let field = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
    let shape = Shape::Struct(vec![("amount".to_owned(), Shape::Whole), ("account".to_owned(), Shape::Whole)]);
    let amounts = column(&[Some("1"), Some("2")]);
    let older = StructArray::from(vec![(field("amount"), Arc::clone(&amounts))]);
    let whole = |account: &[Option<&str>]| {
        let members = vec![
            (field("note"), column(&[Some("x"), None])),
            (field("account"), column(account)),
            (field("amount"), Arc::clone(&amounts)),
        ];
        of(&shape, StructArray::from(members))
    };
    let older = of(&shape, older);
    assert_eq!(older, whole(&[None, None]));
    assert_ne!(older[1], whole(&[None, Some("a")])[1]);
    let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    let absent = fingerprints(1, std::iter::once((&Shape::Whole, None))).unwrap();
    assert_eq!(absent, fingerprints(1, std::iter::once((&Shape::Whole, Some(&null)))).unwrap());
}
