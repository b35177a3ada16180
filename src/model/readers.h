// From configuration files to a Config. Pure functions of what the files say, so that tests and fuzzers can call them.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "model/config.h"
#include "model/json.h"

namespace tandem::model {

/// config.json of a Hugging Face CLIP folder (transformers 5's CLIPConfig with all its defaults). `where` names the
/// file in messages. preprocess is left at its defaults. Throws bad_data, and unsupported naming what is not computed.
Config read_huggingface_config(const Json& json, const std::string& where);

/// An image processor's JSON (preprocessor_config.json, or what processor_config.json nests under image_processor).
/// image_size: what the vision tower takes. Throws bad_data, and unsupported naming the key and its value.
PreprocessConfig read_preprocess_config(const Json& json, const std::string& where, int image_size);
/// What a CLIP folder without such a file means: CLIP's defaults at the tower's size.
PreprocessConfig default_preprocess(int image_size);

/// open_clip_config.json: model_cfg and preprocess_cfg (open_clip 3.3's CLIPVisionCfg, CLIPTextCfg, PreprocessCfg).
/// Throws bad_data, and unsupported naming the key and its value.
Config read_openclip_config(const Json& json, const std::string& where);

/// What both readers check: sides, heads and sizes that fit each other.
void check_tower(const TowerConfig& tower, const std::string& where);
void check_vision(const VisionConfig& vision, const std::string& where);

}  // namespace tandem::model
