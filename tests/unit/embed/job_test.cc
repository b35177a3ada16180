#include "embed/job.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

class ListSource : public ItemSource {
 public:
  explicit ListSource(std::vector<Item> items) : items_(std::move(items)) {}
  bool next(Item& item) override {
    if (at_ == items_.size()) return false;
    item = items_[at_++];
    return true;
  }

 private:
  std::vector<Item> items_;
  std::size_t at_ = 0;
};

class ListSink : public Sink {
 public:
  void take(const Item& item, const Embedding& vector) override {
    lines.push_back(vector.error ? cat(item.input, " !", vector.error->message)
                                 : cat(item.input, " ", vector.values.at(0)));
  }
  void finish() override {}
  std::vector<std::string> lines;
};

std::vector<Item> texts(int count) {
  std::vector<Item> out;
  for (int i = 0; i < count; ++i) out.push_back({Kind::text, std::to_string(i), {}});
  return out;
}

// Answers on its own threads, later requests often before earlier ones; counts what is in flight.
class FakeEngine {
 public:
  ~FakeEngine() {
    for (auto& thread : threads_) thread.join();
  }
  std::future<Response> submit(Request request) {
    ++submitted;
    largest = std::max(largest, request.texts.size());
    auto promise = std::make_shared<std::promise<Response>>();
    auto future = promise->get_future();
    const auto wait = std::chrono::milliseconds(submitted % 3 == 0 ? 1 : 8);
    const std::size_t now = ++flying;
    most_flying = std::max(most_flying.load(), now);
    threads_.emplace_back([this, promise, wait, request = std::move(request)] {
      std::this_thread::sleep_for(wait);
      Response response;
      for (const auto& text : request.texts) {
        Embedding e;
        e.values = {std::stof(std::get<std::string>(text)) + 0.5F};
        if (e.values[0] == 13.5F) e.error = ItemError{Code::bad_data, "unlucky"};
        response.texts.push_back(std::move(e));
      }
      for (const auto& image : request.images) {
        Embedding e;
        e.values = {static_cast<float>(std::get<EncodedImage>(image).bytes->size())};
        response.images.push_back(std::move(e));
      }
      --flying;
      promise->set_value(std::move(response));
    });
    return future;
  }
  std::size_t submitted = 0, largest = 0;
  std::atomic<std::size_t> flying{0}, most_flying{0};

 private:
  std::vector<std::thread> threads_;
};

JobOptions small_chunks() {
  JobOptions options;
  options.chunk_texts = 7;
  options.chunk_images = 3;
  options.lookahead = 3;
  return options;
}

TEST(Job, GivesEveryItemOnceAndInOrder) {
  auto items = texts(100);
  items[40].error = ItemError{Code::bad_data, "known"};
  ListSource source(items);
  ListSink sink;
  FakeEngine engine;
  std::size_t reports = 0;
  auto options = small_chunks();
  options.on_progress = [&](const JobReport&) { ++reports; };
  const auto report = run_job([&](Request r) { return engine.submit(std::move(r)); }, source, sink, options);
  EXPECT_EQ(report.succeeded, 98U);
  EXPECT_EQ(report.failed, 2U);
  EXPECT_FALSE(report.interrupted);
  ASSERT_EQ(sink.lines.size(), 100U);
  for (std::size_t i = 0; i < 100; ++i) {
    const std::string expected = i == 13 ? "13 !unlucky" : i == 40 ? "40 !known" : cat(i, " ", i, ".5");
    EXPECT_EQ(sink.lines[i], expected);
  }
  EXPECT_EQ(engine.largest, 7U);
  EXPECT_EQ(engine.submitted, 15U);
  EXPECT_EQ(reports, 15U);
  EXPECT_LE(engine.most_flying, 3U);
  EXPECT_GE(engine.most_flying, 2U) << "nothing overlapped";
}

TEST(Job, ReadsPicturesAndReportsThoseItCannot) {
  const auto folder = std::filesystem::temp_directory_path() / cat("tandem_job_", ::getpid());
  std::filesystem::create_directories(folder);
  std::vector<Item> items;
  for (int i = 0; i < 10; ++i) {
    const auto path = folder / cat(i);
    if (i != 4) std::ofstream(path) << std::string(static_cast<std::size_t>(i) + 1, 'x');
    items.push_back({Kind::image, path.string(), {}});
  }
  items.push_back({Kind::text, "7", {}});
  ListSource source(items);
  ListSink sink;
  FakeEngine engine;
  auto options = small_chunks();
  options.lookahead_bytes = 6;  // tighter than a chunk: pictures go nearly one by one
  const auto report = run_job([&](Request r) { return engine.submit(std::move(r)); }, source, sink, options);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(report.succeeded, 10U);
  EXPECT_EQ(report.failed, 1U);
  ASSERT_EQ(sink.lines.size(), 11U);
  EXPECT_EQ(sink.lines[3], (folder / "3").string() + " 4");
  EXPECT_EQ(sink.lines[4].substr(0, (folder / "4").string().size() + 2), (folder / "4").string() + " !");
  EXPECT_EQ(sink.lines[10], "7 7.5");
}

