"""A GRC platform and a review queue behind the preset `webhook`: what comes is verified by the reference library of
Standard Webhooks, on the bytes and headers as they went over the wire.

Runs where LEDGERHOOK_BIN, KAFKA_BOOTSTRAP and REGISTRY_URL are set (scripts/foreign sets them).
"""

import base64
import collections
import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

import installation as lh
import topics

# Of its five types AccelEx sends one in five each, of its eleven AccBooks three go to compliance.
SENT = {"accelex": 40, "accbooks": 44}
RECEIVERS = {"grc": ["compliance"], "review": ["reviews"]}
EXPECTED = {"grc": 8 + 12, "review": 8}


class Receiver:
    """Takes what verifies, as an honest receiver does: once per id. Every third delivery is answered 500 after that."""

    def __init__(self, folder, name):
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.file = folder / f"{name}.secret"
        self.file.write_text(self.secret + "\n", encoding="utf-8")
        self.taken, self.refused, self.requests = {}, [], []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(receiver.receive(dict(self.headers), body))

            def answer(self, status):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hooks"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def receive(self, headers, body):
        self.requests.append((headers, body))
        try:
            record = Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError as error:
            self.refused.append((headers, str(error)))
            return 401
        self.taken.setdefault({k.lower(): v for k, v in headers.items()}["webhook-id"], []).append(record)
        return 500 if len(self.requests) % 3 == 0 else 204


@pytest.fixture(scope="module")
def receivers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledgerhook")
    receivers = {name: Receiver(folder, name) for name in RECEIVERS}
    more = "".join(f"""
[targets.{name}]
preset = "webhook"
records = {json.dumps(RECEIVERS[name])}
start = "earliest"
url = "{receiver.url}"
allow_private_addresses = true
signing_secret = "file:{receiver.file}"
retry = {{ first = "100ms", max = "1s", give_up_after = "1m" }}
""" for name, receiver in receivers.items())
    it = lh.from_environment(folder, targets={}, more=more)
    if it is None:
        pytest.skip("needs LEDGERHOOK_BIN, KAFKA_BOOTSTRAP and REGISTRY_URL (scripts/foreign sets them)")
    try:
        it.run("topics", "apply")
        it.run("schemas", "apply")
        it.start("run")
        it.until("readiness of all roles", it.ready)
        for source, count in SENT.items():
            it.run("send", source, "all", "--count", str(count), "--duplicates", "0.2", "--url", it.through_recorder(source))
        it.until("every delivery", lambda: all(len(r.taken) >= EXPECTED[name] for name, r in receivers.items()))
        assert it.stop("run") == 0
        yield receivers
    finally:
        it.close()
        for receiver in receivers.values():
            receiver.server.shutdown()
        topics.forget(it)


def test_every_delivery_verifies(receivers):
    for name, receiver in receivers.items():
        assert not receiver.refused, f"{name}: {receiver.refused[:3]}"
        assert len(receiver.taken) == EXPECTED[name], name


def test_a_repeat_has_its_id_and_body(receivers):
    repeated = 0
    for receiver in receivers.values():
        for event_id, records in receiver.taken.items():
            assert all(record == records[0] for record in records)
            assert records[0]["event_id"] == event_id
            repeated += len(records) - 1
    assert repeated > 0, "answers of 500 lead to repeats"


def test_what_was_sent_is_there(receivers):
    types = collections.Counter(r[0]["event_type"] for receiver in receivers.values() for r in receiver.taken.values())
    assert types == {"workflow.failed": 8, "compliance.record_generated": 8, "payroll.run_finalised": 4,
                     "vat.return_filed": 4, "company.year_end_closed": 4}


def test_the_library_refuses_what_was_changed(receivers):
    receiver = receivers["review"]
    headers, body = receiver.requests[0]
    webhook = Webhook(receiver.secret)
    lower = {name.lower(): value for name, value in headers.items()}
    webhook.verify(body, headers)
    other_time = str(int(lower["webhook-timestamp"]) + 1)
    for changed, bytes_of in ((lower, body + b" "), ({**lower, "webhook-id": "other"}, body),
                              ({**lower, "webhook-timestamp": other_time}, body)):
        with pytest.raises(WebhookVerificationError):
            webhook.verify(bytes_of, changed)
    with pytest.raises(WebhookVerificationError):
        Webhook(receivers["grc"].secret).verify(body, headers)
