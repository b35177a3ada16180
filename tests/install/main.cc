// Embeds two texts with the installed library and its default model; exits with 0 if the vectors make sense.
#include <tandem/tandem.h>
#include <tandem/version.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

int run() {
  if (tandem::version() != TANDEM_VERSION) {
    std::fprintf(stderr, "headers are %s, the library is not\n", TANDEM_VERSION);
    return 1;
  }
  tandem::Context context;
  tandem::EngineOptions options;
  options.device = tandem::parse_device("cpu");
  options.precision = tandem::Precision::fp32;
  tandem::Engine engine(context, options);

  const std::vector<tandem::TextInput> texts = {std::string("a red heart"), std::string("a red heart"),
                                                std::string("a bicycle")};
  const auto vectors = engine.embed_texts(texts);
  if (vectors.size() != texts.size()) return 1;
  auto dot = [&](std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t i = 0; i < vectors[a].values.size(); ++i) sum += vectors[a].values[i] * vectors[b].values[i];
    return sum;
  };
  const bool right = std::abs(dot(0, 0) - 1) < 1e-5 && std::abs(dot(0, 1) - 1) < 1e-5 && dot(0, 2) < 0.99 &&
                     vectors[0].values.size() == static_cast<std::size_t>(engine.info().embed_dim);
  std::printf("%s: same text %.6f, another %.6f\n", engine.info().model.c_str(), dot(0, 1), dot(0, 2));

  // The library's exception crosses into a stranger's program with its type.
  bool caught = false;
  try {
    tandem::parse_precision("fp7");
  } catch (const tandem::Error& error) {
    caught = error.code() == tandem::Code::invalid_argument;
  }
  return right && caught ? 0 : 1;
}

int main() {
  try {
    return run();
  } catch (const tandem::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
