// A torch archive from a stranger. The first byte chooses: a pickle alone, which a fuzzer changes more freely, or the
// whole zip file. Tensors lie inside the bytes, or an Error is thrown.
#include <cstdint>

#include "model/file_source.h"
#include "model/pickle.h"
#include "tandem/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem::model;
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  try {
    if (data[0] % 2 == 0) {
      pickle::Document document;
      pickle::read(bytes, "fuzz.pkl", document);
      if (document.root == nullptr) __builtin_trap();
      return 0;
    }
    FileSource source({}, read_torch_archive(bytes, "fuzz.bin"));
    for (const std::string& name : source.names()) {
      try {
        const auto view = source.get(name);
        unsigned sum = 0;
        for (std::size_t i = 0; i < view.bytes(); ++i) sum += std::to_integer<unsigned>(view.data[i]);
        asm volatile("" : : "r"(sum));  // the reads are what is checked
      } catch (const tandem::Error&) {
      }
    }
  } catch (const tandem::Error&) {
  }
  return 0;
}
