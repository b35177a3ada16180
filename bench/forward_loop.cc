// The engine as one contestant of a race: loads a model, then computes one batch for every line "run" on stdin and
// answers with its milliseconds. A script that asks several engines in turn compares them under the same conditions.
// "save PATH" writes the last batch's vectors as raw float32. First line on stdout: what was loaded, as JSON.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tandem/tandem.h"

namespace {

struct Options {
  std::string model, what = "image", precision = "fp32", input, vocab;
  int batch = 1, threads = 0, text_length = 16;
};

template <class T>
std::vector<T> read_values(const std::string& path, std::size_t count) {
  std::vector<T> values(count);
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(T)));
  if (!file) throw tandem::Error(tandem::Code::io_error, path + " is shorter than the batch");
  return values;
}

int race(const Options& o) {
  tandem::ContextOptions context_options;
  context_options.threads = o.threads;
  tandem::Context context(context_options);
  tandem::EngineOptions options;
  options.model = o.model, options.vocab = o.vocab, options.max_batch = o.batch;
  options.precision = tandem::parse_precision(o.precision);
  options.load_vision = o.what == "image", options.load_text = o.what == "text";
  tandem::Engine engine(context, options);
  const tandem::EngineInfo& info = engine.info();

  std::vector<tandem::ImageInput> images;
  std::vector<tandem::TextInput> texts;
  const auto batch = static_cast<std::size_t>(o.batch);
  if (o.what == "image") {
    const auto size = static_cast<std::size_t>(info.input_size), bytes = size * size * 3;
    const auto all = read_values<std::uint8_t>(o.input, batch * bytes);
    for (std::size_t i = 0; i < batch; ++i) {
      const auto* first = all.data() + i * bytes;
      images.emplace_back(tandem::HostPixels{std::make_shared<const std::vector<std::uint8_t>>(first, first + bytes),
                                             info.input_size, info.input_size});
    }
  } else {
    const auto length = static_cast<std::size_t>(o.text_length);
    const auto all = read_values<std::int32_t>(o.input, batch * length);
    for (std::size_t i = 0; i < batch; ++i) {
      texts.emplace_back(std::vector<std::int32_t>(all.data() + i * length, all.data() + (i + 1) * length));
    }
  }
  std::cout << nlohmann::json{{"device_name", info.device_name},
                              {"isa", info.isa},
                              {"precision", info.precision},
                              {"load_seconds", info.load_seconds}}
                   .dump()
            << std::endl;

  std::vector<tandem::Embedding> vectors;
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "run") {
      const auto before = std::chrono::steady_clock::now();
      vectors = o.what == "image" ? engine.embed_images(images) : engine.embed_texts(texts);
      const auto took = std::chrono::steady_clock::now() - before;
      for (const auto& v : vectors) {
        if (v.error) throw tandem::Error(v.error->code, v.error->message);
      }
      std::cout << std::chrono::duration<double, std::milli>(took).count() << std::endl;
    } else if (line.rfind("save ", 0) == 0) {
      std::ofstream file(line.substr(5), std::ios::binary);
      for (const auto& v : vectors) {
        file.write(reinterpret_cast<const char*>(v.values.data()),
                   static_cast<std::streamsize>(v.values.size() * sizeof(float)));
      }
      file.close();
      std::cout << (file ? "saved" : "failed") << std::endl;
    }
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("One batch for every line \"run\" on stdin");
  app.add_option("--model", o.model)->required();
  app.add_option("--what", o.what)->check(CLI::IsMember({"image", "text"}))->capture_default_str();
  app.add_option("--input", o.input, "raw uint8 pixels [batch, side, side, 3], or int32 ids [batch, length]")
      ->required();
  app.add_option("--batch", o.batch)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--text-length", o.text_length)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--precision", o.precision)->capture_default_str();
  app.add_option("--threads", o.threads, "0: one per core")->capture_default_str();
  app.add_option("--vocab", o.vocab, "tokenizer files, where the model's folder has none");
  CLI11_PARSE(app, argc, argv);
  try {
    return race(o);
  } catch (const std::exception& e) {
    std::cerr << "forward_loop: " << e.what() << std::endl;
    return 1;
  }
}
