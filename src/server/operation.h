// What happens around every request, whatever it asks for: who may ask, what is counted and written down.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "server/keys.h"
#include "server/message.h"
#include "server/operation_options.h"
#include "telemetry/gpu_watch.h"
#include "telemetry/json_log.h"
#include "telemetry/span_exporter.h"
#include "telemetry/telemetry.h"

namespace tandem::server {

/// Thread-safe.
class Operation {
 public:
  /// Throws io_error or bad_data where the log or the keys cannot be used.
  explicit Operation(const OperationOptions& options);
  ~Operation();
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  telemetry::Telemetry& telemetry() noexcept { return *telemetry_; }
  const std::shared_ptr<telemetry::Telemetry>& shared_telemetry() const noexcept { return telemetry_; }
  telemetry::GpuWatch& gpus() noexcept { return gpus_; }

  /// One request, from its head on: in flight when this is made, counted when it is answered or given up, in the log
  /// once the answer is written.
  class Exchange {
   public:
    Exchange(Operation& operation, CallPtr call, const std::string& client);
    ~Exchange();
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;

    /// Before the body is read: 401, 429, or the answer to a browser's question whether it may ask.
    std::optional<Answer> admit();
    /// Adds the headers that every answer has: request id, trace, what a browser may do with it.
    void dress(Answer& answer) const;
    /// Call before the answer is written: a client that has it finds itself in /stats and /metrics.
    void answering(const Answer& answer, std::size_t body_bytes) noexcept;
    /// The answer was written; without this the client left before its end.
    void written() noexcept { written_ = true; }

   private:
    void count() noexcept;

    Operation& operation_;
    const CallPtr call_;
    int status_ = 499;  ///< until there is an answer
    std::size_t bytes_out_ = 0;
    bool counted_ = false, written_ = false;
  };

  /// A line for people goes into the log as well.
  void note(std::string_view line) noexcept;
  /// Reads keys again and opens the log anew. Throws what reading threw; the old ones stay.
  void reload();

 private:
  std::shared_ptr<const KeyRing> keys() const;
  std::optional<Answer> admit(Call& call);
  void count(const Call& call, int status, std::size_t bytes_out) noexcept;
  void finish(const Call& call, int status, std::size_t bytes_out, bool written) noexcept;
  void write_line(const Call& call, int status, std::size_t bytes_out, double seconds, bool written);

  void add_span(const Call& call, int status, double seconds);

  const OperationOptions options_;
  const std::shared_ptr<telemetry::Telemetry> telemetry_;
  telemetry::GpuWatch gpus_;
  mutable std::mutex mutex_;
  std::shared_ptr<const KeyRing> keys_;  ///< null: everybody may ask
  std::unique_ptr<telemetry::JsonLog> log_;
  std::unique_ptr<telemetry::SpanExporter> spans_;
};

/// A request id that can be logged and sent back, or empty: 1 to 128 printable characters without quotes.
std::string usable_request_id(std::string_view given);
/// 32 hexadecimal digits.
std::string make_request_id();
/// "00-<32 hex>-<16 hex>-<2 hex>" with ids that are not zero, as W3C's Trace Context has it (a later version may have
/// more); else empty.
std::string usable_traceparent(std::string_view given);
/// Whether a request is answered without an API key: one that reads the probes, or the page itself.
bool is_open(std::string_view method, std::string_view path) noexcept;

}  // namespace tandem::server
