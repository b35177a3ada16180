#include "telemetry/span_exporter.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/dynamic_library.h"
#include "base/strings.h"
#include "base/thread_pool.h"
#include "tandem/error.h"

namespace tandem::telemetry {
namespace {

using nlohmann::json;

constexpr auto kInterval = std::chrono::seconds(1);
constexpr long kTimeoutMs = 5000, kLastTimeoutMs = 2000;

std::string with_path(std::string endpoint) {
  const std::size_t scheme = endpoint.find("://");
  if (!endpoint.starts_with("http://") && !endpoint.starts_with("https://")) {
    throw Error(Code::invalid_argument,
                cat("\"", endpoint, "\" is no collector's address: give one such as http://127.0.0.1:4318"));
  }
  const std::size_t path = endpoint.find('/', scheme + 3);
  if (path == std::string::npos) return endpoint + "/v1/traces";
  return path + 1 == endpoint.size() ? endpoint + "v1/traces" : endpoint;
}

std::size_t ignore(char*, std::size_t size, std::size_t count, void*) {
  return size * count;
}

}  // namespace

std::string otlp_json(const std::vector<Span>& spans) {
  json list = json::array();
  for (const Span& span : spans) {
    json attributes = json::array();
    for (const auto& [key, value] : span.words)
      attributes.push_back({{"key", key}, {"value", {{"stringValue", value}}}});
    for (const auto& [key, value] : span.numbers) {
      attributes.push_back({{"key", key}, {"value", {{"intValue", std::to_string(value)}}}});
    }
    json one = {{"traceId", span.trace_id},
                {"spanId", span.span_id},
                {"name", span.name},
                {"kind", 2},  // a server's
                {"startTimeUnixNano", std::to_string(span.begin_ns)},
                {"endTimeUnixNano", std::to_string(span.end_ns)},
                {"attributes", attributes},
                {"status", {{"code", span.failed ? 2 : 0}}}};
    if (!span.parent_id.empty()) one["parentSpanId"] = span.parent_id;
    list.push_back(std::move(one));
  }
  json service = json::array({{{"key", "service.name"}, {"value", {{"stringValue", "tandem"}}}}});
  json scope = {{"scope", {{"name", "tandem"}}}, {"spans", list}};
  const json all = {{"resourceSpans",
                     json::array({{{"resource", {{"attributes", service}}}, {"scopeSpans", json::array({scope})}}})}};
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// libcurl, opened at run time: only who exports spans needs it, and it brings a family of libraries along.
struct SpanExporter::Curl {
  Curl() {
    const DynamicLibrary library("libcurl.so.4", DynamicLibrary::Closed::never);
    if (!library.find("curl_easy_init", init) || !library.find("curl_easy_setopt", set) ||
        !library.find("curl_easy_perform", perform) || !library.find("curl_easy_getinfo", info) ||
        !library.find("curl_easy_cleanup", end) || !library.find("curl_slist_append", append) ||
        !library.find("curl_slist_free_all", free_list)) {
      throw Error(Code::not_found, "spans are sent with libcurl, and libcurl.so.4 is not there: install libcurl4");
    }
    handle = init();
    headers = append(nullptr, "Content-Type: application/json");
    headers = append(headers, "Expect:");
  }
  ~Curl() {
    if (headers != nullptr) free_list(headers);
    if (handle != nullptr) end(handle);
  }
  Curl(const Curl&) = delete;
  Curl& operator=(const Curl&) = delete;

  /// Whether the collector took it.
  bool post(const std::string& endpoint, const std::string& body, long timeout_ms) const {
    if (handle == nullptr) return false;
    set(handle, CURLOPT_URL, endpoint.c_str());
    set(handle, CURLOPT_POSTFIELDS, body.data());
    set(handle, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    set(handle, CURLOPT_HTTPHEADER, headers);
    set(handle, CURLOPT_TIMEOUT_MS, timeout_ms);
    set(handle, CURLOPT_NOSIGNAL, 1L);
    set(handle, CURLOPT_WRITEFUNCTION, ignore);
    long status = 0;
    return perform(handle) == CURLE_OK && info(handle, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK && status >= 200 &&
           status < 300;
  }

  CURL* handle = nullptr;
  curl_slist* headers = nullptr;
  decltype(&curl_easy_init) init = nullptr;
  decltype(&curl_easy_setopt) set = nullptr;
  decltype(&curl_easy_perform) perform = nullptr;
  decltype(&curl_easy_getinfo) info = nullptr;
  decltype(&curl_easy_cleanup) end = nullptr;
  decltype(&curl_slist_append) append = nullptr;
  decltype(&curl_slist_free_all) free_list = nullptr;
};

SpanExporter::SpanExporter(std::string endpoint, std::atomic<std::uint64_t>& sent, std::atomic<std::uint64_t>& dropped)
    : endpoint_(with_path(std::move(endpoint))), sent_(sent), dropped_(dropped), curl_(std::make_unique<Curl>()) {
  thread_ = start_thread("the exporter of spans", [this] { work(); });
}

SpanExporter::~SpanExporter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void SpanExporter::add(Span span) noexcept {
  try {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() < kMaxWaiting) {
      waiting_.push_back(std::move(span));
      return;
    }
  } catch (...) {  // no memory
  }
  ++dropped_;
}

void SpanExporter::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait_for(lock, kInterval, [this] { return stopping_; });
    const bool last = stopping_;
    const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kLastTimeoutMs);
    while (!waiting_.empty()) {
      const auto count = static_cast<std::ptrdiff_t>(std::min(waiting_.size(), kMaxBatch));
      std::vector<Span> batch(std::make_move_iterator(waiting_.begin()),
                              std::make_move_iterator(waiting_.begin() + count));
      waiting_.erase(waiting_.begin(), waiting_.begin() + count);
      lock.unlock();
      const bool late = last && std::chrono::steady_clock::now() >= until;
      bool taken = false;
      try {
        taken = !late && curl_->post(endpoint_, otlp_json(batch), last ? kLastTimeoutMs : kTimeoutMs);
      } catch (const std::exception&) {  // no memory
      }
      (taken ? sent_ : dropped_) += batch.size();
      lock.lock();
    }
    if (last) return;
  }
}

}  // namespace tandem::telemetry
