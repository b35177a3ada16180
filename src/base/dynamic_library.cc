#include "base/dynamic_library.h"

#include <dlfcn.h>

namespace tandem {

DynamicLibrary::DynamicLibrary(const std::string& name, Closed closed)
    : handle_(::dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)), closed_(closed) {}

DynamicLibrary::~DynamicLibrary() {
  if (handle_ != nullptr && closed_ == Closed::with_this) ::dlclose(handle_);
}

void* DynamicLibrary::symbol(const char* name) const noexcept {
  return handle_ == nullptr ? nullptr : ::dlsym(handle_, name);
}

}  // namespace tandem
