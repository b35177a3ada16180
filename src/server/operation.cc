#include "server/operation.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <random>

#include "base/clock.h"
#include "base/strings.h"
#include "server/routes.h"

namespace tandem::server {
namespace {

using telemetry::RouteName;

constexpr std::size_t kMaxId = 128;

std::vector<RouteName> route_names() {
  std::vector<RouteName> names;
  for (const Route& route : routes()) names.push_back({std::string(route.method), std::string(route.path)});
  return names;
}

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_zero(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos;
}

std::string time_text(std::chrono::system_clock::time_point when) {
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(when.time_since_epoch()).count();
  const auto seconds = static_cast<std::time_t>(micros / 1'000'000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  const int more = std::snprintf(text + length, sizeof text - length, ".%06dZ", static_cast<int>(micros % 1'000'000));
  return {text, length + static_cast<std::size_t>(std::max(more, 0))};
}

/// What strangers sent: in ASCII, so that nothing of it ends a line or speaks to a terminal that shows the log.
void append(std::string& out, const char* name, std::string_view value) {
  out += cat(",\"", name, "\":", ascii_json_string(value));
}

void append_ms(std::string& out, const char* name, double seconds) {
  char text[48];
  std::snprintf(text, sizeof text, ",\"%s\":%.3f", name, 1000 * seconds);
  out += text;
}

}  // namespace

std::string usable_request_id(std::string_view given) {
  const bool good = !given.empty() && given.size() <= kMaxId && std::all_of(given.begin(), given.end(), [](char c) {
    return c > ' ' && c < 0x7F && c != '"' && c != '\\';
  });
  return good ? std::string(given) : std::string();
}

std::string make_request_id() {
  thread_local std::mt19937_64 dice{(std::uint64_t{std::random_device{}()} << 32) ^ std::random_device{}()};
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(dice()),
                static_cast<unsigned long long>(dice()));
  return text;
}

std::string usable_traceparent(std::string_view given) {
  constexpr std::size_t kSize = 55;
  if (given.size() < kSize || given[2] != '-' || given[35] != '-' || given[52] != '-') return {};
  const std::string_view version = given.substr(0, 2), trace = given.substr(3, 32), parent = given.substr(36, 16);
  if (!is_hex(version) || version == "ff" || !is_hex(trace) || !is_hex(parent) || !is_hex(given.substr(53, 2))) {
    return {};
  }
  if (is_zero(trace) || is_zero(parent)) return {};
  if (given.size() > kSize && (version == "00" || given[kSize] != '-' || given.size() > 512)) return {};
  return std::string(given);
}

bool is_open(std::string_view method, std::string_view path) noexcept {
  constexpr std::string_view kOpen[] = {
      "/",          "/docs",           "/favicon.ico",      "/health",           "/ready",           "/ping",
      "/v1/health", "/v1/health/live", "/v1/health/ready",  "/v2/health/live",   "/v2/health/ready", "/livez",
      "/readyz",    "/healthz",        "/.well-known/live", "/.well-known/ready"};
  return method == "GET" &&
         (std::find(std::begin(kOpen), std::end(kOpen), path) != std::end(kOpen) || path.starts_with("/assets/"));
}

Operation::Operation(const OperationOptions& options)
    : options_(options), telemetry_(std::make_shared<telemetry::Telemetry>(route_names())) {
  if (!options_.api_key_file.empty()) keys_ = KeyRing::read(options_.api_key_file, *telemetry_);
  if (options_.access_log || !options_.log_file.empty()) {
    log_ = std::make_unique<telemetry::JsonLog>(options_.log_file, telemetry_->log_dropped);
  }
  if (!options_.otlp_endpoint.empty()) {
    spans_ = std::make_unique<telemetry::SpanExporter>(options_.otlp_endpoint, telemetry_->spans_sent,
                                                       telemetry_->spans_dropped);
  }
}

Operation::~Operation() = default;

std::shared_ptr<const KeyRing> Operation::keys() const {
  const std::lock_guard lock(mutex_);
  return keys_;
}

void Operation::reload() {
  if (log_) log_->reopen();
  if (options_.api_key_file.empty()) return;
  const auto before = keys();
  auto fresh = KeyRing::read(options_.api_key_file, *telemetry_, before.get());
  const std::lock_guard lock(mutex_);
  keys_ = std::move(fresh);
}

void Operation::note(std::string_view line) noexcept {
  if (!log_ || options_.log_file.empty()) return;  // standard error has the line already
  try {
    std::string out = cat("{\"time\":\"", time_text(std::chrono::system_clock::now()), "\",\"event\":\"server\"");
    append(out, "message", line);
    log_->write(out += '}');
  } catch (...) {
    ++telemetry_->log_dropped;
  }
}

std::optional<Answer> Operation::admit(Call& call) {
  Facts& facts = call.facts;
  const auto& origins = options_.cors_origins;
  facts.origin_allowed =
      !facts.origin.empty() && std::any_of(origins.begin(), origins.end(), [&](const std::string& allowed) {
        return allowed == "*" || allowed == facts.origin;
      });
  // A browser asks without the key whether it may ask with it.
  if (facts.origin_allowed && call.method == "OPTIONS" && !facts.preflight.empty()) {
    Answer answer;
    answer.status = 204;
    answer.content_type.clear();
    answer.headers.emplace_back("Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS");
    if (!facts.wanted_headers.empty()) {
      answer.headers.emplace_back("Access-Control-Allow-Headers", facts.wanted_headers);
    }
    answer.headers.emplace_back("Access-Control-Max-Age", "600");
    return answer;
  }
  const auto keys = this->keys();
  if (!keys || is_open(call.method, call.path)) return std::nullopt;
  facts.key = facts.secret.empty() ? nullptr : keys->find(facts.secret);
  if (!facts.key) {
    Answer answer = error_answer(401, "unauthorized",
                                 facts.secret.empty()
                                     ? "an API key is needed: send it as \"Authorization: Bearer KEY\" or \"X-API-Key\""
                                     : "this API key is not known here");
    answer.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"tandem\"");
    return answer;
  }
  ++facts.key->counters->requests;
  if (!facts.key->quota) return std::nullopt;
  if (const std::optional<double> wait = facts.key->quota->take(std::chrono::steady_clock::now())) {
    ++facts.key->counters->refused;
    const std::string why =
        cat("the API key \"", facts.key->name, "\" may make ", facts.key->quota->per_minute(), " requests a minute");
    Answer answer = error_answer(429, "quota_exceeded", why);
    answer.failure = Failure{Code::overloaded, why};
    for (auto& [name, value] : answer.headers) {
      if (name == "Retry-After") value = std::to_string(static_cast<long>(std::ceil(*wait)));
    }
    return answer;
  }
  return std::nullopt;
}

