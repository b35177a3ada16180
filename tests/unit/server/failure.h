// What a parser says about a body that it refuses.
#pragma once

#include <string>

#include "server/message.h"

namespace tandem::server {

/// The error of a parse that must fail: "code: message [param]".
template <class Parse>
std::string failure(Parse parse) {
  try {
    parse();
  } catch (const FieldError& error) {
    return std::string(code_name(error.code())) + ": " + error.what() + " [" + error.param() + "]";
  } catch (const Error& error) {
    return std::string(code_name(error.code())) + ": " + error.what();
  }
  return "accepted";
}

}  // namespace tandem::server
