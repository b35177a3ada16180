// Row-wise operations of the CUDA backend against the reference, copies, and what is refused.
#include <cmath>
#include <limits>
#include <numeric>
#include <thread>

#include "unit/backend/cuda_support.h"

namespace tandem::backend::test {
namespace {

using tandem::test::tolerance;

class CudaRows : public CudaTest {};

TEST_P(CudaRows, LayerNorm) {
  for (const std::int64_t width : {1, 3, 16, 20, 33, 64, 96, 256, 264, 512, 768, 1024, 1280, 1283, 1664, 2048, 2560}) {
    for (const DType out_type : {type(), DType::f32}) {
      DeviceMatrix x(*cuda, residual_type(), 37, width), gamma(*cuda, DType::f32, 1, width);
      DeviceMatrix beta(*cuda, DType::f32, 1, width), out(*cuda, out_type, 37, width);
      x.fill(1, 3), gamma.fill(2), beta.fill(3);
      const Tensor g = cuda->prepare_vector(gamma.host_vector()), b = cuda->prepare_vector(beta.host_vector());
      cuda->layer_norm({x.view(), g.view(), b.view(), 1e-5F, {out.view(), {}}});
      reference->layer_norm(
          {x.reference(), gamma.reference_vector(), beta.reference_vector(), 1e-5F, {out.reference(), {}}});
      auto t = tolerance(out_type, 64);
      t.absolute *= 4;
      expect_close(out, t, "width " + std::to_string(width));
    }
  }
}

TEST_P(CudaRows, LayerNormOfStridedRowsInPlace) {
  for (const std::int64_t stride : {768, 776, 781}) {
    DeviceMatrix x(*cuda, residual_type(), 9, 768, stride), gamma(*cuda, DType::f32, 1, 768);
    DeviceMatrix beta(*cuda, DType::f32, 1, 768);
    x.fill(1, 3), gamma.fill(2), beta.fill(3);
    const Tensor g = cuda->prepare_vector(gamma.host_vector()), b = cuda->prepare_vector(beta.host_vector());
    cuda->layer_norm({x.view(), g.view(), b.view(), 1e-5F, {x.view(), {}}});
    reference->layer_norm(
        {x.reference(), gamma.reference_vector(), beta.reference_vector(), 1e-5F, {x.reference(), {}}});
    auto t = tolerance(residual_type(), 64);
    t.absolute *= 4;
    expect_close(x, t, "stride " + std::to_string(stride));
  }
}

TEST_P(CudaRows, LayerNormKeepsItsDigitsBesideOutliersAndFarFromZero) {
  DeviceMatrix x(*cuda, residual_type(), 3, 768), gamma(*cuda, DType::f32, 1, 768), beta(*cuda, DType::f32, 1, 768);
  DeviceMatrix out(*cuda, DType::f32, 3, 768);
  x.fill(1), gamma.fill(2), beta.fill(3);
  x.at(0, 5) *= 1000, x.at(0, 700) *= 100;
  for (std::int64_t c = 0; c < 768; ++c) x.at(1, c) += 3000;
  for (std::int64_t c = 0; c < 768; ++c) x.at(2, c) *= 1e-2F;
  x.store();
  const Tensor g = cuda->prepare_vector(gamma.host_vector()), b = cuda->prepare_vector(beta.host_vector());
  cuda->layer_norm({x.view(), g.view(), b.view(), 1e-5F, {out.view(), {}}});
  reference->layer_norm(
      {x.reference(), gamma.reference_vector(), beta.reference_vector(), 1e-5F, {out.reference(), {}}});
  // The mean of values near 3000 is rounded to 2^-13 of the spread that remains.
  expect_close(out, {8e-4F, 1e-5F}, "far from zero");
}

TEST_P(CudaRows, NotANumberStaysInItsRow) {
  DeviceMatrix x(*cuda, residual_type(), 40, 600), gamma(*cuda, DType::f32, 1, 600), out(*cuda, DType::f32, 40, 600);
  x.fill(1), gamma.fill(2);
  x.at(33, 17) = std::numeric_limits<float>::quiet_NaN();
  x.store();
  const Tensor g = cuda->prepare_vector(gamma.host_vector());
  cuda->layer_norm({x.view(), g.view(), g.view(), 1e-5F, {out.view(), {}}});
  out.fetch();
  for (std::int64_t r = 0; r < 40; ++r) {
    for (std::int64_t c = 0; c < 600; ++c) ASSERT_EQ(std::isnan(out.got(r, c)), r == 33) << r << ", " << c;
  }
}

TEST_P(CudaRows, TokensAndPositions) {
  for (const std::int64_t width : {1, 20, 64, 512}) {
    DeviceMatrix table(*cuda, type(), 50, width), position(*cuda, DType::f32, 12, width);
    DeviceMatrix out(*cuda, residual_type(), 90, width);
    table.fill(1), position.fill(2);
    std::vector<std::int32_t> ids(90), positions(90);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<std::int32_t>(i * 7 % 50), positions[i] = static_cast<std::int32_t>(i % 12);
    }
    const Tensor prepared = cuda->prepare_table(table.host(), GetParam());
    const Tensor prepared_position = cuda->prepare_vector(position.host());
    EXPECT_EQ(prepared.dtype(), type());
    const DeviceIntegers device_ids(*cuda, ids), device_positions(*cuda, positions);
    cuda->embed_tokens(
        {device_ids.data(), device_positions.data(), prepared.view(), prepared_position.view(), out.view()});
    reference->embed_tokens({ids.data(), positions.data(), table.reference(), position.reference(), out.reference()});
    expect_close(out, tolerance(residual_type(), 1), "width " + std::to_string(width));
  }
}

TEST_P(CudaRows, SelectedRows) {
  for (const std::int64_t width : {1, 6, 33, 64, 768}) {
    for (const std::int64_t slack : {0, 1, 8}) {
      DeviceMatrix x(*cuda, residual_type(), 60, width, width + slack), out(*cuda, residual_type(), 12, width);
      x.fill(1);
      const std::vector<std::int32_t> rows{0, 59, 3, 3, 7, 8, 9, 40, 41, 12, 11, 58};
      const DeviceIntegers device_rows(*cuda, rows);
      cuda->select_rows({x.view(), device_rows.data(), out.view(), 0});
      reference->select_rows({x.reference(), rows.data(), out.reference(), 0});
      expect_close(out, {0, 0}, "listed rows");
      cuda->select_rows({x.view(), nullptr, out.view(), 5});
      reference->select_rows({x.reference(), nullptr, out.reference(), 5});
      expect_close(out, {0, 0}, "every fifth row");
    }
  }
}

TEST_P(CudaRows, CopiesOfAnySizeArriveWhole) {
  for (const std::int64_t bytes :
       {std::int64_t{1}, std::int64_t{1000}, std::int64_t{9} << 20, std::int64_t{50} << 20}) {
    std::vector<std::uint8_t> there(static_cast<std::size_t>(bytes)), back(there.size());
    std::mt19937 random(7);
    for (auto& b : there) b = static_cast<std::uint8_t>(random());
    const Buffer memory = cuda->allocate(there.size());
    cuda->upload(there.data(), {memory.data(), DType::u8, {bytes}});
    const std::vector<std::uint8_t> sent = there;
    std::fill(there.begin(), there.end(), std::uint8_t{0});  // the caller's again as soon as upload() returns
    cuda->download(ConstView{memory.data(), DType::u8, {bytes}}, back.data());
    EXPECT_TRUE(back == sent) << bytes;
  }
}

TEST_P(CudaRows, WeightsArePreparedOnSeveralThreads) {
  constexpr int kThreads = 6, kEach = 12;
  std::vector<Tensor> tensors(kThreads * kEach);
  const auto value = [](int which, std::int64_t i) { return static_cast<float>((which * 131 + i) % 2048); };
  constexpr std::int64_t kElements = 700'001;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int k = 0; k < kEach; ++k) {
        const int which = t * kEach + k;
        Tensor host = host_tensor(DType::f32, {1, kElements});
        for (std::int64_t i = 0; i < kElements; ++i) host.view().as<float>()[i] = value(which, i);
        tensors[static_cast<std::size_t>(which)] = cuda->prepare_table(host.view(), GetParam());
      }
    });
  }
  for (auto& t : threads) t.join();
  cuda->synchronize();
  for (int which = 0; which < kThreads * kEach; ++which) {
    const Tensor& tensor = tensors[static_cast<std::size_t>(which)];
    Tensor stored = host_tensor(tensor.dtype(), {1, kElements}), back = host_tensor(DType::f32, {1, kElements});
    cuda->download(tensor.view(), stored.view().data);
    convert(stored.view(), back.view());
    int wrong = 0;
    for (std::int64_t i = 0; i < kElements; ++i) {
      // Whole numbers below 2,048 are exact in fp16; bf16 has 8 bits.
      const float want = value(which, i), slack = tensor.dtype() == DType::bf16 ? want / 256 : 0;
      wrong += std::abs(back.view().as<float>()[i] - want) > slack ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0) << which;
  }
}

