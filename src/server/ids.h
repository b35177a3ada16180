// What some dialects put into every answer: an identifier and the time.
#pragma once

#include <string>
#include <string_view>

namespace tandem::server {

/// A random UUID, version 4: to tell answers apart, not to keep a secret.
std::string random_uuid();

/// ,"id":"infinity-<uuid>","created":<seconds since 1970>
std::string id_and_date(std::string_view prefix);

}  // namespace tandem::server
