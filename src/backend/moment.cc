#include <chrono>

#include "backend/backend.h"

namespace tandem::backend {
namespace {

class HostMoment final : public Moment {
 public:
  double since(const Moment& earlier) const override {
    return std::chrono::duration<double, std::milli>(at_ - static_cast<const HostMoment&>(earlier).at_).count();
  }

 private:
  std::chrono::steady_clock::time_point at_ = std::chrono::steady_clock::now();
};

}  // namespace

std::unique_ptr<Moment> Backend::moment() {
  return std::make_unique<HostMoment>();
}

}  // namespace tandem::backend