TEST(Job, HugeLinesAreBoundedInFlight) {
  struct CountingSink : ListSink {
    void take(const Item& item, const Embedding& vector) override {
      ++taken;
      ListSink::take(item, vector);
    }
    std::size_t taken = 0;
  };
  auto items = texts(60);
  for (Item& item : items) item.input += std::string(1000, ' ');
  // Lines that are no texts are kept for the report: they take room too.
  for (std::size_t i = 30; i < 60; ++i) items[i].error = ItemError{Code::bad_data, "broken"};
  struct CountingSource : ListSource {
    using ListSource::ListSource;
    bool next(Item& item) override {
      const bool more = ListSource::next(item);
      read += more ? 1 : 0;
      return more;
    }
    std::size_t read = 0;
  };
  CountingSource source(items);
  CountingSink sink;
  FakeEngine engine;
  std::size_t most = 0;
  auto options = small_chunks();
  options.lookahead_bytes = 9000;
  options.on_progress = [&](const JobReport&) { most = std::max(most, source.read - sink.taken); };
  const auto submit = [&](Request request) {
    most = std::max(most, source.read - sink.taken);
    return engine.submit(std::move(request));
  };
  const auto report = run_job(submit, source, sink, options);
  EXPECT_EQ(report.succeeded, 29U);
  EXPECT_EQ(report.failed, 31U);
  // A text is there twice, as an item and in its request; one chunk is let through beyond the limit.
  EXPECT_LE(most, 12U);
  EXPECT_GE(most, 3U);
}

TEST(Job, WaitsWhereTheQueueIsFull) {
  ListSource source(texts(50));
  ListSink sink;
  FakeEngine engine;
  int refusals = 0;
  const auto submit = [&](Request r) {
    if (++refusals % 3 != 0) throw Error(Code::overloaded, "full");
    return engine.submit(std::move(r));
  };
  const auto report = run_job(submit, source, sink, small_chunks());
  EXPECT_EQ(report.succeeded, 49U);
  EXPECT_EQ(sink.lines.size(), 50U);
  EXPECT_EQ(sink.lines[49], "49 49.5");
}

TEST(Job, ARequestThatFailsFailsItsItemsOnly) {
  ListSource source(texts(21));
  ListSink sink;
  FakeEngine engine;
  int count = 0;
  const auto submit = [&](Request r) {
    if (++count == 2) {
      std::promise<Response> failed;
      failed.set_exception(std::make_exception_ptr(Error(Code::out_of_memory, "no room")));
      return failed.get_future();
    }
    if (count == 3) throw Error(Code::invalid_argument, "refused");
    return engine.submit(std::move(r));
  };
  const auto report = run_job(submit, source, sink, small_chunks());
  EXPECT_EQ(report.succeeded, 7U);
  EXPECT_EQ(report.failed, 14U);
  EXPECT_EQ(sink.lines[7], "7 !no room");
  EXPECT_EQ(sink.lines[20], "20 !refused");
}

TEST(Job, EndsWhereTheEngineIsGone) {
  for (const bool in_future : {false, true}) {
    ListSource source(texts(21));
    ListSink sink;
    const auto submit = [&](Request) -> std::future<Response> {
      if (!in_future) throw Error(Code::unavailable, "gone");
      std::promise<Response> failed;
      failed.set_exception(std::make_exception_ptr(Error(Code::device_failure, "gone")));
      return failed.get_future();
    };
    EXPECT_THROW(run_job(submit, source, sink, small_chunks()), Error);
  }
}

TEST(Job, StopsSoonAndWithdrawsWhatFlies) {
  ListSource source(texts(1000));
  ListSink sink;
  std::atomic<bool> stop{false};
  std::vector<std::promise<Response>> never;
  CancelFlag cancel;
  const auto submit = [&](Request r) {
    cancel = r.cancel;
    return never.emplace_back().get_future();
  };
  auto options = small_chunks();
  options.stop = &stop;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    stop = true;
  });
  const auto report = run_job(submit, source, sink, options);
  later.join();
  EXPECT_TRUE(report.interrupted);
  EXPECT_EQ(never.size(), 3U);
  ASSERT_TRUE(cancel);
  EXPECT_TRUE(cancel->load());
  EXPECT_TRUE(sink.lines.empty());
}

}  // namespace
}  // namespace tandem::embed
