"""A whole Ledgerhook on a real broker and registry, judged by what a stranger can read: every topic, decoded through
the registry with fastavro, against what went over the wire.

Runs where LEDGERHOOK_BIN, KAFKA_BOOTSTRAP and REGISTRY_URL are set (scripts/foreign sets them); FOREIGN_KEEP=1 leaves
topics and logs for a look.
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import re
import secrets
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

import golden
import installation as lh
import topics

NONCE = secrets.token_hex(6)
FORGED = f"forged-{NONCE}"
MANY = {"accelex": 40, "accbooks": 88}  # eight of each type

# The payload printed in AccBooks' article, as it stands there.
ACCBOOKS_SAMPLE = b"""{
"id": "evt_01HXYZ123",
"type": "invoice.paid",
"created_at": "2026-04-15T14:32:00Z",
"data": {
"invoice_id": "inv_0123",
"customer_id": "cust_456",
"amount": 2500.00,
"currency": "GBP",
"paid_at": "2026-04-15T14:31:55Z"
}
}"""

MEMBERS = {"accelex": "outcome", "accbooks": "data"}
ID = {"accelex": "event_id", "accbooks": "id"}
TYPE = {"accelex": "event_type", "accbooks": "type"}
# Event type -> record topic, member with the entity's id, fields with a value or a name of their own (SPEC section 2).
ROUTES = {
    ("accelex", "invoice.resolved"): ("invoices", "invoice_id", {"direction": "PAYABLE", "status": "RESOLVED"}, {}),
    ("accelex", "contract.processed"): ("contracts", "contract_id", {}, {}),
    ("accelex", "case.closed"): ("cases", "case_id", {}, {}),
    ("accelex", "compliance.record_generated"): ("compliance", "record_id", {}, {}),
    ("accelex", "workflow.failed"): ("reviews", "workflow_id", {}, {}),
    **{("accbooks", f"invoice.{status}"): (
        "invoices", "invoice_id", {"direction": "RECEIVABLE", "status": status.upper()}, {"amount": "total_amount"})
        for status in ("created", "sent", "paid", "overdue")},
    ("accbooks", "transaction.created"): ("transactions", "transaction_id", {}, {}),
    ("accbooks", "transaction.classified"): ("transactions", "transaction_id", {}, {}),
    ("accbooks", "payroll.run_finalised"): ("compliance", "payroll_run_id", {}, {}),
    ("accbooks", "vat.return_filed"): ("compliance", "vat_return_id", {}, {}),
    ("accbooks", "company.year_end_closed"): ("compliance", "company_id", {}, {}),
    ("accbooks", "bank_feed.error"): ("cases", "bank_feed_id", {}, {"occurred_at": "error_occurred_at"}),
    ("accbooks", "bank_feed.synced"): ("feeds", "bank_feed_id", {}, {}),
}
SCHEMA_OF = {
    "invoices": "InvoiceRecord", "contracts": "ContractRecord", "cases": "CaseRecord", "compliance": "ComplianceRecord",
    "transactions": "TransactionRecord", "reviews": "ReviewRecord", "feeds": "FeedRecord", "quarantine": "Quarantined",
    "dead-letters": "DeadLetter", "attempts": "Attempt", "statements": "Statement", "audit": "AuditEntry",
    "control": "Control", "received.accelex": "Envelope", "received.accbooks": "Envelope", "seen.accelex": "Seen",
    "seen.accbooks": "Seen", f"parked.{lh.TARGET}": "Parked", f"progress.{lh.TARGET}": "Progress",
    f"redeliver.{lh.TARGET}": "Redelivery",
}
ONE_PARTITION = {"statements", "audit", "control"}
COMMON = {"event_id", "source", "event_type", "entity_id", "occurred_at", "received_at", "body_sha256", "work_unit_id",
          "provenance", "validation", "attributes"}


def accbooks_signature(payload, secret):
    """As AccBooks' article computes it."""
    expected = hmac.new(secret.encode("utf-8"), payload, hashlib.sha256).hexdigest()
    return f"sha256={expected}"


