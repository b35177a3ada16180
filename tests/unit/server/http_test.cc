// HTTP itself: heads, bodies, limits, and clients that misbehave.
#include <sys/resource.h>

#include "server/descriptors.h"
#include "unit/server/served.h"

namespace tandem::server {
namespace {

TEST_F(ServerTest, PathsAndMethods) {
  start_ready();
  Client client(server->port());
  EXPECT_EQ(client.get("/nothing").status, 404);
  EXPECT_EQ(client.get("/nothing").parsed()["error"]["type"], "not_found_error");
  const Got wrong = client.get("/v1/embeddings");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.header("Allow"), "POST, OPTIONS");
  EXPECT_EQ(client.post("/health", "").header("Allow"), "GET, HEAD, OPTIONS");
  client.send("OPTIONS /classify HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.read().status, 204);
  client.send("HEAD /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n");
  const Got head = client.read(true);
  EXPECT_EQ(head.status, 200);
  EXPECT_NE(head.header("Content-Length"), "0");
  EXPECT_EQ(client.read().status, 200);  // and nothing of a body came between
  client.send("GET http://elsewhere/ready?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.read().status, 200);
  for (const char* path :
       {"/assets/../server.h", "/assets/%2e%2e/x", "/gallery/../../etc/passwd", "/gallery/0", "/gallery/x"}) {
    EXPECT_EQ(client.get(path).status, 404) << path;
  }
}

TEST_F(ServerTest, PagesOfOtherSitesAreRefused) {
  start_ready();
  Client client(server->port());
  EXPECT_EQ(client.post("/v1/embeddings", kText, "Sec-Fetch-Site: cross-site\r\n").status, 403);
  EXPECT_EQ(client.post("/v1/embeddings", kText, "Sec-Fetch-Site: same-origin\r\n").status, 200);
}

TEST_F(ServerTest, PipelinedChunkedAndExpectedBodies) {
  start_ready();
  Client client(server->port());
  std::string many;
  for (int i = 0; i < 20; ++i) {
    many += i % 2 ? "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
                  : "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kText.size()) +
                        "\r\n\r\n" + kText;
  }
  client.send(many);
  for (int i = 0; i < 20; ++i) {
    const Got got = client.read();
    ASSERT_EQ(got.status, 200) << i;
    EXPECT_EQ(got.body.find("embedding") != std::string::npos, i % 2 == 0);
  }
  client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (const char c : kText) {
    client.send("1\r\n" + std::string(1, c) + "\r\n");
  }
  client.send("0\r\n\r\n");
  EXPECT_EQ(client.read().status, 200);

  client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: " +
              std::to_string(kText.size()) + "\r\n\r\n");
  EXPECT_EQ(client.read(true).status, 100);
  client.send(kText);
  EXPECT_EQ(client.read().status, 200);
  client.send("POST /nowhere HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 18\r\n\r\n");
  EXPECT_EQ(client.read().status, 404);  // without asking for the body
}

TEST_F(ServerTest, LargeBodiesAreReadWholeInWhateverPiecesTheyCome) {
  start_ready();
  Client client(server->port());
  constexpr int kTexts = 1000;
  std::string body = R"({"input": [)";
  for (int i = 0; i < kTexts; ++i)
    body += (i ? ", \"" : "\"") + std::string(500, static_cast<char>('a' + i % 26)) + "\"";
  body += "]}";
  // Two behind each other: what follows a body is the next request, wherever a piece ends.
  const std::string request =
      "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  const std::string all = request + request + "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
  for (std::size_t at = 0, piece = 1; at < all.size(); at += piece, piece = piece * 3 % 300'007) {
    client.send(std::string_view(all).substr(at, piece));
  }
  for (int i = 0; i < 2; ++i) {
    const Got got = client.read();
    ASSERT_EQ(got.status, 200) << got.body.substr(0, 300);
    std::size_t count = 0;
    for (std::size_t at = 0; (at = got.body.find("\"embedding\":", at)) != std::string::npos; ++at) ++count;
    EXPECT_EQ(count, static_cast<std::size_t>(kTexts));
  }
  EXPECT_EQ(client.read().status, 200);
  // One that ends too early is no request.
  client.send(std::string_view(request).substr(0, request.size() - 1));
  client.finish_sending();
  EXPECT_FALSE(client.fill());
}

TEST_F(ServerTest, MalformedHeadsGetAnAnswer) {
  start_ready();
  const auto status = [&](const std::string& text) {
    Client client(server->port());
    client.send(text);
    return client.read().status;
  };
  EXPECT_EQ(status("hello\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\n\r\n"), 400);  // no Host
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost x\r\n\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(20000, 'a') + "\r\n\r\n"), 431);
  EXPECT_EQ(
      status("POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
      400);
  EXPECT_EQ(status("POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"), 400);
  EXPECT_EQ(status("POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
  EXPECT_EQ(status("GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n"), 417);
  EXPECT_EQ(status("GET /health HTTP/1.0\r\n\r\n"), 200);
}

TEST_F(ServerTest, ABodyIsNeverReadAsARequest) {
  start_ready();
  // A proxy in front may see a body where this server would see the next request.
  const std::string inner = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
  const auto refused = [&](const std::string& head, int status, const std::string& version = "1.1") {
    Client client(server->port());
    client.send("POST /v1/embeddings HTTP/" + version + "\r\nHost: x\r\n" + head + "\r\n" + inner);
    const Got got = client.read();
    EXPECT_EQ(got.status, status) << head << got.body;
    EXPECT_EQ(got.header("Connection"), "close") << head;
    EXPECT_FALSE(client.fill()) << head << ": there was a second answer";
    EXPECT_TRUE(client.ended()) << head;
  };
  for (const char* codings :
       {"xchunked", "gzip", "identity", "chunked, identity", "gzip, chunked", "chunked, chunked"}) {
    refused(std::string("Transfer-Encoding: ") + codings + "\r\n", 501);
  }
  refused("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", 501);
  refused("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", 501);
  refused("Transfer-Encoding: chunked\r\n", 400, "1.0");
  refused("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400);
  refused("Content-Length: 5\r\nContent-Length: 6\r\n", 400);
  refused("Content-Length: 5\r\nContent-Length: 5\r\n", 400);
  refused("Content-Length: 5, 5\r\n", 400);
  Client client(server->port());
  client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n12\r\n" + kText +
              "\r\n0\r\n\r\n");
  EXPECT_EQ(client.read().status, 200);
}

TEST_F(ServerTest, AnAddressInFullHasItsPathBehindTheHost) {
  start_ready();
  Client client(server->port());
  const auto status = [&](const std::string& target) {
    client.send("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n");
    return client.read();
  };
  EXPECT_EQ(status("http://x/health").header("Content-Type"), "application/json");
  // The page: what stands behind '?' is no path.
  EXPECT_NE(status("http://x?a=/health").header("Content-Type"), "application/json");
  EXPECT_NE(status("http://x").header("Content-Type"), "application/json");
}

TEST_F(ServerTest, LargeBodiesAreRefusedWithTheLimit) {
  options.max_body_bytes = 1000;
  start_ready();
  {
    Client client(server->port());
    const Got got = client.post("/v1/embeddings", std::string(500'000, ' '));
    EXPECT_EQ(got.status, 413);
    EXPECT_NE(got.body.find("the limit is 1000 bytes"), std::string::npos) << got.body;
    EXPECT_EQ(got.header("Connection"), "close");
  }
  Client client(server->port());
  client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" +
              std::string(2000, ' '));
  EXPECT_EQ(client.read().status, 413);
}

TEST_F(ServerTest, RefusalsBeforeTheHandlerHaveTheDialectsShape) {
  options.max_body_bytes = 50'000;
  options.max_buffered_bytes = 10'000;
  start_ready();
  const auto refused = [&](const std::string& path, std::size_t bytes) {
    Client client(server->port());
    const Got got = client.post(path, std::string(bytes, ' '));
    EXPECT_EQ(got.status, 413) << got.body;
    return got.parsed();
  };
  for (const std::size_t bytes : {20'000, 100'000}) {  // beyond the memory of all, beyond one body's limit
    EXPECT_EQ(refused("/embed", bytes)["error_type"], "Validation");
    EXPECT_TRUE(refused("/vectorize", bytes)["error"].is_string());
    EXPECT_TRUE(refused("/clip/embed_text", bytes)["message"].is_string());
    EXPECT_TRUE(refused("/v1/embeddings", bytes)["error"]["message"].is_string());
  }
}

TEST_F(ServerTest, BodiesTogetherAreBounded) {
  options.max_buffered_bytes = 10'000;
  start_ready();
  Client first(server->port()), second(server->port());
  // Asked for only once it is counted: a probe that came before would have taken its room.
  first.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2500\r\n\r\n");
  ASSERT_EQ(first.read(true).status, 100);
  ASSERT_TRUE(eventually([&] {
    Client probe(server->port());
    return probe.post("/v1/embeddings", kText + std::string(7'600, ' ')).status == 429;
  }));
  EXPECT_EQ(second.post("/v1/embeddings", kText).status, 200);
  first.send(kText + std::string(2500 - kText.size(), ' '));
  EXPECT_EQ(first.read().status, 200);
  // Given back once the answer is written, which the client may see a moment earlier.
  EXPECT_TRUE(eventually([&] {
    Client probe(server->port());
    return probe.post("/v1/embeddings", kText + std::string(2500, ' ')).status == 200;
  }));
}

TEST_F(ServerTest, AClientThatLeavesWithdrawsItsWork) {
  start_ready();
  control->hold = true;
  {
    Client client(server->port());
    client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kText.size()) +
                "\r\n\r\n" + kText);
    ASSERT_TRUE(control->wait_until_held(1));
  }
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(control->mutex);
    return control->held.front().first.cancel->load();
  }));
  control->release();
  EXPECT_EQ(control->cancelled, 1);
  Client next(server->port());
  EXPECT_EQ(next.post("/v1/embeddings", kText).status, 200);
}

TEST_F(ServerTest, ADeadlineIsAnswered) {
  options.request_seconds = -4.5;  // with the server's own five seconds of patience: half a second
  start_ready();
  control->hold = true;
  Client client(server->port());
  const Got got = client.post("/v1/embeddings", kText);
  EXPECT_EQ(got.status, 504);
  EXPECT_EQ(got.parsed()["error"]["code"], "deadline_exceeded");
  control->release();
}

TEST_F(ServerTest, AnswersThatNobodyReadsCountToo) {
  options.max_buffered_bytes = 48 << 20;
  start_ready();
  // Twenty megabytes: more than the system takes off the server's hands.
  std::string body = R"({"top":0,"labels":[")" + std::string(900, 'x');
  for (int i = 0; i < 19; ++i) body += "\",\"" + std::to_string(i) + std::string(900, 'y');
  body += R"("],"images":["Zm9v")";
  for (int i = 0; i < 999; ++i) body += R"(,"Zm9v")";
  body += "]}";
  Client slow(server->port()), other(server->port());
  slow.send("POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  ASSERT_TRUE(slow.fill());
  // One more does not fit beside it twice over: it would be made while the first is still there.
  Client third(server->port());
  third.send("POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
             body);
  ASSERT_TRUE(third.fill());
  const Got refused = other.post("/classify", body);
  EXPECT_EQ(refused.status, 429) << refused.status;
  EXPECT_EQ(other.post("/v1/embeddings", kText).status, 200);
  EXPECT_EQ(slow.read().status, 200);
  EXPECT_EQ(third.read().status, 200);
  EXPECT_TRUE(eventually([&] { return other.post("/classify", body).status == 200; }));
}

