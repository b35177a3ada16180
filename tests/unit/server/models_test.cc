// Several models in one server.
#include "unit/server/served.h"

namespace tandem::server {
namespace {

/// Vectors of its own width, and a model whose name begins with "bad" cannot be loaded.
class ModelsTest : public ServerTest {
 protected:
  class Wide final : public Encoder {
   public:
    explicit Wide(const ServerOptions& o) : width_(o.engine.model.size()), observer_(o.engine.observer) {
      info_.embed_dim = static_cast<int>(width_);
      info_.device = "cpu";
      info_.logit_scale = 10;
      info_.knows_photographs = true;
    }
    const EngineInfo& info() const override { return info_; }
    std::size_t queued() const override { return width_; }
    CacheStats cache_stats() const override {
      CacheStats stats;
      stats.texts.hits = width_;
      return stats;
    }
    void submit(Request request, OnDone on_done) override {
      Response response;
      for (std::size_t i = 0; i < request.texts.size(); ++i) response.texts.emplace_back().values.assign(width_, 1.0f);
      for (std::size_t i = 0; i < request.images.size(); ++i)
        response.images.emplace_back().values.assign(width_, 1.0f);
      if (observer_) observer_->computed(false, request.texts.size(), 0, 0.5);
      on_done(std::move(response));
    }

   private:
    EngineInfo info_;
    std::size_t width_;
    std::shared_ptr<Observer> observer_;
  };

  void start_models(std::vector<std::string> names) {
    options.engine.model = names.at(0);
    options.more_models.assign(names.begin() + 1, names.end());
    start([this](const ServerOptions& o) -> std::unique_ptr<Encoder> {
      {
        std::unique_lock lock(control->mutex);
        control->changed.wait(lock, [&] { return !control->stall || !o.engine.model.starts_with("slow"); });
        budgets.push_back(o.context.memory_budget);
      }
      if (o.engine.model.starts_with("bad")) throw Error(Code::not_found, "no such model: " + o.engine.model);
      return std::make_unique<Wide>(o);
    });
  }
  void start_ready_models(std::vector<std::string> names) {
    start_models(std::move(names));
    ASSERT_TRUE(eventually([&] { return server->ready(); }));
  }
  static std::size_t width(const Got& got) {
    EXPECT_EQ(got.status, 200) << got.body;
    return got.parsed()["data"][0]["embedding"].size();
  }