def accelex_signature(payload, secret, form="hex"):
    """SHA-256 HMAC; AccelEx's guide does not print how it is written, so each usual form is sent."""
    digest = hmac.new(secret.encode("utf-8"), payload, hashlib.sha256)
    return {"hex": digest.hexdigest(), "prefixed": f"sha256={digest.hexdigest()}",
            "base64": base64.b64encode(digest.digest()).decode()}[form]


def verifies(source, body, signature, secret):
    if source == "accbooks":
        return hmac.compare_digest(accbooks_signature(body, secret), signature)
    return any(hmac.compare_digest(accelex_signature(body, secret, form), signature)
               for form in ("hex", "prefixed", "base64"))


def accelex(name, event_type, outcome, **more):
    return json.dumps({"event_id": f"evt_{name}_{NONCE}", "event_type": event_type, "outcome": outcome, **more},
                      ensure_ascii=False).replace('"<', "").replace('>"', "").encode()


def accbooks(name, event_type, data, **more):
    return json.dumps({"id": f"evt_{name}_{NONCE}", "type": event_type, "created_at": "2026-04-15T14:32:00Z",
                       "data": data, **more}, ensure_ascii=False).replace('"<', "").replace('>"', "").encode()


def time_of(text):
    """A time as JSON has it, cut to microseconds as ours are."""
    whole, fraction, zone = re.fullmatch(r"([^.Z+]+?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text).groups()
    zone = "+00:00" if zone == "Z" else zone
    return datetime.fromisoformat(f"{whole}.{(fraction or '0')[:6]:0<6}{zone}").astimezone(timezone.utc)


def exactly(text):
    return json.loads(text, parse_float=Decimal)


def as_spelled(text):
    """With every digit as it was written, and members in their order."""
    return json.loads(text, parse_float=lambda n: ("number", n), parse_int=lambda n: ("number", n),
                      object_pairs_hook=lambda pairs: ("object", pairs))


def agrees(got, member):
    """Whether a field holds what the event's member says."""
    match got:
        case None:
            return member is None
        case Decimal():
            return isinstance(member, (int, Decimal)) and got == member
        case datetime():
            return got == time_of(member)
        case date():
            return got == date.fromisoformat(member[:10])
        case list():
            return len(got) == len(member or []) and all(map(agrees, got, member or []))
        case dict():
            return all(agrees(part, member.get(name)) for name, part in got.items())
        case str():
            return got == member if isinstance(member, str) else exactly(got) == member
    return got == member


class World:
    """What was sent and what a reader finds."""

    def __init__(self, installation):
        self.it = installation
        self.answers = {}

    def by_hand(self, name, source, body, signature=None, **headers):
        if signature is None:
            sign = accbooks_signature if source == "accbooks" else accelex_signature
            signature = sign(body, self.it.secrets[source])
        self.answers[name] = self.it.post(source, body, {lh.SIGNATURE[source]: signature, **headers})

    def send(self):
        key, books = self.it.secrets["accelex"], self.it.secrets["accbooks"]
        self.by_hand("sample", "accbooks", ACCBOOKS_SAMPLE)
        # Before the others, so that these have every chance to leave something.
        bait = accbooks("bait", "invoice.paid", {"invoice_id": FORGED, "amount": 1})
        self.by_hand("forged", "accbooks", bait, accbooks_signature(bait, "not the secret"))
        changed = bait.replace(b'"amount": 1', b'"amount": 2')
        self.by_hand("changed", "accbooks", changed, accbooks_signature(bait, books))
        self.by_hand("crossed", "accelex", bait, accelex_signature(bait, books))
        self.by_hand("unprefixed", "accbooks", bait, accbooks_signature(bait, books).removeprefix("sha256="))
        for form in ("hex", "prefixed", "base64"):
            body = accelex(form, "case.closed", {"case_id": f"case_{form}"},
                           created_at="2026-05-02T09:14:03.1234567+02:00")
            self.by_hand(form, "accelex", body, accelex_signature(body, key, form), traceparent=TRACEPARENT)
        self.by_hand("exact", "accelex", accelex("exact", "invoice.resolved", {
            "invoice_id": "inv_exact", "total_amount": "<12345678901234567890123456789.123456789>",
            "tax_amount": "<-0.000000001>", "lines": [{"quantity": "<15e-1>", "amount": "<1.50000000000>"}],
            "anomalies": ["plain", {"rule": "x", "delta": "<0.10>"}, 7],
            "later_member": {"kept": ["<1.10>", None, "🧾"]},
            "issue_date": "2026-02-28"}, extra_envelope_member=1))
        self.by_hand("bare", "accelex", accelex("bare", "workflow.failed", {"reason": "no id, no time"}))
        self.by_hand("not_json", "accbooks", f"not json {NONCE} \xff".encode("latin-1"))
        self.by_hand("unknown", "accbooks", accbooks("unknown", "invoice.shredded", {"invoice_id": "inv_x"}))
        self.by_hand("too_large", "accbooks", accbooks("too_large", "invoice.paid", {
            "invoice_id": "inv_y", "amount": "<123456789012345678901234567890.123456789>"}))
        self.by_hand("test", "accbooks", accbooks("test", "test", {}))
        self.by_hand("mismatch_first", "accbooks", accbooks("mismatch", "bank_feed.synced", {"bank_feed_id": "feed_1"}))
        self.by_hand("mismatch", "accbooks", accbooks("mismatch", "bank_feed.synced", {"bank_feed_id": "feed_2"}))
        for name, fault in (("rejected", {"status": 422, "times": 1}), ("retried", {"status": 503, "times": 2}),
                            ("lost", {"mode": "commit_then_drop", "times": 1})):
            self.it.asked("faults", {**fault, "match": {"event_id": f"evt_{name}_{NONCE}"}})
            self.by_hand(name, "accbooks", accbooks(name, "transaction.created", {"transaction_id": f"tx_{name}"}))
        for source, count in MANY.items():
            self.it.run("send", source, "all", "--count", str(count), "--duplicates", "0.2", "--seed", "7",
                        "--url", self.it.through_recorder(source))

    def read(self):
        self.rows, self.high = topics.read(self.it.kafka, self.it.prefix)
        self.uncommitted, _ = topics.read(self.it.kafka, self.it.prefix, "read_uncommitted")
        self.registry = topics.Registry(self.it.registry)
        for rows in self.rows.values():
            for row in rows:
                if row.raw is None:
                    # A tombstone: what it takes back has a key, in a topic that is compacted.
                    assert row.key and row.topic.startswith(COMPACTED), row.where()
                else:
                    self.registry.decode(row)

    @property
    def accepted(self):
        return [request for request in self.it.sent if request.status == 200]

    @property
    def records(self):
        return [row for topic in lh.RECORDS for row in self.rows[topic]]

    def to_route(self):
        """The events that must become a record: (source, event id) -> first body."""
        unusable = {f"evt_{name}_{NONCE}" for name in ("unknown", "too_large", "test")}
        events = {}
        for request in self.accepted:
            try:
                event_id = json.loads(request.body)[ID[request.source]]
            except ValueError:
                continue
            if event_id not in unusable:
                events.setdefault((request.source, event_id), request.body)
        return events


COMPACTED = ("seen.", "parked.", "progress.", "control")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    it = lh.from_environment(tmp_path_factory.mktemp("ledgerhook"))
    if it is None:
        pytest.skip("needs LEDGERHOOK_BIN, KAFKA_BOOTSTRAP and REGISTRY_URL (scripts/foreign sets them)")
    world = World(it)
    try:
        it.run("topics", "apply")
        it.run("schemas", "apply")
        it.start("sandbox")
        it.start("run")
        it.until("readiness of all roles", it.ready)
        world.send()
        expected = len(world.to_route()) - 1  # one is refused by the sandbox
        it.until(f"{expected} documents", lambda: it.asked("requests")["documents"] >= expected)
        world.documents = it.documents()
        world.exit_code = it.stop("run")
        world.read()
        yield world
    finally:
        it.close()
        if os.environ.get("FOREIGN_KEEP"):
            print(f"kept: topics {it.prefix}*, files {it.folder}")
        else:
            topics.forget(it)


def test_murmur2_is_javas():
    # From org.apache.kafka.common.utils.UtilsTest.
    for text, java in (("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536),
                       ("a-little-bit-longer-string", -1486304829), ("abc", 479470107),
                       ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971)):
        assert topics.murmur2(text.encode()) == java & 0xFFFFFFFF, text


def test_answers(world):
    said = {name: (status, answer.get("status") or answer["error"]["code"]) for name, (status, answer) in
            world.answers.items()}
    expected = dict.fromkeys(said, (200, "accepted"))
    expected.update(dict.fromkeys(["forged", "changed", "crossed", "unprefixed"], (401, "signature_invalid")))
    expected.update(not_json=(200, "quarantined"), test=(200, "test"))
    assert said == expected
    assert world.answers["sample"][1]["event_id"] == "evt_01HXYZ123"
    assert world.exit_code == 0, f"exit code of run after SIGTERM\n{world.it.logs()}"


def test_every_topic_is_there_and_nothing_else(world):
    assert topics.layout(world.it.kafka, world.it.prefix) == {
        topic: 1 if topic in ONE_PARTITION else lh.PARTITIONS for topic in SCHEMA_OF}


def test_schemas_resolve_through_the_registry(world):
    for topic, name in SCHEMA_OF.items():
        subject = f"{world.it.prefix}{topic}-value"
        latest = world.registry.get(f"/subjects/{subject}/versions/latest")
        assert world.registry.is_ours(latest["id"], name), subject
        assert world.registry.get(f"/config/{subject}")["compatibilityLevel"] == "FULL_TRANSITIVE", subject
        assert {row.schema_id for row in world.rows[topic] if row.raw is not None} <= {latest["id"]}, subject


def test_all_types_were_sent_with_duplicates(world):
    events = [(r.source, json.loads(r.body)[TYPE[r.source]]) for r in world.accepted if b"not json" not in r.body]
    assert set(ROUTES) <= set(events)
    bodies = [request.body for request in world.accepted]
    assert len(bodies) - len(set(bodies)) >= 0.1 * sum(MANY.values())


def test_received_is_what_went_over_the_wire(world):
    for source in lh.PATHS:
        rows = world.rows[f"received.{source}"]
        sent = [(r.body, r.signature) for r in world.accepted if r.source == source]
        stored = [(row.value["body"], row.value["evidence"]["signature_value"]) for row in rows]
        assert collections.Counter(sent) == collections.Counter(stored)
        for row in rows:
            envelope, evidence = row.value, row.value["evidence"]
            assert envelope["source"] == source and envelope["origin"] == "LIVE"
            assert envelope["body_sha256"] == hashlib.sha256(envelope["body"]).digest()
            assert evidence["signature_header"].lower() == lh.SIGNATURE[source].lower()
            assert evidence["algorithm"] == "hmac-sha256" and evidence["key_id"] == f"key-of-{source}"
            assert verifies(source, envelope["body"], evidence["signature_value"], world.it.secrets[source])
            assert evidence["remote_address"] == "127.0.0.1" and evidence["client_certificate_sha256"] is None
            assert evidence["headers"]["content-type"] == envelope["content_type"]
            assert abs(datetime.now(timezone.utc) - envelope["received_at"]) < timedelta(minutes=10)
            assert row.timestamp == millis(envelope["received_at"]), row.where()
            assert row.key.decode() == envelope["event_id"]
            if b"not json" in envelope["body"]:
                assert envelope["unusable"] == "not_json" and envelope["event_id"] == evidence["request_id"]
                continue
            event = json.loads(envelope["body"])
            assert envelope["unusable"] is None
            assert (envelope["event_id"], envelope["event_type"]) == (event[ID[source]], event[TYPE[source]])
            created = event.get("created_at")
            assert envelope["occurred_at"] == (time_of(created) if created else None)
        answered = collections.Counter(r.answer["request_id"] for r in world.accepted if r.source == source)
        assert collections.Counter(row.value["evidence"]["request_id"] for row in rows) == answered


def millis(time):
    return (time - golden.EPOCH) // timedelta(milliseconds=1)


def test_keys_and_partitions_are_as_java_would_place_them(world):
    for topic, rows in world.rows.items():
        partitions = 1 if topic in ONE_PARTITION else lh.PARTITIONS
        # Rows of internal topics stand beside the partition that they speak of.
        for row in rows if not topic.startswith(("parked", "progress", "redeliver")) else []:
            assert row.key and row.partition == topics.partition_of(row.key, partitions), row.where()
    for row in world.records:
        assert row.key.decode() == f"{row.value['source']}/{row.value['entity_id']}"
    for row in world.rows["attempts"]:
        assert row.key.decode() == f"{lh.TARGET}/{row.value['event_id']}"


def test_cloud_events_headers(world):
    envelopes = [row for source in lh.PATHS for row in world.rows[f"received.{source}"]]
    traces = collections.defaultdict(set)
    for row in envelopes + world.records + world.rows["dead-letters"]:
        event = row.value
        if row.topic == "dead-letters":
            event = event["record"][1]
        headers = {name: row.header(name) for name in dict(row.headers)}
        where = f"{row.where()}: {headers}"
        assert headers.get("ce_specversion") == "1.0", where
        assert headers.get("ce_id") == event["event_id"] and headers.get("ce_source") == event["source"], where
        assert headers.get("ce_type") == (event["event_type"] or "unknown"), where
        assert headers.get("content-type") == "application/avro", where
        happened = event["occurred_at"]
        assert (time_of(headers["ce_time"]) if "ce_time" in headers else None) == happened, where
        if row.topic.startswith("received"):
            assert headers.get("ce_subject") is None or headers["ce_subject"], where
        else:
            assert headers.get("ce_subject") == event["entity_id"], where
        trace = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}", headers.get("traceparent", ""))
        assert trace and set(trace[1]) != {"0"} and set(trace[2]) != {"0"}, where
        known = {"ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type",
                 "traceparent"}
        assert all(name in known or name.startswith("lh_") for name in headers), where
        (traces["received"] if row in envelopes else traces["later"]).add((event["event_id"], trace[1]))
        if event["event_id"] == f"evt_hex_{NONCE}":
            assert trace[1] == TRACEPARENT.split("-")[1], where
    assert traces["later"] <= traces["received"], "a record continues the trace of a request that brought it"


