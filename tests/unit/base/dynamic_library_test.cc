#include "base/dynamic_library.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(DynamicLibrary, FindsFunctionsByName) {
  const DynamicLibrary library("libm.so.6");
  ASSERT_TRUE(library.is_open());
  double (*cosine)(double) = nullptr;
  ASSERT_TRUE(library.find("cos", cosine));
  EXPECT_EQ(cosine(0), 1);
  EXPECT_FALSE(library.find("no_such_function", cosine));
  EXPECT_EQ(cosine, nullptr);
}

TEST(DynamicLibrary, OneThatIsNotThereHasNoFunctions) {
  const DynamicLibrary library("libtandem_no_such_library.so");
  EXPECT_FALSE(library.is_open());
  double (*cosine)(double) = [](double value) { return value; };
  EXPECT_FALSE(library.find("cos", cosine));
  EXPECT_EQ(cosine, nullptr);
}

}  // namespace
}  // namespace tandem
