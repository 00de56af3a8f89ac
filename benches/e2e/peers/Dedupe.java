import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The router's job in Kafka Streams, as far as it is dedupe and passing on: a row whose key was seen before is dropped,
 * any other goes out as it came. No decoding, no JSON, no mapping, no body hashes, no window, no quarantine.
 *
 * <p>exactly_once_v2 and a persistent store (RocksDB) with its changelog; all else is the library's default.
 */
public final class Dedupe implements Processor<byte[], byte[], byte[], byte[]> {
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<byte[], Long> seen;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        this.seen = context.getStateStore("seen");
    }

    @Override
    public void process(Record<byte[], byte[]> row) {
        if (seen.putIfAbsent(row.key(), row.timestamp()) == null) {
            context.forward(row);
        }
    }

    public static void main(String[] args) {
        if (args.length != 6) {
            System.err.println("Dedupe BROKERS APPLICATION INPUT OUTPUT STATE_FOLDER COMMIT_MS|default");
            System.exit(2);
        }
        var bytes = Serdes.ByteArray();
        var store = Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore("seen"), bytes, Serdes.Long());
        var topology = new Topology()
            .addSource("received", bytes.deserializer(), bytes.deserializer(), args[2])
            .addProcessor("dedupe", Dedupe::new, "received")
            .addStateStore(store, "dedupe")
            .addSink("records", args[3], bytes.serializer(), bytes.serializer(), "dedupe");
        run(topology, args);
    }

    /** Runs a topology, with the arguments of {@link #main}. */
    static void run(Topology topology, String[] args) {
        var settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        if (!args[5].equals("default")) {
            settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, args[5]);
        }
        var streams = new KafkaStreams(topology, settings);
        var restored = new Restored();
        streams.setGlobalStateRestoreListener(restored);
        streams.setStateListener((now, before) -> System.out.println(now + " restored=" + restored.rows.get()));
        // By default it leaves its place to nobody for 45 s, its own next start included.
        var leaving = CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(leaving)));
        streams.start();
    }

    private static final class Restored implements StateRestoreListener {
        final AtomicLong rows = new AtomicLong();

        @Override
        public void onRestoreStart(TopicPartition partition, String store, long from, long end) {}

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long end, long rows) {}

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) {
            rows.addAndGet(total);
        }
    }
}