TEST_F(ServerTest, AnAnswerBeyondAllMemoryIsRefusedForGood) {
  options.max_buffered_bytes = 1 << 20;
  start_ready();
  Client client(server->port());
  std::string body = R"({"images":["Zm9v")";
  for (int i = 0; i < 999; ++i) body += R"(,"Zm9v")";
  body += R"(],"labels":[")" + std::string(1000, 'x') + R"(","a"]})";
  const Got got = client.post("/classify", body);
  EXPECT_EQ(got.status, 413) << got.body;
  EXPECT_NE(got.body.find("the answer may take"), std::string::npos) << got.body;
}

/// Lowers how many files the process may open, for as long as it lives.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t most) {
    getrlimit(RLIMIT_NOFILE, &before_);
    const rlimit now{most, before_.rlim_max};
    setrlimit(RLIMIT_NOFILE, &now);
  }
  ~FewDescriptors() { setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
};

TEST_F(ServerTest, OutOfDescriptorsItWaitsAndGoesOn) {
  std::mutex mutex;
  std::string said;
  options.announce = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    said += line + "\n";
  };
  start_ready();
  Client warm(server->port());
  ASSERT_EQ(warm.get("/health").status, 200);
  {
    // The client's end exists, the server's cannot be made.
    Client late;
    const FewDescriptors few(static_cast<rlim_t>(late.descriptor()) + 1);
    late.connect(server->port());
    late.send("GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    EXPECT_TRUE(eventually([&] {
      const std::lock_guard lock(mutex);
      return said.find("new connections have to wait: Too many open files") != std::string::npos;
    }));
    EXPECT_FALSE(late.fill(100ms));
    EXPECT_FALSE(late.ended());
    EXPECT_EQ(warm.get("/health").status, 200);  // who is there already is served
  }
  EXPECT_EQ(Client(server->port()).get("/health").status, 200);
  const std::lock_guard lock(mutex);
  EXPECT_EQ(said.find("Too many open files"), said.rfind("Too many open files"));  // once, not at every try
}

