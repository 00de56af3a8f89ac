"""What PyIceberg, DuckDB and Polars see of a table.

    read.py < REQUESTS

A request is a line, a JSON list of arguments: --uri URI --warehouse W --namespace N [--s3 ENDPOINT] count|read|... TABLE
Its answer is one too: {"ok": TEXT} or {"error": TEXT}. The libraries take seconds to load, so one process serves a whole
run of the tests. The catalog is a SQL one, or a REST one where the URI is http. Changes that other engines make, for the tests:
append (rows of the table once more), alter EVENT COLUMN (of one row, with all rows written anew), compact HOW (the files of
each day made one, rows as they are), rollback (to the snapshot before), drop, drop-column NAME, set KEY VALUE, get KEY, uuid; older NAMESPACE COLUMN... makes the table in another
namespace as a version without those columns would have left it. values COLUMN: what each engine reads there, by event id;
of a list of structs one member, as in lines.account.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import traceback
from datetime import date, timedelta, timezone

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyiceberg.table.update.snapshot as producer
from pyiceberg.catalog import load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io.pyarrow import _dataframe_to_data_files, schema_to_pyarrow
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Operation, Summary
from pyiceberg.transforms import DayTransform
from pyiceberg.types import ListType, NestedField, StructType
from sqlalchemy.exc import OperationalError, ProgrammingError

# Its own planner is a package of its own; PyIceberg's plan is the same.
os.environ["POLARS_ICEBERG_PLANNER"] = "pyiceberg"

POSITION = "ledgerhook.position"
KEYS = {"s3.access-key-id": "test-key", "s3.secret-access-key": "test-secret", "s3.region": "us-east-1"}


def catalog(args, makes_it=False):
    store = {"s3.endpoint": args.s3, "s3.path-style-access": "true", **KEYS} if args.s3 else {}
    if args.uri.startswith("http"):
        return load_catalog("ledgerhook", type="rest", uri=args.uri, **store)
    # Whoever writes makes its tables: two who find none and make them at once are one too many.
    own = {"init_catalog_tables": str(makes_it).lower(), **store}
    return SqlCatalog("ledgerhook", uri=args.uri, warehouse=args.warehouse, **own)


def load(made, name):
    """The table; none of this name where its catalog is still to be made, too."""
    try:
        return made.load_table(name)
    except (OperationalError, ProgrammingError) as cause:
        if "no such table" in str(cause) or 'relation "iceberg_tables" does not exist' in str(cause):
            raise NoSuchTableError(str(cause)) from cause
        raise


def amount_of(table):
    """The column whose sum is looked at, where the table has one with decimals."""
    amounts = ["total_amount", "amount", "gross_amount", "risk_score", "confidence"]
    return next((name for name in amounts if name in table.schema().column_names), None)


def by_pyiceberg(table):
    rows = table.scan().to_arrow()
    total = None
    if amount := amount_of(table):
        # Sums in Python: Arrow's decimal128 holds one amount, and a sum of many may be longer.
        total = str(sum(value for value in rows[amount].to_pylist() if value is not None))
    place = rows.select(["kafka_topic", "kafka_partition", "kafka_offset"]).group_by(
        ["kafka_topic", "kafka_partition", "kafka_offset"]
    ).aggregate([])
    return rows, {
        "name": "pyiceberg",
        "rows": rows.num_rows,
        "places": place.num_rows,
        "events": pc.count_distinct(rows["event_id"]).as_py(),
        "total": total,
    }


def duckdb_of(args):
    import duckdb
    import duckdb_extensions

    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
    for extension in ["avro", "httpfs", "iceberg"]:
        duckdb_extensions.import_extension(extension, con=connection)
        connection.execute(f"LOAD {extension}")
    if args.s3:
        endpoint = args.s3.removeprefix("http://")
        connection.execute(
            f"CREATE SECRET (TYPE s3, KEY_ID '{KEYS['s3.access-key-id']}', SECRET '{KEYS['s3.secret-access-key']}', "
            f"REGION 'us-east-1', ENDPOINT '{endpoint}', URL_STYLE 'path', USE_SSL false)"
        )
    return connection


def by_duckdb(table, args):
    connection = duckdb_of(args)
    amount = amount_of(table)
    total = f"sum(CAST({amount} AS DECIMAL(38,9)))" if amount else "NULL"
    rows, places, events, total = connection.execute(
        f"SELECT count(*), count(DISTINCT (kafka_topic, kafka_partition, kafka_offset)), count(DISTINCT event_id), "
        f"{total} FROM iceberg_scan('{table.metadata_location}')"
    ).fetchone()
    return {"name": "duckdb", "rows": rows, "places": places, "events": events, "total": str(total) if amount else None}


def polars_of(table, args):
    import polars as pl

    options = None
    if args.s3:
        options = {
            "aws_endpoint_url": args.s3,
            "aws_access_key_id": KEYS["s3.access-key-id"],
            "aws_secret_access_key": KEYS["s3.secret-access-key"],
            "aws_region": "us-east-1",
            "aws_virtual_hosted_style_request": "false",
            "aws_allow_http": "true",
        }
    return pl.scan_iceberg(table, reader_override="native", storage_options=options)


def by_polars(table, args):
    import polars as pl

    frame = polars_of(table, args)
    wanted = [
        pl.len().alias("rows"),
        pl.struct("kafka_topic", "kafka_partition", "kafka_offset").n_unique().alias("places"),
        pl.col("event_id").n_unique().alias("events"),
    ]
    amount = amount_of(table)
    if amount:
        wanted.append(pl.col(amount).sum().alias("total"))
    row = frame.select(wanted).collect().row(0, named=True)
    return {"name": "polars", **row, "total": str(row["total"]) if amount else None}


def files_of(table, args):
    files = [task.file for task in table.scan().plan_files()]
    days, codecs, writers, sorted_, bounded = set(), set(), set(), True, True
    entity = "entity_id" if "entity_id" in table.schema().column_names else "event_id"
    ids = {name: table.schema().find_field(name).field_id for name in ["received_at", entity, "kafka_offset"]}
    for file in files:
        day = file.partition[0]
        days.add(str(date(1970, 1, 1) + timedelta(days=day) if isinstance(day, int) else day))
        bounded = bounded and all(id in file.lower_bounds and id in file.upper_bounds for id in ids.values())
        with table.io.new_input(file.file_path).open() as source:
            parquet = pq.ParquetFile(source)
            writers.add(parquet.metadata.created_by)
            codecs |= {
                parquet.metadata.row_group(group).column(column).compression
                for group in range(parquet.metadata.num_row_groups)
                for column in range(parquet.metadata.num_columns)
            }
            rows = parquet.read(columns=["source", entity])
        keys = list(zip(rows["source"].to_pylist(), rows[entity].to_pylist()))
        sorted_ = sorted_ and keys == sorted(keys)
    return {
        "count": len(files),
        "days": sorted(days),
        "codecs": sorted(codecs),
        "writers": sorted(writers),
        "sorted": sorted_,
        "bounded": bounded,
    }


def shown(value):
    # One spelling of UTC, whichever library's.
    if hasattr(value, "tzinfo") and value.tzinfo is not None:
        return repr(value.astimezone(timezone.utc)).replace("datetime.timezone.utc", "UTC")
    return repr(value)


def read(table, args):
    rows, first = by_pyiceberg(table)
    sample = rows.sort_by("event_id").slice(0, 10).to_pylist()
    bodies = pc.sum(pc.binary_length(rows["body"])).as_py() if "body" in rows.column_names else None
    return {
        "engines": [first, by_duckdb(table, args), by_polars(table, args)],
        "sample": [{column: shown(value) for column, value in row.items()} for row in sample],
        "files": files_of(table, args),
        "bodies": bodies,
        "columns": rows.column_names,
    }


def values(table, args):
    column, _, member = args.more[0].partition(".")
    wanted = ["event_id", column]
    duckdb = duckdb_of(args).execute(f"SELECT {', '.join(wanted)} FROM iceberg_scan('{table.metadata_location}')")
    read = {
        "pyiceberg": table.scan(selected_fields=wanted).to_arrow().to_pylist(),
        "duckdb": duckdb.to_arrow_table().to_pylist(),
        "polars": polars_of(table, args).select(wanted).collect().to_dicts(),
    }
    of = lambda value: [item[member] for item in value] if member and value is not None else value
    return {name: {row["event_id"]: shown(of(row[column])) for row in rows} for name, rows in read.items()}


def without(kind, columns, prefix=""):
    """A type, or a schema's struct, without these columns; ids as they are."""
    if isinstance(kind, ListType):
        element = without(kind.element_type, columns, prefix)
        return ListType(kind.element_id, element, kind.element_required)
    if not isinstance(kind, StructType):
        return kind
    left = (field for field in kind.fields if prefix + field.name not in columns)
    return StructType(*(
        NestedField(f.field_id, f.name, without(f.field_type, columns, f"{prefix}{f.name}."), required=f.required, doc=f.doc)
        for f in left
    ))


