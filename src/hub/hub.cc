#include "hub/hub.h"

#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::hub {
namespace {

namespace fs = std::filesystem;

/// An environment variable that is set and not empty.
std::optional<std::string> variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here writes the environment
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

fs::path expand_home(const std::string& path) {
  if (path == "~" || path.starts_with("~/")) {
    if (const auto home = variable("HOME")) return fs::path(*home) / path.substr(std::min<std::size_t>(path.size(), 2));
  }
  return path;
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

/// One part of a repository's name or revision: no separators, nothing that climbs out of the cache.
bool valid_part(std::string_view part) {
  return !part.empty() && part.size() <= 96 && std::ranges::all_of(part, plain) && part.front() != '.' &&
         part.front() != '-' && part.find("..") == std::string_view::npos;
}

bool valid_name(std::string_view name) {
  const auto slash = name.find('/');
  // Two hyphens stand for the slash in the cache's folder names; the hub allows them in no name.
  if (name.find("--") != std::string_view::npos) return false;
  if (slash == std::string_view::npos) return valid_part(name);
  return valid_part(name.substr(0, slash)) && valid_part(name.substr(slash + 1));
}

bool valid_revision(std::string_view revision) {
  while (true) {
    const auto slash = revision.find('/');
    if (!valid_part(revision.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    revision.remove_prefix(slash + 1);
  }
}

std::string read_ref(const fs::path& file) {
  std::ifstream in(file);
  std::string commit;
  in >> commit;
  return commit;
}

/// The snapshot of a cached repository, or nothing.
std::optional<fs::path> snapshot(const fs::path& cache, std::string_view name, const std::string& revision) {
  std::string folder = "models--";
  for (const char c : name) folder += c == '/' ? std::string("--") : std::string(1, c);
  const fs::path repository = cache / folder;
  const std::string commit = read_ref(repository / "refs" / revision);
  for (const std::string& candidate : {commit, revision}) {  // a revision may be a commit itself
    if (!valid_part(candidate)) continue;
    if (const fs::path found = repository / "snapshots" / candidate; is_folder(found)) return found;
  }
  return std::nullopt;
}

/// The library that this code is in, then the program.
std::vector<fs::path> own_files() {
  // A name without its folder is argv[0] as somebody typed it, so this is the program.
  std::vector<fs::path> selves;
  Dl_info image{};
  if (::dladdr(reinterpret_cast<const void*>(&bundled_models), &image) != 0 && *image.dli_fname == '/') {
    selves.emplace_back(image.dli_fname);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error && (selves.empty() || selves.front() != program)) selves.push_back(program);
  return selves;
}

RandomModel parse_random(const std::string& name) {
  const std::string_view rest = std::string_view(name).substr(std::string_view("random:").size());
  const auto colon = rest.find(':');
  RandomModel model{std::string(rest.substr(0, colon)), 0};
  if (colon == std::string_view::npos) return model;
  const std::string_view seed = rest.substr(colon + 1);
  const auto [end, error] = std::from_chars(seed.data(), seed.data() + seed.size(), model.seed);
  if (error != std::errc() || end != seed.data() + seed.size()) {
    throw Error(Code::invalid_argument, cat("model \"", name, "\": the seed \"", seed,
                                            "\" is not an integer from 0 to 2^64 - 1; write random:NAME:SEED"));
  }
  return model;
}

Location locate_cached(const std::string& name) {
  const auto at = name.find('@');
  const std::string repository = name.substr(0, at);
  const std::string revision = at == std::string::npos ? "main" : name.substr(at + 1);
  const bool is_path = name.front() == '/' || name.front() == '.' || name.front() == '~' || name.back() == '/';
  if (is_path || !valid_name(repository) || !valid_revision(revision)) {
    throw Error(Code::not_found, cat("no model \"", name, "\": there is no such folder, and it is no name of the form ",
                                     "org/name[@revision]"));
  }
  const fs::path cache = cache_folder();
  if (const auto found = snapshot(cache, repository, revision)) return LocalFolder{*found, false};
  throw Error(Code::not_found,
              cat("no model \"", name, "\": no such folder, and not in the Hugging Face cache ", cache.string(),
                  "; fetch it with `hf download ", repository, at == std::string::npos ? "" : " --revision " + revision,
                  "`, or give the path of a folder that holds it"));
}

}  // namespace

std::filesystem::path cache_folder() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto value = variable(name)) return expand_home(*value);
  }
  if (const auto value = variable("HF_HOME")) return expand_home(*value) / "hub";
  if (const auto value = variable("XDG_CACHE_HOME")) return expand_home(*value) / "huggingface" / "hub";
  return expand_home("~/.cache") / "huggingface" / "hub";
}

std::filesystem::path own_cache_folder() {
  if (const auto value = variable("XDG_CACHE_HOME")) return expand_home(*value) / "tandem";
  return expand_home("~/.cache") / "tandem";
}

std::vector<std::filesystem::path> bundled_calibrations() {
  std::vector<fs::path> places;
  for (const fs::path& self : own_files()) {
    const fs::path folder = self.parent_path(), prefix = folder.parent_path();
    for (const fs::path& place :
         {folder / "calibration", prefix / "calibration", prefix / "share" / "tandem" / "calibration"}) {
      places.push_back(place);
    }
  }
  return places;
}

std::filesystem::path bundled_models() {
  std::vector<fs::path> places;
  if (const auto value = variable("TANDEM_MODELS")) places.push_back(expand_home(*value));
  for (const fs::path& self : own_files()) {
    const fs::path prefix = self.parent_path().parent_path();
    places.push_back(prefix / "share" / "tandem" / "models");
    places.push_back(prefix / "models");
  }
  places.emplace_back(TANDEM_SOURCE_MODELS);
  for (const fs::path& place : places) {
    if (is_folder(place / "emoji")) return place;
  }
  std::string list;
  for (const fs::path& place : places) list += cat(list.empty() ? "" : ", ", place.string());
  throw Error(Code::not_found,
              cat("the demo model emoji is in none of ", list, "; set TANDEM_MODELS to the folder that holds it"));
}

Location locate(const std::string& name) {
  if (name.empty())
    throw Error(Code::invalid_argument, "an empty model name; give a folder, org/name, emoji or random:NAME");
  if (name == "emoji") return LocalFolder{bundled_models() / "emoji", true};
  if (name.starts_with("random:")) return parse_random(name);
  const fs::path path = expand_home(name);
  if (is_folder(path)) return LocalFolder{path, false};
  std::error_code ignored;
  if (fs::exists(path, ignored)) {
    throw Error(Code::invalid_argument,
                cat("model \"", name, "\" is a file; give the folder that holds config.json and it"));
  }
  return locate_cached(name);
}

}  // namespace tandem::hub