def test_every_event_is_one_record(world):
    found = collections.Counter((row.value["source"], row.value["event_id"]) for row in world.records)
    assert found == collections.Counter(world.to_route().keys())


def test_records_hold_what_the_events_say(world):
    bodies = world.to_route()
    by_hand = re.compile(f"_{NONCE}$")
    for row in world.records:
        record, source = row.value, row.value["source"]
        body = bodies[source, record["event_id"]]
        event = exactly(body)
        topic, entity, fixed, renamed = ROUTES[source, event[TYPE[source]]]
        members = event[MEMBERS[source]]
        where = f"{row.where()} {record['event_type']} {record['event_id']}"
        assert row.topic == topic and record["event_type"] == event[TYPE[source]], where
        assert record["entity_id"] == members.get(entity, record["event_id"]), where
        assert record["body_sha256"] == hashlib.sha256(body).digest(), where
        created = event.get("created_at")
        assert record["occurred_at"] == (time_of(created) if created else None), where
        for name in ("work_unit_id", "provenance", "validation"):
            assert agrees(record[name], event.get(name)), f"{where}: {name} {record[name]} {event.get(name)}"
        member = next(value for name, value in as_spelled(body)[1] if name == MEMBERS[source])
        assert as_spelled(record["attributes"]) == member, f"{where}: {record['attributes']}"
        members = {renamed.get(name, name): value for name, value in members.items()}
        for name, got in record.items():
            if name in fixed:
                assert got == fixed[name], f"{where}: {name}"
            elif name not in COMMON:
                assert agrees(got, members.get(name)), f"{where}: {name} is {got!r}, sent {members.get(name)!r}"
        if not by_hand.search(record["event_id"]):
            assert set(members) <= set(record), f"{where}: without {set(members) - set(record)}"


