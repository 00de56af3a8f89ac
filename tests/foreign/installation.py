"""A Ledgerhook of its own: configuration, processes, and a recorder between the providers and the receiver."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RECORDS = ["invoices", "contracts", "cases", "compliance", "transactions", "reviews", "feeds"]
PATHS = {"accelex": "/api/accelex/webhook", "accbooks": "/api/accbooks/webhook"}
SIGNATURE = {"accelex": "X-AccelEx-Signature", "accbooks": "AccBooks-Signature"}
PARTITIONS = 3
TARGET = "sandbox"


@dataclass
class Sent:
    """One request as it went over the wire, and what was answered."""

    source: str
    headers: dict
    body: bytes
    status: int
    answer: dict

    @property
    def signature(self):
        return self.headers.get(SIGNATURE[self.source].lower())


@dataclass
class Installation:
    binary: str
    kafka: str
    registry: str
    folder: Path
    prefix: str = field(default_factory=lambda: f"foreign{secrets.token_hex(6)}.")
    sent: list = field(default_factory=list)
    # Name -> path at the sandbox.
    targets: dict = field(default_factory=lambda: {TARGET: ""})
    # Configuration beside all of this.
    more: str = ""

    def __post_init__(self):
        self.receiver, self.admin, self.sandbox = free_ports(3)
        self.secrets = {source: secrets.token_hex(24) for source in PATHS}
        for source, secret in self.secrets.items():
            (self.folder / source).write_text(secret + "\n", encoding="utf-8")
        sources = "\n".join(
            f'[sources.{source}]\nsecrets = [{{ id = "key-of-{source}", value = "file:{self.folder / source}" }}]'
            for source in PATHS)
        targets = "\n".join(f"""
[targets.{name}]
preset = "sandbox"
records = {json.dumps(RECORDS)}
start = "earliest"
url = "http://127.0.0.1:{self.sandbox}/{path}"
retry = {{ first = "100ms", max = "1s", give_up_after = "1m" }}
""" for name, path in self.targets.items())
        file = self.folder / "ledgerhook.toml"
        self.config = ["--config", str(file)]
        file.write_text(f"""
data_dir = "{self.folder / 'data'}"
[kafka]
bootstrap_servers = ["{self.kafka}"]
topic_prefix = "{self.prefix}"
partitions = {PARTITIONS}
[schema_registry]
url = "{self.registry}"
[receiver]
listen = "127.0.0.1:{self.receiver}"
[admin]
listen = "127.0.0.1:{self.admin}"
[sandbox]
listen = "127.0.0.1:{self.sandbox}"
{sources}
{targets}
{self.more}
""", encoding="utf-8")
        self.processes = {}
        self.recorder = ThreadingHTTPServer(("127.0.0.1", 0), recorder_for(self))
        threading.Thread(target=self.recorder.serve_forever, daemon=True).start()

    def run(self, *arguments, seconds=60):
        """One command to its end, which has to be a good one."""
        done = subprocess.run([self.binary, *arguments, *self.config], timeout=seconds, capture_output=True, text=True,
                              cwd=self.folder)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, name):
        log = open(self.folder / f"{name}.log", "wb")
        self.processes[name] = subprocess.Popen([self.binary, name, *self.config], stdout=log, stderr=log,
                                                cwd=self.folder)

    def stop(self, name):
        process = self.processes.pop(name, None)
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return "killed after 30 s"

    def close(self):
        for name in list(self.processes):
            self.stop(name)
        self.recorder.shutdown()
        self.recorder.server_close()

    def logs(self):
        return "".join(f"--- {p.name}\n{p.read_text(errors='replace')[-3000:]}" for p in self.folder.glob("*.log"))

    def until(self, what, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            for name, process in self.processes.items():
                assert process.poll() is None, f"{name} ended\n{self.logs()}"
            assert time.monotonic() < end, f"{what} did not happen within {seconds} s\n{self.logs()}"
            time.sleep(0.2)

    def ready(self):
        try:
            return self.get(self.admin, "/readyz")[0] == 200
        except OSError:
            return False

    def get(self, port, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def asked(self, path, order=None):
        """The sandbox's answer."""
        order = None if order is None else json.dumps(order).encode()
        status, body = self.get(self.sandbox, f"/_sandbox/{path}", order)
        assert status in (200, 201), body
        return json.loads(body)

    def documents(self):
        found, after = [], 0
        while after is not None:
            page = self.asked(f"documents?limit=1000&after={after}")
            found, after = found + page["documents"], page["next"]
        return found

    def through_recorder(self, source):
        return f"http://127.0.0.1:{self.recorder.server_address[1]}{PATHS[source]}"

    def post(self, source, body, headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.recorder.server_address[1], timeout=30)
        connection.request("POST", PATHS[source], body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        result = answer.status, json.loads(answer.read())
        connection.close()
        return result


def recorder_for(installation):
    class Recorder(BaseHTTPRequestHandler):
        """Hands a request on byte for byte and keeps it."""

        protocol_version = "HTTP/1.1"
        upstream = None

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hop = ("host", "connection")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection("127.0.0.1", installation.receiver, timeout=30)
            self.upstream.request("POST", self.path, body, headers)
            answer = self.upstream.getresponse()
            said = answer.read()
            source = next(name for name, path in PATHS.items() if path == self.path)
            installation.sent.append(Sent(source, {name.lower(): value for name, value in headers.items()}, body,
                                          answer.status, json.loads(said)))
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_):
            pass

    return Recorder


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def from_environment(folder, **more):
    """None where the environment names no binary, broker and registry."""
    found = [os.environ.get(name) for name in ("LEDGERHOOK_BIN", "KAFKA_BOOTSTRAP", "REGISTRY_URL")]
    return Installation(*found, folder, **more) if all(found) else None
