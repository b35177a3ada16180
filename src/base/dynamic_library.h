// A library that is opened while the program runs, since only some of its users have it or want it.
#pragma once

#include <string>
#include <type_traits>

namespace tandem {

class DynamicLibrary {
 public:
  enum class Closed {
    with_this,  ///< when this object dies
    never       ///< for a library with threads' state of its own, which nobody takes back
  };

  /// name: a file, or a name that the system's loader looks for. Where there is none, is_open() says so.
  explicit DynamicLibrary(const std::string& name, Closed closed = Closed::with_this);
  ~DynamicLibrary();
  DynamicLibrary(const DynamicLibrary&) = delete;
  DynamicLibrary& operator=(const DynamicLibrary&) = delete;

  bool is_open() const noexcept { return handle_ != nullptr; }

  /// Points `function` to the library's function of that name; null and false where there is none.
  template <class Function>
  bool find(const char* name, Function*& function) const {
    static_assert(std::is_function_v<Function>);
    function = reinterpret_cast<Function*>(symbol(name));
    return function != nullptr;
  }

 private:
  void* symbol(const char* name) const noexcept;

  void* const handle_;
  const Closed closed_;
};

}  // namespace tandem
