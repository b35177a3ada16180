// Inputs out of JSON: texts, token ids and the ways in which clients write pictures. Only .cc files include it.
#pragma once

#include "server/input.h"
#include "server/read_json.h"

namespace tandem::server {

/// What a bare string is.
enum class Strings {
  texts,
  images,  ///< a data URI, bare base64, or a URL
  either,  ///< a picture if it is a data URI of one, else a text
};

/// One input: a string, token ids, or an object with "text", "image", "image_url", "url", "bytes" or "content".
/// Throws FieldError; `what` ("input[3]") begins its message, and names its field.
Input read_input(Value value, const std::string& what, Strings strings, const BodyLimits& limits);
/// The same; what is wrong with it becomes an ItemError in its place.
Input read_input_or_error(Value value, const std::string& what, Strings strings, const BodyLimits& limits);

/// A list of inputs or a single one; a list of numbers is one text. Throws where the list is empty or too long; what is
/// wrong with an item stands in its place.
std::vector<Input> read_inputs(Value value, const std::string& name, Strings strings, const BodyLimits& limits);

/// One input for each message of the role "user" of a chat; the others are read over.
std::vector<Input> read_messages(Value value, const BodyLimits& limits);

/// Throws the first ItemError.
void require_inputs(const std::vector<Input>& inputs, const std::string& param);

}  // namespace tandem::server
