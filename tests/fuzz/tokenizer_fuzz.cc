// Any bytes through both cleanings, short and long contexts: ids stay in range and the frame stands.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "text/tokenizer.h"

using namespace tandem::text;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::filesystem::path golden = TANDEM_SOURCE_DIR "/tests/golden/tokenizer";
  static const std::unique_ptr<Tokenizer> tokenizers[] = {
      load_tokenizer(golden / "split", {.cleaning = Cleaning::hf}),
      load_tokenizer(golden / "openai", {.cleaning = Cleaning::openai, .pool_rule = PoolRule::largest_id}),
      load_tokenizer(golden / "extended", {.cleaning = Cleaning::hf, .context_length = 1 << 20}),
      load_tokenizer(golden / "openai", {.cleaning = Cleaning::openai, .context_length = 1 << 20}),
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto& tokenizer : tokenizers) {
    const Tokens tokens = tokenizer->encode(text);
    if (tokens.ids.size() < 2 || tokens.ids.front() != tokenizer->start_id() ||
        tokens.ids.back() != tokenizer->end_id())
      std::abort();
    if (tokens.ids.size() > static_cast<std::size_t>(tokenizer->context_length())) std::abort();
    for (const std::int32_t id : tokens.ids)
      if (id < 0 || id >= tokenizer->vocab_size()) std::abort();
    if (tokens.pool_index < 0 || static_cast<std::size_t>(tokens.pool_index) >= tokens.ids.size()) std::abort();
  }
  return 0;
}
