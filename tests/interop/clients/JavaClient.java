// The JDK's own client, java.net.http. Arguments are NAME=VALUE, see run.py; prints `ok CHECK` or `FAIL CHECK: reason`.
// It knows no compression. The lists of texts, sizes and closes are JSON without escapes, read by splitting.

import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

public class JavaClient {
    static final Map<String, String> GIVEN = new HashMap<>();
    static final int PATIENCE_SECONDS = 40;

    interface Check {
        void run() throws Exception;
    }

    record Closed(int code, String reason) {}

    record Ping() {}

    record Pong(String payload) {}

    record Failed(Throwable error) {}

    /** One connection; whole messages, pongs and the close arrive in a queue. */
    static class Peer implements WebSocket.Listener {
        final BlockingQueue<Object> arrived = new LinkedBlockingQueue<>();
        final StringBuilder text = new StringBuilder();
        final ByteArrayOutputStream binary = new ByteArrayOutputStream();
        WebSocket socket;

        Peer(HttpClient client, String url, String origin) {
            WebSocket.Builder builder = client.newWebSocketBuilder();
            if (origin != null) {
                builder.header("Origin", origin);
            }
            socket = builder.buildAsync(URI.create(url), this).orTimeout(PATIENCE_SECONDS, TimeUnit.SECONDS).join();
        }

        Peer(String url) {
            this(HttpClient.newHttpClient(), url, null);
        }

