#include "hub/demo_names.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::hub {

DemoNames read_demo_names(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "names.json";
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(Code::not_found, cat(path.string(), " is missing: it holds the demo model's labels"));
  DemoNames demo;
  try {
    const nlohmann::json about = nlohmann::json::parse(file);
    for (const auto& entry : about.at("emoji")) {
      demo.names.push_back(entry.at("name"));
      demo.signs.push_back(entry.value("emoji", ""));
      demo.classes.push_back(entry.value("class", static_cast<int>(demo.classes.size())));
    }
    demo.sheet = about.value("sheet", ""), demo.tile = about.value("tile", 0), demo.columns = about.value("columns", 0);
  } catch (const nlohmann::json::parse_error& error) {
    throw Error(Code::bad_data, cat(path.string(), " is not valid JSON near byte ", error.byte));
  } catch (const nlohmann::json::exception&) {
    throw Error(Code::bad_data, cat(path.string(), " must hold a list \"emoji\" of objects with a string \"name\""));
  }
  return demo;
}

}  // namespace tandem::hub
