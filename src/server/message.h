// A request and its answer as the handlers see them: no sockets, no Beast.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/facts.h"
#include "server/memory.h"
#include "server/wishes.h"
#include "tandem/engine.h"

namespace tandem::server {

/// One request, read to its end.
struct Call {
  explicit Call(MemoryLimit& limit) noexcept : memory(limit) {}

  std::string method;  ///< "GET" for HEAD too: the connection leaves the body out
  std::string path;    ///< begins with '/', without the query
  std::string query;   ///< after '?', still encoded
  std::string content_type, accept, if_none_match, fetch_site;
  std::string body;  ///< spare capacity behind it, so that the JSON parser may read past its end
  std::chrono::steady_clock::time_point deadline;
  std::string priority, timeout;  ///< the headers X-Priority and X-Timeout, as they came
  Wishes wishes;
  CancelFlag cancel = std::make_shared<std::atomic<bool>>(false);  ///< set when the client has gone
  Facts facts;
  /// Runs a small piece of work on the thread that writes the answer; empty: there is none.
  std::function<void(std::function<void()>)> post;
  Reservation memory;  ///< for the body and what is made of it, then for the answer until it is written
};
using CallPtr = std::shared_ptr<Call>;

/// Whose clients read an error: the shape of its JSON and, for TEI, its status.
enum class Errors { openai, tei, bare, message };

/// Why an answer is an error, for dialects that say it in their own way.
struct Failure {
  Code code = Code::internal;
  std::string message;
};

struct Answer {
  int status = 200;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;  ///< beyond type, length, date and connection
  std::string body;
  std::string_view fixed_body;     ///< instead of `body`: bytes that live as long as the program
  bool close = false;              ///< the connection must not be used again
  std::optional<Failure> failure;  ///< of an error

  std::string_view bytes() const noexcept { return fixed_body.empty() ? std::string_view(body) : fixed_body; }
};

/// The way back to the client; copies share it. Only the first answer counts. When the last copy goes without an
/// answer the client gets a 500, so that no request can be forgotten.
class Reply {
 public:
  explicit Reply(std::function<void(Answer)> send);
  void operator()(Answer answer) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// A failure that also names the request's field; becomes error.param in the answer.
class FieldError : public Error {
 public:
  FieldError(Code code, const std::string& message, std::string param)
      : Error(code, message), param_(std::move(param)) {}
  const std::string& param() const noexcept { return param_; }

 private:
  std::string param_;
};

/// The HTTP status of a failure: the one place where codes meet statuses.
int status_of(Code code) noexcept;

/// {"error":{"message","type","code","param"}}, with Retry-After where trying again makes sense.
Answer error_answer(Code code, std::string_view message, std::string_view param = {});
Answer error_answer(int status, std::string_view code, std::string_view message, std::string_view param = {});

/// An error in a dialect's own shape; other answers as they are.
Answer in_shape(Answer answer, Errors errors);
/// The way back for answers whose errors are to have a shape.
Reply in_shape(const Reply& reply, Errors errors);

/// The answer to whatever exception is being handled; call inside a catch block.
Answer answer_to_current_exception() noexcept;

/// A JSON string with quotes; invalid UTF-8 is replaced by U+FFFD.
std::string json_string(std::string_view text);

/// The same with \u… for everything beyond ASCII, and for DEL.
std::string ascii_json_string(std::string_view text);

/// The most bytes that json_string(text) has.
std::size_t json_size(std::string_view text) noexcept;

/// Appends the shortest decimal that reads back as the same float32; null for what JSON cannot say.
void append_number(float value, std::string& out);

/// "%2F" to '/'; what is no two hexadecimal digits stays as it is.
std::string percent_decoded(std::string_view text);

/// The value of a query parameter, decoded; empty when absent. Throws invalid_argument where it is given twice.
std::string query_value(std::string_view query, std::string_view name);

}  // namespace tandem::server