  std::vector<std::size_t> budgets;
};

TEST_F(ModelsTest, TheFieldChooses) {
  options.model_aliases = {{"gpt", "model-b"}};
  options.context.memory_budget = 1000;
  start_ready_models({"abc", "model-b"});
  EXPECT_EQ(budgets, (std::vector<std::size_t>{500, 500}));
  Client client(server->port());
  EXPECT_EQ(width(client.post("/v1/embeddings", kText)), 3U);
  EXPECT_EQ(width(client.post("/v1/embeddings", R"({"input":"a","model":"default"})")), 3U);
  EXPECT_EQ(width(client.post("/v1/embeddings", R"({"input":"a","model":"model-b"})")), 7U);
  const Got alias = client.post("/embeddings", R"({"input":"a","model":"gpt"})");
  EXPECT_EQ(width(alias), 7U);
  EXPECT_EQ(alias.parsed()["model"], "model-b");

  const Got unknown = client.post("/rerank", R"({"query":"a","documents":["b"],"model":"nobody"})");
  ASSERT_EQ(unknown.status, 404);
  const std::string why = unknown.parsed()["error"]["message"];
  for (const char* name : {"\"nobody\"", "\"abc\"", "\"model-b\"", "\"gpt\""}) {
    EXPECT_NE(why.find(name), std::string::npos) << why;
  }
  EXPECT_EQ(unknown.parsed()["error"]["param"], "model");
  EXPECT_EQ(client.post("/rerank", R"({"query":"a","documents":["b"],"model":"gpt"})").parsed()["model"], "model-b");
  EXPECT_EQ(client.post("/classify", R"({"image":"Zm9v","labels":["a"],"model":"gpt"})").parsed()["model"], "model-b");
  EXPECT_EQ(client.post("/similarity", R"({"a":"x","b":"y","model":"gpt"})").parsed()["model"], "model-b");

  // Clients that cannot choose get the first, whatever they say.
  EXPECT_EQ(client.post("/embed", R"({"inputs":"a","model":"nobody"})").parsed()[0].size(), 3U);
  EXPECT_EQ(client.post("/vectorize", R"({"texts":["a"],"model":"nobody"})").parsed()["textVectors"][0].size(), 3U);
  EXPECT_EQ(client.post("/infer", R"({"image":"Zm9v","text":"a","model":"nobody"})").parsed()["model"], "abc");
}

TEST_F(ModelsTest, EveryReportTellsOfAll) {
  options.model_aliases = {{"gpt", "model-b"}};
  start_ready_models({"abc", "model-b"});
  Client client(server->port());
  client.post("/v1/embeddings", R"({"input":["a","b"],"model":"gpt"})");
  client.post("/v1/embeddings", kText);

  const json listed = client.get("/v1/models").parsed()["data"];
  ASSERT_EQ(listed.size(), 3U);
  EXPECT_EQ(listed[0]["id"], "abc");
  EXPECT_EQ(listed[1]["id"], "model-b");
  EXPECT_EQ(listed[2]["id"], "gpt");
  EXPECT_EQ(listed[2]["root"], "model-b");
  EXPECT_EQ(client.get("/models").parsed()["data"][1]["id"], "model-b");
  EXPECT_EQ(client.get("/models").parsed()["data"][1]["stats"]["queue_absolute"], 7);

  const json info = client.get("/info").parsed();
  EXPECT_EQ(info["model"]["id"], "abc");
  EXPECT_EQ(info["models"][1]["embed_dim"], 7);
  EXPECT_EQ(info["models"][1]["aliases"], json{"gpt"});
  for (const char* path : {"/health", "/ready"}) {
    const json said = client.get(path).parsed();
    EXPECT_EQ(said["status"], "ok");
    EXPECT_EQ(said["models"][1]["id"], "model-b");
  }
  const json stats = client.get("/stats").parsed();
  EXPECT_EQ(stats["models"][0]["items"]["texts"], 1);
  EXPECT_EQ(stats["models"][1]["items"]["texts"], 2);
  EXPECT_EQ(stats["models"][1]["compute_seconds"], 0.5);
  EXPECT_EQ(stats["items"]["texts"], 3);
  EXPECT_EQ(stats["caches"]["texts"]["hits"], 10);
  EXPECT_EQ(stats["queue"]["items"], 10);
  const std::string metrics = client.get("/metrics").body;
  for (const char* line : {"tandem_model_ready{model=\"abc\"} 1\n", "tandem_model_ready{model=\"model-b\"} 1\n",
                           "tandem_model_items_total{model=\"model-b\",kind=\"text\"} 2\n",
                           "tandem_model_queue_items{model=\"model-b\"} 7\n",
                           "tandem_model_compute_seconds_total{model=\"model-b\"} 0.5\n", "tandem_degraded 0\n"}) {
    EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
  }
  EXPECT_EQ(client.get("/openapi.json").body.find("nobody"), std::string::npos);
  EXPECT_NE(client.get("/openapi.json").body.find("\"gpt\""), std::string::npos);
}

TEST_F(ModelsTest, OneThatCannotBeLoadedDoesNotTakeTheOthersDown) {
  start_ready_models({"abc", "bad-b"});
  Client client(server->port());
  EXPECT_EQ(server->load_error(), "");
  const Got ready = client.get("/ready");
  EXPECT_EQ(ready.status, 200);
  EXPECT_EQ(ready.parsed()["status"], "degraded");
  EXPECT_EQ(ready.parsed()["models"][0]["status"], "ok");
  EXPECT_EQ(ready.parsed()["models"][1]["status"], "failed");
  EXPECT_EQ(ready.parsed()["models"][1]["reason"], "no such model: bad-b");
  EXPECT_EQ(client.get("/health").status, 200);
  EXPECT_NE(client.get("/metrics").body.find("tandem_degraded 1\n"), std::string::npos);
  EXPECT_NE(client.get("/metrics").body.find("tandem_model_state{model=\"bad-b\",state=\"failed\"} 1\n"),
            std::string::npos);
  EXPECT_EQ(width(client.post("/v1/embeddings", kText)), 3U);
  const Got bad = client.post("/v1/embeddings", R"({"input":"a","model":"bad-b"})");
  EXPECT_EQ(bad.status, 503);
  EXPECT_NE(bad.body.find("model \\\"bad-b\\\" could not be loaded: no such model: bad-b"), std::string::npos)
      << bad.body;
}

TEST_F(ModelsTest, NotEvenWhereItIsTheFirst) {
  start_ready_models({"bad-a", "abcd"});
  Client client(server->port());
  EXPECT_EQ(client.get("/ready").parsed()["status"], "degraded");
  EXPECT_EQ(width(client.post("/v1/embeddings", R"({"input":"a","model":"abcd"})")), 4U);
  EXPECT_EQ(client.post("/v1/embeddings", kText).status, 503);
  EXPECT_EQ(client.post("/infer", R"({"image":"Zm9v","text":"a"})").status, 503);
  EXPECT_EQ(client.get("/labels").status, 503);
  EXPECT_EQ(client.get("/meta").status, 503);
  EXPECT_EQ(client.get("/info").parsed()["models"][1]["status"], "ready");
}

TEST_F(ModelsTest, NoneLeftIsAFailure) {
  start_models({"bad-a", "bad-b"});
  ASSERT_TRUE(eventually([&] { return !server->load_error().empty(); }));
  Client client(server->port());
  EXPECT_EQ(server->load_error(), "no such model: bad-a");
  EXPECT_EQ(client.get("/health").status, 503);
  EXPECT_EQ(client.get("/ready").parsed()["status"], "failed");
}

TEST_F(ModelsTest, ReadyWaitsForAllButThoseThatAreThereAnswer) {
  control->stall = true;
  start_models({"abc", "slow"});
  Client client(server->port());
  ASSERT_TRUE(eventually([&] { return client.post("/v1/embeddings", kText).status == 200; }));
  EXPECT_EQ(client.get("/ready").status, 503);
  EXPECT_EQ(client.get("/ready").parsed()["status"], "loading");
  EXPECT_EQ(client.get("/health").status, 200);
  const Got early = client.post("/v1/embeddings", R"({"input":"a","model":"slow"})");
  EXPECT_EQ(early.status, 503);
  EXPECT_NE(early.body.find("loading"), std::string::npos);
  {
    const std::lock_guard lock(control->mutex);
    control->stall = false;
  }
  control->changed.notify_all();
  EXPECT_TRUE(eventually([&] { return server->ready(); }));
  EXPECT_EQ(width(client.post("/v1/embeddings", R"({"input":"a","model":"slow"})")), 4U);
}

TEST_F(ModelsTest, NamesMustBeClear) {
  EXPECT_THROW(start_models({"a", "b", "a"}), Error);
  options.model_aliases = {{"b", "a"}};
  EXPECT_THROW(start_models({"a", "b"}), Error);
  options.model_aliases = {{"c", "d"}};
  EXPECT_THROW(start_models({"a", "b"}), Error);
  options.model_aliases = {{"", "a"}};
  EXPECT_THROW(start_models({"a", "b"}), Error);
}

}  // namespace
}  // namespace tandem::server
