// What was used last stays, within a bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>

namespace tandem::engine {

/// Not thread-safe. Every entry has a size in the bound's unit (1 where entries are counted) and
/// its bytes. Value: cheap to copy.
template <class Key, class Value, class Hash = std::hash<Key>>
class Lru {
 public:
  explicit Lru(std::size_t bound) : bound_(bound) {}

  std::size_t bound() const noexcept { return bound_; }
  std::size_t used() const noexcept { return used_; }
  std::size_t size() const noexcept { return found_.size(); }
  std::size_t bytes() const noexcept { return bytes_; }
  std::uint64_t evicted() const noexcept { return evicted_; }

  std::optional<Value> get(const Key& key) {
    const auto at = found_.find(key);
    if (at == found_.end()) return std::nullopt;
    entries_.splice(entries_.begin(), entries_, at->second);
    return at->second->value;
  }

  /// Replaces what was there under the key; what is larger than the bound alone is not kept.
  void put(const Key& key, Value value, std::size_t size = 1, std::size_t bytes = 0) {
    erase(key);
    if (size > bound_) return;
    std::list<Entry> fresh;  // into the list only once nothing can throw any more
    fresh.push_front({key, std::move(value), size, bytes});
    found_[key] = fresh.begin();
    entries_.splice(entries_.begin(), fresh);
    used_ += size, bytes_ += bytes;
    for (; used_ > bound_; ++evicted_) erase(Key(entries_.back().key));
  }

  void clear() {
    entries_.clear(), found_.clear();
    used_ = bytes_ = 0;
  }

 private:
  struct Entry {
    Key key;
    Value value;
    std::size_t size, bytes;
  };
  void erase(const Key& key) {
    const auto at = found_.find(key);
    if (at == found_.end()) return;
    used_ -= at->second->size, bytes_ -= at->second->bytes;
    entries_.erase(at->second);
    found_.erase(at);
  }

  const std::size_t bound_;
  std::size_t used_ = 0, bytes_ = 0;
  std::uint64_t evicted_ = 0;
  std::list<Entry> entries_;  ///< the last used first
  std::unordered_map<Key, typename std::list<Entry>::iterator, Hash> found_;
};

}  // namespace tandem::engine