TEST(Descriptors, TheSoftLimitIsRaisedAndBoundsConnections) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const FewDescriptors few(200);
  EXPECT_EQ(raise_descriptor_limit(), before.rlim_max);
  rlimit now{};
  getrlimit(RLIMIT_NOFILE, &now);
  EXPECT_EQ(now.rlim_cur, before.rlim_max);
  EXPECT_EQ(connections_within(20'000, 12'000), 12'000);
  EXPECT_EQ(connections_within(4096, 12'000), 4096 - 128);
  EXPECT_EQ(connections_within(64, 12'000), 32);
  EXPECT_EQ(connections_within(0, 12'000), 1);
}

TEST_F(ServerTest, SlowClientsAreClosed) {
  options.header_seconds = 0.3;
  options.body_seconds = 0.3;
  options.idle_seconds = 0.3;
  start_ready();
  Client silent(server->port()), head(server->port()), body(server->port()), resting(server->port());
  head.send("GET / HT");
  body.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
  EXPECT_EQ(resting.get("/health").status, 200);
  for (Client* client : {&silent, &head, &body, &resting}) {
    EXPECT_FALSE(client->fill(3s));
    EXPECT_TRUE(client->ended());
  }
}

TEST_F(ServerTest, TooManyConnectionsAreTurnedAway) {
  options.max_connections = 3;
  start_ready();
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(std::make_unique<Client>(server->port()));
    EXPECT_EQ(clients.back()->get("/health").status, 200);
  }
  Client late(server->port());
  EXPECT_EQ(late.read().status, 503);
  clients.clear();
  EXPECT_TRUE(eventually([&] { return Client(server->port()).get("/health").status == 200; }));
}

TEST_F(ServerTest, AHalfClosedClientGetsItsRealAnswer) {
  start_ready();
  const std::string ask =
      "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kText.size()) + "\r\n\r\n" + kText;
  {
    Client client(server->port());
    client.send(ask);
    client.finish_sending();
    EXPECT_EQ(client.read().status, 200);
  }
  // The same where the end is seen while the work waits: the beginning of the answer comes, and the rest later.
  control->hold = true;
  Client client(server->port());
  client.send(ask);
  client.finish_sending();
  ASSERT_TRUE(control->wait_until_held(1));
  ASSERT_TRUE(client.fill());
  ASSERT_TRUE(client.fill()) << "a second letter";
  {
    const std::lock_guard lock(control->mutex);
    EXPECT_FALSE(control->held.front().first.cancel->load());
  }
  control->release();
  const Got got = client.read();
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.head.substr(0, 9), "HTTP/1.1 ");
  EXPECT_EQ(got.parsed()["data"].size(), 1u);
  EXPECT_FALSE(client.fill());
  EXPECT_TRUE(client.ended());
  EXPECT_EQ(control->cancelled, 0);
}

TEST_F(ServerTest, AHalfClosedClientThatLeavesLaterWithdrawsItsWork) {
  start_ready();
  control->hold = true;
  {
    Client client(server->port());
    client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kText.size()) +
                "\r\n\r\n" + kText);
    client.finish_sending();
    ASSERT_TRUE(control->wait_until_held(1));
    ASSERT_TRUE(client.fill());
  }
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(control->mutex);
    return control->held.front().first.cancel->load();
  }));
  control->release();
  EXPECT_EQ(control->cancelled, 1);
}

TEST_F(ServerTest, WrongAddressesAndTakenPortsAreErrors) {
  start_ready();
  ServerOptions other = options;
  other.port = server->port();
  EXPECT_THROW(Server(other, [](const ServerOptions&) { return std::unique_ptr<Encoder>(); }).start(), Error);
  other.host = "not an address";
  EXPECT_THROW(Server(other, [](const ServerOptions&) { return std::unique_ptr<Encoder>(); }).start(), Error);
}

TEST_F(ServerTest, ManyClientsAtOnce) {
  start_ready();
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      Client client(server->port());
      for (int i = 0; i < 50; ++i) {
        const bool classify = (t + i) % 3 == 0;
        const Got got =
            classify ? client.post("/classify", R"({"image":"Zm9v","labels":["a","up",")" + std::to_string(i) + "\"]}")
                     : client.post("/v1/embeddings", R"({"input":["up",")" + std::string(40'000, 'x') + "\"]}");
        good += got.status == 200;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(good, 16 * 50);
}

}  // namespace
}  // namespace tandem::server
