// Equal inputs cost once: what is remembered, what is shared while it is under way, and that nobody is lost with the
// one whose work is shared.
#include "engine/caches.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

#include "unit/engine/gated_engine.h"

namespace tandem::engine {
namespace {

__extension__ using Wide = unsigned __int128;

std::vector<std::byte> random_bytes(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out(count);
  for (auto& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

/// The same function, as slowly and plainly as it can be written: every product modulo 2^127 - 1 bit by bit.
Digest plain_hash(std::span<const std::uint64_t> key, std::span<const std::byte> bytes, std::uint64_t tag) {
  constexpr Wide kPrime = (static_cast<Wide>(1) << 127) - 1;
  const auto add = [&](Wide a, Wide b) { return (a % kPrime + b % kPrime) % kPrime; };
  const auto times = [&](Wide a, Wide b) {
    Wide sum = 0;
    for (int bit = 126; bit >= 0; --bit) {
      sum = add(sum, sum);
      if ((b >> bit & 1) != 0) sum = add(sum, a);
    }
    return sum;
  };
  std::vector<std::byte> filled(bytes.begin(), bytes.end());
  filled.resize((bytes.size() + 4095) / 4096 * 4096);
  std::vector<std::uint64_t> first{bytes.size(), tag}, second{bytes.size(), tag};
  for (std::size_t at = 0; at < filled.size(); at += 4096) {
    for (auto* list : {&first, &second}) {
      const std::size_t shift = list == &first ? 0 : 2;
      Wide sum = 0;
      for (std::size_t i = 0; i < 512; i += 2) {
        std::uint64_t m[2] = {0, 0};
        for (std::size_t byte = 0; byte < 16; ++byte) {
          m[byte / 8] |= static_cast<std::uint64_t>(filled[at + i * 8 + byte]) << (byte % 8 * 8);
        }
        sum += static_cast<Wide>(m[0] + key[i + shift]) * (m[1] + key[i + 1 + shift]);
      }
      list->push_back(static_cast<std::uint64_t>(sum));
      list->push_back(static_cast<std::uint64_t>(sum >> 64));
    }
  }
  Digest out;
  for (const std::size_t which : {0U, 1U}) {
    const auto& words = which == 0 ? first : second;
    const std::uint64_t* point = key.data() + 514 + 2 * which;
    const Wide x = (static_cast<Wide>(point[0] & 0x7FFFFFFFFFFFFFFFU) << 64) | point[1];
    Wide sum = 0;
    for (const std::uint64_t word : words) sum = times(add(sum, word), x);
    out.words[2 * which] = static_cast<std::uint64_t>(sum),
                  out.words[2 * which + 1] = static_cast<std::uint64_t>(sum >> 64);
  }
  return out;
}

TEST(ContentHash, IsTheFunctionThatIsDescribed) {
  std::mt19937_64 random(3);
  std::vector<std::uint64_t> key(ContentHasher::kKeyWords);
  for (auto& word : key) word = random();
  const ContentHasher hasher(key);
  for (const std::size_t size : {0, 1, 7, 8, 16, 4095, 4096, 4097, 20000}) {
    const auto bytes = random_bytes(size, static_cast<unsigned>(size));
    EXPECT_EQ(hasher.hash(bytes, 5), plain_hash(key, bytes, 5)) << size;
  }
  // Where every carry happens: all ones.
  std::fill(key.begin(), key.end(), ~std::uint64_t{0});
  const std::vector<std::byte> ones(8192, std::byte{0xFF});
  EXPECT_EQ(ContentHasher(key).hash(ones), plain_hash(key, ones, 0));
}

TEST(ContentHash, TellsContentsLengthsAndTagsApart) {
  const ContentHasher hasher;
  std::set<std::array<std::uint64_t, 4>> seen;
  std::size_t count = 0;
  const auto add = [&](std::span<const std::byte> bytes, std::uint64_t tag) {
    seen.insert(hasher.hash(bytes, tag).words);
    ++count;
  };
  const std::vector<std::byte> zeros(9000);
  for (std::size_t n = 0; n <= zeros.size(); n += 30) add(std::span(zeros).first(n), 0);
  auto bytes = random_bytes(5000, 1);
  for (auto& byte : bytes) {
    byte ^= std::byte{1};
    add(bytes, 0);
    byte ^= std::byte{1};
  }
  for (std::uint64_t tag = 0; tag < 100; ++tag) add(bytes, tag);
  std::rotate(bytes.begin(), bytes.begin() + 4096, bytes.end());  // whole chunks in another order
  add(bytes, 0);
  EXPECT_EQ(seen.size(), count);
  EXPECT_EQ(hasher.hash(bytes), hasher.hash(bytes));
  EXPECT_NE(hasher.hash(bytes), ContentHasher().hash(bytes)) << "the key is secret";
}

TEST(LastRecentlyUsed, KeepsWithinItsBoundWhatWasUsedLast) {
  Lru<int, int> cache(3);
  for (int i = 0; i < 3; ++i) cache.put(i, 10 * i);
  EXPECT_EQ(cache.get(0), 0);
  cache.put(3, 30);
  EXPECT_EQ(cache.get(1), std::nullopt);
  EXPECT_EQ(cache.get(0), 0);
  EXPECT_EQ(cache.evicted(), 1U);
  cache.put(0, 5);
  EXPECT_EQ(cache.get(0), 5);
  EXPECT_EQ(cache.size(), 3U);
  cache.put(7, 70, 4);  // larger than everything
  EXPECT_EQ(cache.get(7), std::nullopt);
  cache.put(8, 80, 3);
  EXPECT_EQ(cache.size(), 1U);
  EXPECT_EQ(cache.used(), 3U);
  cache.clear();
  EXPECT_EQ(cache.get(8), std::nullopt);
  EXPECT_EQ(cache.used(), 0U);
}

class Remembering : public test::GatedEngine {
 protected:
  static EngineOptions with_caches(int batch = 4) {
    EngineOptions o = options(batch);
    o.caches = {.texts = 100, .pictures = 10, .image_bytes = 1 << 20, .coalesce = true};
    return o;
  }
  /// Texts are begun only when this one is answered: it fills the device, and may not grow.
  std::future<Outcome> block(Engine& engine) {
    close_all();
    auto first = ask(engine, texts(11, 1));
    EXPECT_TRUE(gates_.under_way(false, 1));
    return first;
  }
};

TEST_F(Remembering, WhatWasComputedIsNotComputedAgain) {
  Engine engine(context_, with_caches());
  expect_right(ask(engine, both()).get());
  EXPECT_GT(gates_.largest_pass(), 0);
  for (int i = 0; i < 3; ++i) expect_right(ask(engine, both()).get());
  EXPECT_EQ(gates_.largest_pass(), 0) << "nothing was left to compute";
  CacheStats stats = engine.cache_stats();
  EXPECT_EQ(stats.texts.hits, 3 * kItems);
  EXPECT_EQ(stats.texts.misses, kItems);
  EXPECT_EQ(stats.texts.entries, kItems);
  EXPECT_EQ(stats.image_vectors.hits, 3 * kItems);
  EXPECT_EQ(stats.image_vectors.misses, kItems);
  EXPECT_GT(stats.image_vectors.bytes, kItems * want_images_[0].values.size() * sizeof(float));
  EXPECT_EQ(engine.queued(), 0U);

  engine.clear_caches();
  expect_right(ask(engine, both()).get());
  EXPECT_GT(gates_.largest_pass(), 0);
  stats = engine.cache_stats();
  EXPECT_EQ(stats.texts.misses, 2 * kItems);
}

TEST_F(Remembering, OtherOptionsAreOtherVectors) {
  Context plain({.threads = 1});
  Engine reference(plain, options(4)), engine(context_, with_caches());
  for (int round = 0; round < 2; ++round) {
    for (const Feature feature : {Feature::projected, Feature::pooled}) {
      for (const bool normalize : {true, false}) {
        const EmbedOptions wanted{feature, normalize};
        const auto texts = engine.embed_texts(texts_, wanted), want_texts = reference.embed_texts(texts_, wanted);
        const auto images = engine.embed_images(images_, wanted), want = reference.embed_images(images_, wanted);
        for (std::size_t i = 0; i < kItems; ++i) expect_same(texts[i], want_texts[i]), expect_same(images[i], want[i]);
      }
    }
  }
  const CacheStats stats = engine.cache_stats();
  EXPECT_EQ(stats.texts.hits, 4 * kItems);
  EXPECT_EQ(stats.texts.misses, 4 * kItems);
  EXPECT_EQ(stats.pictures.hits + stats.pictures.misses, 0U) << "of the model's size: nothing to fit";
}

TEST_F(Remembering, AFittedPictureIsFoundWhereItsVectorIsNot) {
  EngineOptions o = with_caches();
  o.caches.image_bytes = 0;
  Engine engine(context_, o);
  Context plain({.threads = 1});
  Engine reference(plain, options(4));
  auto pixels = std::make_shared<std::vector<std::uint8_t>>(std::size_t{50} * 40 * 3, 77);
  (*pixels)[1000] = 200;
  const std::vector<ImageInput> large{HostPixels{pixels, 50, 40}, HostPixels{pixels, 40, 50}};
  const auto want = reference.embed_images(large);
  ASSERT_NE(want[0].values, want[1].values) << "the same bytes, but another picture";
  for (int round = 0; round < 3; ++round) {
    const auto got = engine.embed_images(large);
    for (std::size_t i = 0; i < large.size(); ++i) expect_same(got[i], want[i]);
  }
  const CacheStats stats = engine.cache_stats();
  EXPECT_EQ(stats.pictures.misses, 2U);
  EXPECT_EQ(stats.pictures.hits, 4U);
  EXPECT_EQ(stats.pictures.entries, 2U);
}

TEST_F(Remembering, EqualInputsUnderWayAreComputedOnce) {
  Engine engine(context_, with_caches());
  auto first = block(engine);
  gates_.largest_pass();
  std::vector<std::future<Outcome>> answers;
  for (int i = 0; i < 20; ++i) answers.push_back(ask(engine, texts(0, 2)));
  EXPECT_EQ(engine.queued(), 41U) << "every item has its place in the queue";
  Request twice = texts(3, 1);
  twice.texts.push_back(twice.texts[0]);
  auto both_places = ask(engine, twice);
  open_all();
  expect_right(first.get(), 11);
  for (auto& answer : answers) {
    ASSERT_TRUE(arrives(answer));
    expect_right(answer.get());
  }
  const Outcome outcome = both_places.get();
  for (const Embedding& e : std::get<Response>(outcome).texts) expect_same(e, want_texts_[3]);
  const CacheStats stats = engine.cache_stats();
  EXPECT_EQ(stats.coalesced, 2U * 19 + 1);
  EXPECT_EQ(stats.texts.misses, 4U);
  EXPECT_EQ(engine.queued(), 0U);
}

TEST_F(Remembering, WhoeverLeavesLeavesTheOthersTheirAnswer) {
  Engine engine(context_, with_caches());
  auto first = block(engine);
  std::vector<CancelFlag> flags;
  std::vector<std::future<Outcome>> answers;
  for (int i = 0; i < 4; ++i) {
    Request r = texts(0, 1);
    r.cancel = flags.emplace_back(std::make_shared<std::atomic<bool>>(false));
    answers.push_back(ask(engine, std::move(r)));
  }
  // The one whose work the others share, and one of those.
  *flags[0] = true, *flags[2] = true;
  open_all();
  for (const int i : {0, 2}) EXPECT_EQ(error_of(answers[i]).code, Code::cancelled);
  for (const int i : {1, 3}) {
    ASSERT_TRUE(arrives(answers[i]));
    expect_right(answers[i].get());
  }
  // All of them: nothing is computed, and whoever asks next has it computed.
  engine.clear_caches();
  auto third = block(engine);
  auto left = texts(5, 1);
  left.cancel = std::make_shared<std::atomic<bool>>(true);
  auto gone = ask(engine, left), gone_too = ask(engine, left);
  open_all();
  EXPECT_EQ(error_of(gone).code, Code::cancelled);
  EXPECT_EQ(error_of(gone_too).code, Code::cancelled);
  expect_right(ask(engine, texts(5, 1)).get(), 5);
  EXPECT_EQ(engine.queued(), 0U);
}

TEST_F(Remembering, AFailureThatIsNotTheInputsIsNotTheFollowers) {
  Engine engine(context_, with_caches());
  close_all();
  gates_.fail(false, Error(Code::internal, "a stray particle"));
  auto first = ask(engine, texts(0, 1));
  ASSERT_TRUE(gates_.under_way(false, 1));
  auto second = ask(engine, texts(0, 1)), third = ask(engine, texts(0, 1));
  open_all();
  EXPECT_EQ(error_of(first).message, "a stray particle");
  ASSERT_TRUE(arrives(second) && arrives(third));
  expect_right(second.get());
  expect_right(third.get());

  // It is tried once more, not for ever.
  engine.clear_caches();
  close_all();
  gates_.fail(false, Error(Code::internal, "no stray particle"), 2);
  first = ask(engine, texts(0, 1));
  ASSERT_TRUE(gates_.under_way(false, 1));
  second = ask(engine, texts(0, 1)), third = ask(engine, texts(0, 1));
  open_all();
  for (auto* answer : {&first, &second, &third}) {
    ASSERT_TRUE(arrives(*answer));
    EXPECT_EQ(error_of(*answer).message, "no stray particle");
  }
  expect_right(ask(engine, texts(0, 1)).get());
  EXPECT_EQ(engine.queued(), 0U);
}

TEST_F(Remembering, AWrongPictureIsWrongForEverybodyAndNotRemembered) {
  Engine engine(context_, with_caches());
  Request broken;
  broken.images.assign(3, EncodedImage{std::make_shared<std::vector<std::byte>>(100)});
  for (int round = 0; round < 2; ++round) {
    const Response r = std::get<Response>(ask(engine, broken).get());
    for (const Embedding& e : r.images) {
      ASSERT_TRUE(e.error);
      EXPECT_EQ(e.error->code, Code::bad_data);
    }
  }
  EXPECT_EQ(engine.cache_stats().image_vectors.hits, 0U);
  EXPECT_EQ(engine.queued(), 0U);
}

TEST_F(Remembering, ShuttingDownAnswersThoseWhoShareToo) {
  std::atomic<int> refused{0};
  auto engine = std::make_unique<Engine>(context_, with_caches());
  auto first = block(*engine);
  for (int i = 0; i < 5; ++i) {
    engine->submit(texts(0, 2), [&](auto answer) {
      const auto* error = std::get_if<ItemError>(&answer);
      refused += error != nullptr && error->code == Code::unavailable;
    });
  }
  std::thread end([&] { engine.reset(); });
  EXPECT_TRUE(eventually([&] { return refused == 5; }));
  open_all();
  end.join();
}

TEST_F(Remembering, ManyThreadsThatAskForTheSameGetIt) {
  Engine engine(context_, with_caches());
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0}, cancelled{0};
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<unsigned>(t));
      for (int round = 0; round < 100; ++round) {
        const std::size_t first = random() % (kItems - 1);
        Request r = texts(first, 2);
        r.images = images(first, 1).images;
        r.cancel = std::make_shared<std::atomic<bool>>(false);
        auto answer = ask(engine, r);
        if (random() % 4 == 0) *r.cancel = true;
        if (random() % 16 == 0) engine.clear_caches();
        const Outcome outcome = answer.get();
        if (std::holds_alternative<ItemError>(outcome)) {
          ++cancelled;
          continue;
        }
        const Response& got = std::get<Response>(outcome);
        wrong += got.images[0].values != want_images_[first].values;
        for (std::size_t i = 0; i < 2; ++i) wrong += got.texts[i].values != want_texts_[first + i].values;
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LT(cancelled, 200);
  EXPECT_EQ(engine.queued(), 0U);
}

}  // namespace
}  // namespace tandem::engine
