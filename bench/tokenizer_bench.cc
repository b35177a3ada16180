// Times the tokenizer, or prints its ids: the C++ half of bench/tokenizer_bench.py and tests/golden/tokenizer_fuzz.py.
//
//   tandem_tokenizer_bench ids VOCAB hf|openai < texts.jsonl     one JSON list of ids a line
//   tandem_tokenizer_bench time VOCAB hf|openai ROUNDS < texts.jsonl   processor seconds of each round, a line each
//
// A line of input is one JSON string. Timing covers encode() alone, on one thread, all texts one by one.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/tokenizer.h"

int main(int argc, char** argv) try {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.size() < 3 || (args[0] == "time" && args.size() < 4)) {
    std::cerr << "usage: tandem_tokenizer_bench ids|time VOCAB hf|openai [ROUNDS] < texts.jsonl\n";
    return 2;
  }
  tandem::text::TokenizerOptions options;
  options.cleaning = args[2] == "hf" ? tandem::text::Cleaning::hf : tandem::text::Cleaning::openai;
  if (const char* length = std::getenv("CONTEXT_LENGTH")) options.context_length = std::atoi(length);
  const auto tokenizer = tandem::text::load_tokenizer(args[1], options);
  std::vector<std::string> texts;
  for (std::string line; std::getline(std::cin, line);) texts.push_back(nlohmann::json::parse(line).get<std::string>());
  if (args[0] == "ids") {
    for (const std::string& text : texts) std::cout << nlohmann::json(tokenizer->encode(text).ids).dump() << '\n';
    return 0;
  }
  for (int round = std::atoi(args[3].c_str()); round > 0; --round) {
    std::size_t ids = 0;
    const std::clock_t begin = std::clock();
    for (const std::string& text : texts) ids += tokenizer->encode(text).ids.size();
    const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    std::printf("%.9f %zu\n", seconds, ids);
  }
  return 0;
} catch (const std::exception& e) {
  std::cerr << e.what() << '\n';
  return 1;
}
