#include "backend/cpu/huge_pages.h"

#include <sys/mman.h>

#include <cstdint>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::backend::cpu {
namespace {

constexpr std::size_t kPage = 4096, kHuge = std::size_t{2} << 20;

}  // namespace

Buffer allocate_pages(std::size_t bytes) {
  if (bytes < kHuge) return allocate_host(bytes, 256);
  // Mapped with room to slide to a huge page's boundary; what is not needed on both sides is given back.
  const std::size_t length = (bytes + kPage - 1) / kPage * kPage, room = length + kHuge;
  void* mapped = ::mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw Error(Code::out_of_memory, cat("cannot allocate ", bytes, " bytes of host memory"));
  auto* begin = static_cast<std::byte*>(mapped);
  const std::size_t slide = (kHuge - reinterpret_cast<std::uintptr_t>(begin) % kHuge) % kHuge;
  if (slide > 0) ::munmap(begin, slide);
  ::munmap(begin + slide + length, room - slide - length);
  ::madvise(begin + slide, length, MADV_HUGEPAGE);  // a wish: without it the memory is the same, only slower
  return {begin + slide, bytes, [length](std::byte* p) { ::munmap(p, length); }};
}

}  // namespace tandem::backend::cpu
