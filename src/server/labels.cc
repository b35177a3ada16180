#include "server/labels.h"

#include <algorithm>
#include <cmath>

#include "base/strings.h"

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

std::string filled(const std::string& frame, const std::string& label) {
  std::string text;
  std::size_t at = 0;
  for (std::size_t hole; (hole = frame.find("{}", at)) != std::string::npos; at = hole + 2) {
    text.append(frame, at, hole - at);
    text += label;
  }
  return text.append(frame, at);
}

void scale_to_unit(float* vector, std::size_t size) {
  double sum = 0;
  for (std::size_t i = 0; i < size; ++i) sum += static_cast<double>(vector[i]) * vector[i];
  const float scale = sum > 0 ? static_cast<float>(1 / std::sqrt(sum)) : 0.0f;
  for (std::size_t i = 0; i < size; ++i) vector[i] *= scale;
}

}  // namespace

struct LabelCache::Job {
  std::string key;
  std::vector<std::string> templates;
  std::shared_ptr<LabelSet> set = std::make_shared<LabelSet>();
  std::size_t next = 0;                                  // text to be submitted: label * templates + template
  std::size_t taken = 0;                                 // texts whose vectors are in the sum
  std::vector<std::pair<CancelFlag, OnLabels>> waiting;  // guarded by the cache's mutex

  std::size_t frames() const { return std::max<std::size_t>(templates.size(), 1); }
  std::size_t count() const { return set->labels.size() * frames(); }
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

void LabelCache::get(const std::vector<std::string>& labels, const std::vector<std::string>& templates,
                     CancelFlag cancel, OnLabels on_labels) {
  std::string key = key_of(labels, templates);
  std::shared_ptr<const LabelSet> found;
  std::shared_ptr<Job> job;
  {
    const std::lock_guard lock(mutex_);
    if (const auto entry = found_.find(key); entry != found_.end()) {
      entries_.splice(entries_.begin(), entries_, entry->second);
      found = entries_.front().labels;
      ++hits_;
    } else if (const auto running = running_.find(key); running != running_.end()) {
      running->second->waiting.emplace_back(std::move(cancel), std::move(on_labels));
      ++hits_;
      return;
    } else {
      job = std::make_shared<Job>();
      job->key = key;
      job->templates = templates;
      job->set->labels = labels;
      job->waiting.emplace_back(std::move(cancel), std::move(on_labels));
      running_.emplace(std::move(key), job);
      ++misses_;
    }
  }
  if (found) {
    on_labels(found);
  } else {
    next_portion(job);
  }
}

void LabelCache::next_portion(const std::shared_ptr<Job>& job) {
  {
    const std::lock_guard lock(mutex_);
    const bool wanted = std::any_of(job->waiting.begin(), job->waiting.end(),
                                    [](const auto& one) { return !one.first || !one.first->load(); });
    if (!wanted) job->next = job->count() + 1;
  }
  if (job->next > job->count()) return finish(job, ItemError{Code::cancelled, "the client has gone"});
  Request request;
  const std::size_t end = std::min(job->next + portion_, job->count());
  for (; job->next < end; ++job->next) {
    const std::string& label = job->set->labels[job->next / job->frames()];
    request.texts.emplace_back(job->templates.empty() ? label
                                                      : filled(job->templates[job->next % job->frames()], label));
  }
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
  LabelSet& set = *job->set;
  for (const Embedding& text : std::get<Response>(result).texts) {
    const std::size_t label = job->taken++ / job->frames();
    if (text.error) {
      return finish(job, ItemError{text.error->code, cat("labels[", label, "]: ", text.error->message)});
    }
    const std::size_t dim = text.values.size();
    set.vectors.resize(set.labels.size() * dim);
    for (std::size_t i = 0; i < dim; ++i) set.vectors[label * dim + i] += text.values[i];
  }
  if (job->taken < job->next) return finish(job, ItemError{Code::internal, "the engine answered too few texts"});
  if (job->next < job->count()) return next_portion(job);
  if (job->frames() > 1) {  // one unit vector needs no second scaling, and stays the same bits
    const std::size_t dim = set.vectors.size() / set.labels.size();
    for (std::size_t label = 0; label < set.labels.size(); ++label) scale_to_unit(&set.vectors[label * dim], dim);
  }
  finish(job, std::shared_ptr<const LabelSet>(job->set));
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
