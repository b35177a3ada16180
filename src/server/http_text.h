// HTTP's own words: from a parsed head to a Call, from an Answer to its head. No sockets.
#pragma once

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "server/message.h"

namespace tandem::server {

using HttpRequest = boost::beast::http::request<boost::beast::http::string_body>;

inline constexpr std::uint32_t kHeaderBytes = 16 << 10;

/// Method, target and the few headers that handlers look at.
CallPtr call_of(const HttpRequest& request, MemoryLimit& memory);

/// What is wrong with a request's head, beyond its syntax.
std::optional<Answer> refuse_head(const HttpRequest& request);

/// The answer to a request that the parser refused.
Answer answer_to_bad_request(const boost::system::error_code& error, std::size_t max_body);

/// What every answer begins with.
inline constexpr std::string_view kBeginning = "HTTP/1.1 ";

/// Status line and headers, with the empty line behind them. keep: the connection takes another request.
std::string head_of(const Answer& answer, bool keep);

}  // namespace tandem::server
