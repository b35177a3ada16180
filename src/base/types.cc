#include "tandem/types.h"

#include <array>
#include <charconv>
#include <utility>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem {
namespace {

template <class T>
using Name = std::pair<std::string_view, T>;

constexpr std::array kPrecisions{
    Name<Precision>{"auto", Precision::automatic}, Name<Precision>{"fp32", Precision::fp32},
    Name<Precision>{"tf32", Precision::tf32},      Name<Precision>{"fp16", Precision::fp16},
    Name<Precision>{"bf16", Precision::bf16},      Name<Precision>{"int8", Precision::int8},
    Name<Precision>{"fp8", Precision::fp8}};
constexpr std::array kFeatures{Name<Feature>{"projected", Feature::projected},
                               Name<Feature>{"pooled", Feature::pooled}};
constexpr std::array kReferences{Name<Reference>{"auto", Reference::automatic}, Name<Reference>{"hf", Reference::hf},
                                 Name<Reference>{"openai", Reference::openai},
                                 Name<Reference>{"hf-fast", Reference::hf_fast}};
constexpr std::array kExifs{Name<Exif>{"apply", Exif::apply}, Name<Exif>{"ignore", Exif::ignore}};
constexpr std::array kCleanings{Name<Cleaning>{"auto", Cleaning::automatic}, Name<Cleaning>{"hf", Cleaning::hf},
                                Name<Cleaning>{"openai", Cleaning::openai}};

template <class Table, class T>
std::string_view name_of(const Table& table, T value) {
  for (const auto& [name, v] : table) {
    if (v == value) return name;
  }
  return "unknown";
}

template <class Table>
auto parse(const Table& table, std::string_view what, std::string_view text) {
  std::string choices;
  for (const auto& [name, value] : table) {
    if (name == text) return value;
    choices += choices.empty() ? "" : ", ";
    choices += name;
  }
  throw Error(Code::invalid_argument, cat(what, " '", text, "' is unknown: choose one of ", choices));
}

}  // namespace

std::string_view to_string(Precision v) noexcept {
  return name_of(kPrecisions, v);
}
std::string_view to_string(Feature v) noexcept {
  return name_of(kFeatures, v);
}
std::string_view to_string(Reference v) noexcept {
  return name_of(kReferences, v);
}
std::string_view to_string(Exif v) noexcept {
  return name_of(kExifs, v);
}
std::string_view to_string(Cleaning v) noexcept {
  return name_of(kCleanings, v);
}

std::string to_string(DeviceId d) {
  switch (d.kind) {
    case DeviceId::Kind::automatic: return "auto";
    case DeviceId::Kind::cpu: return "cpu";
    case DeviceId::Kind::reference: return "reference";
    case DeviceId::Kind::cuda: return cat("cuda:", d.index);
  }
  return "unknown";
}

Precision parse_precision(std::string_view text) {
  return parse(kPrecisions, "precision", text);
}
Feature parse_feature(std::string_view text) {
  return parse(kFeatures, "feature", text);
}
Reference parse_reference(std::string_view text) {
  return parse(kReferences, "reference", text);
}
Exif parse_exif(std::string_view text) {
  return parse(kExifs, "exif", text);
}
Cleaning parse_cleaning(std::string_view text) {
  return parse(kCleanings, "cleaning", text);
}

DeviceId parse_device(std::string_view text) {
  if (text == "auto") return {DeviceId::Kind::automatic, 0};
  if (text == "cpu") return {DeviceId::Kind::cpu, 0};
  if (text == "reference") return {DeviceId::Kind::reference, 0};
  if (text == "cuda") return {DeviceId::Kind::cuda, 0};
  if (text.starts_with("cuda:")) {
    int index = -1;
    const auto* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + 5, end, index);
    if (error == std::errc{} && stop == end && index >= 0) return {DeviceId::Kind::cuda, index};
  }
  throw Error(Code::invalid_argument, cat("device '", text, "' is unknown: choose auto, cpu, cuda or cuda:N"));
}

}  // namespace tandem
