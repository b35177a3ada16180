#include "cli/jobs.h"

#include <algorithm>

#include "cli/progress.h"
#include "embed/image_inputs.h"

namespace tandem::cli {
namespace {

class Chain : public embed::ItemSource {
 public:
  explicit Chain(std::vector<std::unique_ptr<embed::ItemSource>> parts) : parts_(std::move(parts)) {}
  bool next(embed::Item& item) override {
    for (; at_ < parts_.size(); ++at_) {
      if (parts_[at_]->next(item)) return true;
    }
    return false;
  }
  std::optional<std::size_t> total() const override {
    std::size_t sum = 0;
    for (const auto& part : parts_) {
      const auto count = part->total();
      if (!count) return std::nullopt;
      sum += *count;
    }
    return sum;
  }

 private:
  std::vector<std::unique_ptr<embed::ItemSource>> parts_;
  std::size_t at_ = 0;
};

class OneFailure : public embed::ItemSource {
 public:
  explicit OneFailure(embed::Item item) : item_(std::move(item)) {}
  bool next(embed::Item& item) override {
    if (!item_) return false;
    item = *std::exchange(item_, std::nullopt);
    return true;
  }
  std::optional<std::size_t> total() const override { return 1; }

 private:
  std::optional<embed::Item> item_;
};

// Names failures on their way to the real sink.
class Reporting : public embed::Sink {
 public:
  Reporting(embed::Sink& sink, Console& console) : sink_(sink), console_(console) {}
  void take(const embed::Item& item, const Embedding& vector) override {
    if (vector.error) console_.item_failed(item.input, *vector.error);
    sink_.take(item, vector);
  }
  void flush() override { sink_.flush(); }
  void finish() override { sink_.finish(); }

 private:
  embed::Sink& sink_;
  Console& console_;
};

}  // namespace

std::unique_ptr<embed::ItemSource> open_inputs(const std::vector<std::string>& images, const std::string& texts,
                                               embed::TextFormat format, const StopScope& stop) {
  const auto lists = std::count(images.begin(), images.end(), "-") + (texts == "-" ? 1 : 0);
  if (lists > 1) throw UsageError("standard input (-) can be read once only: name it once, in --images or in --texts");
  std::vector<std::unique_ptr<embed::ItemSource>> parts;
  if (!images.empty()) parts.push_back(std::make_unique<embed::ImageInputs>(images, stop.flag()));
  if (!texts.empty()) {
    try {
      parts.push_back(std::make_unique<embed::TextInputs>(texts, format, stop.flag()));
    } catch (const Error& e) {
      if (e.code() == Code::invalid_argument) throw UsageError(e.what());
      parts.push_back(
          std::make_unique<OneFailure>(embed::Item{embed::Kind::text, texts, ItemError{e.code(), e.what()}}));
    }
  }
  return std::make_unique<Chain>(std::move(parts));
}

int run_items(Engine& engine, embed::ItemSource& source, embed::Sink& sink, const EmbedOptions& options,
              const StopScope& stop, Console& console, const std::function<void(const embed::JobReport&)>& finish) {
  embed::JobOptions job;
  job.embed = options;
  job.stop = stop.flag();
  const auto batch = static_cast<std::size_t>(std::max(1, engine.info().max_batch));
  job.chunk_images = batch;
  job.chunk_texts = std::max<std::size_t>(batch, job.chunk_texts);
  Reporting reporting(sink, console);
  embed::JobReport report;
  {
    Progress progress(console, "items", source.total());
    job.on_progress = [&](const embed::JobReport& so_far) {
      progress.update(so_far.succeeded + so_far.failed, so_far.failed);
    };
    report = embed::run_job([&](Request request) { return engine.submit(std::move(request)); }, source, reporting, job);
  }
  if (report.interrupted) return stop.exit_code();
  finish(report);
  return console.end_items(report.succeeded + report.failed);
}

}  // namespace tandem::cli
