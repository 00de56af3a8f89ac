"""Values of every shape for our schemas, and the golden vectors made of them with fastavro.

    python tests/foreign/golden.py        writes tests/foreign/vectors/*.json anew

One file for each schema that Ledgerhook reads and writes:

    {"schema": NAME, "canonical_sha256": SHA-256 of the schema's parsing canonical form,
     "cases": [{"name": ..., "datum_hex": the Avro datum, without Confluent's five bytes, "json": the same for people}]}

In `json`, decimals are strings without trailing zeros, bytes lower-case hex (also an envelope's body), times RFC 3339
in UTC with six digits, days ISO 8601, a union's value the value itself. Datums have one spelling: arrays and maps in
one block, a map's keys in the order of their bytes, decimals in as few bytes as hold them.
"""

import hashlib
import io
import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from pathlib import Path

import fastavro
from fastavro.schema import to_parsing_canonical_form

HERE = Path(__file__).resolve().parent
SCHEMAS = HERE.parent.parent / "schemas"
VECTORS = HERE / "vectors"

# Those with a type of ours that reads and writes them.
WITH_VECTORS = [
    "Attempt", "CaseRecord", "ComplianceRecord", "ContractRecord", "DeadLetter", "Envelope", "FeedRecord",
    "InvoiceRecord", "Quarantined", "ReviewRecord", "Seen", "TransactionRecord",
]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
DAY_ZERO = date(1970, 1, 1)
MICRO = timedelta(microseconds=1)
# Ledgerhook's calendar ends where a time could no longer be shown at every offset from UTC; Python's begins here.
LAST_TIME = datetime(9999, 12, 30, 21, 59, 59, 999999, tzinfo=timezone.utc)
FIRST_TIME = datetime(1, 1, 1, tzinfo=timezone.utc)

TEXTS = [
    "", "a", "\u0000", "line\nbreak\ttab\r\"quoted\" \\", "Zoë & Søn ÅB", "e\u0301 combining", "שלום", "日本語の請求書",
    "🧾👩‍💻", "\U0010ffff", "\ufeffmark", "\u2028\u2029", "x" * 70,
]


def exact(unscaled):
    """That many times 10^-9. Python would round to 28 digits otherwise."""
    with localcontext() as context:
        context.prec = 60
        return Decimal(unscaled).scaleb(-9)


SMALLEST, LARGEST = exact(1), exact(10**38 - 1)
DECIMALS = [
    Decimal(0), SMALLEST, -SMALLEST, Decimal(1), Decimal(-1), Decimal("0.1"), Decimal("2500.00"), Decimal("1.5"),
    exact(127), exact(128), exact(255), exact(256), exact(-129), exact(-255), LARGEST, exact(1 - 10**38),
    Decimal("12345678901234567890123456789.123456789"), Decimal(10) ** 28, Decimal("9007199254740993"),
]


def source(name):
    return json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))


def names():
    return sorted(path.stem for path in SCHEMAS.glob("*.avsc"))


def parsed(name):
    return fastavro.parse_schema(source(name))


def canonical(name):
    return to_parsing_canonical_form(parsed(name))


