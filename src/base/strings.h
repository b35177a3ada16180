// Joining values into messages: cat("side ", 12, " is too small").
#pragma once

#include <sstream>
#include <string>

namespace tandem {

template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

}  // namespace tandem
