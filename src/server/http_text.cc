#include "server/http_text.h"

#include <algorithm>
#include <boost/beast/core/error.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>
#include <ctime>

#include "base/strings.h"
#include "server/operation.h"

namespace tandem::server {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

std::string now_as_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts)};
}

std::string_view view(boost::core::string_view text) {
  return {text.data(), text.size()};
}

/// The key as OpenAI's clients, as Azure's and as others send it.
std::string_view secret_of(const HttpRequest& request) {
  constexpr std::string_view kBearer = "bearer ";
  const auto given = request[http::field::authorization];
  if (given.size() > kBearer.size() && beast::iequals(given.substr(0, kBearer.size()), kBearer.data())) {
    return view(given.substr(kBearer.size()));
  }
  for (const char* name : {"X-API-Key", "api-key"}) {
    if (const auto key = request[name]; !key.empty()) return view(key);
  }
  return {};
}

void read_facts(const HttpRequest& request, Facts& facts) {
  facts.request_id = usable_request_id(view(request["X-Request-ID"]));
  if (facts.request_id.empty()) facts.request_id = make_request_id();
  facts.traceparent = usable_traceparent(view(request["traceparent"]));
  facts.tracestate = view(request["tracestate"]);
  facts.secret = secret_of(request);
  facts.origin = view(request[http::field::origin]);
  facts.preflight = view(request[http::field::access_control_request_method]);
  facts.wanted_headers = view(request[http::field::access_control_request_headers]);
  facts.agent = view(request[http::field::user_agent]);
}

}  // namespace

std::string head_of(const Answer& answer, bool keep) {
  const std::string_view body = answer.bytes();
  std::string head;
  head.reserve(512);
  head += cat(kBeginning, answer.status, " ");
  if (answer.status == 499) {
    head += "Client Closed Request";
  } else {
    const auto reason = http::obsolete_reason(static_cast<http::status>(answer.status));
    head.append(reason.data(), reason.size());
  }
  head += "\r\nServer: tandem\r\nDate: " + now_as_text();
  if (answer.status != 204 && answer.status != 304) head += cat("\r\nContent-Length: ", body.size());
  if (!body.empty()) head += "\r\nContent-Type: " + answer.content_type;
  head += "\r\nX-Content-Type-Options: nosniff";
  head += keep ? "\r\nConnection: keep-alive" : "\r\nConnection: close";
  for (const auto& [name, value] : answer.headers) head += cat("\r\n", name, ": ", value);
  return head += "\r\n\r\n";
}

CallPtr call_of(const HttpRequest& request, MemoryLimit& memory) {
  auto call = std::make_shared<Call>(memory);
  call->method = view(request.method_string());
  if (call->method == "HEAD") call->method = "GET";
  std::string_view target = view(request.target());
  if (const std::size_t scheme = target.find("://"); scheme != std::string_view::npos && target.front() != '/') {
    const std::size_t path = target.find_first_of("/?#", scheme + 3);
    target = path == std::string_view::npos || target[path] == '#' ? "/" : target.substr(path);
  }
  target = target.substr(0, target.find('#'));
  const std::size_t question = std::min(target.find('?'), target.size());
  call->path = question > 0 ? target.substr(0, question) : "/";
  call->query = target.substr(std::min(question + 1, target.size()));
  call->content_type = view(request[http::field::content_type]);
  std::transform(call->content_type.begin(),
                 call->content_type.begin() +
                     static_cast<std::ptrdiff_t>(std::min(call->content_type.find(';'), call->content_type.size())),
                 call->content_type.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  call->accept = view(request[http::field::accept]);
  call->if_none_match = view(request[http::field::if_none_match]);
  call->priority = view(request["X-Priority"]);
  call->timeout = view(request["X-Timeout"]);
  call->fetch_site = view(request["Sec-Fetch-Site"]);
  read_facts(request, call->facts);
  return call;
}

std::optional<Answer> refuse_head(const HttpRequest& request) {
  if (request.version() != 10 && request.version() != 11) {
    return error_answer(505, "unsupported", "this server speaks HTTP/1.1");
  }
  if (request.version() == 11 && request.count(http::field::host) != 1) {
    return error_answer(400, code_name(Code::bad_data), "an HTTP/1.1 request needs exactly one Host header");
  }
  // Beast takes a request with any other coding for one without a body, and would read that body as the next request:
  // where a proxy in front sees it otherwise, one client could put requests into another's connection.
  if (const auto codings = request.count(http::field::transfer_encoding); codings > 0) {
    const bool chunked = codings == 1 && beast::iequals(request[http::field::transfer_encoding], "chunked");
    if (!chunked || request.version() != 11 || request.count(http::field::content_length) > 0) {
      Answer answer = chunked ? error_answer(400, code_name(Code::bad_data),
                                             "Transfer-Encoding needs HTTP/1.1 and no Content-Length beside it")
                              : error_answer(501, "unsupported", "the only Transfer-Encoding that is read is chunked");
      answer.close = true;
      return answer;
    }
  }
  // "5, 5" and the same number twice may be read as 5, but whoever stands in front may have read them otherwise.
  const auto lengths = request.count(http::field::content_length);
  const auto length = request[http::field::content_length];
  if (lengths > 1 || std::any_of(length.begin(), length.end(), [](char c) { return c < '0' || c > '9'; })) {
    Answer answer = error_answer(400, code_name(Code::bad_data), "Content-Length must be given once, as one number");
    answer.close = true;
    return answer;
  }
  const auto coding = request[http::field::content_encoding];
  if (!coding.empty() && !beast::iequals(coding, "identity")) {
    return error_answer(415, "unsupported", "bodies are not decompressed: send it without Content-Encoding");
  }
  const auto expect = request[http::field::expect];
  if (!expect.empty() && !beast::iequals(expect, "100-continue")) {
    return error_answer(417, "unsupported", "the only expectation that is met is 100-continue");
  }
  return std::nullopt;
}

Answer answer_to_bad_request(const error_code& error, std::size_t max_body) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return error_answer(431, code_name(Code::too_large),
                        cat("the request's head is too large; the limit is ", kHeaderBytes, " bytes"));
  }
  if (error == http::error::body_limit) {
    return error_answer(Code::too_large, cat("the request's body is too large; the limit is ", max_body, " bytes"));
  }
  return error_answer(400, code_name(Code::bad_data), cat("malformed HTTP request: ", error.message()));
}

}  // namespace tandem::server