def older(table, args, made):
    namespace, *columns = args.more
    position = {POSITION: table.properties[POSITION]}
    made.create_namespace_if_not_exists(namespace)
    schema = Schema(*without(table.schema().as_struct(), set(columns)).fields)
    day = PartitionField(schema.find_field("received_at").field_id, 1000, DayTransform(), "received_at_day")
    name = (namespace, args.table)
    old = made.create_table(name, schema, partition_spec=PartitionSpec(day), properties=position)
    rows = pa.Table.from_pylist(table.scan().to_arrow().to_pylist(), schema=schema_to_pyarrow(old.schema()))
    old.append(rows, snapshot_properties=position)


def altered(value, path):
    if isinstance(value, list):
        return [altered(value[0], path), *value[1:]]
    if path:
        return {**value, path[0]: altered(value[path[0]], path[1:])}
    return value + "?" if isinstance(value, str) else value + 1


def alter(table, args):
    """As an UPDATE leaves it; of a list of structs the first is meant, as in lines.amount."""
    event, column = args.more
    rows = table.scan().to_arrow()
    values = rows.to_pylist()
    at = next(at for at, row in enumerate(values) if row["event_id"] == event)
    values[at] = altered(values[at], column.split("."))
    table.overwrite(pa.Table.from_pylist(values, schema=rows.schema))


