// Spans of requests to an OpenTelemetry collector, by OTLP over HTTP as JSON: in batches, from a thread of its own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace tandem::telemetry {

/// One request. Ids are hexadecimal, as traceparent has them.
struct Span {
  std::string name, trace_id, span_id, parent_id;  ///< parent_id: empty where the trace begins here
  std::uint64_t begin_ns = 0, end_ns = 0;          ///< since 1970
  bool failed = false;                             ///< by the server's fault
  std::vector<std::pair<std::string, std::string>> words;
  std::vector<std::pair<std::string, std::int64_t>> numbers;
};

/// The body of a request to a collector: {"resourceSpans": …}.
std::string otlp_json(const std::vector<Span>& spans);

class SpanExporter {
 public:
  static constexpr std::size_t kMaxWaiting = 8192, kMaxBatch = 512;

  /// endpoint: of the collector, "/v1/traces" is added where it has no path. libcurl is opened now. Throws
  /// invalid_argument for what is no http(s) address, not_found where libcurl is not installed.
  SpanExporter(std::string endpoint, std::atomic<std::uint64_t>& sent, std::atomic<std::uint64_t>& dropped);
  ~SpanExporter();  ///< tries for at most two seconds to send what waits
  SpanExporter(const SpanExporter&) = delete;
  SpanExporter& operator=(const SpanExporter&) = delete;

  /// Never waits; beyond kMaxWaiting the span is dropped.
  void add(Span span) noexcept;

 private:
  struct Curl;
  void work();

  const std::string endpoint_;
  std::atomic<std::uint64_t>&sent_, &dropped_;
  std::unique_ptr<Curl> curl_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Span> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace tandem::telemetry
