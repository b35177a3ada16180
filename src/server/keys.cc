#include "server/keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::server {
namespace {

std::optional<Digest> parse_digest(std::string_view hex) {
  Digest digest{};
  if (hex.size() != 2 * digest.size()) return std::nullopt;
  for (std::size_t i = 0; i < digest.size(); ++i) {
    const char* const at = hex.data() + 2 * i;
    if (std::from_chars(at, at + 2, digest[i], 16).ptr != at + 2) return std::nullopt;
  }
  return digest;
}

/// A name stands in metrics and logs.
bool is_name(std::string_view name) {
  return name.size() <= 64 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '-' || c == '_' || c == '.' || c == '@';
         });
}

}  // namespace

Digest sha256(std::string_view bytes) {
  Digest digest{};
  unsigned length = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr) != 1 ||
      length != digest.size()) {
    throw Error(Code::internal, "SHA-256 is not available: check the configuration of OpenSSL");
  }
  return digest;
}

std::optional<double> Quota::take(std::chrono::steady_clock::time_point now) {
  const std::lock_guard lock(mutex_);
  const double a_second = per_minute_ / 60.0;
  if (filled_ != std::chrono::steady_clock::time_point()) {
    left_ = std::min<double>(per_minute_, left_ + a_second * std::chrono::duration<double>(now - filled_).count());
  }
  filled_ = now;
  if (left_ >= 1) {
    left_ -= 1;
    return std::nullopt;
  }
  return (1 - left_) / a_second;
}

std::shared_ptr<const KeyRing> KeyRing::read(const std::string& path, telemetry::Telemetry& telemetry,
                                             const KeyRing* before) {
  std::ifstream file(path);
  if (!file) throw Error(Code::io_error, cat("cannot read the API keys of ", path, ": ", std::strerror(errno)));
  auto ring = std::make_shared<KeyRing>();
  std::set<std::string> names;
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const std::string place = cat(path, " line ", number);
    std::istringstream words(line.substr(0, line.find('#')));
    std::string name, hex, quota, more;
    if (!(words >> name)) continue;
    words >> hex >> quota >> more;
    auto key = std::make_shared<ApiKey>();
    const std::optional<Digest> digest = parse_digest(hex);
    if (!digest || !more.empty()) {  // never shown: it could be the key itself
      throw Error(Code::bad_data,
                  cat(place,
                      " is not \"NAME SHA256 [REQUESTS A MINUTE]\" with 64 hexadecimal digits: `printf %s KEY | "
                      "sha256sum` prints them"));
    }
    if (!is_name(name) || !names.insert(name).second) {
      throw Error(Code::bad_data, cat(place,
                                      ": the name is used twice, longer than 64, or has other characters than "
                                      "letters, digits and -_.@"));
    }
    key->name = name, key->digest = *digest, key->counters = telemetry.key(name);
    if (!quota.empty()) {
      int limit = 0;
      const auto end = std::from_chars(quota.data(), quota.data() + quota.size(), limit);
      if (end.ec != std::errc() || end.ptr != quota.data() + quota.size() || limit < 1) {
        throw Error(Code::bad_data, cat(place, ": the quota \"", printable(quota), "\" is no number of at least 1"));
      }
      key->quota = std::make_shared<Quota>(limit);
    }
    for (const auto& old : before != nullptr ? before->keys_ : decltype(before->keys_){}) {
      if (old->name == name && old->digest == key->digest && old->quota && key->quota &&
          old->quota->per_minute() == key->quota->per_minute()) {
        key->quota = old->quota;
      }
    }
    ring->keys_.push_back(std::move(key));
  }
  if (ring->keys_.empty()) {
    throw Error(Code::bad_data, cat(path, " has no API key, so nobody could ask: give one, or no --api-key-file"));
  }
  return ring;
}

std::shared_ptr<const ApiKey> KeyRing::find(std::string_view secret) const {
  const Digest digest = sha256(secret);
  std::shared_ptr<const ApiKey> found;
  for (const auto& key : keys_) {
    if (CRYPTO_memcmp(key->digest.data(), digest.data(), digest.size()) == 0) found = key;
  }
  return found;
}

}  // namespace tandem::server