def test_amounts_are_exact(world):
    exact = next(row.value for row in world.records if row.value["event_id"] == f"evt_exact_{NONCE}")
    assert str(exact["total_amount"]) == "12345678901234567890123456789.123456789"
    assert exact["tax_amount"] == Decimal("-0.000000001")
    assert (exact["lines"][0]["quantity"], exact["lines"][0]["amount"]) == (Decimal("1.5"), Decimal("1.5"))
    sample = next(row.value for row in world.records if row.value["event_id"] == "evt_01HXYZ123")
    assert sample["total_amount"] == Decimal(2500) and sample["currency"] == "GBP"


def test_seen_marks_each_event_beside_its_received_row(world):
    records = {(row.value["source"], row.value["event_id"]): row for row in world.records}
    for source in lh.PATHS:
        received = {row.key: row for row in world.rows[f"received.{source}"]}
        seen = {row.key: row for row in world.rows[f"seen.{source}"]}
        assert set(seen) == set(received)
        for key, row in seen.items():
            marker = row.value
            said = marker["state"], marker["record_topic"], marker["record_key"]
            assert row.partition == received[key].partition, row.where()
            bodies = {r.value["body_sha256"] for r in world.rows[f"received.{source}"] if r.key == key}
            assert set(marker["body_sha256"]) == bodies, row.where()
            record = records.get((source, key.decode()))
            if record is None:
                state = "TEST" if key.decode() == f"evt_test_{NONCE}" else "QUARANTINED"
                assert said == (state, None, None), row.where()
            else:
                assert said == ("ROUTED", record.topic, record.key.decode()), row.where()
                assert record.timestamp == millis(marker["first_routed_at"]), record.where()


