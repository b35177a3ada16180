#include "image/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::image {
namespace {

/// A resized side beyond this is refused: torch's precision needs a look at every weight of the axis.
constexpr double kMaxSide = 1 << 24;

int resized_side(double side, Size source) {
  if (side > kMaxSide) {
    throw Error(Code::too_large, cat("resizing a ", source.width, "x", source.height, " image would make a side of ",
                                     static_cast<std::int64_t>(side), " pixels, the limit is 2^24: crop it first"));
  }
  return static_cast<int>(side);
}

Size resized_size(Size source, const FitOptions& o) {
  if (!o.do_resize) return source;
  if (o.mode == FitOptions::ResizeMode::exact) return {o.resize_width, o.resize_height};
  const bool upright = source.width <= source.height;
  const double shorter = upright ? source.width : source.height, longer = upright ? source.height : source.width;
  // int(size * long / short) of Python: an exact product, one rounded division, truncated.
  const int side = resized_side(std::trunc(o.resize_height * longer / shorter), source);
  return upright ? Size{o.resize_height, side} : Size{side, o.resize_height};
}

Placement place(int resized, int crop, const FitOptions& o) {
  if (!o.do_center_crop) return {resized, 0, resized, 0, resized};
  const int spare = resized - crop;
  if (spare >= 0) {
    // Half rounds down, or (torchvision, through Python's round) to even.
    const bool up = o.reference == Reference::openai && spare % 4 == 3;
    return {resized, spare / 2 + (up ? 1 : 0), crop, 0, crop};
  }
  // The odd line of padding goes in front in transformers' PIL path and behind in torchvision's.
  const int pad = o.reference == Reference::hf ? (1 - spare) / 2 : -spare / 2;
  return {resized, 0, resized, pad, crop};
}

void check_side(const char* name, int value) {
  constexpr int kMaxOutput = 1 << 16;
  if (value < 1 || value > kMaxOutput) {
    throw Error(Code::invalid_argument, cat(name, " is ", value, ": give 1 to ", kMaxOutput, " pixels"));
  }
}

}  // namespace

FitPlan plan_fit(Size source, const FitOptions& o) {
  if (source.width < 1 || source.height < 1) {
    throw Error(Code::invalid_argument,
                cat("image is ", source.width, "x", source.height, ": give at least one pixel"));
  }
  if (o.do_resize) {
    check_side("resize height", o.resize_height);
    check_side("resize width", o.resize_width);
    if (o.mode == FitOptions::ResizeMode::shortest_edge && o.resize_height != o.resize_width) {
      throw Error(Code::invalid_argument, cat("shortest edge is given as ", o.resize_height, " and ", o.resize_width,
                                              ": give one number in both"));
    }
  }
  if (o.do_center_crop) {
    check_side("crop height", o.crop_height);
    check_side("crop width", o.crop_width);
  }
  const Size resized = resized_size(source, o);
  FitPlan plan;
  plan.source = source;
  plan.x = place(resized.width, o.crop_width, o);
  plan.y = place(resized.height, o.crop_height, o);
  plan.resample = o.resample;
  plan.arithmetic = o.reference == Reference::hf_fast ? Arithmetic::torch : Arithmetic::pillow;
  return plan;
}

bool rows_first(const FitPlan& plan) noexcept {
  const std::int64_t width = plan.source.width, height = plan.source.height;
  return plan.arithmetic == Arithmetic::pillow && plan.y.resized < height &&
         height - plan.y.resized > 2 * (width - plan.x.resized);
}

