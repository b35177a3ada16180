// From a model's name to a local folder. Nothing is downloaded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

namespace tandem::hub {

struct LocalFolder {
  std::filesystem::path path;
  bool bundled = false;  ///< the demo model that ships with Tandem
};
struct RandomModel {
  std::string architecture;
  std::uint64_t seed = 0;
};
using Location = std::variant<LocalFolder, RandomModel>;

/// name: an existing folder; "emoji"; "random:NAME[:SEED]"; or "org/name" (optionally "@revision") in the Hugging Face
/// cache (HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub).
/// Throws not_found that says where was looked and how to get the model.
/// "emoji" is always the bundled model; a folder of that name is "./emoji". Throws invalid_argument for an empty name,
/// a file instead of a folder, or a bad seed.
Location locate(const std::string& name);

/// Where the Hugging Face libraries keep what they download, as the environment says. It need not exist.
std::filesystem::path cache_folder();

/// Where Tandem keeps what it made itself: XDG_CACHE_HOME/tandem, ~/.cache/tandem. It need not exist.
std::filesystem::path own_cache_folder();

/// Folders where calibrations that were made with this build may be, named after their model's weights: calibration
/// beside libtandem or the executable, one folder up, or ../share/tandem/calibration. They need not exist.
std::vector<std::filesystem::path> bundled_calibrations();

/// Where the bundled models are: TANDEM_MODELS, beside libtandem or the executable (../share/tandem/models, ../models),
/// or the source tree it was built from. Throws not_found naming all of them when none holds the demo model.
std::filesystem::path bundled_models();

}  // namespace tandem::hub
