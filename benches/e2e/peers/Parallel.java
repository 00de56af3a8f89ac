import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.vertx.VertxParallelEoSStreamProcessor;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.ext.web.client.WebClient;
import io.vertx.ext.web.client.WebClientOptions;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Delivery with Confluent's Parallel Consumer and its Vert.x module: each record is posted, those of a key in order. The
 * bytes go out as they came: no decoding, no JSON, no signature, and nothing is written down of a try.
 *
 * <p>Ordering by key; connections, Vert.x and the library's offsets (periodic, asynchronous) by its defaults otherwise.
 */
public final class Parallel {
    public static void main(String[] args) {
        if (args.length != 6) {
            System.err.println("Parallel BROKERS GROUP TOPIC HOST PORT CONCURRENCY");
            System.exit(2);
        }
        var settings = new Properties();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, args[1]);
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
        settings.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        settings.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class);
        var host = args[3];
        var port = Integer.parseInt(args[4]);
        var concurrency = Integer.parseInt(args[5]);
        var options = ParallelConsumerOptions.<byte[], byte[]>builder()
            .ordering(ProcessingOrder.KEY)
            .maxConcurrency(concurrency)
            .consumer(new KafkaConsumer<byte[], byte[]>(settings))
            .build();
        var vertx = Vertx.vertx();
        var client = WebClient.create(vertx, new WebClientOptions().setMaxPoolSize(concurrency).setKeepAlive(true));
        var consumer = new VertxParallelEoSStreamProcessor<byte[], byte[]>(vertx, client, options);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> consumer.closeDontDrainFirst(Duration.ofSeconds(10))));
        consumer.subscribe(List.of(args[2]));
        consumer.vertxFuture(context -> {
            var record = context.getSingleConsumerRecord();
            var id = new String(record.headers().lastHeader("ce_id").value(), StandardCharsets.UTF_8);
            return client.post(port, host, "/").putHeader("webhook-id", id).sendBuffer(Buffer.buffer(record.value()))
                .compose(answer -> answer.statusCode() < 300
                    ? Future.succeededFuture(answer)
                    : Future.failedFuture("answered " + answer.statusCode()));
        });
        System.out.println("RUNNING");
    }
}
