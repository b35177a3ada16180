// The server over real sockets, around an engine that does what the test wants.
#include "server/server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

namespace tandem::server {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

/// Switches shared between a test and its engine.
struct Control {
  std::mutex mutex;
  std::condition_variable changed;
  bool hold = false;                ///< keep requests until release()
  std::optional<ItemError> refuse;  ///< thrown by submit
  std::optional<ItemError> fail;    ///< given to on_done
  std::deque<std::pair<Request, OnDone>> held;
  std::size_t seen = 0;
  std::atomic<int> cancelled{0};

  static std::variant<Response, ItemError> answer(const Request& request) {
    if (request.cancel && *request.cancel) return ItemError{Code::cancelled, "withdrawn"};
    Response response;
    for (const ImageInput& image : request.images) {
      Embedding one;
      const auto& bytes = *std::get<EncodedImage>(image).bytes;
      if (bytes.size() < 2) {
        one.error = ItemError{Code::bad_data, "not a picture"};
      } else {
        one.values = {0.6f, 0.8f, 0.0f};
      }
      response.images.push_back(one);
    }
    for (const TextInput& text : request.texts) {
      Embedding one;
      one.values = {1.0f, 0.0f, 0.0f};
      if (const auto* plain = std::get_if<std::string>(&text); plain && *plain == "up") one.values = {0.0f, 1.0f, 0.0f};
      one.tokens = 3;
      response.texts.push_back(one);
    }
    return response;
  }

  void release() {
    std::deque<std::pair<Request, OnDone>> all;
    {
      const std::lock_guard lock(mutex);
      hold = false;
      all.swap(held);
    }
    for (auto& [request, on_done] : all) {
      auto result = answer(request);
      cancelled += std::holds_alternative<ItemError>(result);
      on_done(std::move(result));
    }
  }
  bool wait_until_held(std::size_t count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 5s, [&] { return held.size() >= count; });
  }
};

class FakeEncoder final : public Encoder {
 public:
  explicit FakeEncoder(std::shared_ptr<Control> control) : control_(std::move(control)) {
    info_.model = "fake";
    info_.embed_dim = 3;
    info_.logit_scale = 10;
  }
  ~FakeEncoder() override { control_->release(); }
  const EngineInfo& info() const override { return info_; }
  std::size_t queued() const override { return 0; }
  void submit(Request request, OnDone on_done) override {
    std::optional<ItemError> fail;
    {
      const std::lock_guard lock(control_->mutex);
      ++control_->seen;
      if (control_->refuse) throw Error(control_->refuse->code, control_->refuse->message);
      fail = control_->fail;
      if (control_->hold) {
        control_->held.emplace_back(std::move(request), std::move(on_done));
        control_->changed.notify_all();
        return;
      }
    }
    on_done(fail ? std::variant<Response, ItemError>(*fail) : Control::answer(request));
  }

 private:
  std::shared_ptr<Control> control_;
  EngineInfo info_;
};