void StreamingFit::pack(const AxisWeights& weights, int begin, const Kernels& kernels, Packed& to) {
  const std::size_t outputs = weights.start.size();
  to.index.resize(3 * outputs);
  std::int32_t* first = to.index.data();
  std::int32_t* count = first + outputs;
  std::int32_t* first_word = count + outputs;
  const int per_group = kernels.words_per_group;
  to.words.resize(outputs * static_cast<std::size_t>(weights.taps / 4 + 2) * static_cast<std::size_t>(per_group));
  std::uint32_t* word = to.words.data();
  for (std::size_t i = 0; i < outputs; ++i) {
    const int start = weights.start[i] - begin, end = start + weights.count[i];
    first[i] = start / 4;
    count[i] = (end + 3) / 4 - first[i];
    first_word[i] = static_cast<std::int32_t>(word - to.words.data());
    const std::int32_t* from = weights.weights.data() + i * static_cast<std::size_t>(weights.taps);
    for (int g = 0; g < count[i]; ++g, word += per_group) {
      std::int32_t four[4];
      for (int k = 0; k < 4; ++k) {
        const int at = 4 * (first[i] + g) + k;
        four[k] = at >= start && at < end ? from[at - start] : 0;
      }
      kernels.pack_weights(four, word);
    }
  }
  to.view = {static_cast<int>(outputs), weights.shift, first, count, first_word, to.words.data()};
}

StreamingFit::StreamingFit(const FitPlan& plan, std::span<std::uint8_t> out, std::optional<Isa> isa)
    : kernels_(kernels_of(isa.value_or(best_isa()))), plan_(plan), out_(out), rows_first_(rows_first(plan)) {
  const std::size_t wanted = 3 * static_cast<std::size_t>(plan.x.out) * static_cast<std::size_t>(plan.y.out);
  if (out.size() != wanted) {
    throw Error(Code::invalid_argument,
                cat("output has ", out.size(), " bytes, ", plan.y.out, "x", plan.x.out, "x3 pixels need ", wanted));
  }
  if (plan.x.count != plan.x.out || plan.y.count != plan.y.out) std::fill(out.begin(), out.end(), std::uint8_t{0});

  const AxisWeights x =
      make_weights(plan.source.width, plan.x.resized, plan.x.skip, plan.x.count, plan.resample, plan.arithmetic);
  const AxisWeights y =
      make_weights(plan.source.height, plan.y.resized, plan.y.skip, plan.y.count, plan.resample, plan.arithmetic);
  first_column_ = x.source_begin();
  last_column_ = x.source_end();
  first_row_ = y.source_begin();
  last_row_ = y.source_end();
  pack(x, first_column_, kernels_, columns_);
  pack(y, first_row_, kernels_, rows_);
  last_of_.resize(y.start.size());
  for (std::size_t i = 0; i < last_of_.size(); ++i) last_of_[i] = y.start[i] + y.count[i] - first_row_;

  groups_ = (last_column_ - first_column_ + 3) / 4;
  tile_.resize(static_cast<std::size_t>(groups_) * 3 * kTileRows);
  const auto padded = [](std::int64_t bytes) { return (bytes + 15) / 16 * 16; };
  stride_ = padded(3LL * (rows_first_ ? last_column_ - first_column_ : plan.x.count));
  const std::int32_t* counts = rows_.view.count;
  const int window = *std::max_element(counts, counts + plan.y.count);
  // Twice the largest window, so that moving the rest to the front costs less than filling it.
  ring_groups_ = std::min(2 * window + 2 * kTileRows / 4, (last_row_ - first_row_ + kTileRows - 1) / kTileRows * 4);
  ring_.resize(static_cast<std::size_t>(ring_groups_ * stride_));
  if (rows_first_) {
    staged_stride_ = stride_ + 16;
    staged_.resize(static_cast<std::size_t>(staged_stride_ * kTileRows));
    staged_words_.resize(static_cast<std::size_t>(padded(3LL * plan.x.count) * (kTileRows / 4)));
  }
}

std::uint8_t* StreamingFit::out_row(int y) {
  return out_.data() + 3 * (static_cast<std::size_t>(plan_.y.pad + y) * static_cast<std::size_t>(plan_.x.out) +
                            static_cast<std::size_t>(plan_.x.pad));
}

std::uint32_t* StreamingFit::ring_room() {
  const int next = pushed_ / 4;  // the group to be written
  if (next + kTileRows / 4 - ring_begin_ > ring_groups_) {
    const int keep = finished_ < plan_.y.count ? std::min(rows_.view.first[finished_], next) : next;
    std::memmove(ring_.data(), ring_.data() + (keep - ring_begin_) * stride_,
                 static_cast<std::size_t>((next - keep) * stride_) * sizeof(std::uint32_t));
    ring_begin_ = keep;
  }
  return ring_.data() + (next - ring_begin_) * stride_;
}

