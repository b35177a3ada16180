// How many threads prepare at a time, where a device wants a core left.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "base/thread_pool.h"
#include "engine/scheduler.h"
#include "model/files.h"
#include "tandem/observer.h"

namespace tandem::engine {
namespace {

using namespace std::chrono_literals;

/// Keeps whoever has prepared something until it is opened.
class Holding final : public Observer {
 public:
  void prepared(bool, double, double) noexcept override {
    std::unique_lock lock(mutex_);
    ++inside_, ++all_;
    most_ = std::max(most_, inside_);
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --inside_;
  }
  void waited(bool, double) noexcept override {}
  void computed(bool, std::size_t, double, double) noexcept override {}

  bool wait_inside(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, [&] { return inside_ >= count; });
  }
  bool wait_all(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 10s, [&] { return all_ >= count; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  int most() {
    const std::lock_guard lock(mutex_);
    return most_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int inside_ = 0, all_ = 0, most_ = 0;
  bool open_ = false;
};

class Preparing : public testing::Test {
 protected:
  void submit(int pictures) {
    Request request;
    for (int i = 0; i < pictures; ++i) {
      HostPixels pixels;  // to be resized, which is not cheap
      pixels.width = 9, pixels.height = 7;
      pixels.pixels = std::make_shared<const std::vector<std::uint8_t>>(9 * 7 * 3, static_cast<std::uint8_t>(i));
      request.images.emplace_back(std::move(pixels));
    }
    scheduler.submit(
        std::move(request), [this](const auto&) { ++answered; }, false);
  }
  ~Preparing() override {
    holding.open();
    scheduler.stop({Code::unavailable, "the test is over"});
  }
  static SchedulerLimits limits() {
    SchedulerLimits out;
    out.preparing = 2;
    return out;
  }

  Holding holding;
  Preparer preparer{model::open_folder(std::string(TANDEM_SOURCE_DIR) + "/tests/golden/tiny/hf_quickgelu"), {}};
  ThreadPool pool{4};
  Scheduler scheduler{preparer, pool, limits(), {}, &holding};
  std::atomic<int> answered{0};
};

TEST_F(Preparing, AFewPicturesLeaveACore) {
  submit(6);
  ASSERT_TRUE(holding.wait_inside(2));
  std::this_thread::sleep_for(50ms);  // a third would come now
  EXPECT_EQ(holding.most(), 2);
  EXPECT_TRUE(scheduler.is_preparing());
  holding.open();
  EXPECT_TRUE(holding.wait_all(6));
  EXPECT_EQ(holding.most(), 2);
}

TEST_F(Preparing, ACrowdHasEveryThread) {
  submit(40);
  EXPECT_TRUE(holding.wait_inside(4));
  holding.open();
  EXPECT_TRUE(holding.wait_all(40));  // those who leave as the crowd gets smaller leave nothing behind
}

}  // namespace
}  // namespace tandem::engine