TEST_P(CudaRows, TooMuchMemoryIsSaidAndSurvived) {
  try {
    const Buffer memory = cuda->allocate(std::size_t{1} << 50);
    FAIL() << "a device gave 2^50 bytes";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::out_of_memory);
    EXPECT_NE(std::string(error.what()).find("1125899906842624"), std::string::npos) << error.what();
  }
  DeviceMatrix x(*cuda, DType::f32, 4, 8), out(*cuda, DType::f32, 4, 8);
  x.fill(1);
  cuda->project({x.view(), nullptr, false, out.view()});
  reference->project({x.reference(), nullptr, false, out.reference()});
  expect_close(out, {0, 0}, "after a refusal");
}

TEST_P(CudaRows, MemoryOutlivesItsBackend) {
  DeviceMatrix gamma(*cuda, DType::f32, 1, 64);
  gamma.fill(1);
  Tensor kept;
  {
    const auto other = make_cuda_backend(0);
    kept = other->prepare_vector(gamma.host_vector());
    other->synchronize();
  }
  DeviceMatrix x(*cuda, residual_type(), 3, 64), out(*cuda, DType::f32, 3, 64);
  x.fill(2);
  cuda->layer_norm({x.view(), kept.view(), kept.view(), 1e-5F, {out.view(), {}}});
  reference->layer_norm(
      {x.reference(), gamma.reference_vector(), gamma.reference_vector(), 1e-5F, {out.reference(), {}}});
  auto t = tolerance(DType::f32, 64);
  t.absolute *= 4;
  expect_close(out, t, "a vector of another backend");
}

INSTANTIATE_TEST_SUITE_P(Every, CudaRows, every_precision(), name_of);

}  // namespace
}  // namespace tandem::backend::test