def compact(table, args):
    """As engines do it, in one commit: HOW is what it says of itself. `overwrite` is all that PyIceberg offers, `kept`
    that with the position carried into its summary, `replace` what Spark and Trino call it."""
    how = args.more[0]
    rows = table.scan().to_arrow().sort_by([(name, "ascending") for name in ["source", "entity_id", "kafka_offset"]])
    files = [task.file for task in table.scan().plan_files()]
    kept = {POSITION: table.properties[POSITION]} if how == "kept" else {}
    summaries = producer.update_snapshot_summaries

    def replacing(summary, previous_summary=None):
        done = summaries(summary, previous_summary)
        return Summary(operation=Operation.REPLACE, **done.additional_properties)

    if how == "replace":
        producer.update_snapshot_summaries = replacing
    try:
        with table.transaction() as change, change.update_snapshot(snapshot_properties=kept).overwrite() as snapshot:
            for file in files:
                snapshot.delete_data_file(file)
            for file in _dataframe_to_data_files(table_metadata=change.table_metadata, df=rows, io=table.io):
                snapshot.append_data_file(file)
    finally:
        producer.update_snapshot_summaries = summaries


def answer(arguments):
    parser = argparse.ArgumentParser()
    for option in ["--uri", "--warehouse", "--namespace"]:
        parser.add_argument(option, required=True)
    parser.add_argument("--s3")
    parser.add_argument("what")
    parser.add_argument("table")
    parser.add_argument("more", nargs="*")
    args = parser.parse_args(arguments)
    name = (*args.namespace.split("."), args.table)
    if args.what == "make":
        catalog(args, makes_it=True)
        catalog(args).list_namespaces()
        return
    made = catalog(args)
    if args.what == "drop":
        made.drop_table(name)
        return
    table = load(made, name)
    match args.what:
        case "count":
            snapshot = table.current_snapshot()
            print(table.scan().count() if snapshot else 0)
        case "read":
            json.dump(read(table, args), sys.stdout)
        case "append":
            table.append(table.scan().to_arrow().slice(0, 1))
        case "alter":
            alter(table, args)
        case "compact":
            compact(table, args)
        case "older":
            older(table, args, made)
        case "values":
            json.dump(values(table, args), sys.stdout)
        case "rollback":
            before = table.current_snapshot().parent_snapshot_id
            table.manage_snapshots().rollback_to_snapshot(before).commit()
        case "drop-column":
            with table.update_schema(allow_incompatible_changes=True) as change:
                change.delete_column(args.more[0])
        case "set":
            with table.transaction() as change:
                change.set_properties({args.more[0]: args.more[1]})
        case "get":
            print(table.properties.get(args.more[0], ""))
        case "snapshots":
            json.dump([s.summary.operation.value for s in table.snapshots()], sys.stdout)
        case "uuid":
            print(table.metadata.table_uuid)


def main():
    for line in sys.stdin:
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                answer(json.loads(line))
            reply = {"ok": said.getvalue()}
        except Exception:
            reply = {"error": traceback.format_exc()}
        print(json.dumps(reply), flush=True)


main()