template <class Emit>
void StreamingFit::finish_rows(Emit&& emit) {
  for (; finished_ < plan_.y.count && last_of_[static_cast<std::size_t>(finished_)] <= pushed_; ++finished_) {
    emit(finished_, ring_.data() + (rows_.view.first[finished_] - ring_begin_) * stride_);
  }
}

void StreamingFit::reduce_columns(const std::uint8_t* const* rows, int count, std::int64_t readable,
                                  std::uint32_t* words, std::int64_t stride) {
  const std::uint8_t* from[kTileRows];
  for (int r = 0; r < kTileRows; ++r) from[r] = rows[std::min(r, count - 1)];  // repeated rows meet zero weights
  // The kernel reads a few bytes beyond a group; the last groups go through a padded copy.
  const int direct = static_cast<int>(std::clamp<std::int64_t>((readable - 4) / 12, 0, groups_));
  kernels_.pack_rows(from, direct, tile_.data());
  for (int g = direct; g < groups_; ++g) {
    std::uint8_t copies[kTileRows][16] = {};
    const std::uint8_t* padded[kTileRows];
    const std::int64_t n = std::min<std::int64_t>(12, readable - 12LL * g);
    for (int r = 0; r < kTileRows; ++r) {
      std::memcpy(copies[r], from[r] + 12LL * g, static_cast<std::size_t>(n));
      padded[r] = copies[r];
    }
    kernels_.pack_rows(padded, 1, tile_.data() + static_cast<std::size_t>(g) * 3 * kTileRows);
  }
  kernels_.columns(tile_.data(), columns_.view, words, stride);
}

void StreamingFit::push(const std::uint8_t* const* rows, int count, std::int64_t readable) {
  if (rows_first_) {
    push_rows_first(rows, count);
  } else {
    push_columns_first(rows, count, readable);
  }
}

void StreamingFit::push_columns_first(const std::uint8_t* const* rows, int count, std::int64_t readable) {
  reduce_columns(rows, count, readable, ring_room(), stride_);
  pushed_ += count;
  const int width = 3 * plan_.x.count;
  finish_rows(
      [&](int y, const std::uint32_t* words) { kernels_.row(words, stride_, rows_.view, y, width, out_row(y)); });
}

void StreamingFit::push_rows_first(const std::uint8_t* const* rows, int count) {
  const int width = 3 * (last_column_ - first_column_);
  std::uint32_t* words = ring_room();
  for (int r = 0; r < count; r += 4, words += stride_) {
    const std::uint8_t* four[4];
    for (int k = 0; k < 4; ++k) four[k] = rows[std::min(r + k, count - 1)];
    for (int i = 0; i < width; ++i) {
      words[i] = four[0][i] | static_cast<std::uint32_t>(four[1][i]) << 8 |
                 static_cast<std::uint32_t>(four[2][i]) << 16 | static_cast<std::uint32_t>(four[3][i]) << 24;
    }
  }
  pushed_ += count;
  finish_rows([&](int y, const std::uint32_t* from) {
    kernels_.row(from, stride_, rows_.view, y, width, staged_.data() + staged_count_ * staged_stride_);
    if (++staged_count_ == kTileRows) flush_staged();
  });
  if (finished_ == plan_.y.count) flush_staged();
}

void StreamingFit::flush_staged() {
  if (staged_count_ == 0) return;
  const std::uint8_t* rows[kTileRows];
  for (int r = 0; r < staged_count_; ++r) rows[r] = staged_.data() + r * staged_stride_;
  const std::int64_t stride = static_cast<std::int64_t>(staged_words_.size()) / (kTileRows / 4);
  reduce_columns(rows, staged_count_, staged_stride_, staged_words_.data(), stride);
  const int width = 3 * plan_.x.count;
  for (int r = 0; r < staged_count_; ++r) {
    const std::uint32_t* from = staged_words_.data() + r / 4 * stride;
    std::uint8_t* to = out_row(staged_begin_ + r);
    for (int i = 0; i < width; ++i) to[i] = static_cast<std::uint8_t>(from[i] >> (8 * (r % 4)));
  }
  staged_begin_ += staged_count_;
  staged_count_ = 0;
}

}  // namespace tandem::image