def test_quarantine_holds_the_unusable_and_says_why(world):
    reasons = {}
    for row in world.rows["quarantine"]:
        envelope = row.value["envelope"]
        received = [r for r in world.rows[f"received.{envelope['source']}"] if (r.partition, r.offset) == (
            row.value["received_partition"], row.value["received_offset"])]
        assert len(received) == 1 and received[0].value == envelope and received[0].key == row.key, row.where()
        reasons[envelope["body"]] = row.value["reason"]
    names = ("not_json", "unknown", "too_large", "mismatch")
    sent = {request.answer["request_id"]: request.body for request in world.accepted}
    assert reasons == dict(zip((sent[world.answers[name][1]["request_id"]] for name in names), (
        "not_json", "unknown_event_type", "amount_out_of_range", "body_mismatch")))
    assert len(world.rows["quarantine"]) == len(names)


def test_attempts_tell_of_each_delivery(world):
    by_place = {(row.topic, row.partition, row.offset): row for row in world.records}
    attempts = collections.defaultdict(list)
    for row in sorted(world.rows["attempts"], key=lambda row: row.value["n"]):
        attempt = row.value
        record = by_place[attempt["record_topic"], attempt["record_partition"], attempt["record_offset"]]
        assert attempt["event_id"] == record.value["event_id"], row.where()
        assert attempt["record_key"] == record.key.decode(), row.where()
        assert attempt["target"] == lh.TARGET and attempt["source"] == record.value["source"], row.where()
        assert attempt["duration_us"] >= 0, row.where()
        attempts[attempt["source"], attempt["event_id"]].append(attempt)
    special = {"rejected": ["REJECTED"], "retried": ["RETRY", "RETRY", "DELIVERED"]}
    for (source, event_id), tries in attempts.items():
        outcomes = [attempt["outcome"] for attempt in tries]
        assert [attempt["n"] for attempt in tries] == list(range(1, len(tries) + 1)), event_id
        name = event_id.removeprefix("evt_").removesuffix(f"_{NONCE}")
        if name == "lost":
            assert outcomes in (["UNRESOLVED", "DELIVERED"], ["UNRESOLVED", "DUPLICATE"]), outcomes
        else:
            assert outcomes == special.get(name, ["DELIVERED"]), (event_id, outcomes)
    assert set(attempts) == set(world.to_route())


