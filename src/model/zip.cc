// After PKWARE's APPNOTE.TXT 6.3: the end record (4.3.16) points at the central directory (4.3.12), whose entries point
// at local headers (4.3.7); sizes and offsets of 0xffffffff stand in a zip64 extra field (4.5.3).
#include "model/zip.h"

#include <cstdint>
#include <cstring>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

constexpr std::uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50, kCentral = 0x02014b50,
                        kLocal = 0x04034b50;
constexpr std::size_t kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20, kCentralSize = 46, kLocalSize = 30;

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view file) : bytes_(bytes), file_(file) {}

  template <class T>
  T at(std::uint64_t offset) const {
    need(offset, sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }
  std::span<const std::byte> part(std::uint64_t offset, std::uint64_t size) const {
    need(offset, size);
    return bytes_.subspan(offset, size);
  }
  std::string_view text(std::uint64_t offset, std::uint64_t size) const {
    const auto p = part(offset, size);
    return {reinterpret_cast<const char*>(p.data()), p.size()};
  }
  std::uint64_t size() const { return bytes_.size(); }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Code::bad_data, cat(file_, ": broken or truncated zip archive: ", what));
  }

 private:
  void need(std::uint64_t offset, std::uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) {
      fail(cat(size, " bytes at ", offset, " are beyond its ", bytes_.size()));
    }
  }
  std::span<const std::byte> bytes_;
  std::string_view file_;
};

struct Directory {
  std::uint64_t offset = 0, size = 0, entries = 0;
};

Directory find_directory(const Reader& r) {
  // The end record is the last thing but a comment of at most 65535 bytes.
  const std::uint64_t furthest = kEndSize + 65535;
  for (std::uint64_t back = kEndSize; back <= furthest && back <= r.size(); ++back) {
    const std::uint64_t end = r.size() - back;
    if (r.at<std::uint32_t>(end) != kEnd || r.at<std::uint16_t>(end + 20) != back - kEndSize) continue;
    Directory d{r.at<std::uint32_t>(end + 16), r.at<std::uint32_t>(end + 12), r.at<std::uint16_t>(end + 10)};
    if (end >= kLocatorSize && r.at<std::uint32_t>(end - kLocatorSize) == kEnd64Locator) {
      const auto end64 = r.at<std::uint64_t>(end - kLocatorSize + 8);
      if (end64 > r.size() || r.size() - end64 < kEnd64Size || r.at<std::uint32_t>(end64) != kEnd64) {
        r.fail("no zip64 end record where its locator points");
      }
      d = {r.at<std::uint64_t>(end64 + 48), r.at<std::uint64_t>(end64 + 40), r.at<std::uint64_t>(end64 + 32)};
    }
    return d;
  }
  r.fail("no end record");
}

struct Entry {
  std::uint64_t size = 0, stored = 0, local = 0;
};

/// Replaces what is 0xffffffff by the zip64 extra field's values, which stand there in this order.
void widen(const Reader& r, std::uint64_t extra, std::uint64_t extra_size, Entry& e) {
  constexpr std::uint64_t kWide = 0xffffffffu;
  if (e.size != kWide && e.stored != kWide && e.local != kWide) return;
  const std::uint64_t end = extra + extra_size;
  while (extra + 4 <= end) {
    const auto id = r.at<std::uint16_t>(extra), size = r.at<std::uint16_t>(extra + 2);
    std::uint64_t at = extra + 4;
    const std::uint64_t stop = at + size;
    if (id == 1) {
      for (std::uint64_t* field : {&e.size, &e.stored, &e.local}) {
        if (*field != kWide) continue;
        if (at + 8 > stop) r.fail("a zip64 field is too short");
        *field = r.at<std::uint64_t>(at);
        at += 8;
      }
      return;
    }
    extra = stop;
  }
}

}  // namespace

ZipArchive read_zip(std::span<const std::byte> bytes, std::string_view file) {
  const Reader r(bytes, file);
  const Directory directory = find_directory(r);
  r.part(directory.offset, directory.size);
  if (directory.entries > directory.size / kCentralSize) r.fail("more entries than its directory can hold");

  ZipArchive out;
  std::uint64_t at = directory.offset;
  for (std::uint64_t i = 0; i < directory.entries; ++i) {
    if (r.at<std::uint32_t>(at) != kCentral) r.fail(cat("no directory entry at byte ", at));
    const auto flags = r.at<std::uint16_t>(at + 8), method = r.at<std::uint16_t>(at + 10);
    Entry e{r.at<std::uint32_t>(at + 24), r.at<std::uint32_t>(at + 20), r.at<std::uint32_t>(at + 42)};
    const auto name_size = r.at<std::uint16_t>(at + 28), extra_size = r.at<std::uint16_t>(at + 30);
    const auto comment_size = r.at<std::uint16_t>(at + 32);
    const std::string name(r.text(at + kCentralSize, name_size));
    widen(r, at + kCentralSize + name_size, extra_size, e);
    at += kCentralSize + name_size + extra_size + comment_size;

    if (method != 0 || e.size != e.stored || (flags & 1u) != 0) {
      out.packed.insert(name);
      continue;
    }
    if (r.at<std::uint32_t>(e.local) != kLocal) r.fail(cat("no local header for ", name));
    const std::uint64_t begin =
        e.local + kLocalSize + r.at<std::uint16_t>(e.local + 26) + r.at<std::uint16_t>(e.local + 28);
    const bool added = out.entries.emplace(name, r.part(begin, e.size)).second;
    if (!added) r.fail(cat("the entry ", name, " stands there twice"));
  }
  return out;
}

}  // namespace tandem::model
