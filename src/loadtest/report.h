// A result as numbers, as text and as a picture.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "loadtest/load.h"

namespace tandem::loadtest {

/// Everything that was counted and measured; the fields are described in README.md.
nlohmann::ordered_json report(const LoadOptions& options, const LoadResult& result);

/// The same in a few lines for people.
std::string for_people(const LoadOptions& options, const LoadResult& result);

/// Latency over percentile as SVG, the axis stretched towards the slowest (50, 90, 99, 99.9 … at equal distances):
/// from the intended time, and from the time of sending where the two differ.
std::string plot(const LoadOptions& options, const LoadResult& result);

}  // namespace tandem::loadtest
