"""What was sent, against what Tryton and Roundup say themselves.

    compare.py FOLDER RUN SANDBOX

FOLDER holds tryton.env and roundup.env of scripts/targets; RUN the bodies that were sent, one file each; SANDBOX is the
address of the review queue. Prints a table; ends with 1 where a line of it differs.
"""

import base64
import json
import pathlib
import sys
import urllib.parse
import urllib.request
from decimal import Decimal

folder, run, sandbox = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]


def server(name):
    return dict(line.split("=", 1) for line in (folder / f"{name}.env").read_text().splitlines())


def ask(url, body=None, account=None, **headers):
    if account:
        login = f"{account['LOGIN']}:{account['PASSWORD']}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(login).decode()
    body = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", **headers})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def posted(ids):
    """Posted invoices of Tryton with one of our ids: side and total."""
    tryton = server("tryton")
    domain = [["state", "=", "posted"], ["description", "in", sorted(ids)]]
    params = [domain, 0, None, None, ["type", "total_amount"], {"company": 1}]
    call = {"id": 0, "method": "model.account.invoice.search_read", "params": params}
    answer = ask(tryton["URL"] + "rpc/", call, tryton)
    return [(row["type"], Decimal(row["total_amount"]["decimal"])) for row in answer["result"]]


def issues(ids):
    """Issues of Roundup with one of our ids."""
    roundup = server("roundup")
    query = urllib.parse.urlencode({"@fields": "ext_id", "@page_size": "10000"})
    headers = {"Origin": roundup["URL"].rstrip("/"), "X-Requested-With": "compare"}
    answer = ask(f"{roundup['URL']}rest/data/issue?{query}", account=roundup, **headers)
    return sum(issue["ext_id"] in ids for issue in answer["data"]["collection"])


def queued(ids):
    """Documents of the review queue of one of these events."""
    found, after = 0, 0
    while after is not None:
        page = ask(f"{sandbox}_sandbox/documents?limit=1000&after={after}")
        found += sum(document["event_id"] in ids for document in page["documents"])
        after = page["next"]
    return found


events = [json.loads(file.read_text(), parse_float=Decimal) for file in sorted(run.glob("*.json"))]
payable = {f"accelex/{e['outcome']['invoice_id']}": e["outcome"]["total_amount"] for e in events
           if e.get("event_type") == "invoice.resolved"}
receivable = {f"accbooks/{e['data']['invoice_id']}": e["data"]["amount"] for e in events
              if e.get("type") == "invoice.created"}
cases = {f"accelex:{e['event_id']}" for e in events if e.get("event_type") == "case.closed"}
cases |= {f"accbooks:{e['id']}" for e in events if e.get("type") == "bank_feed.error"}
reviews = {e["event_id"] for e in events if e.get("event_type") == "workflow.failed"}
assert len(payable) + len(receivable) + len(cases) + len(reviews) == len(events), "not every event is one document"

in_tryton = posted({*payable, *receivable})
rows = [(f"{whose} invoices posted in Tryton", len(sent), sum(sent.values()), len(got), sum(got))
        for whose, kind, sent in (("suppliers'", "in", payable), ("customers'", "out", receivable))
        for got in [[total for side, total in in_tryton if side == kind]]]
rows += [("cases as issues in Roundup", len(cases), None, issues(cases), None),
         ("reviews in the queue", len(reviews), None, queued(reviews), None)]

print(f"{'':38} {'sent':>6} {'sum':>14} {'found':>7} {'sum':>14}")
for what, sent, sum_sent, found, sum_found in rows:
    money = ["" if amount is None else f"{Decimal(amount):,.2f}" for amount in (sum_sent, sum_found)]
    print(f"{what:38} {sent:>6} {money[0]:>14} {found:>7} {money[1]:>14}")
sys.exit(any((sent, sum_sent) != (found, sum_found) for _, sent, sum_sent, found, sum_found in rows))
