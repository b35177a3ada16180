// Priority, deadline and what is remembered, as clients ask for them.
#include "unit/server/served.h"

namespace tandem::server {
namespace {

class WishesTest : public ServerTest {
 protected:
  /// What the engine is given for a request.
  Request given(const std::string& body, const std::string& headers = "", const std::string& path = "/v1/embeddings") {
    {
      const std::lock_guard lock(control->mutex);
      control->hold = true;
    }
    const Client client(server->port());
    client.send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
                "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    EXPECT_TRUE(control->wait_until_held(1));
    Request request;
    {
      const std::lock_guard lock(control->mutex);
      if (!control->held.empty()) request = control->held.front().first;
    }
    control->release();
    return request;
  }
  static double seconds_left(const Request& request) {
    return std::chrono::duration<double>(request.deadline.value() - std::chrono::steady_clock::now()).count();
  }
};

TEST_F(WishesTest, AHeaderOrAFieldSaysHowSoon) {
  start_ready();
  Request plain = given(kText);
  EXPECT_EQ(plain.priority, Priority::normal);
  EXPECT_GT(seconds_left(plain), 100);

  Request header = given(kText, "X-Priority: high\r\nX-Timeout: 2.5\r\n");
  EXPECT_EQ(header.priority, Priority::high);
  EXPECT_LT(seconds_left(header), 2.5);

  Request field = given(R"({"input":"x","priority":"normal","timeout":50})", "X-Priority: high\r\nX-Timeout: 2.5\r\n");
  EXPECT_EQ(field.priority, Priority::normal);
  EXPECT_LT(seconds_left(field), 50);
  EXPECT_GT(seconds_left(field), 40);

  Request alias = given(R"({"input":"x","priority":"high"})", "", "/embeddings");
  EXPECT_EQ(alias.priority, Priority::high);
  EXPECT_LE(seconds_left(given(R"({"input":"x","timeout":80000})")), options.request_seconds)
      << "the server's own stays";
}

TEST_F(WishesTest, AWrongWishIsNamed) {
  start_ready();
  Client client(server->port());
  const auto param = [&](const Got& got) {
    EXPECT_EQ(got.status, 400) << got.body;
    return got.parsed()["error"]["param"].get<std::string>();
  };
  EXPECT_EQ(param(client.post("/v1/embeddings", kText, "X-Priority: urgent\r\n")), "X-Priority");
  for (const char* wrong : {"0", "-1", "nan", "inf", "1e9", "soon", "1x"}) {
    EXPECT_EQ(param(client.post("/v1/embeddings", kText, std::string("X-Timeout: ") + wrong + "\r\n")), "X-Timeout");
  }
  EXPECT_EQ(param(client.post("/v1/embeddings", R"({"input":"x","priority":7})")), "priority");
  EXPECT_EQ(param(client.post("/v1/embeddings", R"({"input":"x","timeout":"1"})")), "timeout");
  EXPECT_EQ(param(client.post("/v1/embeddings", R"({"input":"x","timeout":0})")), "timeout");
  EXPECT_EQ(client.post("/v1/embeddings", R"({"input":"x","timeout":null})").status, 200);
}

TEST_F(WishesTest, TheDescriptionSaysWhatIsTaken) {
  start_ready();
  Client client(server->port());
  const json api = client.get("/openapi.json").parsed();
  const json& parameter = api["components"]["parameters"]["Timeout"];
  EXPECT_EQ(parameter["name"], "X-Timeout");
  EXPECT_EQ(parameter["in"], "header");
  const json& timeout = api["components"]["schemas"]["Timeout"];
  const auto status = [&](const std::string& seconds) {
    return client.post("/v1/embeddings", kText, "X-Timeout: " + seconds + "\r\n").status;
  };
  const int most = timeout["maximum"].get<int>();
  EXPECT_EQ(status(std::to_string(most)), 200);
  EXPECT_EQ(status(std::to_string(most + 1)), 400);
  EXPECT_EQ(timeout["exclusiveMinimum"], 0);
  EXPECT_EQ(status("0"), 400);
  for (const char* path : {"/v1/embeddings", "/classify", "/rerank", "/embed", "/predict", "/infer", "/similarity"}) {
    const std::string text = api["paths"][path]["post"]["description"];
    EXPECT_NE(text.find("#/components/parameters/Timeout"), std::string::npos) << path;
  }
  EXPECT_FALSE(api["paths"]["/tokenize"]["post"].contains("description"));
}

TEST_F(WishesTest, EveryDialectTakesThem) {
  start_ready();
  const std::pair<const char*, std::string> asked[] = {
      {"/embed", R"("inputs":"x")"},
      {"/rerank", R"("query":"x","documents":["y"])"},
      {"/rerank", R"("query":"x","texts":["y"])"},
      {"/v2/rerank", R"("query":"x","documents":["y"])"},
      {"/similarity", R"("a":"x","b":"y")"},
      {"/vectorize", R"("texts":["x"])"},
      {"/clip/embed_text", R"("text":"x")"},
      {"/clip/embed_image", R"("image":"Zm9v")"},
      {"/clip/compare", R"("subject":"Zm9v","prompt":"y")"},
      {"/infer", R"("image":"Zm9v","text":"y")"},
      {"/api", R"("image":"Zm9v")"},
      {"/embeddings_image", R"("input":"Zm9v")"},
  };
  for (const auto& [path, fields] : asked) {
    const Request header = given("{" + fields + "}", "X-Priority: high\r\nX-Timeout: 2.5\r\n", path);
    EXPECT_EQ(header.priority, Priority::high) << path;
    EXPECT_LT(seconds_left(header), 2.5) << path;
    const Request field = given("{" + fields + R"(,"priority":"high","timeout":50})", "X-Timeout: 2.5\r\n", path);
    EXPECT_EQ(field.priority, Priority::high) << path;
    EXPECT_GT(seconds_left(field), 40) << path;
    EXPECT_LT(seconds_left(field), 50) << path;
  }
  Client client(server->port());
  const Got tei = client.post("/embed", R"({"inputs":"x"})", "X-Priority: urgent\r\n");
  EXPECT_EQ(tei.status, 422);
  EXPECT_EQ(tei.parsed()["error_type"], "Validation");
  EXPECT_EQ(client.post("/clip/embed_text", R"({"text":"x","timeout":0})").parsed().count("message"), 1u);
  EXPECT_EQ(client.post("/v2/rerank", R"({"query":"x","documents":["y"],"priority":3})").status, 200) << "Cohere's own";
  EXPECT_EQ(client.post("/v2/rerank", R"({"query":"x","documents":["y"],"priority":"soon"})").status, 400);
}

TEST_F(WishesTest, WhatIsKnownIsAnsweredWithoutAWorker) {
  options.worker_threads = 1;
  start_ready();
  const std::size_t before = control->seen;
  {
    const std::lock_guard lock(control->mutex);
    control->stall = true;
  }
  std::string large = R"({"input":["a text of some length that fills the body")";
  for (int i = 0; i < 1000; ++i) large += R"(,"a text of some length that fills the body")";
  large += "]}";
  ASSERT_GT(large.size(), 32u << 10) << "parsed by the worker, which then stays in submit()";
  std::thread slow([&] {
    Client client(server->port());
    EXPECT_EQ(client.post("/v1/embeddings", large).status, 200);
  });
  {
    std::unique_lock lock(control->mutex);
    EXPECT_TRUE(control->changed.wait_for(lock, 5s, [&] { return control->seen > before; }));
  }
  Client client(server->port());
  EXPECT_EQ(client.post("/v1/embeddings", kText).status, 200);
  EXPECT_EQ(client.post("/embeddings", kText).status, 200);
  EXPECT_EQ(client.post("/embed", R"({"inputs":["x","y"]})").status, 200);
  EXPECT_EQ(client.post("/rerank", R"({"query":"x","documents":["y"]})").status, 200);
  EXPECT_EQ(client.post("/vectorize", R"({"texts":["x"]})").status, 200);
  EXPECT_EQ(client.post("/clip/embed_text", R"({"text":"x"})").status, 200);
  {
    const std::lock_guard lock(control->mutex);
    control->stall = false;
  }
  control->changed.notify_all();
  slow.join();
}

TEST_F(WishesTest, WhatIsRememberedIsForgottenWhenAsked) {
  start_ready();
  Client client(server->port());
  for (const char* path : {"/cache/clear", "/clear_cache"}) {
    const Got got = client.post(path, "");
    ASSERT_EQ(got.status, 200) << got.body;
    EXPECT_EQ(got.parsed()["cleared"]["texts"], json::parse(R"({"entries":2,"hits":5,"misses":7})"));
  }
  EXPECT_EQ(control->cleared, 2);
  EXPECT_EQ(client.get("/cache/clear").status, 405);
  // Sets of labels as well: they are asked for again.
  const std::string classify = R"({"image":"Zm9v","labels":["a","b"]})";
  const auto asked = [&] {
    const std::size_t before = control->seen;
    EXPECT_EQ(client.post("/classify", classify).status, 200);
    return control->seen - before;
  };
  EXPECT_EQ(asked(), 2U);
  EXPECT_EQ(asked(), 1U);
  client.post("/cache/clear", "");
  EXPECT_EQ(asked(), 2U);
}

}  // namespace
}  // namespace tandem::server
