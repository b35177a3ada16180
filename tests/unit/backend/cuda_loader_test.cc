// Opening the CUDA library: what is missing is said, and its errors arrive as tandem::Error.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "backend/cuda/loader.h"

namespace tandem::backend {
namespace {

/// Sets a variable for one test.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() { before_.empty() ? ::unsetenv(name_) : ::setenv(name_, before_.c_str(), 1); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::string before_;
};

Error error_of_loading() {
  try {
    load_cuda_library();
  } catch (const Error& error) {
    return error;
  }
  return {Code::internal, "nothing was thrown"};
}

TEST(CudaLoader, SaysWhatIsMissingAndTheRemedy) {
  const Variable library("TANDEM_CUDA_LIBRARY", "/nowhere/libtandem_cuda.so");
  const Error error = error_of_loading();
  EXPECT_EQ(error.code(), Code::unsupported);
  const std::string message = error.what();
  EXPECT_NE(message.find("/nowhere/libtandem_cuda.so"), std::string::npos) << message;
  EXPECT_NE(message.find("--device cpu"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

TEST(CudaLoader, RefusesAFileThatIsNoLibrary) {
  const auto file = std::filesystem::temp_directory_path() / ("tandem_not_cuda_" + std::to_string(getpid()));
  std::ofstream(file) << "text";
  {
    const Variable library("TANDEM_CUDA_LIBRARY", file.string());
    EXPECT_EQ(error_of_loading().code(), Code::unsupported);
  }
  std::filesystem::remove(file);
}

TEST(CudaLoader, RefusesALibraryWithoutTheEntry) {
  const Variable library("TANDEM_CUDA_LIBRARY", "libc.so.6");
  const std::string message = error_of_loading().what();
  EXPECT_NE(message.find("another build"), std::string::npos) << message;
}

// Where the library was built: without a device, its error must be caught as tandem::Error on this side.
TEST(CudaLoader, ErrorsCrossTheBoundary) {
  const cuda::CudaLibrary* library = nullptr;
  try {
    library = &load_cuda_library();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  try {
    library->make_backend(1 << 20, {});
    FAIL() << "a device that cannot be there was opened";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::unsupported) << error.what();
    EXPECT_NE(std::string(error.what()).find("cpu"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tandem::backend
