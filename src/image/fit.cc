#include "image/fit.h"

#include <algorithm>

#include "base/strings.h"
#include "image/resample.h"
#include "tandem/error.h"

namespace tandem::image {

Size fitted_size(Size source, const FitOptions& options) {
  const FitPlan plan = plan_fit(source, options);
  return {plan.x.out, plan.y.out};
}

void fit(const HostPixels& image, const FitOptions& options, std::span<std::uint8_t> out, std::optional<Isa> isa) {
  if (image.data == nullptr || image.row_stride < 3LL * image.width) {
    throw Error(Code::invalid_argument, cat("image of ", image.width, " pixels a row has rows of ", image.row_stride,
                                            " bytes: three bytes per pixel are needed"));
  }
  StreamingFit stream(plan_fit({image.width, image.height}, options), out, isa);
  const std::uint8_t* base = image.data + 3LL * stream.first_column();
  for (int y = stream.first_row(); y < stream.last_row(); y += kTileRows) {
    const std::uint8_t* rows[kTileRows];
    const int count = std::min(kTileRows, stream.last_row() - y);
    for (int r = 0; r < count; ++r) rows[r] = base + (static_cast<std::int64_t>(y) + r) * image.row_stride;
    stream.push(rows, count, 3LL * (image.width - stream.first_column()));
  }
}

}  // namespace tandem::image
