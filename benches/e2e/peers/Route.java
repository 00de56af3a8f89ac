import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamWriteFeature;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.math.BigDecimal;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.LocalDate;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The router's job in Kafka Streams: envelopes read, repeats dropped, bodies mapped, records and markers written, byte for
 * byte what Ledgerhook writes. AccelEx's five types, with Jackson and Avro's generic records, schemas from the registry.
 * Its marker is the store's value. What it leaves out: window, quarantine, other bodies of an id, headers of its own.
 */
public final class Route implements Processor<byte[], byte[], byte[], byte[]> {
    private record Target(String topic, String entity) {}

    private static final Map<String, Target> ROUTES = Map.of(
        "invoice.resolved", new Target("invoices", "invoice_id"),
        "contract.processed", new Target("contracts", "contract_id"),
        "case.closed", new Target("cases", "case_id"),
        "compliance.record_generated", new Target("compliance", "record_id"),
        "workflow.failed", new Target("reviews", "workflow_id"));
    private static final JsonMapper JSON = JsonMapper.builder()
        .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
        .enable(StreamWriteFeature.WRITE_BIGDECIMAL_AS_PLAIN)
        .disable(JsonNodeFeature.STRIP_TRAILING_BIGDECIMAL_ZEROES)
        .build();

    /** Values of one topic: Avro behind a zero and the schema's id. */
    private static final class Codec {
        final Schema schema;
        private final int id;
        private final GenericDatumReader<GenericRecord> reader;
        private final GenericDatumWriter<GenericRecord> writer;
        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream(4096);
        private BinaryDecoder decoder;
        private BinaryEncoder encoder;
        private GenericRecord last;

        Codec(String registry, String topic) {
            try {
                var latest = HttpRequest.newBuilder(URI.create(registry + "/subjects/" + topic + "-value/versions/latest")).build();
                var answer = JSON.readTree(HttpClient.newHttpClient().send(latest, HttpResponse.BodyHandlers.ofString()).body());
                id = answer.required("id").intValue();
                schema = new Schema.Parser().parse(answer.required("schema").textValue());
            } catch (IOException | InterruptedException cause) {
                throw new IllegalStateException("no schema of " + topic, cause);
            }
            reader = new GenericDatumReader<>(schema);
            writer = new GenericDatumWriter<>(schema);
        }

        /** Good until the next one is read. */
        GenericRecord decode(byte[] value) throws IOException {
            if (value[0] != 0 || ByteBuffer.wrap(value).getInt(1) != id) {
                throw new IOException("another schema");
            }
            decoder = DecoderFactory.get().binaryDecoder(value, 5, value.length - 5, decoder);
            last = reader.read(last, decoder);
            return last;
        }

        byte[] encode(GenericRecord record) throws IOException {
            bytes.reset();
            bytes.write(0);
            bytes.write(ByteBuffer.allocate(4).putInt(id).array());
            encoder = EncoderFactory.get().binaryEncoder(bytes, encoder);
            writer.write(record, encoder);
            encoder.flush();
            return bytes.toByteArray();
        }
    }

