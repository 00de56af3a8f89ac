"""Topics as a stranger reads them: librdkafka's plain consumer, the registry over HTTP, fastavro, our own murmur2."""

import json
import secrets
import struct
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import confluent_kafka
import fastavro
from confluent_kafka.admin import AdminClient
from fastavro.schema import to_parsing_canonical_form

import golden


@dataclass
class Row:
    """One Kafka record; `value` and `schema_id` once it is decoded."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes
    raw: bytes
    headers: list
    value: object = None
    schema_id: int = None

    def header(self, name):
        found = [value.decode() for header, value in self.headers if header == name]
        assert len(found) <= 1, f"{name} stands {len(found)} times on {self.where()}"
        return found[0] if found else None

    def where(self):
        return f"{self.topic}/{self.partition}@{self.offset}"


def murmur2(data):
    """Austin Appleby's MurmurHash2 as in Kafka's Java clients (org.apache.kafka.common.utils.Utils)."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        k = k * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def partition_of(key, partitions):
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def layout(bootstrap, prefix):
    """The topics of an installation: name without prefix -> number of partitions."""
    found = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=20).topics
    ours = {name: topic for name, topic in found.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): len(topic.partitions) for name, topic in ours.items()}


def read(bootstrap, prefix, isolation="read_committed", seconds=60):
    """Every record of every topic, up to its end: name without prefix -> rows; and (name, partition) -> end."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": bootstrap, "group.id": f"foreign-{secrets.token_hex(6)}", "enable.auto.commit": False,
        "isolation.level": isolation, "enable.partition.eof": True, "auto.offset.reset": "error",
    })
    topics = layout(bootstrap, prefix)
    rows, ends = {topic: [] for topic in topics}, {}
    open_ends = {(prefix + topic, partition) for topic, count in topics.items() for partition in range(count)}
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0) for topic, partition in open_ends])
    end = time.monotonic() + seconds
    try:
        while open_ends:
            assert time.monotonic() < end, f"no end of {sorted(open_ends)} within {seconds} s"
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                open_ends.discard((message.topic(), message.partition()))
                ends[message.topic().removeprefix(prefix), message.partition()] = message.offset()
                continue
            topic = message.topic().removeprefix(prefix)
            rows[topic].append(Row(topic, message.partition(), message.offset(), message.timestamp()[1], message.key(),
                                   message.value(), message.headers() or []))
    finally:
        consumer.close()
    return rows, ends


def positions(bootstrap, prefix):
    """What the consumer groups of an installation have committed: (topic without prefix, partition) -> offset."""
    admin, found = AdminClient({"bootstrap.servers": bootstrap}), {}
    groups = [group.group_id for group in admin.list_consumer_groups(request_timeout=20).result().valid]
    for group in (group for group in groups if group.startswith(prefix)):
        everything = confluent_kafka.ConsumerGroupTopicPartitions(group)
        asked = admin.list_consumer_group_offsets([everything], request_timeout=20)
        for place in asked[group].result().topic_partitions:
            found[place.topic.removeprefix(prefix), place.partition] = place.offset
    return found


class Registry:
    """A Confluent-compatible registry, asked as its API says."""

    def __init__(self, url):
        self.url, self.by_id = url, {}

    def get(self, path):
        with urllib.request.urlopen(f"{self.url}{path}", timeout=20) as answer:
            return json.loads(answer.read())

    def schema(self, schema_id):
        if schema_id not in self.by_id:
            text = json.loads(self.get(f"/schemas/ids/{schema_id}")["schema"])
            self.by_id[schema_id] = fastavro.parse_schema(text)
        return self.by_id[schema_id]

    def decode(self, row):
        """The value by Confluent's wire format: a zero, four bytes of schema id, the datum."""
        assert row.raw is not None and len(row.raw) > 5 and row.raw[0] == 0, f"no wire format: {row.where()}"
        row.schema_id = int.from_bytes(row.raw[1:5], "big")
        row.value = golden.read(self.schema(row.schema_id), row.raw[5:])

    def is_ours(self, schema_id, name):
        """Whether this id is the schema in our file, doc texts apart."""
        return to_parsing_canonical_form(self.schema(schema_id)) == golden.canonical(name)


def forget(installation):
    """Takes away what an installation left on a broker and registry that others use too; groups go by themselves."""
    admin = AdminClient({"bootstrap.servers": installation.kafka})
    names = [installation.prefix + topic for topic in layout(installation.kafka, installation.prefix)]
    for topic in names:
        for permanent in ("", "?permanent=true"):
            subject = f"{installation.registry}/subjects/{topic}-value{permanent}"
            request = urllib.request.Request(subject, method="DELETE")
            try:
                urllib.request.urlopen(request, timeout=20).close()
            except urllib.error.URLError:
                pass
    if names:
        for result in admin.delete_topics(names, operation_timeout=20).values():
            result.exception(30)
