#include "loadtest/load.h"

#include <sys/resource.h>

#include <algorithm>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "base/clock.h"
#include "base/strings.h"
#include "loadtest/worker.h"
#include "tandem/error.h"

namespace tandem::loadtest {
namespace {

namespace asio = boost::asio;

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Endpoints resolve(const Url& url) {
  asio::io_context io;
  boost::system::error_code error;
  const auto found = asio::ip::tcp::resolver(io).resolve(url.host, url.port, error);
  if (error)
    throw Error(Code::unavailable, cat("the host ", url.host, " is not known (", error.message(), "): check the URL"));
  Endpoints endpoints;
  for (const auto& one : found) endpoints.push_back(one.endpoint());
  return endpoints;
}

// A load on nobody would only be a long list of requests without an answer.
void knock(const Endpoints& endpoints, const Url& url) {
  asio::io_context io;
  asio::ip::tcp::socket socket(io);
  boost::system::error_code error;
  asio::connect(socket, endpoints, error);
  if (error)
    throw Error(Code::unavailable,
                cat("no server answers at ", url.authority, " (", error.message(), "): start one, or check the URL"));
}

void check(const LoadOptions& o) {
  const auto refuse = [](const std::string& what) { throw Error(Code::invalid_argument, what); };
  if (o.arrivals != Arrivals::closed && !(o.rate > 0)) refuse(cat("an open loop needs a rate above 0, not ", o.rate));
  if (o.threads < 1 || o.concurrency < o.threads)
    refuse(cat(o.concurrency, " connections do not go round ", o.threads, " threads: give each thread one at least"));
  if (o.requests == 0 && o.warmup >= o.seconds)
    refuse(cat("a warm-up of ", o.warmup, " s leaves nothing of ", o.seconds, " s: make it shorter"));
  for (const double share : {o.mix.texts, o.mix.corrupt}) {
    if (!(share >= 0 && share <= 1)) refuse(cat("a share of ", share, " is not between 0 and 1"));
  }
}

}  // namespace

Arrivals parse_arrivals(std::string_view name) {
  for (const Arrivals one : {Arrivals::closed, Arrivals::poisson, Arrivals::constant}) {
    if (name == name_of(one)) return one;
  }
  throw Error(Code::invalid_argument,
              cat("arrivals '", name, "' are unknown: choose one of poisson, constant, closed"));
}

std::string_view name_of(Arrivals arrivals) noexcept {
  constexpr std::array<std::string_view, 3> kNames = {"closed", "poisson", "constant"};
  return kNames[static_cast<std::size_t>(arrivals)];
}

std::string_view name_of(Lost lost) noexcept {
  constexpr std::array<std::string_view, kLostKinds> kNames = {"no_connection", "not_sent", "closed", "timeout",
                                                               "malformed"};
  return kNames[static_cast<std::size_t>(lost)];
}

std::uint64_t Tally::unanswered() const noexcept {
  std::uint64_t sum = 0;
  for (const std::uint64_t count : lost) sum += count;
  return sum;
}

void Tally::add(Tally&& other) {
  sent += other.sent;
  answered += other.answered;
  right += other.right;
  refused += other.refused;
  wrong += other.wrong;
  right_refusals += other.right_refusals;
  right_items += other.right_items;
  retried += other.retried;
  connections += other.connections;
  bytes_sent += other.bytes_sent;
  bytes_received += other.bytes_received;
  measured_right += other.measured_right;
  measured_items += other.measured_items;
  for (std::size_t i = 0; i < kLostKinds; ++i) lost[i] += other.lost[i];
  for (const auto& [status, count] : other.statuses) statuses[status] += count;
  for (auto& example : other.examples) {
    if (std::find(examples.begin(), examples.end(), example) == examples.end()) examples.push_back(std::move(example));
  }
  samples.insert(samples.end(), other.samples.begin(), other.samples.end());
  last_answer = std::max(last_answer, other.last_answer);
  latest_dispatch = std::max(latest_dispatch, other.latest_dispatch);
}

LoadResult run_load(const LoadOptions& options, const std::atomic<bool>* stop,
                    const std::function<void(double, std::uint64_t)>& tick) {
  check(options);
  MixOptions mix_options = options.mix;
  mix_options.corpus.seed = options.seed;
  const bool vectors = mix_options.body != Body::custom && mix_options.body != Body::get;
  const std::string path = !options.url.path.empty() ? options.url.path : vectors ? "/v1/embeddings" : "/";
  const Mix mix(std::move(mix_options), path, options.url.authority);
  const Endpoints endpoints = resolve(options.url);
  knock(endpoints, options.url);

  std::atomic<std::uint64_t> answered = 0;
  const double cpu = cpu_seconds();
  const auto begin = Clock::now();
  std::vector<std::unique_ptr<Worker>> workers;
  const Worker::Setup setup{options, mix, endpoints, begin, stop, answered};
  for (int i = 0; i < options.threads; ++i) workers.push_back(std::make_unique<Worker>(setup, i));

  std::mutex mutex;
  std::condition_variable ended;
  int running = options.threads;
  std::exception_ptr failure;
  std::vector<std::thread> threads;
  for (auto& worker : workers) {
    threads.emplace_back([&, one = worker.get()] {
      std::exception_ptr problem;
      try {
        one->run();
      } catch (...) {
        problem = std::current_exception();
      }
      const std::lock_guard lock(mutex);
      if (problem) failure = problem;
      --running;
      ended.notify_all();
    });
  }
  {
    std::unique_lock lock(mutex);
    while (!ended.wait_for(lock, std::chrono::milliseconds(100), [&] { return running == 0; })) {
      if (tick) tick(seconds_since(begin), answered);
    }
  }
  for (auto& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);

  LoadResult result;
  for (auto& worker : workers) result.tally.add(std::move(worker->tally));
  const double last = result.tally.last_answer;
  result.interrupted = stop != nullptr && *stop;
  const bool whole = options.requests == 0 && !result.interrupted && last > 0;
  result.seconds = std::max(0.0, (whole ? options.seconds : last) - options.warmup);
  result.cpu_seconds = cpu_seconds() - cpu;
  result.pictures = mix.pictures();
  result.picture_bytes = mix.picture_bytes();
  return result;
}

}  // namespace tandem::loadtest