    private final String registry;
    private final String prefix;
    private final Map<String, Codec> codecs = new HashMap<>();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], byte[]> seen;

    private Route(String registry, String prefix) {
        this.registry = registry;
        this.prefix = prefix;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        this.seen = context.getStateStore("seen");
    }

    @Override
    public void process(Record<byte[], byte[]> row) {
        try {
            if (seen.get(row.key()) == null) {
                route(row, codec("received.accelex").decode(row.value()));
            }
        } catch (IOException cause) {
            throw new IllegalStateException("a row that is not of the benchmark", cause);
        }
    }

    private Codec codec(String topic) {
        return codecs.computeIfAbsent(topic, name -> new Codec(registry, prefix + name));
    }

    private void route(Record<byte[], byte[]> row, GenericRecord envelope) throws IOException {
        var target = ROUTES.get(envelope.get("event_type").toString());
        var bytes = (ByteBuffer) envelope.get("body");
        var body = JSON.readTree(bytes.array(), bytes.position(), bytes.remaining());
        var members = body.get("outcome");
        var codec = codec(target.topic);
        var record = new GenericData.Record(codec.schema);
        for (var field : codec.schema.getFields()) {
            record.put(field.pos(), switch (field.name()) {
                case "event_id", "source", "event_type", "occurred_at", "received_at", "body_sha256" -> envelope.get(field.name());
                case "entity_id" -> members.get(target.entity).textValue();
                case "work_unit_id", "provenance", "validation" -> value(field.schema(), body.get(field.name()));
                case "attributes" -> JSON.writeValueAsString(members);
                case "direction" -> new GenericData.EnumSymbol(field.schema(), "PAYABLE");
                case "status" -> new GenericData.EnumSymbol(field.schema(), "RESOLVED");
                default -> value(field.schema(), members.get(field.name()));
            });
        }
        var key = envelope.get("source") + "/" + members.get(target.entity).textValue();
        var markers = codec("seen.accelex");
        var marker = new GenericData.Record(markers.schema);
        marker.put("state", new GenericData.EnumSymbol(markers.schema.getField("state").schema(), "ROUTED"));
        marker.put("body_sha256", List.of(envelope.get("body_sha256")));
        marker.put("first_routed_at", micros(Instant.now()));
        marker.put("record_topic", target.topic);
        marker.put("record_key", key);
        marker.put("decided", List.of());
        seen.put(row.key(), markers.encode(marker));
        context.forward(row.withKey(key.getBytes(StandardCharsets.UTF_8)).withValue(codec.encode(record)), target.topic);
    }

    /** A member as its field's type says. */
    private static Object value(Schema schema, JsonNode node) throws JsonProcessingException {
        boolean none = node == null || node.isNull();
        return switch (schema.getType()) {
            case UNION -> none ? null : value(schema.getTypes().get(1), node);
            case ARRAY -> {
                var items = new ArrayList<>(none ? 0 : node.size());
                for (var item : none ? List.<JsonNode>of() : node) {
                    items.add(value(schema.getElementType(), item));
                }
                yield items;
            }
            case RECORD -> {
                var record = new GenericData.Record(schema);
                for (var field : schema.getFields()) {
                    record.put(field.pos(), value(field.schema(), node.get(field.name())));
                }
                yield record;
            }
            case STRING -> node.isTextual() ? node.textValue() : JSON.writeValueAsString(node);
            case BYTES -> {
                var number = node.isTextual() ? new BigDecimal(node.textValue()) : node.decimalValue();
                yield ByteBuffer.wrap(number.setScale(9).unscaledValue().toByteArray());
            }
            case INT -> (int) LocalDate.parse(node.textValue()).toEpochDay();
            case LONG -> node.isTextual() ? micros(Instant.parse(node.textValue())) : node.longValue();
            default -> throw new IllegalStateException("no field of ours has the type " + schema);
        };
    }

    private static long micros(Instant time) {
        return ChronoUnit.MICROS.between(Instant.EPOCH, time);
    }

    public static void main(String[] args) {
        if (args.length != 8) {
            System.err.println("Route BROKERS APPLICATION INPUT OUTPUTS_PREFIX STATE_FOLDER COMMIT_MS|default REGISTRY TOPIC_PREFIX");
            System.exit(2);
        }
        var bytes = Serdes.ByteArray();
        var store = Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("seen"), bytes, bytes);
        var topology = new Topology()
            .addSource("received", bytes.deserializer(), bytes.deserializer(), args[2])
            .addProcessor("route", () -> new Route(args[6], args[7]), "received")
            .addStateStore(store, "route");
        for (var target : ROUTES.values()) {
            topology.addSink(target.topic, args[3] + target.topic, bytes.serializer(), bytes.serializer(), "route");
        }
        Dedupe.run(topology, args);
    }
}
