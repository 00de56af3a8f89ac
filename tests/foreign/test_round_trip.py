"""Values of every shape: written to Kafka by fastavro, read and written again by Ledgerhook, read by fastavro.

Records pass through delivery: one target takes them (what it gets is compared with the form for people), another
refuses them (the dead letter holds the record again). Envelopes pass through the router into the quarantine.
Runs where test_live.py does.
"""

import os

import confluent_kafka
import pytest

import golden
import installation as lh
import topics
from test_live import SCHEMA_OF

TAKER, REFUSER = "taker", "refuser"
EACH = 20


def shapes(name, count=EACH):
    """Values with an id that a header can carry; all else as it comes."""
    styles = [golden.Style(style, f"trip/{name}") for style in ("null", "filled", "high", "low")]
    styles += [golden.Style("random", f"trip/{name}/{n}") for n in range(count - len(styles))]
    for n, style in enumerate(styles):
        value = golden.value(golden.source(name), style)
        yield {**value, "event_id": f"{name}-{n}", "source": "accbooks"}


@pytest.fixture(scope="module")
def trip(tmp_path_factory):
    it = lh.from_environment(tmp_path_factory.mktemp("trip"), targets={TAKER: "take", REFUSER: "refuse"})
    if it is None:
        pytest.skip("needs LEDGERHOOK_BIN, KAFKA_BOOTSTRAP and REGISTRY_URL (scripts/foreign sets them)")
    try:
        it.run("topics", "apply")
        it.run("schemas", "apply")
        it.start("sandbox")
        it.until("the sandbox", lambda: reachable(it))
        it.asked("faults", {"status": 422, "times": 100_000, "match": {"path": "/refuse"}})
        it.given = give(it)
        records = sum(topic in lh.RECORDS for topic, _ in it.given.values())
        it.start("run")
        it.until("readiness of all roles", it.ready)
        it.until(f"{records} documents", lambda: it.asked("requests")["documents"] >= records)
        it.until(f"{records} refusals", lambda: it.asked("requests")["paths"].get("/refuse", 0) >= records)
        it.found = it.documents()
        found = {"quarantine": 0, "dead-letters": 0}
        # Each in a transaction of its own stage, which need not be over when the sandbox has answered.
        it.until("dead letters and quarantine", lambda: found.update(
            {topic: len(rows) for topic, rows in topics.read(it.kafka, it.prefix)[0].items() if topic in found}) or (
            found["dead-letters"] >= records and found["quarantine"] >= EACH))
        assert it.stop("run") == 0
        it.rows, _ = topics.read(it.kafka, it.prefix)
        registry = topics.Registry(it.registry)
        for topic in found:
            for row in it.rows[topic]:
                registry.decode(row)
        yield it
    finally:
        it.close()
        if not os.environ.get("FOREIGN_KEEP"):
            topics.forget(it)


def reachable(it):
    try:
        return bool(it.asked("requests"))
    except OSError:
        return False


def give(it):
    """Writes everything as another producer would: event id -> topic and value."""
    producer = confluent_kafka.Producer({"bootstrap.servers": it.kafka, "partitioner": "murmur2_random"})
    registry, given = topics.Registry(it.registry), {}
    for topic in [*lh.RECORDS, "received.accbooks"]:
        schema_id = registry.get(f"/subjects/{it.prefix}{topic}-value/versions/latest")["id"]
        for value in shapes(SCHEMA_OF[topic]):
            if topic == "received.accbooks":
                # Or the router would map it, or put it by as a test.
                value.update(unusable=value["unusable"] or "not_json", test=None)
            key = value["event_id"] if topic == "received.accbooks" else f"accbooks/{value['entity_id']}"
            datum = golden.write(registry.schema(schema_id), value)
            producer.produce(it.prefix + topic, b"\0" + schema_id.to_bytes(4, "big") + datum, key)
            given[value["event_id"]] = topic, value
    assert producer.flush(30) == 0
    return given


def test_a_target_gets_every_record_as_it_was_written(trip):
    got = {document["event_id"]: document["body"] for document in trip.found}
    expected = {event_id: golden.for_people(value) for event_id, (topic, value) in trip.given.items()
                if topic in lh.RECORDS}
    assert set(got) == set(expected) and len(trip.found) == len(expected)
    for event_id, record in expected.items():
        assert {name: got[event_id].get(name) for name in record} == record, event_id


def test_a_dead_letter_holds_every_record_as_it_was_written(trip):
    letters = {row.value["event_id"]: row.value for row in trip.rows["dead-letters"]}
    for event_id, (topic, value) in trip.given.items():
        if topic in lh.RECORDS:
            kind, record = letters.pop(event_id)["record"]
            assert kind == f"io.ledgerhook.{SCHEMA_OF[topic]}" and record == value, event_id
    assert not letters


def test_the_quarantine_holds_every_envelope_as_it_was_written(trip):
    envelopes = {row.value["envelope"]["event_id"]: row.value["envelope"] for row in trip.rows["quarantine"]}
    for event_id, (topic, value) in trip.given.items():
        if topic == "received.accbooks":
            assert envelopes.pop(event_id) == value, event_id
    assert not envelopes
