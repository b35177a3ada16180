// A whole server over an engine whose replica is made to fail under load: every request is answered, /ready is true to
// state, and the replica that replaces it serves.
#include <atomic>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <future>
#include <string>
#include <thread>

#include "loadtest/load.h"
#include "server/server.h"
#include "unit/engine/gated_engine.h"

namespace tandem::server {
namespace {

class GatedEncoder final : public Encoder {
 public:
  GatedEncoder(Context& context, const EngineOptions& options) : engine_(context, options) {}
  const EngineInfo& info() const override { return engine_.info(); }
  void submit(Request request, OnDone on_done) override { engine_.submit(std::move(request), std::move(on_done)); }
  std::size_t queued() const override { return engine_.queued(); }
  EngineHealth health() const override { return engine_.health(); }

 private:
  Engine engine_;
};

class ReplicaFault : public engine::test::GatedEngine {
 protected:
  void serve(int replicas) {
    context_.impl().replace_after.assign(3, std::chrono::milliseconds(1));
    ServerOptions o;
    o.port = 0;
    o.engine = options(8, replicas);
    o.quiet = true;
    server_ = std::make_unique<Server>(
        o, [this](const ServerOptions& s) { return std::make_unique<GatedEncoder>(context_, s.engine); });
    server_->start();
    ASSERT_TRUE(eventually([this] { return status("/ready") == 200; }));
  }
  void TearDown() override {
    open_all();
    if (server_) server_->stop(10);
  }
  int status(const std::string& path) const {
    namespace asio = boost::asio;
    asio::io_context io;
    asio::ip::tcp::socket socket(io);
    boost::system::error_code error;
    socket.connect({asio::ip::address_v4::loopback(), static_cast<unsigned short>(server_->port())}, error);
    asio::write(socket, asio::buffer("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), error);
    std::string answer;
    asio::read(socket, asio::dynamic_buffer(answer), error);
    return answer.size() > 12 ? std::stoi(answer.substr(9, 3)) : 0;
  }
  std::future<loadtest::Tally> load(std::uint64_t requests) const {
    loadtest::LoadOptions o;
    o.url = loadtest::parse_url("http://127.0.0.1:" + std::to_string(server_->port()));
    o.requests = requests;
    o.mix.texts = 0.5;
    o.mix.corrupt = 0.05;
    o.mix.corpus.pictures = 8;
    o.mix.corpus.width = 48;
    o.mix.corpus.height = 40;
    o.timeout = 60;
    return std::async(std::launch::async, [o] { return loadtest::run_load(o, nullptr).tally; });
  }

  const Error broken_{Code::device_failure, "fell off the bus"};
  std::unique_ptr<Server> server_;
};

TEST_F(ReplicaFault, ThatIsReplacedUnderLoadLosesNoRequest) {
  serve(1);
  auto answers = load(600);
  for (int i = 0; i < 6; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    gates_.fail(i % 2 == 0, broken_);
  }
  const loadtest::Tally tally = answers.get();
  EXPECT_EQ(tally.sent, 600u);
  EXPECT_EQ(tally.unanswered(), 0u);
  EXPECT_GT(tally.right, 0u);  // while none is left, new requests are refused with 503
  // What had begun on the failed device is answered with its error, at most a batch or two each time.
  EXPECT_LE(tally.wrong, 6u * 3 * 8);
  for (const std::string& example : tally.examples)
    EXPECT_NE(example.find("fell off the bus"), std::string::npos) << example;
  gates_.fail(true, broken_, 0), gates_.fail(false, broken_, 0);
  ASSERT_TRUE(eventually([this] { return status("/ready") == 200; }));
  EXPECT_EQ(load(100).get().right, 100u);
}

TEST_F(ReplicaFault, ReadyIsTrueToStateWhileNoneIsLeft) {
  serve(1);
  gates_.let_make(false);
  gates_.fail(false, broken_);
  gates_.fail(true, broken_);
  auto first = load(20);
  ASSERT_TRUE(eventually([this] { return status("/ready") == 503; }));
  EXPECT_EQ(status("/health"), 200);  // it is being replaced, not lost
  gates_.fail(true, broken_, 0), gates_.fail(false, broken_, 0);  // only one of them has had its turn
  gates_.let_make(true);
  EXPECT_EQ(first.get().unanswered(), 0u);
  ASSERT_TRUE(eventually([this] { return status("/ready") == 200; }));
  auto after = load(60);
  const loadtest::Tally tally = after.get();
  EXPECT_EQ(tally.right, 60u);
}

TEST_F(ReplicaFault, OneOfTwoLeavesTheOtherServing) {
  serve(2);
  gates_.let_make(false);
  gates_.fail(false, broken_);
  auto answers = load(300);
  const loadtest::Tally tally = answers.get();
  EXPECT_EQ(tally.unanswered(), 0u);
  EXPECT_GE(tally.right, 300u - 3 * 8);
  EXPECT_EQ(status("/ready"), 200);
  gates_.let_make(true);
  EXPECT_TRUE(eventually([this] { return was_said("2 of 2 work"); }));
}

TEST_F(ReplicaFault, OneThatCannotBeReplacedTurnsHealthRedAndAnswersEverything) {
  serve(1);
  gates_.fail_making(1000);
  gates_.fail(false, broken_, 1000);
  gates_.fail(true, broken_, 1000);
  const loadtest::Tally tally = load(100).get();
  EXPECT_EQ(tally.unanswered(), 0u);
  EXPECT_EQ(tally.sent, 100u);
  EXPECT_TRUE(eventually([this] { return status("/health") == 503 && status("/ready") == 503; }));
}

}  // namespace
}  // namespace tandem::server
