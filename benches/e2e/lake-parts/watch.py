"""Looks at tables from outside, as any reader could: their catalog, their metadata, their files.

    watch.py until DB NAMESPACE ROWS SECONDS            waits until all tables together have so many rows
    watch.py follow DB NAMESPACE ROWS SECONDS           the same, and says how old the rows that came were when they
                                                        could first be read; prints "ready" when it watches
    watch.py count DB NAMESPACE [TABLE=TABLE...]        rows, places in Kafka, event ids, files, bytes

DB is the SQLite file of a SQL catalog. A row's age counts from its `received_at`, which the benchmark sets to when it
was written, to the look that found its snapshot; looks are 50 ms apart.
"""

import json
import sqlite3
import sys
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyiceberg.catalog.sql import SqlCatalog

EVERY = 0.05


class Tables:
    def __init__(self, db, namespace):
        self.db, self.namespace = db, namespace
        self.known = {}
        self.seen = {}
        self.connection = None

    def look(self):
        """Rows of all tables, as of now; notes when each snapshot was first seen."""
        try:
            if self.connection is None:
                self.connection = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True, timeout=5)
            found = self.connection.execute(
                "SELECT table_name, metadata_location FROM iceberg_tables WHERE table_namespace = ?", (self.namespace,)
            ).fetchall()
        except sqlite3.OperationalError:
            # Not made yet.
            self.connection = None
            found = []
        now = time.time()
        for table, place in found:
            if place and self.known.get(table, (None,))[0] != place:
                with open(place.removeprefix("file:").replace("//", "/", 1)) as file:
                    metadata = json.load(file)
                rows = 0
                for snapshot in metadata.get("snapshots", []):
                    self.seen.setdefault((table, snapshot["snapshot-id"]), now)
                    if snapshot["snapshot-id"] == metadata.get("current-snapshot-id"):
                        rows = int(snapshot["summary"]["total-records"])
                self.known[table] = (place, rows)
        return sum(rows for _, rows in self.known.values())

    def until(self, rows, seconds):
        end = time.time() + seconds
        while (have := self.look()) < rows:
            if time.time() > end:
                sys.exit(f"after {seconds} s the tables of {self.namespace} have {have} rows of {rows}")
            time.sleep(EVERY)

    def catalog(self):
        return SqlCatalog("ledgerhook", uri=f"sqlite:///{self.db}")


def micros(column):
    """Microseconds since 1970, whether the table says that it is a time or a number."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return column


def path(url):
    return "/" + url.split(":", 1)[1].lstrip("/")


def follow(tables, rows, seconds):
    tables.look()
    before = set(tables.seen)
    print("ready", flush=True)
    tables.until(rows, seconds)
    catalog, ages, last = tables.catalog(), [], 0
    for name in tables.known:
        table = catalog.load_table((tables.namespace, name))
        for snapshot in table.snapshots():
            key = (name, snapshot.snapshot_id)
            if key in before or key not in tables.seen:
                continue
            for manifest in snapshot.manifests(table.io):
                if manifest.added_snapshot_id != snapshot.snapshot_id:
                    continue
                for entry in manifest.fetch_manifest_entry(table.io):
                    received = micros(pq.read_table(path(entry.data_file.file_path), columns=["received_at"])[0])
                    ages += [tables.seen[key] - at / 1e6 for at in received.to_pylist()]
                    last = max(last, tables.seen[key])
    ages.sort()
    of = lambda percent: ages[max(0, -(-len(ages) * percent // 100) - 1)]
    print(f"rows={len(ages)} min={ages[0]:.1f} p50={of(50):.1f} p99={of(99):.1f} max={ages[-1]:.1f}")


def count(tables, pairs):
    renamed = dict(pair.split("=") for pair in pairs)
    tables.look()
    catalog = tables.catalog()
    all_ = dict.fromkeys(["rows", "twice", "files", "bytes"], 0)
    for name in sorted(tables.known):
        table = catalog.load_table((tables.namespace, name))
        files = [task.file for task in table.scan().plan_files()]
        place = ["kafka_topic", "kafka_partition", "kafka_offset"]
        read = pa.concat_tables([pq.read_table(path(file.file_path), columns=place) for file in files])
        places = read.group_by(place).aggregate([]).num_rows
        codecs = {pq.ParquetFile(path(files[0].file_path)).metadata.row_group(0).column(0).compression}
        size = sum(file.file_size_in_bytes for file in files)
        print(f"{renamed.get(name, name)}: {read.num_rows} rows, {places} places, {len(files)} files, {size >> 20} MiB, "
              f"{codecs}, {table.spec()}".replace("\n", " "), file=sys.stderr)
        for key, value in [("rows", read.num_rows), ("twice", read.num_rows - places), ("files", len(files)), ("bytes", size)]:
            all_[key] += value
    print(" ".join(f"{key}={value}" for key, value in all_.items()))


def main():
    what, db, namespace, *more = sys.argv[1:]
    tables = Tables(db, namespace)
    match what:
        case "until":
            tables.until(int(more[0]), float(more[1]))
        case "follow":
            follow(tables, int(more[0]), float(more[1]))
        case "count":
            count(tables, more)


main()
