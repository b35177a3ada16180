// Ranks as threads: sums that every rank has with the same bits, and nobody left waiting for who has gone.
#include "parallel/in_process.h"

#include <gtest/gtest.h>

#include <thread>

#include "tandem/error.h"

namespace tandem::parallel {
namespace {

/// body(communicator of the rank, rank) on a thread for each rank.
template <class Body>
void on_every_rank(int ranks, const Body& body) {
  auto group = make_in_process(ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      const auto own = std::move(group[static_cast<std::size_t>(r)]);  // dies on its thread
      body(*own, r);
    });
  }
  for (auto& t : threads) t.join();
}

TEST(InProcess, SumsInTheOrderOfRanks) {
  for (const int ranks : {1, 2, 3}) {
    for (const DType type : {DType::f32, DType::bf16, DType::f16}) {
      on_every_rank(ranks, [&](Communicator& comm, int rank) {
        EXPECT_EQ(comm.rank(), rank);
        EXPECT_EQ(comm.size(), ranks);
        Tensor values = host_tensor(DType::f32, {5, 8}), x = host_tensor(type, {5, 8});
        for (int round = 0; round < 20; ++round) {
          for (int i = 0; i < 40; ++i) values.view().as<float>()[i] = static_cast<float>((rank + 1) * (i - 3 * round));
          convert(values.view(), x.view());
          // A view with a stride: what stands between its rows is not touched.
          comm.all_reduce_sum(x.view().column_range(2, 5), nullptr);
          convert(x.view(), values.view());
          for (int i = 0; i < 40; ++i) {
            const int c = i % 8, factor = c >= 2 && c < 7 ? ranks * (ranks + 1) / 2 : rank + 1;
            ASSERT_EQ(values.view().as<float>()[i], static_cast<float>(factor * (i - 3 * round))) << i;
          }
        }
      });
    }
  }
}

TEST(InProcess, ARankThatEndsLeavesNobodyWaiting) {
  on_every_rank(3, [](Communicator& comm, int rank) {
    Tensor x = host_tensor(DType::f32, {4, 4});
    std::fill_n(x.view().as<float>(), 16, 1.0F);
    comm.all_reduce_sum(x.view(), nullptr);
    if (rank == 1) return;
    try {
      comm.all_reduce_sum(x.view(), nullptr);
      ADD_FAILURE() << "a sum without rank 1";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::unavailable);
    }
  });
}

TEST(InProcess, UnequalShapesFailOnEveryRank) {
  on_every_rank(2, [](Communicator& comm, int rank) {
    Tensor x = host_tensor(DType::f32, {4, rank + 1});
    try {
      comm.all_reduce_sum(x.view(), nullptr);
      ADD_FAILURE() << "shapes differ";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::internal);
    }
  });
  EXPECT_THROW(make_in_process(0), Error);
}

}  // namespace
}  // namespace tandem::parallel
