#include "parallel/in_process.h"

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::parallel {
namespace {

/// What the ranks share. A sum has three steps, each begun when all ranks have come: show the views; add, each rank its
/// own part of the elements; leave, after which a view may be used again.
class Group {
 public:
  explicit Group(int ranks) : ranks_(ranks), views_(static_cast<std::size_t>(ranks)) {}
  int size() const noexcept { return ranks_; }

  void sum(int rank, View x) {
    views_[static_cast<std::size_t>(rank)] = x;
    meet();
    const bool alike = agree();
    if (alike) add(rank);
    meet();
    if (!alike) {
      throw Error(Code::internal, cat("all_reduce_sum: rank ", rank, " has ", to_string(x.dtype), " ",
                                      to_string(x.shape), ", another rank something else, or no floating-point type"));
    }
  }

  void leave() noexcept {
    const std::lock_guard lock(mutex_);
    left_ = true;
    changed_.notify_all();
  }

 private:
  void meet() {
    std::unique_lock lock(mutex_);
    const std::uint64_t round = round_;
    if (!left_ && ++here_ == ranks_) {
      here_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return left_ || round_ != round; });
    if (round_ == round) throw Error(Code::unavailable, "a rank of this group has ended: load the model again");
  }

  bool agree() const {
    const View& first = views_[0];
    if (first.dtype != DType::f32 && first.dtype != DType::f16 && first.dtype != DType::bf16) return false;
    for (const View& v : views_) {
      if (v.shape != first.shape || v.dtype != first.dtype) return false;
    }
    return true;
  }

  /// This rank's rows of the sum, written into every rank's view.
  void add(int rank) {
    const std::int64_t rows = views_[0].rows(), columns = views_[0].columns();
    const std::int64_t begin = rows * rank / ranks_, end = rows * (rank + 1) / ranks_;
    std::vector<float> total(static_cast<std::size_t>(columns)), one(total.size());
    const auto as_view = [&](std::vector<float>& v) {
      return View(reinterpret_cast<std::byte*>(v.data()), DType::f32, {1, columns});
    };
    for (std::int64_t r = begin; r < end; ++r) {
      convert(views_[0].row_range(r, 1), as_view(total));
      for (const View& v : std::span(views_).subspan(1)) {
        convert(v.row_range(r, 1), as_view(one));
        for (std::size_t i = 0; i < total.size(); ++i) total[i] += one[i];
      }
      for (const View& v : views_) convert(as_view(total), v.row_range(r, 1));
    }
  }

  const int ranks_;
  std::vector<View> views_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int here_ = 0;
  std::uint64_t round_ = 0;
  bool left_ = false;
};

class InProcess final : public Communicator {
 public:
  InProcess(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}
  ~InProcess() override { group_->leave(); }
  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return group_->size(); }
  void all_reduce_sum(View x, void*) override { group_->sum(rank_, x); }

 private:
  std::shared_ptr<Group> group_;
  int rank_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> make_in_process(int ranks) {
  if (ranks < 1) throw Error(Code::invalid_argument, cat("a group of ", ranks, " ranks cannot be: give at least 1"));
  const auto group = std::make_shared<Group>(ranks);
  std::vector<std::unique_ptr<Communicator>> out;
  out.reserve(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) out.push_back(std::make_unique<InProcess>(group, rank));
  return out;
}

}  // namespace tandem::parallel
