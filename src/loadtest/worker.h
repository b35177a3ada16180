// One thread of the load: its connections, its share of the schedule, its account.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <optional>
#include <vector>

#include "loadtest/load.h"

namespace tandem::loadtest {

using Clock = std::chrono::steady_clock;
using Endpoints = std::vector<boost::asio::ip::tcp::endpoint>;

class Worker {
 public:
  struct Setup {
    const LoadOptions& options;
    const Mix& mix;
    const Endpoints& endpoints;
    Clock::time_point begin;
    const std::atomic<bool>* stop;         ///< may be null
    std::atomic<std::uint64_t>& answered;  ///< of all workers
  };

  /// Takes the share `index` of the load, of options.threads.
  Worker(const Setup& setup, int index);

  /// Returns when all that it sent is answered or given up.
  void run();

  Tally tally;

 private:
  struct Link;
  struct Outcome;
  struct Planned {
    Clock::time_point intended;
  };

  bool ended() const;
  boost::asio::awaitable<void> schedule();
  boost::asio::awaitable<void> watch_stop();
  boost::asio::awaitable<void> work();
  boost::asio::awaitable<std::optional<Planned>> take(Link& link);
  boost::asio::awaitable<void> exchange(Link& link, Planned planned);
  boost::asio::awaitable<bool> connect(Link& link, Clock::time_point deadline);
  boost::asio::awaitable<Outcome> talk(Link& link, const Outgoing& request);
  void spawn();
  void wake_one();
  void end_sending();
  void count(const Outgoing& request, const Outcome& outcome, Planned planned, Clock::time_point sent);
  void lose(Lost lost);
  void wrong(const std::string& what);

  const Setup setup_;
  const LoadOptions& options_;
  const int index_, connections_;
  const std::uint64_t requests_;  // of this worker; 0: no limit
  Random random_;
  boost::asio::io_context io_{1};
  boost::asio::steady_timer arrival_, stop_timer_;
  std::deque<Planned> waiting_;
  std::vector<Link*> idle_;
  std::uint64_t planned_ = 0;
  int open_ = 0;
  bool sending_ = true;
};

}  // namespace tandem::loadtest
