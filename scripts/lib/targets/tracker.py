"""Roundup for tests and the demo: a tracker of the classic template, and a server that root may run too.

    tracker.py provision FOLDER PORT PASSWORD     an empty tracker with the account `ledgerhook`
    tracker.py serve FOLDER PORT                  until it is ended; loopback only
"""

import pathlib
import re
import subprocess
import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

# What an integrator adds to an issue's class: the id that Ledgerhook gives, which no two issues share.
STATUS = 'status=Link("status"))'
EXTERNAL_ID = 'status=Link("status"),\n                ext_id=String(indexme="no"))\nissue.setkey("ext_id")'


def provision(home, port, password):
    admin = [sys.executable, "-m", "roundup.scripts.roundup_admin", "-i", str(home)]
    run = {"stdin": subprocess.DEVNULL, "check": True, "capture_output": True, "text": True}
    subprocess.run([*admin, "install", "classic", "sqlite"], **run)

    schema = home / "schema.py"
    text = schema.read_text()
    assert text.count(STATUS) == 1, f"{schema} is not of the template that is known here"
    schema.write_text(text.replace(STATUS, EXTERNAL_ID))

    config = home / "config.ini"
    text = config.read_text()
    for section, option, value in (
        ("tracker", "web", f"http://127.0.0.1:{port}/"),
        ("mail", "domain", "tracker.example"),
        ("mail", "host", "localhost"),
        # Mail goes nowhere.
        ("mail", "debug", str(home / "mail")),
        # A login counts the rounds on every request: real ones take a tenth of a second.
        ("main", "password_pbkdf2_default_rounds", "1000"),
    ):
        text, n = re.subn(rf"(?ms)^(\[{section}\]$.*?^)#?{option} = [^\n]*", rf"\g<1>{option} = {value}", text, count=1)
        assert n == 1, f"{config} has no {option} in [{section}]"
    config.write_text(text)

    subprocess.run([*admin, "initialise", password], **run)
    subprocess.run([*admin, "create", "user", "username=ledgerhook", f"password={password}",
                    "address=ledgerhook@tracker.example", "roles=User"], **run)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        pass


def serve(home, port):
    from roundup.cgi.wsgi_handler import RequestDispatcher

    with make_server("127.0.0.1", port, RequestDispatcher(str(home)), Server, Quiet) as server:
        server.serve_forever()


if __name__ == "__main__":
    command, home, port = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3])
    if command == "provision":
        provision(home, port, sys.argv[4])
    else:
        serve(home, port)