def test_a_refused_record_is_a_dead_letter_with_its_story(world):
    (row,) = world.rows["dead-letters"]
    letter, (kind, record) = row.value, row.value["record"]
    original = next(r for r in world.records if r.value["event_id"] == f"evt_rejected_{NONCE}")
    assert kind == "io.ledgerhook.TransactionRecord" and record == original.value and row.key == original.key
    place = letter["record_topic"], letter["record_partition"], letter["record_offset"]
    assert place == (original.topic, original.partition, original.offset)
    assert (letter["target"], letter["reason"], letter["attempts_total"]) == (lh.TARGET, "rejected", 1)
    tries = [r.value for r in world.rows["attempts"] if r.value["event_id"] == letter["event_id"]]
    assert letter["attempts"] == tries and tries[0]["status"] == 422


def test_positions_stand_behind_every_row(world):
    """What was done is committed: a restart begins behind it, and behind no more than that."""
    positions = topics.positions(world.it.kafka, world.it.prefix)
    inputs = [f"received.{source}" for source in lh.PATHS] + lh.RECORDS
    for topic in inputs:
        ends = {}
        for row in world.rows[topic]:
            ends[row.partition] = max(row.offset + 1, ends.get(row.partition, 0))
        for partition, end in ends.items():
            found = positions[topic, partition]
            # A transaction's marker takes an offset of its own behind its rows.
            assert end <= found <= world.high[topic, partition], f"{topic}/{partition}: {found}, rows end at {end}"


