#include "model/weights.h"

#include "base/strings.h"

namespace tandem::model {
namespace {

void add_norm(std::vector<WeightSpec>& table, const std::string& name, int width) {
  table.push_back({name + ".weight", {width}});
  table.push_back({name + ".bias", {width}});
}

void add_linear(std::vector<WeightSpec>& table, const std::string& name, int outputs, int inputs, Shard shard) {
  table.push_back({name + ".weight", {outputs, inputs}, shard});
  // Split by rows or heads, outputs are apart and so are their biases; split by columns, rank 0 adds the bias.
  table.push_back({name + ".bias", {outputs}, shard == Shard::columns ? Shard::replicated : shard});
}

void add_blocks(std::vector<WeightSpec>& table, const std::string& tower, const TowerConfig& c) {
  for (int i = 0; i < c.layers; ++i) {
    const std::string block = cat(tower, ".blocks.", i, ".");
    add_norm(table, block + "ln_1", c.width);
    add_linear(table, block + "attn.qkv", 3 * c.width, c.width, Shard::heads);
    add_linear(table, block + "attn.out", c.width, c.width, Shard::columns);
    add_norm(table, block + "ln_2", c.width);
    add_linear(table, block + "mlp.fc1", c.mlp, c.width, Shard::rows);
    add_linear(table, block + "mlp.fc2", c.width, c.mlp, Shard::columns);
  }
}

}  // namespace

std::vector<WeightSpec> weight_table(const Config& config) {
  std::vector<WeightSpec> table;
  const VisionConfig& v = config.vision;
  table.push_back({"vision.patch_embed.weight", {v.width, 3, v.patch, v.patch}});
  if (v.patch_bias) table.push_back({"vision.patch_embed.bias", {v.width}, Shard::replicated, true});
  if (v.class_token) table.push_back({"vision.class_embedding", {v.width}});
  table.push_back({"vision.position_embedding", {v.tokens(), v.width}});
  if (v.pre_norm) add_norm(table, "vision.ln_pre", v.width);
  add_blocks(table, "vision", v);
  add_norm(table, "vision.ln_post", v.width);
  table.push_back({"vision.projection", {config.embed_dim, v.width}});

  const TextConfig& t = config.text;
  table.push_back({"text.token_embedding", {t.vocab_size, t.width}});
  table.push_back({"text.position_embedding", {t.context_length, t.width}});
  add_blocks(table, "text", t);
  add_norm(table, "text.ln_final", t.width);
  table.push_back({"text.projection", {config.embed_dim, t.width}});

  table.push_back({"logit_scale", {1}});
  return table;
}

}  // namespace tandem::model
