// Special and added tokens: which ones the files around a vocabulary name, as transformers 5 puts them together.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "text/vocabulary.h"

namespace tandem::text {

/// Parses JSON or throws bad_data naming `source`.
nlohmann::json parse_json(std::string_view text, const std::string& source);

/// Fills added tokens and start, end, pad and unknown ids of a vocabulary whose `ids` are complete. `added_tokens` is
/// tokenizer.json's list, null if there is none.
void read_special_tokens(const SpecialTokenFiles& files, const nlohmann::json& added_tokens, Vocabulary& vocabulary);

}  // namespace tandem::text