def test_the_sandbox_has_each_document_once_and_to_the_digit(world):
    records = {row.value["event_id"]: row.value for row in world.records if "_rejected_" not in row.value["event_id"]}
    documents = collections.Counter(document["event_id"] for document in world.documents)
    assert documents == collections.Counter(records.keys())
    for document in world.documents:
        record = golden.for_people(records[document["event_id"]])
        assert document["entity"] == f"{record['source']}/{record['entity_id']}"
        assert {name: document["body"].get(name) for name in record} == record, document["event_id"]


def test_strangers_left_no_trace(world):
    """Not even in an aborted transaction; rows that came later (MANY of them) were found, so these would have been."""
    refused = [request for request in world.it.sent if request.status == 401]
    assert len(refused) == 4
    marks = [FORGED.encode(), f"evt_bait_{NONCE}".encode()]
    marks += [request.answer["request_id"].encode() for request in refused]
    marks += [hashlib.sha256(request.body).digest() for request in refused]
    for rows in world.uncommitted.values():
        for row in rows:
            text = b"\n".join([row.key or b"", row.raw or b"", *(value or b"" for _, value in row.headers)])
            assert not any(mark in text for mark in marks), row.where()


def test_no_secret_is_in_any_topic_or_log(world):
    everything = [world.it.logs().encode()]
    everything += [(row.key or b"") + (row.raw or b"") for rows in world.uncommitted.values() for row in rows]
    for secret in world.it.secrets.values():
        assert not any(secret.encode() in text for text in everything)
