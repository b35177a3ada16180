// The models of a server: which of them a request means, and how they are, seen together.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/service.h"

namespace tandem::server {

/// The model that a request names; where it names none, or "default" as infinity's
/// client does too, the first. Throws not_found with the names that
/// there are, and what require_ready() throws.
Service& model_of(Service& first, const std::string& name);

/// What is said of a name that none of them has.
std::string unknown_model(const Service& first, std::string_view name);

/// Every name that a request may give: models, each followed by its aliases.
std::vector<std::string> names_of(const Service& first);

/// loading as long as one of them is; failed where all are.
State state_of(const Service& first);
/// None is loading or draining, and one of them answers.
bool is_ready(const Service& first);
/// One of them is alive.
bool is_alive(const Service& first);
/// Some of them, or of their replicas, do not work while others do.
bool is_degraded(const Service& first);
/// Throws unavailable where none of them answers.
void require_any(const Service& first);

/// What the engines remember, added up.
CacheStats caches_of(const Service& first);
/// The same, into telemetry's counts; for who reports them.
void count_caches(Service& first);

}  // namespace tandem::server
