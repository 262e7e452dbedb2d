import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;

/** The benchmark's three mappings, written by hand. Without validation, dedupe, checks, outcomes and run headers. */
public final class Peer implements Processor<byte[], byte[], byte[], byte[]> {
    private static final DateTimeFormatter ISO = DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'");
    private final ObjectMapper json = new ObjectMapper();
    private ProcessorContext<byte[], byte[]> context;

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        try {
            JsonNode event = json.readTree(record.value());
            if (!"track".equals(event.path("type").asText())) {
                return;
            }
            String name = event.path("event").asText();
            boolean completed = name.equals("Order Completed");
            forward(record, event, "amplitude", completed ? "purchase" : "other", amplitude(event, completed));
            if (name.contains("Order")) {
                forward(record, event, "crm", "order", crm(event));
            }
            if (completed) {
                forward(record, event, "ga4", "purchase", ga4(event));
            }
        } catch (java.io.IOException error) {
            throw new java.io.UncheckedIOException(error);
        }
    }

    private void forward(Record<byte[], byte[]> record, JsonNode event, String integration, String rule, ObjectNode payload)
            throws java.io.IOException {
        RecordMetadata from = context.recordMetadata().orElseThrow();
        ObjectNode delivery = json.createObjectNode();
        delivery.put("v", 1);
        delivery.set("id", event.get("messageId"));
        delivery.put("rule", rule);
        delivery.put("rules", "bench");
        delivery.set("type", event.get("type"));
        delivery.set("event", event.get("event"));
        delivery.set("time", event.get("timestamp"));
        delivery.set("received", event.get("receivedAt"));
        delivery.put("source", "web");
        delivery.putArray("from").add(from.topic()).add(from.partition()).add(from.offset());
        delivery.set("payload", payload);
        context.forward(record.withValue(json.writeValueAsBytes(delivery)), integration);
    }

    private ObjectNode amplitude(JsonNode event, boolean completed) {
        ObjectNode payload = json.createObjectNode();
        copy(event.path("userId"), payload, "user_id");
        if (completed) {
            copy(event.path("anonymousId"), payload, "device_id");
        }
        copy(event.path("event"), payload, "event_type");
        if (completed) {
            payload.put("time", moment(event).toEpochMilli());
            copy(event.path("messageId"), payload, "insert_id");
            copy(event.path("context").path("ip"), payload, "ip");
            copy(event.path("context").path("locale"), payload, "language");
            number(event.path("properties").path("total"), payload, "revenue");
        }
        copy(event.path("properties"), payload, "event_properties");
        return payload;
    }

    private ObjectNode crm(JsonNode event) {
        ObjectNode payload = json.createObjectNode();
        copy(event.path("userId"), payload, "external_id");
        copy(event.path("context").path("traits").path("email"), payload, "email");
        payload.put("name", "order " + event.path("properties").path("order_id").asText());
        payload.put("at", ISO.format(moment(event).atOffset(ZoneOffset.UTC)));
        number(event.path("properties").path("total"), payload, "amount");
        copy(event.path("context").path("page").path("url"), payload, "page");
        copy(event.path("context").path("campaign").path("name"), payload, "campaign");
        return payload;
    }

    private ObjectNode ga4(JsonNode event) {
        ObjectNode payload = json.createObjectNode();
        copy(event.path("anonymousId"), payload, "client_id");
        copy(event.path("userId"), payload, "user_id");
        Instant moment = moment(event);
        payload.put("timestamp_micros", moment.getEpochSecond() * 1_000_000 + moment.getNano() / 1_000);
        payload.put("name", "purchase");
        ObjectNode params = payload.putObject("params");
        JsonNode properties = event.path("properties");
        copy(properties.path("order_id"), params, "transaction_id");
        copy(properties.path("affiliation"), params, "affiliation");
        number(properties.path("total"), params, "value");
        number(properties.path("tax"), params, "tax");
        number(properties.path("shipping"), params, "shipping");
        copy(properties.path("coupon"), params, "coupon");
        JsonNode currency = properties.path("currency");
        params.put("currency", currency.isTextual() ? currency.asText() : "USD");
        ArrayNode items = params.putArray("items");
        for (JsonNode product : properties.path("products")) {
            ObjectNode item = items.addObject();
            copy(product.path("product_id"), item, "item_id");
            copy(product.path("name"), item, "item_name");
            copy(product.path("brand"), item, "item_brand");
            copy(product.path("category"), item, "item_category");
            number(product.path("price"), item, "price");
            number(product.path("quantity"), item, "quantity");
        }
        return payload;
    }

    private static Instant moment(JsonNode event) {
        return OffsetDateTime.parse(event.path("timestamp").asText()).toInstant();
    }

    private static void copy(JsonNode value, ObjectNode target, String name) {
        if (!value.isMissingNode()) {
            target.set(name, value);
        }
    }

    private static void number(JsonNode value, ObjectNode target, String name) {
        if (value.isNumber()) {
            target.set(name, value);
        } else if (value.isTextual()) {
            try {
                target.put(name, Double.parseDouble(value.asText()));
            } catch (NumberFormatException error) {
                // it is left out
            }
        }
    }

    /** Arguments: Kafka's address, the application's ID, the topic of events, the prefix of forward topics. */
    public static void main(String[] arguments) {
        Topology topology = new Topology();
        topology.addSource("events", arguments[2]);
        topology.addProcessor("map", Peer::new, "events");
        for (String integration : new String[] {"amplitude", "crm", "ga4"}) {
            topology.addSink(integration, arguments[3] + integration, "map");
        }
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("java.io.tmpdir") + "/" + arguments[1]);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1_000);
        settings.put("auto.offset.reset", "earliest");
        settings.put("isolation.level", "read_committed");
        settings.put("producer.acks", "all");
        settings.put("producer.compression.type", "zstd");
        settings.put("producer.linger.ms", 5);
        settings.put("producer.batch.size", 256 * 1024);
        KafkaStreams streams = new KafkaStreams(topology, settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
        System.out.println("started");
        System.out.flush();
    }
}
