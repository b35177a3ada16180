#include "server/fetch.h"

#include <curl/curl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <list>
#include <mutex>
#include <optional>
#include <thread>

#include "base/dynamic_library.h"
#include "base/strings.h"
#include "base/thread_pool.h"

namespace tandem::server {
namespace {

using Clock = std::chrono::steady_clock;

/// libcurl's functions, by name, as long as the program runs.
struct Curl {
  decltype(&curl_global_init) global_init = nullptr;
  decltype(&curl_easy_init) easy_init = nullptr;
  decltype(&curl_easy_setopt) setopt = nullptr;
  decltype(&curl_easy_perform) perform = nullptr;
  decltype(&curl_easy_getinfo) getinfo = nullptr;
  decltype(&curl_easy_cleanup) cleanup = nullptr;
  decltype(&curl_easy_reset) reset = nullptr;
  decltype(&curl_easy_strerror) strerror = nullptr;
};

Curl open_curl() {
  const DynamicLibrary library("libcurl.so.4", DynamicLibrary::Closed::never);
  if (!library.is_open()) {
    throw Error(Code::unsupported, "URLs are fetched with libcurl, which is not installed: apt install libcurl4");
  }
  const auto find = [&](const char* name, auto& to) {
    if (library.find(name, to)) return;
    throw Error(Code::unsupported, cat("libcurl has no ", name, ": install libcurl 7.85 or newer"));
  };
  Curl curl;
  find("curl_global_init", curl.global_init);
  find("curl_easy_init", curl.easy_init);
  find("curl_easy_setopt", curl.setopt);
  find("curl_easy_perform", curl.perform);
  find("curl_easy_getinfo", curl.getinfo);
  find("curl_easy_cleanup", curl.cleanup);
  find("curl_easy_reset", curl.reset);
  find("curl_easy_strerror", curl.strerror);
  curl.global_init(CURL_GLOBAL_DEFAULT);
  return curl;
}

const Curl& curl() {
  static const Curl opened = open_curl();
  return opened;
}

/// One picture on its way.
struct Transfer {
  const FetchOptions& options;
  const Wanted& wanted;
  const std::atomic<bool>& stopping;
  std::vector<std::byte> bytes = {};
  std::string closed = {};  ///< the address that was not connected to
  bool too_large = false;
  std::optional<ItemError> no_room = {};
};

curl_socket_t open_socket(void* user, curlsocktype purpose, curl_sockaddr* address) {
  auto& transfer = *static_cast<Transfer*>(user);
  try {
    if (purpose == CURLSOCKTYPE_IPCXN && transfer.options.allowed(address->addr)) {
      return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    }
    transfer.closed = to_string(address->addr);
  } catch (const std::exception&) {  // no memory: closed all the same
  }
  return CURL_SOCKET_BAD;
}

std::size_t take(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::size_t length = size * count;
  if (length > transfer.options.max_bytes - transfer.bytes.size()) {
    transfer.too_large = true;
    return 0;
  }
  const auto* first = reinterpret_cast<const std::byte*>(data);
  bool held = false;
  try {
    if (transfer.wanted.memory) transfer.wanted.memory->add(length, "the pictures");
    held = true;
    transfer.bytes.insert(transfer.bytes.end(), first, first + length);
  } catch (const Error& error) {
    transfer.no_room = ItemError{error.code(), error.what()};
    return 0;
  } catch (const std::bad_alloc&) {
    if (held && transfer.wanted.memory) transfer.wanted.memory->give_back(length);
    return 0;
  }
  return length;
}

int go_on(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& transfer = *static_cast<Transfer*>(user);
  return transfer.stopping || (transfer.wanted.cancel && *transfer.wanted.cancel) ? 1 : 0;
}

/// Without what could make a line of the log look like another.
std::string shown(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c >= 0x7F; }, '?');
  return text;
}

/// Scheme, host and port: what comes behind them may be secret.
std::string origin_of(const std::string& url) {
  constexpr std::size_t kLongest = 200;
  const std::size_t host = std::min(url.find("://"), url.size());
  return url.substr(0, std::min(url.find_first_of("/?#", host + 3), kLongest));
}

/// How many lines may be written: so many in so long.
class Limiter {
 public:
  /// How many were left out since the last that was let through; nothing: this one is left out.
  std::optional<std::size_t> pass() {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (now >= until_) until_ = now + kWindow, count_ = 0;
    if (++count_ > kMost) {
      ++left_out_;
      return std::nullopt;
    }
    return std::exchange(left_out_, 0);
  }

