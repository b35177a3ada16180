#include "backend/cuda/loader.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/strings.h"

namespace tandem::backend {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "libtandem_cuda.so";
constexpr const char* kRemedy = "; or use --device cpu";

/// Where the library may stand: relative to the object that this code is in, then to the program.
std::vector<fs::path> places() {
  std::vector<fs::path> selves;
  Dl_info image{};
  // A name without its folder is argv[0] as somebody typed it, so this is the program.
  if (::dladdr(reinterpret_cast<const void*>(&load_cuda_library), &image) != 0 && *image.dli_fname == '/') {
    selves.emplace_back(image.dli_fname);
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error && (selves.empty() || selves.front() != program)) selves.push_back(program);
  std::vector<fs::path> out;
  for (const fs::path& self : selves) {
    const fs::path folder = self.parent_path();
    for (const char* below : {"lib", "tandem", ".", "../lib/tandem"}) {
      out.push_back((folder / below / kFile).lexically_normal());
    }
  }
  return out;
}

fs::path find_library() {
  if (const char* named = std::getenv("TANDEM_CUDA_LIBRARY"); named != nullptr && *named != '\0') return named;
  std::string list;
  for (const fs::path& place : places()) {
    std::error_code ignored;
    if (fs::exists(place, ignored)) return place;
    list += cat(list.empty() ? "" : ", ", place.string());
  }
  throw Error(Code::unsupported, cat("this build has no CUDA backend: ", kFile, " is in none of ", list,
                                     "; build with nvcc installed, or set TANDEM_CUDA_LIBRARY", kRemedy));
}

/// The first line of dlerror(), which may be several.
std::string open_error() {
  const char* text = ::dlerror();
  std::string line = text != nullptr ? text : "unknown error";
  return line.substr(0, line.find('\n'));
}

}  // namespace

bool has_cuda_driver() noexcept {
  return ::access("/dev/nvidiactl", F_OK) == 0 || ::access("/dev/dxg", F_OK) == 0 || ::access("/dev/nvmap", F_OK) == 0;
}

const cuda::CudaLibrary& load_cuda_library() {
  const std::string file = find_library().string();
  void* handle = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    throw Error(Code::unsupported, cat("the CUDA backend cannot be opened: ", open_error(),
                                       "; install the CUDA toolkit's cuBLAS and a driver for it", kRemedy));
  }
  const auto entry = reinterpret_cast<cuda::CudaEntry>(::dlsym(handle, cuda::kCudaEntry));
  const char* built = "unknown";
  const cuda::CudaLibrary* library = entry != nullptr ? entry(TANDEM_CUDA_ABI, &built) : nullptr;
  if (library == nullptr) {
    throw Error(Code::unsupported, cat(file, " belongs to another build of tandem (interface ", built, ", wanted ",
                                       TANDEM_CUDA_ABI, "): build or install both together", kRemedy));
  }
  return *library;
}

std::string tuning_name(const std::string& device_name) {
  std::string name;
  for (const char c : device_name) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  return name + ".tuning";
}

std::unique_ptr<Backend> make_cuda_backend(int index, const cuda::CudaOptions& options) {
  auto backend = load_cuda_library().make_backend(index, options);
  std::vector<fs::path> files;
  if (const char* named = std::getenv("TANDEM_TUNING"); named != nullptr) {
    files.emplace_back(named);  // empty: none
  } else {
    for (const fs::path& place : places()) {
      files.push_back(place.parent_path() / "tuning" / tuning_name(backend->device_name()));
    }
  }
  for (const fs::path& path : files) {
    std::ifstream file(path);
    if (!file) continue;
    std::ostringstream text;
    text << file.rdbuf();
    backend->take_tuned(text.str(), path.string());
    break;
  }
  return backend;
}

}  // namespace tandem::backend
