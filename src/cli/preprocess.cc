// tandem preprocess: pictures to the pixels that the vision tower reads.
#include <algorithm>
#include <deque>
#include <future>
#include <set>

#include "base/strings.h"
#include "base/thread_pool.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "embed/image_inputs.h"
#include "embed/json_text.h"
#include "embed/safetensors_writer.h"
#include "image/decoder.h"

namespace tandem::cli {
namespace {

struct Options {
  CommonOptions common;
  std::vector<std::string> images;
  int size = 0;
  std::string output;
};

image::Reference to_image(Reference reference) {
  switch (reference) {
    case Reference::hf: return image::Reference::hf;
    case Reference::openai: return image::Reference::openai;
    case Reference::hf_fast:
    case Reference::automatic: return image::Reference::hf_fast;
  }
  return image::Reference::hf_fast;
}

struct Recipe {
  image::CpuDecoder decoder;
  image::DecodeOptions decode;
  image::FitOptions fit;
  std::map<std::string, std::string> metadata;
};

Recipe make_recipe(const Options& options) {
  const model::ModelFiles files = open_model(options.common);
  const EngineOptions& engine = options.common.engine;
  const Reference reference = engine.reference == Reference::automatic ? files.reference : engine.reference;
  Recipe r;
  r.fit = files.config.preprocess.fit;
  r.fit.reference = to_image(reference);
  if (options.size > 0) {
    r.fit.do_resize = r.fit.do_center_crop = true;
    r.fit.resize_height = r.fit.resize_width = r.fit.crop_height = r.fit.crop_width = options.size;
  }
  r.decode.exif = engine.exif == Exif::apply ? image::Exif::apply : image::Exif::ignore;
  r.decode.limits.max_pixels = engine.max_pixels;
  r.decode.dct_scaled = engine.fast_decode;
  r.decode.target_side = std::max(r.fit.resize_height, r.fit.resize_width);
  r.metadata = {{"reference", std::string(to_string(reference))},
                {"exif", std::string(to_string(engine.exif))},
                {"decode", engine.fast_decode ? "dct-scaled" : "exact"},
                {"layout", "RGB, channels first"}};
  return r;
}

// [3, height, width] of one file, or why there is none.
struct Pixels {
  image::Size size;
  std::vector<std::byte> planes;
  std::optional<ItemError> error;
};

Pixels prepare(const std::string& path, const Recipe& recipe) {
  Pixels out;
  try {
    const EncodedImage file = read_image(path);
    const image::ImageInput encoded = image::EncodedImage{*file.bytes};
    out.size = recipe.decoder.size(encoded, recipe.decode, recipe.fit);
    const auto area = static_cast<std::size_t>(out.size.width) * static_cast<std::size_t>(out.size.height);
    std::vector<std::uint8_t> rgb(area * 3);
    recipe.decoder.decode(encoded, recipe.decode, recipe.fit, rgb);
    out.planes.resize(area * 3);
    std::byte *red = out.planes.data(), *green = red + area, *blue = green + area;
    for (std::size_t i = 0; i < area; ++i) {
      red[i] = static_cast<std::byte>(rgb[3 * i]);
      green[i] = static_cast<std::byte>(rgb[3 * i + 1]);
      blue[i] = static_cast<std::byte>(rgb[3 * i + 2]);
    }
  } catch (const Error& e) {
    out.error = ItemError{e.code(), e.what()};
  } catch (const std::bad_alloc&) {
    out.error = ItemError{Code::out_of_memory, cat(path, ": host memory is exhausted")};
  } catch (const std::exception& e) {
    out.error = ItemError{Code::internal, cat(path, ": ", e.what())};
  }
  return out;
}

std::string result_line(const embed::Item& item, const Pixels& pixels, bool json) {
  std::string line;
  if (!json) return pixels.error ? "" : cat(item.input, "  3 x ", pixels.size.height, " x ", pixels.size.width, "\n");
  line = "{\"input\":";
  embed::append_json(line, item.input);
  if (pixels.error) {
    line += ",\"error\":";
    embed::append_json(line, *pixels.error);
  } else {
    line += cat(",\"shape\":[3,", pixels.size.height, ",", pixels.size.width, "]");
  }
  return line + "}\n";
}

int run(const Options& options, Console& console) {
  if (options.images.empty()) throw UsageError("no pictures: give files, folders or patterns");
  if (!options.output.empty()) embed::check_output_path(options.output);
  StopScope stop;
  const Recipe recipe = make_recipe(options);
  stop.arm();
  embed::ImageInputs inputs(options.images, stop.flag());
  std::vector<embed::Item> items;
  for (embed::Item item; inputs.next(item);) items.push_back(item);

  std::optional<embed::SafetensorsWriter> file;
  if (!options.output.empty()) {
    std::size_t room = 0;
    for (const auto& item : items) room += embed::SafetensorsWriter::entry_room(item.input, 3);
    file.emplace(options.output, recipe.metadata, room);
  }
  Progress progress(console, "pictures", items.size());
  std::set<std::string> written;  // a picture named twice is one tensor
  std::size_t failed = 0, done = 0;
  const auto take = [&](const embed::Item& item, Pixels pixels) {
    if (file && item.input == embed::SafetensorsWriter::kReservedName) {
      pixels.error = ItemError{Code::invalid_argument, cat(item.input,
                                                           ": a safetensors file keeps this name for itself; "
                                                           "name the picture ./",
                                                           item.input)};
    }
    if (pixels.error) {
      ++failed;
      console.item_failed(item.input, *pixels.error);
    } else if (file && written.insert(item.input).second) {
      file->append(pixels.planes);
      file->describe(
          item.input, "U8",
          {3, static_cast<std::uint64_t>(pixels.size.height), static_cast<std::uint64_t>(pixels.size.width)});
    }
    console.print(result_line(item, pixels, console.json));
    progress.update(++done, failed);
  };
  ThreadPool pool(options.common.context.threads > 0 ? options.common.context.threads : usable_cores());
  const std::size_t ahead = 2 * static_cast<std::size_t>(pool.size());
  std::deque<std::pair<const embed::Item*, std::future<Pixels>>> flying;
  const auto land = [&] {
    take(*flying.front().first, flying.front().second.get());
    flying.pop_front();
  };
  for (const auto& item : items) {
    if (stop.flag()->load()) return stop.exit_code();
    if (flying.size() >= ahead) land();
    if (item.error) {
      std::promise<Pixels> known;
      known.set_value({{}, {}, item.error});
      flying.emplace_back(&item, known.get_future());
    } else {
      auto promise = std::make_shared<std::promise<Pixels>>();
      flying.emplace_back(&item, promise->get_future());
      pool.post([promise, &item, &recipe] { promise->set_value(prepare(item.input, recipe)); });
    }
  }
  while (!flying.empty()) land();
  if (stop.flag()->load()) return stop.exit_code();
  if (file) {
    file->close();
    file->commit();
  }
  return console.end_items(items.size());
}

}  // namespace

Command declare_preprocess(CLI::App& root) {
  CLI::App* app =
      root.add_subcommand("preprocess", "decode, resize and crop pictures as the model does; needs no weights");
  auto options = std::make_shared<Options>();
  Flags flags(*app);
  declare_pictures(flags, "IMAGE", options->images);
  flags.number("--size", options->size, 1, 16384, "resize the shorter side to N and crop N x N; default: the model's");
  flags.text("--output", options->output, "a .safetensors file: a uint8 tensor [3,H,W] for each picture, by its name");
  declare_common(*app, options->common);
  app->footer("Example:\n  tandem preprocess --size 224 --output pixels.safetensors cat.jpg dog.png");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
