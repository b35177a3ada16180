// The load against a server that behaves as told: what is counted, and from when latencies run.
#include "loadtest/load.h"

#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <list>
#include <mutex>
#include <thread>

#include "tandem/error.h"

namespace tandem::loadtest {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// A thread a connection; `answer` gets the number of the request and returns what is written ("" closes).
class Fake {
 public:
  using Answer = std::function<std::string(int)>;

  explicit Fake(Answer answer) : answer_(std::move(answer)), acceptor_(io_, {asio::ip::address_v4::loopback(), 0}) {
    accepting_ = std::thread([this] {
      for (;;) {
        auto socket = std::make_shared<tcp::socket>(io_);
        boost::system::error_code error;
        acceptor_.accept(*socket, error);
        if (error || stopping_) return;
        const std::lock_guard lock(mutex_);
        sockets_.push_back(socket);
        threads_.emplace_back([this, socket] { talk(*socket); });
      }
    });
  }
  ~Fake() {
    stopping_ = true;
    boost::system::error_code error;
    tcp::socket last(io_);
    last.connect(acceptor_.local_endpoint(), error);  // wakes accept()
    accepting_.join();
    for (auto& socket : sockets_) socket->shutdown(tcp::socket::shutdown_both, error);
    for (auto& thread : threads_) thread.join();
  }

