// Checks Java's HttpClient with its default settings against the service; `programs.py` says how it reports.
// Arguments name the checks to run; without any, all are.
// By default the client prefers HTTP/2 and so offers `Upgrade: h2c` with its first request to a host.

import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;

public class HttpClientChecks {
    interface Check {
        void run() throws Exception;
    }

    static final String URL = System.getenv("PARLEY_URL");
    static final String KEY = System.getenv("PARLEY_KEY");
    static final String GREETING = "Hello, wörld! 你好";

    static String ask(String question, String more) {
        return "{\"model\":\"chat\",\"messages\":[{\"role\":\"user\",\"content\":\"" + question + "\"}]" + more + "}";
    }

    static HttpRequest.Builder post(String key, BodyPublisher body) {
        return HttpRequest.newBuilder(URI.create(URL + "/chat/completions"))
            .timeout(Duration.ofSeconds(20))
            .header("content-type", "application/json")
            .header("authorization", "Bearer " + key)
            .POST(body);
    }

    static HttpResponse<String> send(HttpRequest.Builder request) throws Exception {
        return HttpClient.newHttpClient().send(request.build(), BodyHandlers.ofString());
    }

    static void that(boolean holds, Object seen) {
        if (!holds) throw new AssertionError(String.valueOf(seen));
    }

    static void greets(HttpResponse<String> answer) {
        // The service passes the upstream's spelling of the letters on; JSON allows several.
        that(answer.statusCode() == 200, answer.body());
        that(answer.body().contains("w\\u00f6rld") || answer.body().contains(GREETING), answer.body());
        that(answer.version() == HttpClient.Version.HTTP_1_1, answer.version());
    }

    static List<String> lines(String body) throws Exception {
        HttpRequest request = post(KEY, BodyPublishers.ofString(body)).build();
        return HttpClient.newHttpClient().send(request, BodyHandlers.ofLines()).body()
            .filter(line -> line.startsWith("data: ")).map(line -> line.substring(6)).collect(Collectors.toList());
    }

    static Map<String, Check> checks() {
        String greet = ask("greet", "");
        byte[] bytes = greet.getBytes(StandardCharsets.UTF_8);
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("fixed", () -> greets(send(post(KEY, BodyPublishers.ofString(greet)))));
        checks.put("chunked", () ->
            greets(send(post(KEY, BodyPublishers.fromPublisher(BodyPublishers.ofString(greet))))));
        checks.put("input_stream", () ->
            greets(send(post(KEY, BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(bytes))))));
        checks.put("expect_continue", () ->
            greets(send(post(KEY, BodyPublishers.ofString(greet)).expectContinue(true))));
        checks.put("long_body", () -> {
            String padded = ask("greet", ",\"padding\":\"" + "x".repeat(3_000_000) + "\"");
            greets(send(post(KEY, BodyPublishers.ofString(padded))));
            greets(send(post(KEY, BodyPublishers.fromPublisher(BodyPublishers.ofString(padded)))));
        });
        checks.put("reuse", () -> {
            HttpClient client = HttpClient.newHttpClient();
            for (int turn = 0; turn < 5; turn++) {
                greets(client.send(post(KEY, BodyPublishers.ofString(greet)).build(), BodyHandlers.ofString()));
            }
        });
        checks.put("at_once", () -> {
            HttpClient client = HttpClient.newHttpClient();
            List<CompletableFuture<HttpResponse<String>>> answers = java.util.stream.IntStream.range(0, 8)
                .mapToObj(turn -> client.sendAsync(
                    post(KEY, BodyPublishers.ofString(greet)).build(), BodyHandlers.ofString()))
                .collect(Collectors.toList());
            for (CompletableFuture<HttpResponse<String>> answer : answers) greets(answer.get());
        });
        checks.put("stream", () -> {
            List<String> events = lines(ask("greet", ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"));
            int hel = indexOf(events, "\"Hel\""), lo = indexOf(events, "\"lo, \"");
            that(0 <= hel && hel < lo, events);
            that(indexOf(events, "\"finish_reason\": \"stop\"") > lo, events);
            that(events.get(events.size() - 2).contains("\"total_tokens\": 12"), events);
            that(events.get(events.size() - 1).equals("[DONE]"), events);
        });
        checks.put("tools", () -> {
            String tools = ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\"}}]";
            HttpResponse<String> answer = send(post(KEY, BodyPublishers.ofString(ask("weather", tools))));
            that(answer.body().contains("\"finish_reason\": \"tool_calls\""), answer.body());
            that(answer.body().contains("get_weather"), answer.body());
        });
        checks.put("wrong_key", () -> {
            HttpResponse<String> answer = send(post("wrong", BodyPublishers.ofString(greet)));
            that(answer.statusCode() == 401 && answer.body().contains("UNAUTHENTICATED"), answer.body());
        });
        checks.put("wrong_key_chunked", () -> {
            BodyPublisher body = BodyPublishers.fromPublisher(BodyPublishers.ofString(greet));
            HttpResponse<String> answer = send(post("wrong", body));
            that(answer.statusCode() == 401 && answer.body().contains("UNAUTHENTICATED"), answer.body());
        });
        checks.put("limits", () -> {
            HttpResponse<String> upstreams = send(post(KEY, BodyPublishers.ofString(ask("exhausted", ""))));
            that(upstreams.statusCode() == 429, upstreams.body());
            that(upstreams.headers().firstValue("retry-after").orElse("").equals("7"), upstreams.headers());
            String limited = System.getenv("PARLEY_LIMITED_KEY");
            greets(send(post(limited, BodyPublishers.ofString(greet))));
            HttpResponse<String> own = send(post(limited, BodyPublishers.ofString(greet)));
            that(own.statusCode() == 429 && own.body().contains("RATE_LIMITED"), own.body());
            that(own.headers().firstValueAsLong("retry-after").orElse(0) >= 1, own.headers());
        });
        checks.put("broken", () -> {
            List<String> events = lines(ask("break", ",\"stream\":true"));
            that(events.get(events.size() - 1).contains("STREAM_BROKEN"), events);
            that(!events.contains("[DONE]"), events);
        });
        checks.put("cancel", () -> {
            HttpRequest request = post(KEY, BodyPublishers.ofString(ask("endless", ",\"stream\":true"))).build();
            var body = HttpClient.newHttpClient().send(request, BodyHandlers.ofInputStream()).body();
            var reader = new BufferedReader(new InputStreamReader(body, StandardCharsets.UTF_8));
            String line = reader.readLine();
            while (!line.contains("\"Hel\"")) line = reader.readLine();
            System.out.println("left endless");
            reader.close();
        });
        checks.put("models", () -> {
            HttpRequest request = HttpRequest.newBuilder(URI.create(URL + "/models"))
                .header("authorization", "Bearer " + KEY).build();
            HttpResponse<String> answer = HttpClient.newHttpClient().send(request, BodyHandlers.ofString());
            that(answer.statusCode() == 200 && answer.body().contains("\"id\":\"chat\""), answer.body());
        });
        return checks;
    }

    static int indexOf(List<String> events, String part) {
        for (int at = 0; at < events.size(); at++) if (events.get(at).contains(part)) return at;
        return -1;
    }

    public static void main(String[] arguments) {
        Map<String, Check> checks = checks();
        if (arguments.length > 0) checks.keySet().retainAll(List.of(arguments));
        checks.entrySet().parallelStream().forEach(entry -> {
            try {
                entry.getValue().run();
                System.out.println("ok " + entry.getKey());
            } catch (Throwable error) {
                System.out.println("failed " + entry.getKey() + ": " + error.toString().replace('\n', '|'));
            }
        });
    }
}