void Operation::count(const Call& call, int status, std::size_t bytes_out) noexcept {
  const Facts& facts = call.facts;
  telemetry_->request_done(
      {facts.route, status, seconds_since(facts.begin), facts.images, facts.texts, facts.bytes_in, bytes_out});
  if (facts.key) facts.key->counters->items += facts.images + facts.texts;
}

void Operation::finish(const Call& call, int status, std::size_t bytes_out, bool written) noexcept {
  const double seconds = seconds_since(call.facts.begin);
  try {
    if (log_) write_line(call, status, bytes_out, seconds, written);
  } catch (...) {  // no memory
    ++telemetry_->log_dropped;
  }
  try {
    if (spans_) add_span(call, status, seconds);
  } catch (...) {
    ++telemetry_->spans_dropped;
  }
}

/// A trace that the client does not sample is not exported; one that begins here is.
void Operation::add_span(const Call& call, int status, double seconds) {
  const Facts& facts = call.facts;
  const std::string& parent = facts.traceparent;
  if (!parent.empty() && (std::stoi(parent.substr(53, 2), nullptr, 16) & 1) == 0) return;
  const auto all = routes();
  telemetry::Span span;
  const std::string path(facts.route < all.size() ? all[facts.route].path : "other");
  span.name = cat(call.method.substr(0, 32), " ", path);
  span.trace_id = parent.empty() ? make_request_id() : parent.substr(3, 32);
  span.span_id = make_request_id().substr(0, 16);
  if (!parent.empty()) span.parent_id = parent.substr(36, 16);
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(facts.begin_time.time_since_epoch()).count();
  span.begin_ns = static_cast<std::uint64_t>(since);
  span.end_ns = span.begin_ns + static_cast<std::uint64_t>(seconds * 1e9);
  span.failed = status >= 500;
  span.words = {{"http.request.method", call.method.substr(0, 32)},
                {"http.route", path},
                {"client.address", facts.client},
                {"tandem.request_id", facts.request_id}};
  if (facts.key) span.words.emplace_back("tandem.key", facts.key->name);
  const auto micros = [](double value) { return static_cast<std::int64_t>(value * 1e6); };
  span.numbers = {{"http.response.status_code", status}};
  if (facts.images + facts.texts > 0) {
    span.numbers.insert(span.numbers.end(), {{"tandem.images", facts.images},
                                             {"tandem.texts", facts.texts},
                                             {"tandem.queue_us", micros(facts.queue_seconds)},
                                             {"tandem.prepare_us", micros(facts.prepare_seconds)},
                                             {"tandem.compute_us", micros(facts.compute_seconds)}});
  }
  spans_->add(std::move(span));
}