 private:
  static constexpr auto kWindow = std::chrono::seconds(10);
  static constexpr std::size_t kMost = 50;
  std::mutex mutex_;
  Clock::time_point until_;
  std::size_t count_ = 0, left_out_ = 0;
};

/// A request some of whose pictures wait for a thread.
struct Waiting {
  Wanted wanted;
  std::function<void(std::size_t, Fetched)> on_done;
  std::size_t next = 0;  ///< the first URL that no thread has taken
  int threads = 0;       ///< that fetch for it now
};

}  // namespace

struct Fetcher::Impl {
  explicit Impl(FetchOptions given) : options(std::move(given)), api(curl()) {
    try {
      for (int i = 0; i < std::max(1, options.threads); ++i) {
        threads.push_back(start_thread("a thread that fetches pictures", [this] { work(); }));
      }
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Impl() { stop(); }

  void stop() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    changed.notify_all();
    for (auto& thread : threads) thread.join();
    threads.clear();
    for (CURL* handle : idle) api.cleanup(handle);
    idle.clear();
  }

  CURL* take_handle() {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return api.easy_init();
    CURL* handle = idle.back();
    idle.pop_back();
    return handle;
  }

  void work();
  /// The request whose turn it is; the end: none may have another thread.
  std::list<std::shared_ptr<Waiting>>::iterator turn();
  Fetched get(const Wanted& wanted, const std::string& url);
  Fetched not_fetched(const Wanted& wanted, const std::string& url, const std::string& why);

  const FetchOptions options;
  const Curl& api;
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::condition_variable changed;
  std::list<std::shared_ptr<Waiting>> waiting;  ///< with URLs that no thread has taken, in turn
  std::size_t urls = 0;                         ///< of them
  std::vector<CURL*> idle;                      ///< with their connections
  Limiter lines;
  std::vector<std::thread> threads;
};

std::list<std::shared_ptr<Waiting>>::iterator Fetcher::Impl::turn() {
  // At the end everybody is told without being fetched.
  return std::find_if(waiting.begin(), waiting.end(),
                      [&](const auto& one) { return stopping || one->threads < std::max(1, options.threads_each); });
}

void Fetcher::Impl::work() {
  std::unique_lock lock(mutex);
  for (;;) {
    auto at = waiting.end();
    changed.wait(lock, [&] { return (at = turn()) != waiting.end() || (stopping && waiting.empty()); });
    if (at == waiting.end()) return;
    const std::shared_ptr<Waiting> request = *at;
    const std::size_t index = request->next++;
    --urls;
    ++request->threads;
    if (request->next == request->wanted.urls.size()) {
      waiting.erase(at);
    } else {
      waiting.splice(waiting.end(), waiting, at);
    }
    lock.unlock();
    Fetched fetched = ItemError{Code::out_of_memory, "out of memory"};
    try {
      fetched = get(request->wanted, request->wanted.urls[index]);
    } catch (const std::exception&) {  // no memory for a message
    }
    lock.lock();
    --request->threads;
    lock.unlock();
    changed.notify_all();
    try {
      request->on_done(index, std::move(fetched));
    } catch (const std::exception&) {  // then the request is dropped, which answers it
    }
    lock.lock();
  }
}

Fetched Fetcher::Impl::not_fetched(const Wanted& wanted, const std::string& url, const std::string& why) {
  if (options.log) {
    if (const auto left_out = lines.pass()) {
      options.log(shown(cat("a picture was not fetched from ", origin_of(url),
                            wanted.name.empty() ? "" : " for the request ", wanted.name, ": ", why,
                            *left_out > 0 ? cat(" (", *left_out, " more such lines were left out before)") : "")));
    }
  }
  return ItemError{Code::invalid_argument, kNotFetched};
}

Fetched Fetcher::Impl::get(const Wanted& wanted, const std::string& url) {
  constexpr long kRedirects = 3, kLongestUrl = 8192;
  if (url.size() > kLongestUrl) return ItemError{Code::invalid_argument, "the URL is too long"};
  // A password in a URL would be sent along, and an '@' is how hosts are disguised.
  const std::size_t colon = url.find("://");
  if (colon == std::string::npos)
    return ItemError{Code::invalid_argument, "the URL must begin with http:// or https://"};
  if (url.substr(0, url.find_first_of("/?#", colon + 3)).find('@') != std::string::npos) {
    return ItemError{Code::invalid_argument, "a URL with a user name is not fetched"};
  }
  if (stopping) return ItemError{Code::unavailable, "the server is stopping"};
  if (wanted.cancel && *wanted.cancel) return ItemError{Code::cancelled, "the client has gone"};
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(wanted.deadline - Clock::now()).count();
  if (left <= 0) return ItemError{Code::deadline_exceeded, "the deadline passed before the URL was fetched"};
  const long most = std::min<long>(left, static_cast<long>(options.seconds * 1000));

  Transfer transfer{options, wanted, stopping};
  std::array<char, CURL_ERROR_SIZE> words{};
  CURL* handle = take_handle();
  if (handle == nullptr) return ItemError{Code::out_of_memory, "no memory to fetch a URL"};
  api.reset(handle);  // connections stay
  api.setopt(handle, CURLOPT_URL, url.c_str());
  api.setopt(handle, CURLOPT_ERRORBUFFER, words.data());
  api.setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  api.setopt(handle, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  api.setopt(handle, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  api.setopt(handle, CURLOPT_FOLLOWLOCATION, 1L);
  api.setopt(handle, CURLOPT_MAXREDIRS, kRedirects);
  api.setopt(handle, CURLOPT_PROXY, "");
  api.setopt(handle, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  api.setopt(handle, CURLOPT_NOSIGNAL, 1L);
  api.setopt(handle, CURLOPT_TIMEOUT_MS, most);
  api.setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, most);
  api.setopt(handle, CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(options.max_bytes));
  api.setopt(handle, CURLOPT_FAILONERROR, 1L);
  api.setopt(handle, CURLOPT_USERAGENT, "tandem");
  api.setopt(handle, CURLOPT_OPENSOCKETFUNCTION, &open_socket);
  api.setopt(handle, CURLOPT_OPENSOCKETDATA, &transfer);
  api.setopt(handle, CURLOPT_WRITEFUNCTION, &take);
  api.setopt(handle, CURLOPT_WRITEDATA, &transfer);
  api.setopt(handle, CURLOPT_XFERINFOFUNCTION, &go_on);
  api.setopt(handle, CURLOPT_XFERINFODATA, &transfer);
  api.setopt(handle, CURLOPT_NOPROGRESS, 0L);
  const CURLcode result = api.perform(handle);
  long status = 0;
  api.getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  if (result == CURLE_OK) {
    const std::lock_guard lock(mutex);
    idle.push_back(handle);
  } else {
    api.cleanup(handle);
  }

  if (result == CURLE_OK && !transfer.bytes.empty()) {
    return EncodedImage{std::make_shared<const std::vector<std::byte>>(std::move(transfer.bytes))};
  }
  if (wanted.memory) wanted.memory->give_back(transfer.bytes.size());
  if (result == CURLE_OK) return ItemError{Code::bad_data, "the URL's server sent no bytes"};
  if (stopping) return ItemError{Code::unavailable, "the server is stopping"};
  if (wanted.cancel && *wanted.cancel) return ItemError{Code::cancelled, "the client has gone"};
  // What a server said that may be asked: its client may know.
  if (transfer.no_room) return std::move(*transfer.no_room);
  if (transfer.too_large || result == CURLE_FILESIZE_EXCEEDED) {
    return ItemError{Code::too_large, cat("the picture has more than ", options.max_bytes, " bytes")};
  }
  if (result == CURLE_HTTP_RETURNED_ERROR) return ItemError{Code::bad_data, cat("the URL's server answered ", status)};
  if (result == CURLE_TOO_MANY_REDIRECTS) {
    return ItemError{Code::bad_data, cat("the URL's server redirects more than ", kRedirects, " times")};
  }
  if (!transfer.closed.empty()) return not_fetched(wanted, url, cat("it leads to ", transfer.closed));
  return not_fetched(wanted, url, words[0] != 0 ? words.data() : api.strerror(result));
}

Fetcher::Fetcher(FetchOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Fetcher::~Fetcher() = default;

void Fetcher::fetch(Wanted wanted, std::function<void(std::size_t, Fetched)> on_done) {
  const std::size_t count = wanted.urls.size();
  if (count == 0) return;
  if (count > impl_->options.max_waiting) {
    throw Error(Code::too_large,
                cat(count, " URLs; the limit is ", impl_->options.max_waiting, " in one request: send fewer"));
  }
  auto request = std::make_shared<Waiting>(Waiting{std::move(wanted), std::move(on_done)});
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->stopping) throw Error(Code::unavailable, "the server is stopping");
    if (count > impl_->options.max_waiting - impl_->urls) {
      throw Error(Code::overloaded, cat(impl_->urls, " pictures wait to be fetched; try again shortly"));
    }
    impl_->waiting.push_back(std::move(request));
    impl_->urls += count;
  }
  impl_->changed.notify_all();
}

}  // namespace tandem::server
