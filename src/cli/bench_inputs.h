// What a benchmark embeds: random inputs, all different, or those of a safetensors file; and the file of its vectors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/config.h"
#include "tandem/engine.h"

namespace tandem::cli {

struct BenchInputs {
  std::vector<ImageInput> images;  ///< HostPixels of exactly the model's input size: nothing is decoded or resized
  std::vector<TextInput> texts;    ///< token ids: nothing is tokenised
};

/// `count` random pictures, by a generator with a fixed seed.
std::vector<ImageInput> random_images(std::size_t count, int side);

/// `count` random texts; text i has lengths[i % lengths.size()] tokens, start and end included.
std::vector<TextInput> random_texts(std::size_t count, const std::vector<int>& lengths,
                                    const model::TextConfig& config);

/// `pixels` uint8 [N, S, S, 3] or [N, 3, S, S], and `input_ids` int32 or int64 [N, L]; a text ends with the first end
/// id after its start (what follows is padding), or, where the file has them, with `lengths` int32 or int64 [N]. Absent
/// tensors give no inputs. Throws bad_data naming the tensor, what was found and what was expected.
BenchInputs read_inputs(const std::string& path, const model::Config& config);

/// `image_embeds` and `text_embeds`, float32 [N, D], a row an input; with `inputs`, these too, as read_inputs() takes
/// them. Empty kinds are left out.
void write_outputs(const std::string& path, const std::vector<Embedding>& images, const std::vector<Embedding>& texts,
                   const BenchInputs* inputs);

}  // namespace tandem::cli
