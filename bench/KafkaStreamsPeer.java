import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The peer of Botify's worker in Kafka Streams (bench/peers.py): for each listener the counts and the last 50 listens, for each
 * track the popularity of a partition, and a record for each session that ended; exactly once, with RocksDB and changelogs. It
 * does less than the worker: it looks for no duplicate, refuses nothing, and writes no training records.
 */
public final class KafkaStreamsPeer {
  private static final int HISTORY = 50, LISTEN_BYTES = 24, HEAD_BYTES = 16;
  private static final double HALF_LIFE_MS = 86_400_000.0;

  public static void main(String[] arguments) {
    String servers = arguments[0], listens = arguments[1], sessions = arguments[2], folder = arguments[3];
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, listens + "-kafka_streams");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, folder);
    settings.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    Serde<byte[]> bytes = Serdes.ByteArray();
    StreamsBuilder builder = new StreamsBuilder();
    for (String name : new String[] {"users", "tracks"}) {
      StoreBuilder<KeyValueStore<Long, byte[]>> store =
          Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(name), Serdes.Long(), bytes);
      builder.addStateStore(store.withCachingEnabled());
    }
    builder
        .stream(listens, Consumed.with(bytes, bytes))
        .process(Fold::new, "users", "tracks")
        .to(sessions, Produced.with(bytes, bytes));
    KafkaStreams streams = new KafkaStreams(builder.build(), settings);
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
  }

  private static final class Fold implements Processor<byte[], byte[], byte[], byte[]> {
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Long, byte[]> users, tracks;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
      this.context = context;
      users = context.getStateStore("users");
      tracks = context.getStateStore("tracks");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      ByteBuffer listen = ByteBuffer.wrap(record.value()).order(ByteOrder.LITTLE_ENDIAN).position(5);
      skipText(listen);
      long user = readLong(listen), track = readLong(listen);
      double fraction = listen.getDouble();
      long timeMs = readLong(listen);
      skipText(listen);
      long position = readLong(listen);
      boolean ended = listen.get() != 0;
      users.put(user, heard(users.get(user), timeMs, fraction, track, ended));
      tracks.put(track, popular(tracks.get(track), timeMs, fraction));
      if (ended) {
        context.forward(record.withValue(ByteBuffer.allocate(16).putLong(user).putLong(position + 1).array()));
      }
    }

    private static byte[] heard(byte[] state, long timeMs, double fraction, long track, boolean ended) {
      int kept = state == null ? 0 : Math.min(state.length - HEAD_BYTES, (HISTORY - 1) * LISTEN_BYTES);
      ByteBuffer next = ByteBuffer.allocate(HEAD_BYTES + kept + LISTEN_BYTES);
      ByteBuffer head = ByteBuffer.wrap(state == null ? new byte[HEAD_BYTES] : state);
      next.putLong(head.getLong() + 1).putLong(head.getLong() + (ended ? 1 : 0));
      if (kept > 0) {
        next.put(state, state.length - kept, kept);
      }
      return next.putLong(timeMs).putDouble(fraction).putLong(track).array();
    }

    private static byte[] popular(byte[] state, long timeMs, double fraction) {
      ByteBuffer before = ByteBuffer.wrap(state == null ? new byte[16] : state);
      double score = before.getDouble();
      long sinceMs = before.getLong();
      double faded = score * Math.pow(0.5, Math.max(0, timeMs - sinceMs) / HALF_LIFE_MS);
      return ByteBuffer.allocate(16).putDouble(faded + fraction).putLong(Math.max(timeMs, sinceMs)).array();
    }

    private static long readLong(ByteBuffer from) {
      long value = 0;
      for (int shift = 0; ; shift += 7) {
        long next = from.get();
        value |= (next & 0x7f) << shift;
        if (next >= 0) {
          return (value >>> 1) ^ -(value & 1);
        }
      }
    }

    private static void skipText(ByteBuffer from) {
      int length = (int) readLong(from);
      from.position(from.position() + length);
    }
  }
}
