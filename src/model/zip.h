// The part of the zip format that torch writes: stored (uncompressed) entries, zip64 where needed, read in place.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace tandem::model {

/// Entries of an archive by name, as views into `bytes`. `file` names it in messages. Throws bad_data for a broken or
/// truncated archive and for a name that stands there twice, unsupported for compressed or encrypted entries.
std::map<std::string, std::span<const std::byte>, std::less<>> read_zip(std::span<const std::byte> bytes,
                                                                        std::string_view file);

}  // namespace tandem::model
