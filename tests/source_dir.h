// Where the checkout is: its golden files are read by tests.
#pragma once

#include <cstdlib>
#include <filesystem>

namespace tandem::test {

/// What the environment variable TANDEM_SOURCE_DIR names, for tests that were carried to another machine; else where
/// they were built.
inline std::filesystem::path source_dir() {
  const char* named = std::getenv("TANDEM_SOURCE_DIR");
  return named != nullptr && *named != '\0' ? named : TANDEM_SOURCE_DIR;
}

}  // namespace tandem::test
