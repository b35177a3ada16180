// What GET /openapi.json says of a route. Every route of the table has one; a dialect's stand in its own file.
#pragma once

#include <string>

namespace tandem::server {

class Service;

/// JSON texts may refer to "#/components/schemas/…" of openapi.cc, and to what the running server knows: "$WIDTH" (the
/// vectors' values), "$ITEMS" (inputs of a request) and "$MODELS" (names that are served) stand for numbers and a list.
struct ApiOperation {
  const char* tag;
  const char* summary;
  const char* body = nullptr;        ///< of the request, by content type; null: none
  const char* answer = nullptr;      ///< of the answer, by content type; null: none has a body
  const char* parameters = nullptr;  ///< of the query, a list
  int status = 200;                  ///< of the answer
  bool tei = false;                  ///< errors may have TEI's shape, where the body does
  bool computes = true;              ///< a JSON body may say how soon its answer is wanted
};

/// The whole document, OpenAPI 3.1, made from the table of routes.
std::string openapi_json(const Service& service);

}  // namespace tandem::server