struct Got {
  int status = 0;
  std::string head, body;
  json parsed() const { return json::parse(body); }
  std::string header(const std::string& name) const {
    const std::size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return {};
    const std::size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

/// One connection, as raw as the tests need it.
class Client {
 public:
  explicit Client(int port) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  bool connected() const { return connected_; }

  void send(std::string_view text) const {
    while (!text.empty()) {
      const auto count = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  void finish_sending() const { ::shutdown(fd_, SHUT_WR); }

  /// Reads into the buffer; false at the end of the connection or after the time.
  bool fill(std::chrono::milliseconds time = 10s) {
    pollfd wait{fd_, POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(time.count())) <= 0) return false;
    char part[65536];
    const auto count = ::recv(fd_, part, sizeof part, 0);
    if (count <= 0) {
      ended_ = true;
      return false;
    }
    buffer_.append(part, static_cast<std::size_t>(count));
    return true;
  }
  bool ended() const { return ended_; }

  /// The next answer; status 0 when none comes. head_only: of a HEAD request.
  Got read(bool head_only = false) {
    Got got;
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!fill()) return got;
    }
    got.head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    got.status = std::stoi(got.head.substr(9, 3));
    const std::string length = got.header("Content-Length");
    const std::size_t size = head_only || length.empty() ? 0 : std::stoul(length);
    while (buffer_.size() < size) {
      if (!fill()) return Got{};
    }
    got.body = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return got;
  }

  Got get(const std::string& path) {
    send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    return read();
  }
  Got post(const std::string& path, const std::string& body, const std::string& headers = "") {
    send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    return read();
  }

 private:
  int fd_ = -1;
  bool connected_ = false, ended_ = false;
  std::string buffer_;
};

const std::string kText = R"({"input":"a text"})";

class ServerTest : public ::testing::Test {
 protected:
  void start(EncoderFactory factory = {}) {
    options.port = 0;
    if (!factory) {
      factory = [control = control](const ServerOptions&) { return std::make_unique<FakeEncoder>(control); };
    }
    server.emplace(options, std::move(factory));
    server->start();
  }
  void start_ready() {
    options.engine.model = "fake";
    start();
    ASSERT_TRUE(eventually([&] { return server->ready(); }));
  }
  static bool eventually(const std::function<bool()>& holds) {
    for (int i = 0; i < 1000; ++i) {
      if (holds()) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  ServerOptions options;
  std::shared_ptr<Control> control = std::make_shared<Control>();
  std::optional<Server> server;
};

TEST_F(ServerTest, ListensWhileTheModelLoads) {
  std::promise<void> loaded;
  start([&, control = control](const ServerOptions&) {
    loaded.get_future().wait();
    return std::make_unique<FakeEncoder>(control);
  });
  Client client(server->port());
  EXPECT_EQ(client.get("/health").status, 200);
  const Got ready = client.get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(ready.parsed()["status"], "loading");
  EXPECT_EQ(ready.header("Retry-After"), "2");
  const Got refused = client.post("/v1/embeddings", kText);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.parsed()["error"]["code"], "unavailable");
  EXPECT_EQ(client.get("/info").parsed()["status"], "loading");
  loaded.set_value();
  EXPECT_TRUE(eventually([&] { return client.get("/ready").status == 200; }));
  EXPECT_EQ(client.post("/v1/embeddings", kText).status, 200);
}

TEST_F(ServerTest, AModelThatCannotBeLoadedIsSaid) {
  start([](const ServerOptions&) -> std::unique_ptr<Encoder> { throw Error(Code::not_found, "no such model"); });
  ASSERT_TRUE(eventually([&] { return !server->load_error().empty(); }));
  Client client(server->port());
  EXPECT_EQ(client.get("/health").status, 503);
  EXPECT_EQ(client.get("/ready").parsed()["reason"], "no such model");
  EXPECT_EQ(client.post("/v1/embeddings", kText).status, 503);
}

TEST_F(ServerTest, EmbeddingsHaveOpenAisShape) {
  start_ready();
  Client client(server->port());
  const Got got = client.post("/v1/embeddings", R"({"model":"fake","input":["up",{"image":"Zm9v"},"x"]})");
  ASSERT_EQ(got.status, 200) << got.body;
  const json expected = json::parse(R"({"object":"list","data":[
    {"object":"embedding","index":0,"embedding":[0.0,1.0,0.0]},
    {"object":"embedding","index":1,"embedding":[0.6,0.8,0.0]},
    {"object":"embedding","index":2,"embedding":[1.0,0.0,0.0]}],
    "model":"fake","usage":{"prompt_tokens":6,"total_tokens":6}})");
  EXPECT_EQ(got.parsed(), expected);
  EXPECT_EQ(client.post("/v1/embeddings", R"({"input":{"image":"Zm9v"},"encoding_format":"base64"})")
                .parsed()["data"][0]["embedding"],
            "mpkZP83MTD8AAAAA");
  // Shortened and to unit length again.
  EXPECT_EQ(
      client.post("/v1/embeddings", R"({"input":{"image":"Zm9v"},"dimensions":1})").parsed()["data"][0]["embedding"],
      json::parse("[1.0]"));
  EXPECT_EQ(client.post("/v1/embeddings", R"({"input":"x","dimensions":4})").parsed()["error"]["param"], "dimensions");
  const Got wrong = client.post("/v1/embeddings", R"({"input":["x",{"image":"Zg=="}]})");
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(wrong.parsed()["error"]["message"], "input[1]: not a picture");
  const Got model = client.post("/v1/embeddings", R"({"model":"other","input":"x"})");
  EXPECT_EQ(model.status, 404);
  EXPECT_EQ(model.parsed()["error"]["param"], "model");
}

TEST_F(ServerTest, ClassifyScoresAndSorts) {
  start_ready();
  Client client(server->port());
  const Got got = client.post("/classify", R"({"image":"Zm9v","labels":["side","up"],"template":"{}"})");
  ASSERT_EQ(got.status, 200) << got.body;
  const json labels = got.parsed()["results"][0]["labels"];
  ASSERT_EQ(labels.size(), 2u);
  EXPECT_EQ(labels[0]["label"], "up");
  EXPECT_FLOAT_EQ(labels[0]["logit"], 8);
  EXPECT_FLOAT_EQ(labels[1]["logit"], 6);
  EXPECT_FLOAT_EQ(labels[0]["probability"], 1 / (1 + std::exp(-2.0f)));
  EXPECT_FLOAT_EQ(labels[0]["probability"].get<float>() + labels[1]["probability"].get<float>(), 1);
  EXPECT_EQ(client.post("/classify", R"({"image":"Zm9v","labels":["side","up"],"top":1})")
                .parsed()["results"][0]["labels"]
                .size(),
            1u);
  // This model has no labels of its own.
  EXPECT_EQ(client.post("/classify", R"({"image":"Zm9v"})").parsed()["error"]["param"], "labels");
}