  LoadOptions options() const {
    LoadOptions options;
    options.url = parse_url("http://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port()) + "/x");
    options.mix.body = Body::get;
    options.concurrency = 4;
    options.requests = 40;
    options.timeout = 5;
    return options;
  }

 private:
  void talk(tcp::socket& socket) {
    boost::system::error_code error;
    asio::streambuf buffer;
    for (;;) {
      const std::size_t size = asio::read_until(socket, buffer, "\r\n\r\n", error);
      if (error) return;
      buffer.consume(size);
      const std::string out = answer_(count_++);
      if (!out.empty()) asio::write(socket, asio::buffer(out), error);
      if (out.empty() || error) return static_cast<void>(socket.shutdown(tcp::socket::shutdown_both, error));
    }
  }

  Answer answer_;
  asio::io_context io_;
  tcp::acceptor acceptor_;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> count_ = 0;
  std::mutex mutex_;
  std::list<std::shared_ptr<tcp::socket>> sockets_;
  std::list<std::thread> threads_;
  std::thread accepting_;
};

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

void expect_balanced(const Tally& tally) {
  EXPECT_EQ(tally.sent, tally.answered + tally.unanswered());
  EXPECT_EQ(tally.answered, tally.right + tally.refused + tally.wrong);
}

TEST(Load, ClosedLoopCountsEveryRequestOnKeptConnections) {
  Fake server([](int) { return kOk; });
  for (const int threads : {1, 3}) {
    LoadOptions options = server.options();
    options.threads = threads;
    const Tally tally = run_load(options, nullptr).tally;
    EXPECT_EQ(tally.sent, 40u);
    EXPECT_EQ(tally.right, 40u);
    EXPECT_EQ(tally.samples.size(), 40u);
    EXPECT_LE(tally.connections, 4u);
    expect_balanced(tally);
  }
}

TEST(Load, StatusesAreSortedOut) {
  Fake server([](int i) -> std::string {
    switch (i % 4) {
      case 0: return kOk;
      case 1: return "HTTP/1.1 429 Busy\r\nContent-Length: 0\r\n\r\n";
      case 2: return "HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nbad";
      default: return "HTTP/1.1 503 Later\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    }
  });
  const Tally tally = run_load(server.options(), nullptr).tally;
  EXPECT_EQ(tally.right, 10u);
  EXPECT_EQ(tally.refused, 20u);
  EXPECT_EQ(tally.wrong, 10u);
  EXPECT_EQ(tally.statuses.at(500), 10u);
  ASSERT_FALSE(tally.examples.empty());
  EXPECT_EQ(tally.examples[0], "answered 500: bad");
  EXPECT_GE(tally.connections, 10u);
  expect_balanced(tally);
}

TEST(Load, ARequestWithoutAnAnswerIsNeverHidden) {
  // Every third connection ends in the middle of an answer.
  Fake server([](int i) {
    return i % 3 == 2 ? std::string("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhalf") : kOk;
  });
  LoadOptions options = server.options();
  options.timeout = 0.3;
  options.requests = 9;
  options.concurrency = 1;
  const Tally tally = run_load(options, nullptr).tally;
  EXPECT_EQ(tally.sent, 9u);
  EXPECT_EQ(tally.unanswered(), 3u);
  expect_balanced(tally);

  Fake garbage([](int) { return std::string("SMTP ready\r\n\r\n"); });
  options = garbage.options();
  EXPECT_EQ(run_load(options, nullptr).tally.lost[static_cast<std::size_t>(Lost::malformed)], 40u);
}

TEST(Load, NobodyThere) {
  LoadOptions options;
  {
    Fake server([](int) { return kOk; });
    options = server.options();
  }
  EXPECT_THROW(run_load(options, nullptr), Error);
  options.url = parse_url("http://no.such.host.invalid");
  EXPECT_THROW(run_load(options, nullptr), Error);
}

TEST(Load, AServerThatGoesAwayIsSeen) {
  LoadOptions options;
  std::atomic<bool> gone = false;
  auto server = std::make_unique<Fake>([&](int i) {
    if (i == 10) gone = true;
    return kOk;
  });
  options = server->options();
  options.requests = 200;
  options.arrivals = Arrivals::constant;
  options.rate = 200;
  std::thread ends([&] {
    while (!gone) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    server.reset();
  });
  const Tally tally = run_load(options, nullptr).tally;
  ends.join();
  EXPECT_EQ(tally.sent, 200u);
  EXPECT_GE(tally.right, 10u);
  EXPECT_GT(tally.lost[static_cast<std::size_t>(Lost::no_connection)], 100u);
  expect_balanced(tally);
}

TEST(Load, LatencyRunsFromTheIntendedTimeWhenTheServerStalls) {
  // One connection, one stall of half a second: in an open loop every request that should have been sent meanwhile
  // waited as well, in the time of sending only one did.
  Fake server([](int i) {
    if (i == 20) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    return kOk;
  });
  LoadOptions options = server.options();
  options.arrivals = Arrivals::constant;
  options.rate = 200;
  options.requests = 120;
  options.concurrency = 1;
  const Tally tally = run_load(options, nullptr).tally;
  EXPECT_EQ(tally.right, 120u);
  int late = 0, slow = 0;
  for (const Sample& sample : tally.samples) {
    late += sample.latency > 100;
    slow += sample.service > 100;
  }
  EXPECT_GE(late, 60);  // (500 - 100) ms at 200 a second, and less than that only if the machine lags
  EXPECT_LE(slow, 5);
}

TEST(Load, AnOpenLoopKeepsItsRate) {
  Fake server([](int) { return kOk; });
  for (const Arrivals arrivals : {Arrivals::constant, Arrivals::poisson}) {
    LoadOptions options = server.options();
    options.arrivals = arrivals;
    options.rate = 400;
    options.requests = 0;
    options.seconds = 1;
    options.threads = 2;
    const Tally tally = run_load(options, nullptr).tally;
    EXPECT_NEAR(static_cast<double>(tally.sent), 400, arrivals == Arrivals::constant ? 2 : 100);
    EXPECT_EQ(tally.right, tally.sent);
  }
}

TEST(Load, StopEndsTheSendingAndWaitsForAnswers) {
  std::atomic<bool> stop = false;
  Fake server([&](int i) {
    if (i == 5) stop = true;
    return kOk;
  });
  LoadOptions options = server.options();
  options.requests = 1'000'000;
  const LoadResult result = run_load(options, &stop);
  EXPECT_TRUE(result.interrupted);
  EXPECT_LT(result.tally.sent, 1'000'000u);
  expect_balanced(result.tally);
}

TEST(Load, OptionsThatCannotBeAreRefused) {
  LoadOptions options;
  options.url = parse_url("http://127.0.0.1:1");
  options.arrivals = Arrivals::poisson;
  EXPECT_THROW(run_load(options, nullptr), Error);
  options.arrivals = Arrivals::closed;
  options.threads = 17;
  EXPECT_THROW(run_load(options, nullptr), Error);
  options.threads = 1;
  options.warmup = 10;
  EXPECT_THROW(run_load(options, nullptr), Error);
}

}  // namespace
}  // namespace tandem::loadtest
