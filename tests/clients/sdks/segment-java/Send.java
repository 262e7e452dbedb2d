import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import com.segment.analytics.Callback;
import com.segment.analytics.messages.*;

// The calls of calls.json, a list of events of the spec, made with what Client.builder returns.
class Send {
  public static void main(String[] arguments) throws Exception {
    List<Map<String, Object>> calls =
        new Gson().fromJson(Files.readString(Path.of("calls.json")), new TypeToken<List<Map<String, Object>>>() {}.getType());
    CountDownLatch pending = new CountDownLatch(calls.size());
    var analytics =
        Client.builder()
            .callback(
                new Callback() {
                  public void success(Message message) {
                    pending.countDown();
                  }

                  public void failure(Message message, Throwable error) {
                    pending.countDown();
                  }
                })
            .build();
    for (Map<String, Object> call : calls) {
      analytics.enqueue(message(call).userId((String) call.get("userId")));
    }
    analytics.flush();
    pending.await(60, TimeUnit.SECONDS);
    System.exit(0);
  }

  @SuppressWarnings("unchecked")
  static MessageBuilder<?, ?> message(Map<String, Object> call) {
    var properties = (Map<String, Object>) call.get("properties");
    var traits = (Map<String, Object>) call.get("traits");
    String name = (String) call.get("name");
    return switch ((String) call.get("type")) {
      case "track" -> TrackMessage.builder((String) call.get("event")).properties(properties);
      case "page" -> PageMessage.builder(name).properties(properties);
      case "screen" -> ScreenMessage.builder(name).properties(properties);
      case "identify" -> IdentifyMessage.builder().traits(traits);
      case "group" -> GroupMessage.builder((String) call.get("groupId")).traits(traits);
      default -> AliasMessage.builder((String) call.get("previousId"));
    };
  }
}
