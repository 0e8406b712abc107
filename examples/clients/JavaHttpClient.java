// Asks the LLM service with nothing but the JDK (11 or newer): a whole answer, then one piece by piece.
// java JavaHttpClient.java

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.stream.Stream;

public class JavaHttpClient {
    static final String URL = System.getenv().getOrDefault("PARLEY_URL", "http://localhost:8081/v1");
    // The caller's key; anything while no callers are configured.
    static final String KEY = System.getenv().getOrDefault("PARLEY_KEY", "none");

    static HttpRequest request(String body) {
        return HttpRequest.newBuilder(URI.create(URL + "/chat/completions"))
            .header("authorization", "Bearer " + KEY)
            .header("content-type", "application/json")
            .timeout(Duration.ofMinutes(3))
            .POST(BodyPublishers.ofString(body))
            .build();
    }

    public static void main(String[] arguments) throws Exception {
        HttpClient client = HttpClient.newHttpClient();

        HttpRequest asked = request("{\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}");
        HttpResponse<String> answer = client.send(asked, BodyHandlers.ofString());
        System.out.println(answer.statusCode() + " " + answer.body());

        asked = request("{\"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": \"Show me markdown\"}]}");
        HttpResponse<Stream<String>> events = client.send(asked, BodyHandlers.ofLines());
        // The last event is [DONE], or an object with the member "error" when the answer broke off.
        events.body().filter(line -> line.startsWith("data: ")).forEach(line -> System.out.println(line.substring(6)));
    }
}
