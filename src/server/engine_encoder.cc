// The Encoder of real life: a tandem::Engine on its own Context.
#include "server/server.h"
#include "tandem/context.h"

namespace tandem::server {
namespace {

class EngineEncoder final : public Encoder {
 public:
  explicit EngineEncoder(const ServerOptions& options) : context_(options.context), engine_(context_, options.engine) {}
  const EngineInfo& info() const override { return engine_.info(); }
  void submit(Request request, OnDone on_done) override { engine_.submit(std::move(request), std::move(on_done)); }
  std::size_t queued() const override { return engine_.queued(); }
  std::vector<Token> tokenize(std::string_view text) const override { return engine_.tokenize(text); }
  EngineHealth health() const override { return engine_.health(); }
  CacheStats cache_stats() const override { return engine_.cache_stats(); }
  void clear_caches() override { engine_.clear_caches(); }

 private:
  Context context_;
  Engine engine_;
};

}  // namespace

std::vector<Token> Encoder::tokenize(std::string_view) const {
  throw Error(Code::unsupported, "this model does not tell its tokens");
}

std::unique_ptr<Encoder> load_engine(const ServerOptions& options) {
  return std::make_unique<EngineEncoder>(options);
}

}  // namespace tandem::server