TEST_F(ServerTest, APictureThatFailsFailsAlone) {
  start_ready();
  Client client(server->port());
  const Got got = client.post("/classify", R"({"images":["Zm9v","Zg==","?","Zm9v"],"labels":["a","up"]})");
  ASSERT_EQ(got.status, 200) << got.body;
  const json results = got.parsed()["results"];
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0]["labels"].size(), 2u);
  EXPECT_EQ(results[1], json::parse(R"({"error":{"code":"bad_data","message":"images[1]: not a picture"}})"));
  EXPECT_EQ(results[2]["error"]["code"], "bad_data");
  EXPECT_EQ(results[3], results[0]);
  // Nothing is left of these.
  for (const char* body : {R"({"images":["Zg==","?"],"labels":["a"]})", R"({"image":"Zg==","labels":["a"]})",
                           R"({"images":["?"],"labels":["a"]})"}) {
    const Got wrong = client.post("/classify", body);
    EXPECT_EQ(wrong.status, 400) << body;
    EXPECT_EQ(wrong.parsed()["error"]["code"], "bad_data");
  }
}

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

TEST_F(ServerTest, ThePageIsServedWithItsGuards) {
  start_ready();
  Client client(server->port());
  const Got page = client.get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_NE(page.header("Content-Security-Policy").find("default-src 'none'"), std::string::npos);
  EXPECT_EQ(page.header("X-Content-Type-Options"), "nosniff");
  client.send("GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: " + page.header("ETag") + "\r\n\r\n");
  EXPECT_EQ(client.read().status, 304);
  EXPECT_EQ(client.get("/assets/app.js").header("Content-Type"), "text/javascript; charset=utf-8");
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

TEST_F(ServerTest, BodiesTogetherAreBounded) {
  options.max_buffered_bytes = 3000;
  start_ready();
  Client first(server->port()), second(server->port());
  first.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n");
  ASSERT_TRUE(eventually([&] {
    Client probe(server->port());
    return probe.post("/v1/embeddings", kText + std::string(1500, ' ')).status == 429;
  }));
  EXPECT_EQ(second.post("/v1/embeddings", kText).status, 200);
  first.send(kText + std::string(2000 - kText.size(), ' '));
  EXPECT_EQ(first.read().status, 200);
  // Given back once the answer is written, which the client may see a moment earlier.
  EXPECT_TRUE(eventually([&] {
    Client probe(server->port());
    return probe.post("/v1/embeddings", kText + std::string(2500, ' ')).status == 200;
  }));
}

TEST_F(ServerTest, AFullQueueAnswers429) {
  start_ready();
  control->refuse = ItemError{Code::overloaded, "4096 items wait already"};
  Client client(server->port());
  const Got got = client.post("/v1/embeddings", kText);
  EXPECT_EQ(got.status, 429);
  EXPECT_EQ(got.header("Retry-After"), "1");
  EXPECT_EQ(got.parsed()["error"]["type"], "rate_limit_error");
  EXPECT_EQ(client.post("/classify", R"({"image":"Zm9v","labels":["a"]})").status, 429);
}

TEST_F(ServerTest, ADeadEngineIsSaidAndItsRecoveryToo) {
  start_ready();
  {
    const std::lock_guard lock(control->mutex);
    control->fail = ItemError{Code::device_failure, "fell off the bus"};
  }
  Client client(server->port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.post("/v1/embeddings", kText).status, 503);
  const Got health = client.get("/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_NE(health.body.find("fell off the bus"), std::string::npos);
  EXPECT_EQ(client.get("/ready").status, 503);
  {
    const std::lock_guard lock(control->mutex);
    control->fail.reset();
  }
  EXPECT_TRUE(eventually([&] { return client.get("/ready").status == 200; }));  // the server asks it by itself
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

TEST_F(ServerTest, StoppingFinishesWhatIsUnderWay) {
  start_ready();
  control->hold = true;
  Client busy(server->port()), resting(server->port());
  EXPECT_EQ(resting.get("/health").status, 200);
  busy.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kText.size()) + "\r\n\r\n" +
            kText);
  ASSERT_TRUE(control->wait_until_held(1));
  const int port = server->port();
  auto stopped = std::async(std::launch::async, [&] { return server->stop(10); });
  EXPECT_FALSE(resting.fill());  // closed at once
  EXPECT_TRUE(resting.ended());
  EXPECT_TRUE(eventually([&] { return !Client(port).connected(); }));
  EXPECT_FALSE(server->ready());
  control->release();
  const Got got = busy.read();
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.header("Connection"), "close");
  EXPECT_TRUE(stopped.get());
}

TEST_F(ServerTest, StoppingAnswersWhatTakesTooLong) {
  start_ready();
  control->hold = true;
  Client busy(server->port());
  busy.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kText.size()) + "\r\n\r\n" +
            kText);
  ASSERT_TRUE(control->wait_until_held(1));
  auto stopped = std::async(std::launch::async, [&] { return server->stop(0.1); });
  const Got got = busy.read();
  EXPECT_EQ(got.status, 503);
  EXPECT_EQ(got.parsed()["error"]["message"], "the server is stopping");
  EXPECT_FALSE(stopped.get());
}

TEST_F(ServerTest, AHalfClosedClientStillGetsItsAnswer) {
  start_ready();
  Client client(server->port());
  client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kText.size()) +
              "\r\n\r\n" + kText);
  client.finish_sending();
  EXPECT_NE(client.read().status, 0);
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
