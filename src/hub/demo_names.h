// What the bundled demo model knows by name.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace tandem::hub {

/// Labels of the demo model: what names.json beside its weights says.
struct DemoNames {
  std::vector<std::string> names;
  std::vector<std::string> signs;  ///< the emoji itself, beside each name; may be empty
  std::vector<int> classes;        ///< names with one number have the same drawing
  /// A WebP beside names.json with every name's drawing: squares of `tile` pixels, `columns` of them a row. Empty:
  /// none.
  std::string sheet;
  int tile = 0, columns = 0;
};

/// Reads <folder>/names.json; throws not_found or bad_data.
DemoNames read_demo_names(const std::filesystem::path& folder);

}  // namespace tandem::hub