void Operation::write_line(const Call& call, int status, std::size_t bytes_out, double seconds, bool written) {
  const Facts& facts = call.facts;
  std::string line = cat("{\"time\":\"", time_text(facts.begin_time), "\",\"event\":\"request\"");
  append(line, "request_id", facts.request_id);
  append(line, "method", call.method.substr(0, 32));
  append(line, "path", std::string_view(call.path).substr(0, 512));
  const auto all = routes();
  append(line, "route", facts.route < all.size() ? all[facts.route].path : "other");
  line += cat(",\"status\":", status, ",\"bytes_in\":", facts.bytes_in, ",\"bytes_out\":", bytes_out);
  append_ms(line, "ms", seconds);
  if (facts.images + facts.texts > 0) {
    line += cat(",\"images\":", facts.images, ",\"texts\":", facts.texts);
    append_ms(line, "queue_ms", facts.queue_seconds);
    append_ms(line, "prepare_ms", facts.prepare_seconds);
    append_ms(line, "compute_ms", facts.compute_seconds);
  }
  append(line, "client", facts.client);
  if (facts.key) append(line, "key", facts.key->name);
  if (!facts.traceparent.empty()) append(line, "trace_id", std::string_view(facts.traceparent).substr(3, 32));
  if (!facts.agent.empty()) append(line, "agent", std::string_view(facts.agent).substr(0, 200));
  if (!written) line += ",\"client_left\":true";
  log_->write(line += '}');
}

Operation::Exchange::Exchange(Operation& operation, CallPtr call, const std::string& client)
    : operation_(operation), call_(std::move(call)) {
  call_->facts.client = client;
  call_->facts.route = route_of(*call_);
  operation_.telemetry_->request_begun();
}

Operation::Exchange::~Exchange() {
  count();
  operation_.finish(*call_, status_, bytes_out_, written_);
}

std::optional<Answer> Operation::Exchange::admit() {
  try {
    return operation_.admit(*call_);
  } catch (...) {
    return answer_to_current_exception();
  }
}

void Operation::Exchange::dress(Answer& answer) const {
  const Facts& facts = call_->facts;
  // What refused the request before its handler does not know whose clients read this.
  if (const auto all = routes(); facts.route < all.size())
    answer = in_shape(std::move(answer), all[facts.route].errors);
  answer.headers.emplace_back("X-Request-ID", facts.request_id);
  if (!facts.traceparent.empty()) answer.headers.emplace_back("traceparent", facts.traceparent);
  if (!facts.traceparent.empty() && !facts.tracestate.empty()) {
    answer.headers.emplace_back("tracestate", facts.tracestate);
  }
  if (operation_.options_.cors_origins.empty()) return;
  answer.headers.emplace_back("Vary", "Origin");
  if (!facts.origin_allowed) return;
  answer.headers.emplace_back("Access-Control-Allow-Origin", facts.origin);
  answer.headers.emplace_back("Access-Control-Expose-Headers", "X-Request-ID, Retry-After, traceparent");
}

void Operation::Exchange::answering(const Answer& answer, std::size_t body_bytes) noexcept {
  status_ = answer.status, bytes_out_ = body_bytes;
  count();
}

void Operation::Exchange::count() noexcept {
  if (!std::exchange(counted_, true)) operation_.count(*call_, status_, bytes_out_);
}

}  // namespace tandem::server