def write(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


def read(schema, datum):
    """The value, which must take the whole datum. Of several records in a union, (name, value)."""
    stream = io.BytesIO(datum)
    value = fastavro.schemaless_reader(stream, schema, None, return_record_name=True, return_record_name_override=True)
    rest = stream.read()
    assert not rest, f"{len(rest)} bytes behind the datum"
    return value


class Pick:
    """Numbers from a seed, the same in every version of Python, which `random` does not promise."""

    def __init__(self, seed):
        self.seed, self.n = seed, 0

    def below(self, bound):
        self.n += 1
        digest = hashlib.sha256(f"{self.seed}/{self.n}".encode()).digest()
        return int.from_bytes(digest[:24], "big") % bound

    def of(self, items):
        return items[self.below(len(items))]

    def between(self, low, high):
        return low + self.below(high - low + 1)


class Style:
    """What to put where. `branch` is the record of a union of records that is taken."""

    def __init__(self, name, seed, branch=None):
        self.name, self.pick, self.branch = name, Pick(f"{seed}/{name}/{branch}"), branch

    def choose(self, null, filled, high, low, any_of):
        fixed = {"null": null, "filled": filled, "high": high, "low": low}
        return fixed[self.name] if self.name in fixed else any_of()

    def text(self, field):
        return self.choose("", f"{field}-{self.pick.below(1000)}", "\U0010ffff" * 3 + TEXTS[3], "\u0000",
                           lambda: self.pick.of(TEXTS))

    def raw(self, field):
        if field == "body_sha256":
            return hashlib.sha256(str(self.pick.below(1 << 64)).encode()).digest()
        return self.choose(b"", b'{"id":"evt_1","amount":2500.00}', bytes(range(256)), b"\x00",
                           lambda: bytes(self.pick.below(256) for _ in range(self.pick.below(40))))

    def integer(self, bits):
        top = (1 << bits - 1) - 1
        return self.choose(0, self.pick.between(1, 1000), top, -top - 1, lambda: self.pick.of(
            [0, 1, -1, 63, 64, -64, -65, top, -top - 1, self.pick.between(-top, top)]))

    def decimal(self):
        return self.choose(Decimal(0), Decimal("2500.00"), LARGEST, exact(1 - 10**38), self.any_decimal)

    def any_decimal(self):
        if self.pick.below(2):
            return self.pick.of(DECIMALS)
        digits = 10 ** self.pick.between(1, 38) - 1
        unscaled = self.pick.between(-digits, digits)
        # fastavro writes -128, -32768 and the like in a byte more than they need.
        if unscaled < 0 and (-unscaled).bit_length() % 8 == 0 and -unscaled & (-unscaled - 1) == 0:
            unscaled += 1
        return exact(unscaled)

    def time(self):
        return self.choose(EPOCH, datetime(2026, 4, 15, 14, 32, 0, 120000, timezone.utc), LAST_TIME, FIRST_TIME,
                           lambda: self.pick.of([EPOCH - MICRO, EPOCH + MICRO, FIRST_TIME, LAST_TIME, EPOCH + MICRO *
                                                 self.pick.below(4_000_000_000_000_000)]))

    def day(self):
        return self.choose(DAY_ZERO, date(2026, 2, 28), date.max, date.min, lambda: self.pick.of(
            [date(2024, 2, 29), date(1969, 12, 31), date(1900, 3, 1), DAY_ZERO + timedelta(self.pick.below(30_000))]))

    def count(self):
        return self.choose(0, 2, 3, 1, lambda: self.pick.below(4))


def described(schema):
    """Every type that a schema describes in place, outermost first."""
    if isinstance(schema, list):
        for branch in schema:
            yield from described(branch)
    elif isinstance(schema, dict):
        yield schema
        for inner in [f["type"] for f in schema.get("fields", [])] + [schema.get("items"), schema.get("values")]:
            yield from described(inner)


def value(schema, style, field="", known=None):
    """A value of a schema as it stands in the file, where a name stands for a type described before it."""
    known = known or {node["name"]: node for node in described(schema) if "name" in node}
    if isinstance(schema, list):
        return union(schema, style, field, known)
    if isinstance(schema, str):
        schema = known.get(schema.removeprefix("io.ledgerhook."), {"type": schema})
    match schema.get("logicalType") or schema["type"]:
        case "record":
            return {f["name"]: value(f["type"], style, f["name"], known) for f in schema["fields"]}
        case "enum":
            symbols = schema["symbols"]
            return style.choose(symbols[0], symbols[1], symbols[-1], symbols[0], lambda: style.pick.of(symbols))
        case "array":
            return [value(schema["items"], style, field, known) for _ in range(style.count())]
        case "map":
            keys = sorted({f"{field}-{n}-{style.text(field)}" for n in range(style.count())}, key=str.encode)
            return {key: value(schema["values"], style, field, known) for key in keys}
        case "decimal":
            return style.decimal()
        case "timestamp-micros":
            return style.time()
        case "date":
            return style.day()
        case "string":
            return style.text(field)
        case "bytes":
            return style.raw(field)
        case "int":
            return style.integer(32)
        case "long":
            return style.integer(64)
        case "boolean":
            return bool(style.choose(0, 1, 1, 0, lambda: style.pick.below(2)))
    raise AssertionError(f"no values for {schema}")


def union(branches, style, field, known):
    if style.name == "null" or style.name not in ("filled", "high", "low") and style.pick.below(3) == 0:
        return None
    rest = [branch for branch in branches if branch != "null"]
    if len(rest) == 1:
        return value(rest[0], style, field, known)
    by_name = {(b if isinstance(b, str) else b["name"]).removeprefix("io.ledgerhook."): b for b in rest}
    name = style.branch or style.pick.of(sorted(by_name))
    return f"io.ledgerhook.{name}", value(by_name[name], style, field, known)


def for_people(schema_value):
    """The form in a vector's `json`."""
    match schema_value:
        case (str(), dict() as record):
            return for_people(record)
        case dict():
            return {name: for_people(member) for name, member in schema_value.items()}
        case list():
            return [for_people(item) for item in schema_value]
        case Decimal():
            return plain(schema_value)
        case bytes():
            return schema_value.hex()
        case datetime():
            # strftime does not pad years on every system.
            return schema_value.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case date():
            return schema_value.isoformat()
    return schema_value


def plain(number):
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def styles(name, random_cases=4):
    """Every style for a schema; of a union of records, each in turn."""
    records = [n for n in names() if n.endswith("Record")] if name == "DeadLetter" else [None]
    fixed = [Style("null", name)] + [Style("filled", name, branch) for branch in records]
    extremes = [Style("high", name, records[0]), Style("low", name, records[-1])]
    return fixed + extremes + [Style(f"random_{n}", name) for n in range(1, random_cases + 1)]


def vectors(name):
    """The text of a schema's file of vectors."""
    schema, cases = parsed(name), []
    for style in styles(name):
        made = value(source(name), style)
        title = style.name if style.branch is None else f"{style.name}_{style.branch}"
        cases.append({"name": title, "datum_hex": write(schema, made).hex(), "json": for_people(made)})
    document = {
        "schema": name,
        "canonical_sha256": hashlib.sha256(canonical(name).encode()).hexdigest(),
        "cases": cases,
    }
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


if __name__ == "__main__":
    VECTORS.mkdir(exist_ok=True)
    for schema_name in WITH_VECTORS:
        (VECTORS / f"{schema_name}.json").write_text(vectors(schema_name), encoding="utf-8")
