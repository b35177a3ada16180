// Image processor files as transformers 5.23 reads them: models/clip/image_processing_clip.py and its base classes.
#include <algorithm>

#include "base/strings.h"
#include "model/readers.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

[[noreturn]] void refuse(const Fields& fields, std::string_view key, const Json& value, std::string_view supported) {
  throw Error(Code::unsupported, cat(fields.name(key), " is ", show(value), "; supported: ", supported));
}

struct Sides {
  bool shortest = false;
  int height = 0, width = 0;
};

/// A number, a pair, {"shortest_edge": n} or {"height": h, "width": w} (get_size_dict of image_processing_utils.py).
Sides read_size(const Fields& fields, std::string_view key, bool number_is_square, const Sides& fallback) {
  const Json* value = fields.find(key);
  if (value == nullptr) return fallback;
  constexpr std::string_view kForms = "a number, [height, width], {\"shortest_edge\"}, {\"height\", \"width\"}";
  if (value->is_number_integer()) {
    const int n = fields.integer(key, 0);
    return {!number_is_square, n, n};
  }
  if (value->is_array() && value->size() == 2) {
    const Json sides = {{"height", (*value)[0]}, {"width", (*value)[1]}};
    const Fields pair(sides, fields.name(key) + ".");
    return {false, pair.integer("height", 0), pair.integer("width", 0)};
  }
  if (!value->is_object()) refuse(fields, key, *value, kForms);
  const Fields sides = fields.object(key);
  if (sides.has("height") && sides.has("width") && !sides.has("shortest_edge")) {
    const Sides out{false, sides.integer("height", 0), sides.integer("width", 0)};
    if (sides.unknown().empty()) return out;
  } else if (sides.has("shortest_edge") && !sides.has("height") && !sides.has("width")) {
    const int n = sides.integer("shortest_edge", 0);
    if (sides.unknown().empty()) return {true, n, n};
  }
  refuse(fields, key, *value, kForms);
}

image::Resample read_resample(const Fields& fields) {
  const Json* value = fields.find("resample");
  if (value == nullptr || *value == 3) return image::Resample::bicubic;
  if (*value == 2) return image::Resample::bilinear;
  refuse(fields, "resample", *value, "2 (bilinear), 3 (bicubic)");
}

/// An explicit null is no default in transformers: it switches a step off, or picks another interpolation.
void check_nulls(const Fields& fields) {
  for (const std::string_view key : {"do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale",
                                     "rescale_factor", "do_normalize", "image_mean", "image_std"}) {
    const bool unused = (key == "size" && !fields.boolean("do_resize", true)) ||
                        (key == "crop_size" && !fields.boolean("do_center_crop", true));
    if (fields.is_null(key) && !unused) {
      throw Error(Code::unsupported, cat(fields.name(key), " is null; give its value, or leave it out for CLIP's"));
    }
  }
}

void check_type(const Fields& fields) {
  for (const std::string_view key : {"image_processor_type", "feature_extractor_type"}) {
    const std::string type = fields.text(key, "");
    constexpr std::string_view kKnown[] = {"", "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil",
                                           "CLIPFeatureExtractor"};
    if (std::ranges::find(kKnown, type) == std::end(kKnown))
      refuse(fields, key, *fields.find(key), "CLIPImageProcessor");
  }
}

/// Keys that would change pixels, with the only value at which they do not; and everything that is not known at all.
void check_rest(const Fields& fields) {
  for (const std::string_view key : {"do_pad", "use_square_size"}) {
    if (fields.boolean(key, false)) refuse(fields, key, *fields.find(key), "false");
  }
  if (const Json* format = fields.find("data_format"); format != nullptr && *format != "channels_first") {
    refuse(fields, "data_format", *format, "\"channels_first\"");
  }
  // Grey, palette and transparent pictures become RGB in any case: the tower takes three channels. Where the file says
  // otherwise transformers would fail on them, and gives the same pixels for RGB pictures.
  fields.boolean("do_convert_rgb", true);
  fields.ignore({"processor_class", "_valid_processor_keys", "return_tensors", "device", "disable_grouping",
                 "input_data_format", "pad_size", "image_seq_length", "transformers_version"});
  for (const std::string& key : fields.unknown()) {
    const Json& value = *fields.find(key);
    if (value == false) continue;
    refuse(fields, key, value, "leaving it out: this key is not known");
  }
}

}  // namespace

PreprocessConfig default_preprocess(int image_size) {
  PreprocessConfig out;
  out.fit.resize_height = out.fit.resize_width = image_size;
  out.fit.crop_height = out.fit.crop_width = image_size;
  return out;
}

PreprocessConfig read_preprocess_config(const Json& json, const std::string& where, int image_size) {
  const Fields fields(json, where);
  check_type(fields);
  check_nulls(fields);

  PreprocessConfig out;
  const bool square = fields.boolean("default_to_square", false);
  const Sides size = read_size(fields, "size", square, {true, 224, 224});
  out.fit.do_resize = fields.boolean("do_resize", true);
  out.fit.mode = size.shortest ? image::FitOptions::ResizeMode::shortest_edge : image::FitOptions::ResizeMode::exact;
  out.fit.resize_height = size.height;
  out.fit.resize_width = size.width;
  out.fit.resample = read_resample(fields);
  const Sides crop = read_size(fields, "crop_size", true, {false, 224, 224});
  out.fit.do_center_crop = fields.boolean("do_center_crop", true);
  out.fit.crop_height = crop.height;
  out.fit.crop_width = crop.width;
  if (crop.shortest) refuse(fields, "crop_size", *fields.find("crop_size"), "a number, {\"height\", \"width\"}");

  // Whatever the picture, the tower must get image_size x image_size.
  const int height = out.fit.do_center_crop ? crop.height : size.height;
  const int width = out.fit.do_center_crop ? crop.width : size.width;
  if (!out.fit.do_center_crop && (!out.fit.do_resize || size.shortest)) {
    throw Error(Code::unsupported,
                cat(where, ": without do_center_crop the size of what comes out depends on the picture; ",
                    "the model takes ", image_size, "x", image_size));
  }
  if (height != image_size || width != image_size) {
    throw Error(Code::bad_data,
                cat(where, ": pictures become ", height, "x", width, ", but the model's image_size is ", image_size));
  }

  const double factor = fields.number("rescale_factor", 1.0 / 255.0);
  out.rescale = fields.boolean("do_rescale", true) ? static_cast<float>(factor) : 1.0F;
  fields.triple("image_mean", out.mean);
  fields.triple("image_std", out.std);
  if (!fields.boolean("do_normalize", true)) {
    std::ranges::fill(out.mean, 0.0F);
    std::ranges::fill(out.std, 1.0F);
  }
  if (std::ranges::find(out.std, 0.0F) != std::end(out.std)) {
    throw Error(Code::bad_data, cat(fields.name("image_std"), " has a zero"));
  }
  check_rest(fields);
  return out;
}

}  // namespace tandem::model
