// What `verify` embeds, and the vectors that one way of computing gives for it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/common.h"
#include "cli/signals.h"
#include "samples/pictures.h"

namespace tandem::cli {

/// Pictures and texts, the same for both sides.
struct VerifyInputs {
  std::unique_ptr<samples::Pictures> pictures;
  std::vector<TextInput> texts;
  std::vector<std::string> names;  ///< of the texts, for messages
  std::vector<TextInput> prompts;  ///< of the pictures' labels, every template of one label before the next
  std::size_t templates = 1;       ///< of a label
  bool texts_are_prompts = false;  ///< the texts to compare are the prompts
  std::vector<std::string> labels() const { return pictures->labels(); }
};

/// Vectors of all inputs, unit rows; a failed input has zeros and its error.
struct SideVectors {
  EngineInfo info;
  std::size_t dim = 0;
  std::vector<float> images, texts, labels;  ///< labels: a row a label; empty where there are none
  std::vector<std::optional<ItemError>> image_errors, text_errors;
  double seconds = 0;          ///< of embedding all of it
  double eight_bit_share = 0;  ///< of the blocks' products
};

/// Loads the model, embeds, and frees the model again. Nothing is returned where it was interrupted. Throws what
/// loading throws, and the error of a label that has no vector.
std::optional<SideVectors> embed_side(const CommonOptions& options, const VerifyInputs& inputs, const char* what,
                                      const StopScope& stop, Console& console, bool again = false);

}  // namespace tandem::cli
