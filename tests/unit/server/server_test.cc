// What the routes answer, and the life of the server: loading, failing, stopping.
#include <filesystem>
#include <fstream>

#include "unit/server/served.h"

namespace tandem::server {
namespace {

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
  const auto fails = [&](Code code) {
    const std::lock_guard lock(control->mutex);
    control->fail = ItemError{code, "fell off the bus"};
  };
  Client client(server->port());
  fails(Code::device_failure);  // the engine's own health speaks of those
  for (int i = 0; i < 8; ++i) EXPECT_EQ(client.post("/v1/embeddings", kText).status, 503);
  EXPECT_EQ(client.get("/ready").status, 200);
  fails(Code::internal);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.post("/v1/embeddings", kText).status, 500);
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

TEST_F(ServerTest, ReplicasThatFailedAreCountedAndOnlyAHopelessLossEndsHealth) {
  start_ready();
  Client client(server->port());
  const auto is = [&](EngineHealth now) {
    const std::lock_guard lock(control->mutex);
    control->health = std::move(now);
  };
  const auto numbers = [](int total, int working, int replacing) {
    return json{{"total", total}, {"working", working}, {"replacing", replacing}};
  };
  is({2, 1, 1, "fell off the bus"});
  Got ready = client.get("/ready");
  EXPECT_EQ(ready.status, 200);
  EXPECT_EQ(ready.parsed(), (json{{"status", "ok"}, {"replicas", numbers(2, 1, 1)}}));
  EXPECT_EQ(client.post("/v1/embeddings", kText).status, 200);

  is({2, 0, 2, "fell off the bus"});
  ready = client.get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(ready.parsed()["status"], "replacing");
  EXPECT_EQ(ready.parsed()["replicas"], numbers(2, 0, 2));
  EXPECT_NE(ready.parsed()["reason"].get<std::string>().find("fell off the bus"), std::string::npos);
  EXPECT_EQ(client.get("/health").status, 200);  // it may come back by itself
  const Got refused = client.post("/v1/embeddings", kText);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.parsed()["error"]["type"], "server_error") << refused.body;
  EXPECT_NE(refused.body.find("2 of 2 are being replaced: fell off the bus"), std::string::npos) << refused.body;

  is({2, 0, 0, "fell off the bus"});
  ready = client.get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(ready.parsed()["status"], "failed");
  const Got health = client.get("/health");
  EXPECT_EQ(health.status, 503);
  EXPECT_EQ(health.parsed()["replicas"], numbers(2, 0, 0));

  is({2, 2, 0, {}});
  EXPECT_EQ(client.get("/ready").status, 200);
  EXPECT_EQ(client.get("/health").status, 200);
  EXPECT_EQ(client.post("/v1/embeddings", kText).status, 200);
}

TEST_F(ServerTest, SicknessWhileOneReplicaIsReplacedIsNotCalledReplacing) {
  start_ready();
  {
    const std::lock_guard lock(control->mutex);
    control->health = {2, 1, 1, "fell off the bus"};
    control->fail = ItemError{Code::internal, "the model gave a vector that is zero"};
  }
  Client client(server->port());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.post("/v1/embeddings", kText).status, 500);
  const Got ready = client.get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_EQ(ready.parsed()["status"], "failed");
  EXPECT_NE(ready.body.find("vector that is zero"), std::string::npos) << ready.body;
  EXPECT_EQ(client.get("/health").status, 503);
}

TEST_F(ServerTest, TheGalleryWaitsWhileSomebodyAsks) {
  namespace fs = std::filesystem;
  constexpr int kPictures = 40;
  const fs::path folder = fs::temp_directory_path() / ("tandem-quiet-" + std::to_string(::getpid()));
  fs::create_directories(folder);
  for (int i = 0; i < kPictures; ++i) std::ofstream(folder / (std::to_string(i) + ".png")) << "\x89PNG\r\n\x1a\n";
  options.gallery = folder.string();
  control->hold = true;  // nobody asks yet, so it begins at once
  start_ready();
  ASSERT_TRUE(control->wait_until_held(1));
  Client client(server->port());
  const auto done = [&] { return client.get("/gallery").parsed()["gallery"]["done"].get<int>(); };
  client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(kText.size()) +
              "\r\n\r\n" + kText);
  ASSERT_TRUE(control->wait_until_held(2));
  control->release();
  EXPECT_EQ(client.read().status, 200);
  // Where the machine itself pauses for too long this says nothing, and is tried again.
  bool kept_asking = false;
  int before = 0, after = 0;
  for (int tries = 0; tries < 50 && !kept_asking; ++tries) {
    kept_asking = true;
    EXPECT_EQ(client.post("/v1/embeddings", kText).status, 200);
    before = done();
    for (int i = 0; i < 25; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      EXPECT_EQ(client.post("/v1/embeddings", kText).status, 200);
      std::this_thread::sleep_for(20ms);
      kept_asking = kept_asking && std::chrono::steady_clock::now() - begin < 100ms;
    }
    after = done();
  }
  EXPECT_TRUE(kept_asking);
  EXPECT_LE(after, before + 16);  // the portion that was under way
  EXPECT_TRUE(eventually([&] { return done() == kPictures; }));
  server.reset();
  fs::remove_all(folder);
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

}  // namespace
}  // namespace tandem::server
