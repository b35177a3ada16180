// The part of the zip format that torch writes: stored (uncompressed) entries, zip64 where needed, read in place.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>

namespace tandem::model {

/// Entries of an archive by name, as views into its bytes.
struct ZipArchive {
  std::map<std::string, std::span<const std::byte>, std::less<>> entries;  ///< stored plainly
  std::set<std::string, std::less<>> packed;  ///< compressed or encrypted: not readable here
};

/// Reads the directory of the archive in `bytes`; `file` names it in messages. Throws bad_data for a broken or
/// truncated archive and for a name that stands there twice.
ZipArchive read_zip(std::span<const std::byte> bytes, std::string_view file);

}  // namespace tandem::model
