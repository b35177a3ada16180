// tandem-calibration.json: what calibration chose for the eight-bit layers of one model, and how accurate that was.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/eight_bit.h"
#include "tandem/types.h"

namespace tandem::model {

/// The name of the file beside a model.
constexpr const char* kCalibrationFile = "tandem-calibration.json";

/// One layer: the choice, and for people how its range was found and what it costs.
struct CalibratedLayer {
  LayerChoice choice;
  std::string range;     ///< "row", "abs-max", "p99.99", "p99.9" or "mse"
  double error = 0;      ///< of its inputs in eight bits: the root of their squared errors' share of their squares
  bool rounded = false;  ///< its weight is one of those in Calibration::weights_file
};

/// Cosines of vectors with those in fp32.
struct CalibratedAccuracy {
  std::int64_t items = 0;
  double mean_cosine = 1, min_cosine = 1;
};

/// What was found for one precision of one model.
struct Calibration {
  std::string model_hash, architecture;
  Precision precision = Precision::int8;
  std::string data;                               ///< what the inputs were, for people: "emoji, seed 1"
  std::string against;                            ///< what computed, for people: "cpu (avx512_vnni)"
  std::map<std::string, CalibratedLayer> layers;  ///< by EightBit's names; a layer that is not here has the default
  CalibratedAccuracy images, texts;               ///< as chosen, on the calibration's own inputs
  CalibratedAccuracy plain_images, plain_texts;   ///< with nothing chosen
  double eight_bit_share = 1;                     ///< of the blocks' multiply-adds
  bool reached = true;                            ///< the accuracy that was asked for
  /// The file beside this one that holds the rounded weights, and its rounded_hash(); empty: no layer has any.
  std::string weights_file, weights_hash;

  /// The choices for a loader. `keep` false: the scales, factors and weights alone. Throws internal for a rounded
  /// layer whose weight was not taken.
  EightBit choices(const Config& config, bool keep) const;
  /// The names of the layers with a rounded weight.
  std::vector<std::string> rounded_layers() const;
  /// Their weights, from the bytes of weights_file, which `where` names. Throws bad_data for other bytes than were
  /// written with this calibration, and what read_rounded() throws.
  void take_weights(std::span<const std::byte> bytes, const std::shared_ptr<const void>& memory,
                    const std::string& where, const Config& config);
};

/// The name of the file with the rounded weights beside a calibration of this name:
/// tandem-calibration.int8.safetensors.
std::string weights_file_of(std::string_view calibration, Precision precision);

/// The text of a file with `calibration` in it, and with what `old`, the text of an earlier file of the same model,
/// holds for other precisions. An `old` of another model or version, or that is damaged, is left out. Equal arguments
/// give equal bytes.
std::string calibration_text(const Calibration& calibration, std::string_view old = {});

/// What a file holds for a precision; nothing where it holds others only. `where` names it in messages. Throws bad_data
/// naming the field for a file that is none, of another version, made for another model than `hash`, or whose layers
/// or numbers `config` cannot have.
std::optional<Calibration> parse_calibration(std::string_view text, const std::string& where, const Config& config,
                                             const std::string& hash, Precision precision);

}  // namespace tandem::model
