// What happens around requests: counting, request ids and traces, the log, keys and their quotas, browsers of other
// sites.
#include "server/operation.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "unit/server/served.h"

namespace tandem::server {
namespace {

const std::string kFirst = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";  // of "first"
const std::string kSecond = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";
const std::string kTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

class OperationTest : public ServerTest {
 protected:
  OperationTest() : folder(std::filesystem::temp_directory_path() / ("operation_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder);
  }
  ~OperationTest() override {
    server.reset();
    std::filesystem::remove_all(folder);
  }
  void with_keys(const std::string& text) {
    options.operation.api_key_file = folder / "keys";
    std::ofstream(options.operation.api_key_file) << text;
  }
  std::vector<json> log_lines(std::size_t at_least) {
    std::vector<json> lines;
    eventually([&] {
      lines.clear();
      std::ifstream file(options.operation.log_file);
      for (std::string line; std::getline(file, line);) {
        if (json one = json::parse(line); one["event"] == "request") lines.push_back(std::move(one));
      }
      return lines.size() >= at_least;
    });
    return lines;
  }
  static double metric(Client& client, const std::string& name) {
    std::istringstream lines(client.get("/metrics").body);
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with(name + " ")) return std::stod(line.substr(name.size()));
    }
    return -1;
  }
  Got ask(Client& client, const std::string& method, const std::string& path, const std::string& headers = {}) {
    client.send(method + " " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
    return client.read(method == "HEAD");
  }

  const std::filesystem::path folder;
};

TEST_F(OperationTest, MetricsCountWhatWasAnswered) {
  start_ready();
  Client client(server->port());
  EXPECT_EQ(client.post("/v1/embeddings", R"({"input":["a","b",{"image":"Zm9v"}]})").status, 200);
  EXPECT_EQ(client.post("/v1/embeddings", R"({"input":5})").status, 400);
  EXPECT_EQ(client.get("/nothing").status, 404);
  const Got metrics = client.get("/metrics");
  EXPECT_EQ(metrics.status, 200);
  EXPECT_EQ(metrics.header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_EQ(metric(client, R"(http_requests_total{handler="/v1/embeddings",method="POST",status="200"})"), 1);
  EXPECT_EQ(metric(client, R"(http_requests_total{handler="/v1/embeddings",method="POST",status="400"})"), 1);
  EXPECT_EQ(metric(client, R"(http_requests_total{handler="other",method="other",status="404"})"), 1);
  EXPECT_EQ(metric(client, "tandem_request_seconds_count"), 1);
  EXPECT_EQ(metric(client, "tandem_requests_in_flight"), 1);  // this one
  EXPECT_EQ(metric(client, "tandem_connections"), 1);
  EXPECT_EQ(metric(client, "tandem_ready"), 1);
  const json stats = client.get("/stats").parsed();
  EXPECT_EQ(stats["status"], "ready");
  EXPECT_EQ(stats["latency"]["count"], 1);
  EXPECT_EQ(stats["requests"]["statuses"]["404"], 1);
}

TEST_F(OperationTest, CachesAreCountedAsTheEngineCountsThem) {
  start_ready();
  Client client(server->port());
  const std::map<std::string, std::map<std::string, double>> want = {
      {"texts", {{"hits_total", 5}, {"misses_total", 7}, {"evictions_total", 0}, {"entries", 2}, {"bytes", 0}}},
      {"images", {{"hits_total", 11}, {"misses_total", 12}, {"evictions_total", 13}, {"entries", 14}, {"bytes", 15}}},
      {"embeddings",
       {{"hits_total", 21},
        {"misses_total", 22},
        {"evictions_total", 23},
        {"entries", 24},
        {"bytes", 25},
        {"coalesced_total", 26}}}};
  for (const auto& [cache, counts] : want) {
    for (const auto& [name, count] : counts) {
      EXPECT_EQ(metric(client, "tandem_cache_" + name + "{cache=\"" + cache + "\"}"), count) << cache << " " << name;
    }
  }
  const json caches = client.get("/stats").parsed()["caches"];
  EXPECT_EQ(caches["texts"]["hits"], 5);
  EXPECT_EQ(caches["images"]["entries"], 14);
  EXPECT_EQ(caches["embeddings"]["coalesced"], 26);
  EXPECT_NEAR(caches["embeddings"]["hit_rate"].get<double>(), 21.0 / 43, 1e-9);
}

TEST_F(OperationTest, MetricsAnswerWhileTheModelLoadsAndAfterItFailed) {
  start([](const ServerOptions&) -> std::unique_ptr<Encoder> { throw Error(Code::not_found, "no such model"); });
  ASSERT_TRUE(eventually([&] { return !server->load_error().empty(); }));
  Client client(server->port());
  EXPECT_EQ(metric(client, "tandem_alive"), 0);
  EXPECT_EQ(metric(client, R"(tandem_state{state="failed"})"), 1);
  EXPECT_EQ(client.get("/stats").parsed()["ready"], false);
}

TEST_F(OperationTest, AClientThatLeavesIsCountedAndNotInFlightForEver) {
  start_ready();
  control->hold = true;
  {
    Client gone(server->port());
    gone.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    ASSERT_TRUE(eventually([&] {
      Client other(server->port());
      return metric(other, "tandem_requests_in_flight") == 2;
    }));
  }
  Client client(server->port());
  EXPECT_TRUE(eventually([&] { return metric(client, "tandem_requests_in_flight") == 1; }));
  EXPECT_EQ(metric(client, R"(http_requests_total{handler="/v1/embeddings",method="POST",status="499"})"), 1);
}

TEST_F(OperationTest, RequestIdsAreTakenOrMade) {
  start_ready();
  Client client(server->port());
  EXPECT_EQ(ask(client, "GET", "/health", "X-Request-ID: mine-1\r\n").header("X-Request-ID"), "mine-1");
  const std::string made = client.get("/health").header("X-Request-ID");
  EXPECT_EQ(made.size(), 32u);
  EXPECT_NE(client.get("/health").header("X-Request-ID"), made);
  EXPECT_NE(ask(client, "GET", "/nothing", "X-Request-ID: a\"b\r\n").header("X-Request-ID"), "a\"b");
  EXPECT_EQ(
      ask(client, "GET", "/health", "X-Request-ID: " + std::string(129, 'x') + "\r\n").header("X-Request-ID").size(),
      32u);
  EXPECT_EQ(ask(client, "BREW", "/", "X-Request-ID: pot\r\n").header("X-Request-ID"), "pot");
}

TEST_F(OperationTest, TracesPassThroughWhereTheyAreWellFormed) {
  start_ready();
  Client client(server->port());
  const Got got = ask(client, "GET", "/health", "traceparent: " + kTrace + "\r\ntracestate: a=1\r\n");
  EXPECT_EQ(got.header("traceparent"), kTrace);
  EXPECT_EQ(got.header("tracestate"), "a=1");
  const Got none = ask(client, "GET", "/health", "traceparent: 00-zz-00-01\r\ntracestate: a=1\r\n");
  EXPECT_EQ(none.header("traceparent"), "");
  EXPECT_EQ(none.header("tracestate"), "");

  EXPECT_EQ(usable_traceparent(kTrace), kTrace);
  EXPECT_EQ(usable_traceparent(kTrace + "-more"), "");
  EXPECT_EQ(usable_traceparent("cc" + kTrace.substr(2) + "-more"), "cc" + kTrace.substr(2) + "-more");
  EXPECT_EQ(usable_traceparent("ff" + kTrace.substr(2)), "");
  EXPECT_EQ(usable_traceparent("00-" + std::string(32, '0') + kTrace.substr(35)), "");
  EXPECT_EQ(usable_traceparent(kTrace.substr(0, 36) + std::string(16, '0') + "-01"), "");
  std::string upper = kTrace;
  upper[4] = 'B';
  EXPECT_EQ(usable_traceparent(upper), "");
}

TEST_F(OperationTest, TheLogHasALineForEveryRequest) {
  options.operation.log_file = folder / "log";
  start_ready();
  Client client(server->port());
  client.post("/v1/embeddings", R"({"input":["a",{"image":"Zm9v"}]})",
              "X-Request-ID: mine\r\nUser-Agent: a \\ \"test\"\r\ntraceparent: " + kTrace + "\r\n");
  client.get("/gallery/../x?secret=1");
  client.send("nonsense\r\n\r\n");
  client.read();
  const auto lines = log_lines(3);
  ASSERT_EQ(lines.size(), 3u);
  const json& first = lines[0];
  EXPECT_EQ(first["request_id"], "mine");
  EXPECT_EQ(first["method"], "POST");
  EXPECT_EQ(first["path"], "/v1/embeddings");
  EXPECT_EQ(first["status"], 200);
  EXPECT_EQ(first["images"], 1);
  EXPECT_EQ(first["texts"], 1);
  EXPECT_EQ(first["client"], "127.0.0.1");
  EXPECT_EQ(first["agent"], "a \\ \"test\"");
  EXPECT_EQ(first["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_GT(first["ms"], 0.0);
  EXPECT_EQ(first["time"].get<std::string>().size(), 27u);
  EXPECT_EQ(lines[1]["route"], "/gallery/*");
  EXPECT_EQ(lines[1].dump().find("secret"), std::string::npos);
  EXPECT_EQ(lines[2]["status"], 400);
}

TEST_F(OperationTest, ADiskThatIsFullStopsNothing) {
  options.operation.log_file = "/dev/full";
  start_ready();
  Client client(server->port());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.post("/v1/embeddings", kText).status, 200);
  EXPECT_TRUE(eventually([&] { return metric(client, "tandem_log_dropped_total") >= 20; }));
  EXPECT_EQ(client.get("/ready").status, 200);
}

TEST_F(OperationTest, WithoutAKeyOnlyTheProbesAndThePageAnswer) {
  with_keys("alice " + kFirst + "\n");
  start_ready();
  Client client(server->port());
  for (const char* open : {"/health", "/ready", "/", "/assets/app.js"}) EXPECT_EQ(client.get(open).status, 200) << open;
  for (const char* closed : {"/info", "/metrics", "/stats", "/v1/models", "/labels", "/nothing"}) {
    const Got got = client.get(closed);
    EXPECT_EQ(got.status, 401) << closed;
    EXPECT_EQ(got.parsed()["error"]["code"], "unauthorized");
    EXPECT_EQ(got.header("WWW-Authenticate"), "Bearer realm=\"tandem\"");
  }
  EXPECT_EQ(client.post("/v1/embeddings", kText).status, 401);
  EXPECT_EQ(client.post("/v1/embeddings", kText, "Authorization: Bearer wrong\r\n").status, 401);
  EXPECT_EQ(client.post("/v1/embeddings", kText, "Authorization: Basic first\r\n").status, 401);
  EXPECT_EQ(control->seen, 0u);
  EXPECT_EQ(client.post("/v1/embeddings", kText, "Authorization: Bearer first\r\n").status, 200);
  EXPECT_EQ(client.post("/v1/embeddings", kText, "authorization: bearer first\r\n").status, 200);
  EXPECT_EQ(client.post("/v1/embeddings", kText, "X-API-Key: first\r\n").status, 200);
  EXPECT_EQ(client.post("/v1/embeddings", kText, "api-key: first\r\n").status, 200);
}

TEST_F(OperationTest, ProbesOfEveryDialectAreOpenAndTheDescriptionSaysWhatIsNot) {
  with_keys("alice " + kFirst + "\n");
  start_ready();
  Client client(server->port());
  for (const char* open : {"/ping", "/livez", "/healthz", "/readyz", "/v1/health", "/v1/health/live",
                           "/v1/health/ready", "/v2/health/live", "/v2/health/ready", "/docs", "/assets/docs.js"}) {
    EXPECT_EQ(client.get(open).status, 200) << open;
  }
  EXPECT_EQ(client.get("/ping").body, "pong");
  for (const char* open : {"/.well-known/live", "/.well-known/ready"}) EXPECT_EQ(client.get(open).status, 204) << open;
  for (const char* closed : {"/.well-known/other", "/meta", "/models", "/openapi.json", "/gallery"}) {
    EXPECT_EQ(client.get(closed).status, 401) << closed;
  }
  for (const char* closed : {"/embed", "/predict", "/infer", "/cache/clear", "/", "/invocations", "/health"}) {
    EXPECT_EQ(client.post(closed, "{}").status, 401) << closed;
  }
  const Got got = ask(client, "GET", "/openapi.json", "Authorization: Bearer first\r\n");
  ASSERT_EQ(got.status, 200);
  const json api = got.parsed();
  EXPECT_EQ(api["components"]["securitySchemes"].size(), 2u);
  for (const auto& [path, methods] : api["paths"].items()) {
    for (const auto& [method, said] : methods.items()) {
      EXPECT_EQ(said.contains("security"), !is_open(method == "get" ? "GET" : "POST", path)) << path;
      EXPECT_EQ(said["responses"].contains("401"), !is_open(method == "get" ? "GET" : "POST", path)) << path;
    }
  }
  for (const char* path : {"/metrics", "/stats", "/livez", "/v2/health/ready", "/ping"}) {
    EXPECT_TRUE(api["paths"][path].contains("get")) << path;
  }
  EXPECT_TRUE(api["paths"]["/cache/clear"].contains("post"));
  EXPECT_EQ(api["paths"]["/embed"]["post"]["parameters"][0]["name"], "X-Priority");
}

TEST_F(OperationTest, ARefusedBodyIsNotRead) {
  with_keys("alice " + kFirst + "\n");
  start_ready();
  Client client(server->port());
  client.send("POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n");
  EXPECT_EQ(client.read().status, 401);
}

TEST_F(OperationTest, AKeysQuotaIsItsOwn) {
  with_keys("alice " + kFirst + " 2\nbob " + kSecond + "\n");
  options.operation.log_file = folder / "log";
  start_ready();
  Client client(server->port());
  const std::string alice = "Authorization: Bearer first\r\n", bob = "Authorization: Bearer second\r\n";
  EXPECT_EQ(client.post("/v1/embeddings", kText, alice).status, 200);
  EXPECT_EQ(client.post("/v1/embeddings", kText, alice).status, 200);
  const Got got = client.post("/v1/embeddings", kText, alice);
  EXPECT_EQ(got.status, 429);
  EXPECT_EQ(got.parsed()["error"]["code"], "quota_exceeded");
  EXPECT_NE(got.body.find("2 requests a minute"), std::string::npos);
  EXPECT_GE(std::stoi(got.header("Retry-After")), 25);
  EXPECT_LE(std::stoi(got.header("Retry-After")), 30);
  EXPECT_EQ(client.post("/v1/embeddings", kText, bob).status, 200);
  const json keys = json::parse(ask(client, "GET", "/stats", bob).body)["keys"];
  EXPECT_EQ(keys["alice"], json::parse(R"({"requests":3,"refused":1,"items":2})"));
  EXPECT_EQ(keys["bob"]["items"], 1);
  const auto lines = log_lines(5);
  EXPECT_EQ(lines.at(2)["key"], "alice");
  EXPECT_EQ(lines.at(2).dump().find("first"), std::string::npos);
}

TEST_F(OperationTest, PagesOfOtherSitesMayAskWhereTheirOriginIsNamed) {
  options.operation.cors_origins = {"https://app.example"};
  with_keys("alice " + kFirst + "\n");
  start_ready();
  Client client(server->port());
  const Got question = ask(client, "OPTIONS", "/v1/embeddings",
                           "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n"
                           "Access-Control-Request-Headers: authorization,content-type\r\n");
  EXPECT_EQ(question.status, 204);
  EXPECT_EQ(question.header("Access-Control-Allow-Origin"), "https://app.example");
  EXPECT_EQ(question.header("Access-Control-Allow-Headers"), "authorization,content-type");
  EXPECT_NE(question.header("Access-Control-Allow-Methods").find("POST"), std::string::npos);
  const std::string page = "Sec-Fetch-Site: cross-site\r\nAuthorization: Bearer first\r\nOrigin: ";
  const Got good = client.post("/v1/embeddings", kText, page + "https://app.example\r\n");
  EXPECT_EQ(good.status, 200);
  EXPECT_EQ(good.header("Access-Control-Allow-Origin"), "https://app.example");
  EXPECT_EQ(good.header("Vary"), "Origin");
  const Got bad = client.post("/v1/embeddings", kText, page + "https://other.example\r\n");
  EXPECT_EQ(bad.status, 403);
  EXPECT_EQ(bad.header("Access-Control-Allow-Origin"), "");
  EXPECT_EQ(ask(client, "OPTIONS", "/v1/embeddings",
                "Origin: https://other.example\r\nAccess-Control-Request-Method: POST\r\n")
                .header("Access-Control-Allow-Methods"),
            "");
}

}  // namespace
}  // namespace tandem::server
