"""Our schemas as another implementation of Avro (fastavro) understands them."""

import io
import json

import fastavro
import pytest
from fastavro.schema import to_parsing_canonical_form

import golden

EVERY = pytest.mark.parametrize("name", golden.names())
SEEDS = range(25)


def shapes(name):
    """Every named type of a file with the names in it replaced by what they stand for."""
    known = {}

    def expand(schema):
        if isinstance(schema, list):
            return [expand(branch) for branch in schema]
        if isinstance(schema, str):
            return known.get(schema.removeprefix("io.ledgerhook."), schema)
        whole = {member: expand(part) if member in ("items", "values") else part for member, part in schema.items()
                 if member != "namespace"}
        if "fields" in whole:
            whole["fields"] = [{**field, "type": expand(field["type"])} for field in whole["fields"]]
        if "name" in whole:
            known[whole["name"]] = whole
        return whole

    expand(golden.source(name))
    return known


@EVERY
def test_a_schema_parses_and_its_canonical_form_is_stable(name):
    schema = golden.parsed(name)
    assert schema["name"] == f"io.ledgerhook.{name}"
    once = to_parsing_canonical_form(schema)
    assert to_parsing_canonical_form(fastavro.parse_schema(json.loads(once))) == once


@EVERY
def test_every_type_and_field_is_documented_and_every_enum_has_a_default(name):
    for node in golden.described(golden.source(name)):
        if node["type"] in ("record", "enum"):
            assert node.get("doc"), node["name"]
        if node["type"] == "enum":
            assert node.get("default") in node["symbols"], node["name"]
        for field in node.get("fields", []):
            assert field.get("doc"), f"{node['name']}.{field['name']}"
            if isinstance(field["type"], list):
                where = f"{node['name']}.{field['name']}"
                assert field["type"][0] == "null" and "default" in field and field["default"] is None, where


@EVERY
def test_a_default_is_a_value_of_its_field(name):
    """A reader of another version falls back on it: it must fill in where the writer lacked the field."""
    whole = golden.source(name)
    lean = {**whole, "fields": [f for f in whole["fields"] if "default" not in f]}
    style = golden.Style("filled", name)
    datum = golden.write(fastavro.parse_schema(lean), golden.value(lean, style))
    value = fastavro.schemaless_reader(io.BytesIO(datum), fastavro.parse_schema(lean), golden.parsed(name))
    for field in whole["fields"]:
        if "default" in field:
            assert value[field["name"]] == field["default"]


def test_a_type_is_the_same_in_every_file():
    first = {}
    for name in golden.names():
        for type_name, shape in shapes(name).items():
            file, known = first.setdefault(type_name, (name, shape))
            assert shape == known, f"{type_name} differs between {file}.avsc and {name}.avsc"


@EVERY
@pytest.mark.parametrize("seed", SEEDS)
def test_values_of_every_shape_survive(name, seed):
    schema, source = golden.parsed(name), golden.source(name)
    styles = golden.styles(name) if seed == 0 else [golden.Style("random", f"{name}/{seed}")]
    for style in styles:
        value = golden.value(source, style)
        assert golden.read(schema, golden.write(schema, value)) == value, style.name


@pytest.mark.parametrize("name", golden.WITH_VECTORS)
def test_vectors_are_current(name):
    on_disk = (golden.VECTORS / f"{name}.json").read_text(encoding="utf-8")
    assert on_disk == golden.vectors(name), "schema or generator changed: run python tests/foreign/golden.py"


@pytest.mark.parametrize("name", golden.WITH_VECTORS)
def test_vectors_say_what_their_datums_hold(name):
    schema = golden.parsed(name)
    cases = json.loads((golden.VECTORS / f"{name}.json").read_text(encoding="utf-8"))["cases"]
    assert len({case["name"] for case in cases}) == len(cases) >= 5
    for case in cases:
        value = golden.read(schema, bytes.fromhex(case["datum_hex"]))
        assert golden.for_people(value) == case["json"], case["name"]


def test_vectors_go_to_the_limits_of_decimal():
    """Python rounds decimals to 28 digits where one is not careful."""
    text = (golden.VECTORS / "InvoiceRecord.json").read_text(encoding="utf-8")
    for limit in ("", "-"):
        assert f'"{limit}{"9" * 29}.{"9" * 9}"' in text


def test_no_vectors_without_a_schema():
    assert sorted(path.stem for path in golden.VECTORS.glob("*.json")) == golden.WITH_VECTORS
