// Confluent Parallel Consumer over topics that the benchmark has filled: ordered by key, 16 at once, a handler that sleeps.
// java -cp JARS ParallelConsumerTable.java BOOTSTRAP SLEEPS
// SLEEPS is a file with a number of milliseconds for each offset. Each line "TOPIC KEYS" on standard input is one run, answered
// by one line of JSON; a run that handled an event twice, not at all or out of its key's order is answered by what was wrong.
import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

public class ParallelConsumerTable {
  static final int AT_ONCE = 16;
  static final long MINUTES = 5;

  // What is known of one key: the offset that runs (or -1), and the last one that has ended.
  static final class Lane {
    final AtomicLong running = new AtomicLong(-1);
    volatile long ended = -1;
  }

  public static void main(String[] args) throws Exception {
    int[] sleeps = Files.readString(Path.of(args[1])).lines().mapToInt(Integer::parseInt).toArray();
    var lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = lines.readLine()) != null; ) {
      String[] words = line.split(" ");
      System.out.println(run(args[0], words[0], Integer.parseInt(words[1]), sleeps));
    }
    System.exit(0);
  }

  static String run(String bootstrap, String topic, int keys, int[] sleeps) throws Exception {
    var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", bootstrap, "group.id",
        "parallel-consumer-" + System.nanoTime(), "enable.auto.commit", "false", "auto.offset.reset", "earliest"),
        new StringDeserializer(), new ByteArrayDeserializer());
    var processor = ParallelStreamProcessor.createEosStreamProcessor(ParallelConsumerOptions.<String, byte[]>builder()
        .ordering(ParallelConsumerOptions.ProcessingOrder.KEY).maxConcurrency(AT_ONCE).consumer(consumer).build());
    processor.subscribe(List.of(topic));
    var lanes = new ConcurrentHashMap<String, Lane>();
    var wrong = new AtomicReference<String>();
    var done = new AtomicInteger();
    var slept = new LongAdder();
    var first = new AtomicLong();
    var last = new AtomicLong();
    var all = new CountDownLatch(1);
    processor.poll(context -> {
      long started = System.nanoTime();
      first.compareAndSet(0, started);
      long offset = context.offset();
      Lane lane = lanes.computeIfAbsent(context.key(), key -> new Lane());
      if (!lane.running.compareAndSet(-1, offset) || lane.ended >= offset) {
        wrong.compareAndSet(null, "offset " + offset + " ran beside or after a later one of its key " + context.key());
      }
      if (sleeps[(int) offset] > 0) {
        try {
          Thread.sleep(sleeps[(int) offset]);
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
        }
      }
      lane.ended = offset;
      lane.running.set(-1);
      long now = System.nanoTime();
      slept.add(now - started);
      if (done.incrementAndGet() == sleeps.length) {
        last.set(now);
        all.countDown();
      }
    });
    boolean ended = all.await(MINUTES, TimeUnit.MINUTES);
    processor.close();
    if (!ended || done.get() != sleeps.length) {
      wrong.compareAndSet(null, done.get() + " runs of " + sleeps.length + " events");
    }
    if (lanes.size() != keys) {
      wrong.compareAndSet(null, lanes.size() + " keys instead of " + keys);
    }
    return wrong.get() != null ? "{\"wrong\": \"" + wrong.get() + "\"}" : String.format(java.util.Locale.ROOT,
        "{\"seconds\": %.4f, \"handler_seconds\": %.4f}", (last.get() - first.get()) / 1e9, slept.sum() / 1e9);
  }
}
