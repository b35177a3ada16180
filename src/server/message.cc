#include "server/message.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <new>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/strings.h"

namespace tandem::server {

struct Reply::State {
  std::function<void(Answer)> send;
  std::atomic<bool> sent{false};

  explicit State(std::function<void(Answer)> s) : send(std::move(s)) {}
  ~State() {
    if (sent.exchange(true)) return;
    try {
      send(error_answer(Code::internal, "the request was dropped without an answer: please report this"));
    } catch (...) {  // no memory for an answer: the connection's own time limit ends it
    }
  }
};

Reply::Reply(std::function<void(Answer)> send) : state_(std::make_shared<State>(std::move(send))) {}

void Reply::operator()(Answer answer) const {
  if (!state_->sent.exchange(true)) state_->send(std::move(answer));
}

int status_of(Code code) noexcept {
  switch (code) {
    case Code::invalid_argument:
    case Code::unsupported:
    case Code::bad_data: return 400;
    case Code::not_found: return 404;
    case Code::too_large: return 413;
    case Code::overloaded: return 429;
    case Code::cancelled: return 499;
    case Code::unavailable:
    case Code::out_of_memory:
    case Code::device_failure: return 503;
    case Code::deadline_exceeded: return 504;
    case Code::io_error:
    case Code::internal: return 500;
  }
  return 500;
}

Answer error_answer(Code code, std::string_view message, std::string_view param) {
  Answer answer = error_answer(status_of(code), code_name(code), message, param);
  answer.failure = Failure{code, std::string(message)};
  return answer;
}

Answer error_answer(int status, std::string_view code, std::string_view message, std::string_view param) {
  Answer answer;
  answer.status = status;
  const char* type = status == 429   ? "rate_limit_error"
                     : status >= 500 ? "server_error"
                     : status == 404 ? "not_found_error"
                                     : "invalid_request_error";
  answer.body = "{\"error\":{\"message\":" + json_string(message) + ",\"type\":\"" + type +
                "\",\"code\":" + json_string(code) + ",\"param\":" + (param.empty() ? "null" : json_string(param)) +
                "}}\n";
  if (status == 429) answer.headers.emplace_back("Retry-After", "1");
  if (status == 503) answer.headers.emplace_back("Retry-After", "2");
  return answer;
}

namespace {

/// TEI's names of kinds and its statuses.
std::pair<const char*, int> tei_kind(Code code) {
  switch (code) {
    case Code::invalid_argument:
    case Code::unsupported:
    case Code::bad_data:
    case Code::not_found: return {"Validation", 422};
    case Code::too_large: return {"Validation", 413};
    case Code::overloaded: return {"Overloaded", 429};
    case Code::unavailable: return {"Unhealthy", 503};
    default: return {"Backend", 424};
  }
}

}  // namespace

Answer in_shape(Answer answer, Errors errors) {
  if (!answer.failure || errors == Errors::openai) return answer;
  const std::string message = json_string(answer.failure->message);
  switch (errors) {
    case Errors::tei: {
      const auto [kind, status] = tei_kind(answer.failure->code);
      answer.body = "{\"error\":" + message + ",\"error_type\":\"" + kind + "\"}";
      answer.status = status;
      break;
    }
    case Errors::bare: answer.body = "{\"error\":" + message + "}"; break;
    case Errors::message: answer.body = "{\"message\":" + message + "}"; break;
    case Errors::openai: break;
  }
  return answer;
}

Reply in_shape(const Reply& reply, Errors errors) {
  if (errors == Errors::openai) return reply;
  return Reply([reply, errors](Answer answer) { reply(in_shape(std::move(answer), errors)); });
}

Answer answer_to_current_exception() noexcept {
  try {
    try {
      throw;
    } catch (const FieldError& error) {
      return error_answer(error.code(), error.what(), error.param());
    } catch (const Error& error) {
      return error_answer(error.code(), error.what());
    } catch (const std::bad_alloc&) {
      return error_answer(Code::out_of_memory, "not enough memory for this request: send fewer or smaller inputs");
    } catch (const std::exception& error) {
      return error_answer(Code::internal, error.what());
    }
  } catch (...) {
    Answer answer;
    answer.status = 500;
    answer.close = true;
    return answer;
  }
}

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string ascii_json_string(std::string_view text) {
  const std::string escaped = nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
  std::string out;
  for (const char c : escaped) out += c == '\x7f' ? std::string("\\u007f") : std::string(1, c);
  return out;
}

std::size_t json_size(std::string_view text) noexcept {
  std::size_t size = 2;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    size += byte < 0x20 || byte == 0x7F ? 6 : byte >= 0x80 ? 3 : byte == '"' || byte == '\\' ? 2 : 1;
  }
  return size;
}

void append_number(float value, std::string& out) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  out.append(text, end);
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned byte = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr == text.data() + i + 3) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string query_value(std::string_view query, std::string_view name) {
  std::optional<std::string> found;
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    std::string_view pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const std::size_t equals = std::min(pair.find('='), pair.size());
    if (pair.substr(0, equals) != name) continue;
    if (found) {
      throw FieldError(Code::invalid_argument, cat("the query parameter \"", name, "\" is given twice"),
                       std::string(name));
    }
    pair.remove_prefix(std::min(equals + 1, pair.size()));
    found.emplace(pair);
    std::replace(found->begin(), found->end(), '+', ' ');
    found = percent_decoded(*found);
  }
  return found.value_or("");
}

}  // namespace tandem::server
