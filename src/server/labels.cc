#include "server/labels.h"

#include <algorithm>

#include "base/strings.h"
#include "tandem/zero_shot.h"

namespace tandem::server {
namespace {

std::string key_of(const std::vector<std::string>& labels, const std::vector<std::string>& templates) {
  std::string key;
  for (const auto* list : {&labels, &templates}) {
    key += cat(list->size(), ":");
    for (const auto& text : *list) key += cat(text.size(), ":", text);
  }
  return key;
}

}  // namespace

struct LabelCache::Job {
  Job(std::string k, const std::vector<std::string>& labels, std::vector<std::string> t)
      : key(std::move(k)), templates(std::move(t)), average(labels, templates.size()) {}

  const std::string key;
  const std::vector<std::string> templates;
  LabelAverager average;
  std::size_t next = 0;                                  // text to be submitted: label * templates + template
  std::vector<std::pair<CancelFlag, OnLabels>> waiting;  // guarded by the cache's mutex

  std::size_t frames() const { return std::max<std::size_t>(templates.size(), 1); }
  std::string text(std::size_t at) const {
    const std::string& label = average.labels()[at / frames()];
    return templates.empty() ? label : fill_template(templates[at % frames()], label);
  }
};

LabelCache::LabelCache(Submit submit, std::size_t max_bytes, std::size_t portion)
    : submit_(std::move(submit)), max_bytes_(max_bytes), portion_(portion) {}

std::size_t LabelCache::misses() const {
  const std::lock_guard lock(mutex_);
  return misses_;
}

std::size_t LabelCache::hits() const {
  const std::lock_guard lock(mutex_);
  return hits_;
}

void LabelCache::clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear(), found_.clear();
  bytes_ = 0;
}

void LabelCache::get(const std::vector<std::string>& labels, const std::vector<std::string>& templates,
                     CancelFlag cancel, OnLabels on_labels) {
  std::string key = key_of(labels, templates);
  std::shared_ptr<Job> job;
  {
    std::unique_lock lock(mutex_);
    if (const auto entry = found_.find(key); entry != found_.end()) {
      entries_.splice(entries_.begin(), entries_, entry->second);
      const auto found = entries_.front().labels;
      ++hits_;
      lock.unlock();
      on_labels(found);
      return;
    }
    if (const auto running = running_.find(key); running != running_.end()) {
      running->second->waiting.emplace_back(std::move(cancel), std::move(on_labels));
      ++hits_;
      return;
    }
    job = std::make_shared<Job>(key, labels, templates);
    job->waiting.emplace_back(std::move(cancel), std::move(on_labels));
    running_.emplace(std::move(key), job);
    ++misses_;
  }
  next_portion(job);
}

void LabelCache::next_portion(const std::shared_ptr<Job>& job) {
  {
    const std::lock_guard lock(mutex_);
    const bool wanted = std::any_of(job->waiting.begin(), job->waiting.end(),
                                    [](const auto& one) { return !one.first || !one.first->load(); });
    if (!wanted) job->next = job->average.wanted() + 1;
  }
  const std::size_t count = job->average.wanted();
  if (job->next > count) return finish(job, ItemError{Code::cancelled, "the client has gone"});
  Request request;
  const std::size_t end = std::min(job->next + portion_, count);
  for (; job->next < end; ++job->next) request.texts.emplace_back(job->text(job->next));
  try {
    submit_(std::move(request), [self = shared_from_this(), job](std::variant<Response, ItemError> result) {
      try {
        self->take_portion(job, std::move(result));
      } catch (const std::exception& error) {
        self->finish(job, ItemError{Code::internal, error.what()});
      }
    });
  } catch (const Error& error) {
    finish(job, ItemError{error.code(), error.what()});
  } catch (const std::exception& error) {
    finish(job, ItemError{Code::internal, error.what()});
  }
}

void LabelCache::take_portion(const std::shared_ptr<Job>& job, std::variant<Response, ItemError> result) {
  if (const auto* error = std::get_if<ItemError>(&result)) return finish(job, *error);
  for (const Embedding& text : std::get<Response>(result).texts) {
    if (text.error) {
      const std::size_t label = job->average.taken() / job->frames();
      return finish(job, ItemError{text.error->code, cat("labels[", label, "]: ", text.error->message)});
    }
    job->average.add(text.values);
  }
  if (job->average.taken() < job->next) {
    return finish(job, ItemError{Code::internal, "the engine answered too few texts"});
  }
  if (job->next < job->average.wanted()) return next_portion(job);
  finish(job, std::make_shared<const LabelSet>(std::move(job->average).take()));
}

void LabelCache::finish(const std::shared_ptr<Job>& job, const LabelResult& result) {
  std::vector<std::pair<CancelFlag, OnLabels>> waiting;
  {
    const std::lock_guard lock(mutex_);
    running_.erase(job->key);
    waiting.swap(job->waiting);
    if (const auto* labels = std::get_if<std::shared_ptr<const LabelSet>>(&result)) {
      const std::size_t bytes = (*labels)->vectors.size() * sizeof(float) + 3 * job->key.size() + 256;
      entries_.push_front({job->key, *labels, bytes});
      found_[job->key] = entries_.begin();
      bytes_ += bytes;
      while (bytes_ > max_bytes_ && entries_.size() > 1) {
        bytes_ -= entries_.back().bytes;
        found_.erase(entries_.back().key);
        entries_.pop_back();
      }
    }
  }
  for (const auto& [cancel, on_labels] : waiting) on_labels(result);
}

}  // namespace tandem::server