        @Override
        public CompletionStage<?> onText(WebSocket from, CharSequence part, boolean last) {
            text.append(part);
            if (last) {
                arrived.add(text.toString());
                text.setLength(0);
            }
            from.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onBinary(WebSocket from, ByteBuffer part, boolean last) {
            byte[] octets = new byte[part.remaining()];
            part.get(octets);
            binary.writeBytes(octets);
            if (last) {
                arrived.add(ByteBuffer.wrap(binary.toByteArray()));
                binary.reset();
            }
            from.request(1);
            return null;
        }

        /** Without a word from here the client answers with a pong. */
        @Override
        public CompletionStage<?> onPing(WebSocket from, ByteBuffer payload) {
            arrived.add(new Ping());
            from.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onPong(WebSocket from, ByteBuffer payload) {
            arrived.add(new Pong(new String(toArray(payload))));
            from.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket from, int code, String reason) {
            arrived.add(new Closed(code, reason));
            return null;
        }

        @Override
        public void onError(WebSocket from, Throwable error) {
            arrived.add(new Failed(error));
        }

        void sendText(String part, boolean last) {
            done(socket.sendText(part, last));
        }

        void sendBinary(byte[] part, boolean last) {
            done(socket.sendBinary(ByteBuffer.wrap(part), last));
        }

        void echoes(String message) throws Exception {
            sendText(message, true);
            arrives(message);
        }

        void echoes(byte[] message) throws Exception {
            sendBinary(message, true);
            arrives(ByteBuffer.wrap(message));
        }

        void arrives(Object want) throws Exception {
            expect(want, arrived.poll(PATIENCE_SECONDS, TimeUnit.SECONDS));
        }

        Closed closed() throws Exception {
            Object got = arrived.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
            if (got instanceof Closed closed) {
                return closed;
            }
            throw new AssertionError("wanted a close, got " + brief(got));
        }
    }

    static final Map<String, Check> CHECKS = new java.util.LinkedHashMap<>();

    static {
        CHECKS.put("text", () -> {
            Peer peer = new Peer(GIVEN.get("plain"));
            for (String text : texts()) {
                peer.echoes(text);
            }
        });
        CHECKS.put("binary", () -> {
            Peer peer = new Peer(GIVEN.get("plain"));
            for (int size : sizes()) {
                peer.echoes(octets(size));
            }
        });
        CHECKS.put("pipelined", () -> {
            Peer peer = new Peer(GIVEN.get("plain"));
            for (int index = 0; index < 500; index++) {
                peer.sendText("message " + index, true);
            }
            for (int index = 0; index < 500; index++) {
                peer.arrives("message " + index);
            }
        });
        CHECKS.put("deflate-not-offered", () -> new Peer(GIVEN.get("plain")).echoes("compressible ".repeat(10_000)));
        CHECKS.put("fragments", () -> {
            Peer peer = new Peer(GIVEN.get("plain"));
            peer.sendText("κόσ", false);
            peer.sendText("", false);
            peer.sendText("με", true);
            peer.arrives("κόσμε");
            peer.sendBinary(octets(65_535), false);
            peer.sendBinary(octets(0), false);
            done(peer.socket.sendPing(ByteBuffer.wrap("between".getBytes())));
            peer.sendBinary(octets(1), true);
            peer.arrives(new Pong("between"));
            byte[] whole = Arrays.copyOf(octets(65_535), 65_536);
            peer.arrives(ByteBuffer.wrap(whole));
        });
        CHECKS.put("ping", () -> {
            Peer peer = new Peer(GIVEN.get("plain"));
            for (String payload : List.of("", "hello", "x".repeat(125))) {
                done(peer.socket.sendPing(ByteBuffer.wrap(payload.getBytes())));
                peer.arrives(new Pong(payload));
            }
        });
        CHECKS.put("server-ping", () -> {
            Peer peer = new Peer(GIVEN.get("pinging"));
            // For longer than it may be silent.
            for (int count = 0; count < 14; count++) {
                peer.arrives(new Ping());
            }
            done(peer.socket.sendText("still here", true));
            peer.arrives("still here");
        });
        CHECKS.put("close", () -> {
            for (Closed close : closes()) {
                expect(close.code(), closed(close).code());
            }
        });
        CHECKS.put("close-reason", () -> {
            for (Closed close : closes()) {
                expect(close.reason(), closed(close).reason());
            }
        });
        CHECKS.put("too-big", () -> {
            Peer peer = new Peer(GIVEN.get("limited"));
            peer.sendBinary(octets(Integer.parseInt(GIVEN.get("limit")) + 1), true);
            expect(1009, peer.closed().code());
        });
        CHECKS.put("origin-allowed", () ->
            new Peer(HttpClient.newHttpClient(), GIVEN.get("guarded"), GIVEN.get("allowed")).echoes("hello"));
        CHECKS.put("origin-refused", () -> {
            try {
                new Peer(HttpClient.newHttpClient(), GIVEN.get("guarded"), GIVEN.get("foreign"));
            } catch (CompletionException failure) {
                if (failure.getCause() instanceof WebSocketHandshakeException refusal) {
                    if (refusal.getResponse().statusCode() == 403) {
                        return;
                    }
                    throw new AssertionError("status " + refusal.getResponse().statusCode());
                }
                throw failure;
            }
            throw new AssertionError("opened");
        });
        CHECKS.put("tls", () -> {
            HttpClient client = HttpClient.newBuilder().sslContext(trusting(GIVEN.get("ca"))).build();
            Peer peer = new Peer(client, GIVEN.get("tls"), null);
            for (String text : texts()) {
                peer.echoes(text);
            }
            for (int size : sizes()) {
                peer.echoes(octets(size));
            }
            done(peer.socket.sendClose(1000, ""));
            expect(1000, peer.closed().code());
        });
    }

    public static void main(String[] arguments) {
        for (String argument : arguments) {
            GIVEN.put(argument.substring(0, argument.indexOf('=')), argument.substring(argument.indexOf('=') + 1));
        }
        CHECKS.forEach((name, check) -> {
            try {
                check.run();
                System.out.println("ok " + name);
            } catch (Exception | AssertionError error) {
                System.out.println("FAIL " + name + ": " + error.toString().replace('\n', ' '));
            }
        });
        System.exit(0);
    }

    static void done(CompletableFuture<WebSocket> sent) {
        sent.orTimeout(PATIENCE_SECONDS, TimeUnit.SECONDS).join();
    }

    static void expect(Object want, Object got) {
        if (!want.equals(got)) {
            throw new AssertionError("wanted " + brief(want) + ", got " + brief(got));
        }
    }

    /** What the server's close frame says to this one. */
    static Closed closed(Closed close) throws Exception {
        Peer peer = new Peer(GIVEN.get("plain"));
        done(peer.socket.sendClose(close.code(), close.reason()));
        return peer.closed();
    }

    static List<Closed> closes() {
        Matcher matcher = Pattern.compile("\\[(\\d+), ?\"([^\"]*)\"]").matcher(GIVEN.get("closes"));
        return matcher.results().map(one -> new Closed(Integer.parseInt(one.group(1)), one.group(2))).toList();
    }

    static List<String> texts() {
        return Pattern.compile("\"([^\"]*)\"").matcher(GIVEN.get("texts")).results().map(one -> one.group(1)).toList();
    }

    static int[] sizes() {
        Matcher matcher = Pattern.compile("\\d+").matcher(GIVEN.get("sizes"));
        return matcher.results().mapToInt(one -> Integer.parseInt(one.group())).toArray();
    }

    static byte[] octets(int size) {
        byte[] octets = new byte[size];
        for (int index = 0; index < size; index++) {
            octets[index] = (byte) (index * 31);
        }
        return octets;
    }

    static byte[] toArray(ByteBuffer buffer) {
        byte[] octets = new byte[buffer.remaining()];
        buffer.get(octets);
        return octets;
    }

    static String brief(Object value) {
        String shown = String.valueOf(value);
        return shown.length() > 200 ? shown.substring(0, 200) + "..." : shown;
    }

    static SSLContext trusting(String path) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (FileInputStream file = new FileInputStream(path)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, factory.getTrustManagers(), null);
        return context;
    }
}
