#include "server/fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "base/strings.h"
#include "base/thread_pool.h"

namespace tandem::server {
namespace {

using Clock = std::chrono::steady_clock;

struct Block {
  std::uint32_t first;
  int bits;
};

constexpr std::uint32_t v4(unsigned a, unsigned b = 0, unsigned c = 0, unsigned d = 0) {
  return a << 24 | b << 16 | c << 8 | d;
}

/// RFC 6890 and its successors: what is not globally reachable, multicast and reserved included. 168.63.129.16 looks
/// global, but it is Azure's own service of every virtual machine, which hands out certificates and settings.
constexpr Block kClosed[] = {
    {v4(0), 8},         {v4(10), 8},       {v4(100, 64), 10},      {v4(127), 8},          {v4(168, 63, 129, 16), 32},
    {v4(169, 254), 16}, {v4(172, 16), 12}, {v4(192, 0, 0), 24},    {v4(192, 0, 2), 24},   {v4(192, 88, 99), 24},
    {v4(192, 168), 16}, {v4(198, 18), 15}, {v4(198, 51, 100), 24}, {v4(203, 0, 113), 24}, {v4(224), 4},
    {v4(240), 4}};

bool is_public_v4(std::uint32_t address) noexcept {
  return std::none_of(std::begin(kClosed), std::end(kClosed),
                      [&](const Block& block) { return (address ^ block.first) >> (32 - block.bits) == 0; });
}

/// Of 2000::/3, all that is given out for global use, without the parts that hold IPv4 addresses or are for examples.
bool is_public_v6(const std::uint8_t* a) noexcept {
  if ((a[0] & 0xe0) != 0x20) return false;
  if (a[0] == 0x20 && a[1] == 0x01 && a[2] < 0x02) return false;                   // 2001::/23: Teredo, ORCHID, …
  if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8) return false;  // documentation
  if (a[0] == 0x20 && a[1] == 0x02) return false;                                  // 6to4
  return !(a[0] == 0x3f && a[1] == 0xff && a[2] < 0x10);                           // 3fff::/20: documentation
}

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

template <class Function>
void find(void* library, const char* name, Function& to) {
  to = reinterpret_cast<Function>(::dlsym(library, name));
  if (to == nullptr) throw Error(Code::unsupported, cat("libcurl has no ", name, ": install libcurl 7.85 or newer"));
}

Curl open_curl() {
  void* library = ::dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw Error(Code::unsupported, "URLs are fetched with libcurl, which is not installed: apt install libcurl4");
  }
  Curl curl;
  find(library, "curl_global_init", curl.global_init);
  find(library, "curl_easy_init", curl.easy_init);
  find(library, "curl_easy_setopt", curl.setopt);
  find(library, "curl_easy_perform", curl.perform);
  find(library, "curl_easy_getinfo", curl.getinfo);
  find(library, "curl_easy_cleanup", curl.cleanup);
  find(library, "curl_easy_reset", curl.reset);
  find(library, "curl_easy_strerror", curl.strerror);
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
  CancelFlag cancel;
  const std::atomic<bool>& stopping;
  std::vector<std::byte> bytes;
  bool closed = false, too_large = false;
};

curl_socket_t open_socket(void* user, curlsocktype purpose, curl_sockaddr* address) {
  auto& transfer = *static_cast<Transfer*>(user);
  if (purpose != CURLSOCKTYPE_IPCXN || !transfer.options.allowed(address->addr)) {
    transfer.closed = true;
    return CURL_SOCKET_BAD;
  }
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

std::size_t take(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::size_t length = size * count;
  if (length > transfer.options.max_bytes - transfer.bytes.size()) {
    transfer.too_large = true;
    return 0;
  }
  const auto* first = reinterpret_cast<const std::byte*>(data);
  try {
    transfer.bytes.insert(transfer.bytes.end(), first, first + length);
  } catch (const std::bad_alloc&) {
    return 0;
  }
  return length;
}

int go_on(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& transfer = *static_cast<Transfer*>(user);
  return transfer.stopping || (transfer.cancel && *transfer.cancel) ? 1 : 0;
}

}  // namespace

bool is_public(const sockaddr& address) noexcept {
  if (address.sa_family == AF_INET) {
    return is_public_v4(ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr));
  }
  if (address.sa_family == AF_INET6) {
    return is_public_v6(reinterpret_cast<const sockaddr_in6&>(address).sin6_addr.s6_addr);
  }
  return false;
}

struct Fetcher::Impl {
  explicit Impl(FetchOptions given)
      : options(std::move(given)), api(curl()), pool(std::max(1, options.threads), options.max_waiting) {}
  ~Impl() {
    stopping = true;
    pool.stop();
    for (CURL* handle : idle) api.cleanup(handle);
  }

  CURL* take_handle() {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return api.easy_init();
    CURL* handle = idle.back();
    idle.pop_back();
    return handle;
  }

  Fetched get(const std::string& url, Clock::time_point deadline, const CancelFlag& cancel);

  const FetchOptions options;
  const Curl& api;
  std::atomic<bool> stopping{false};
  std::mutex mutex;
  std::vector<CURL*> idle;  ///< with their connections
  ThreadPool pool;
};

Fetched Fetcher::Impl::get(const std::string& url, Clock::time_point deadline, const CancelFlag& cancel) {
  constexpr long kRedirects = 3, kLongestUrl = 8192;
  if (url.size() > kLongestUrl) return ItemError{Code::invalid_argument, "the URL is too long"};
  // A password in a URL would be sent along, and an '@' is how hosts are disguised.
  const std::size_t host = url.find("://") + 3;
  if (url.substr(host, url.find_first_of("/?#", host) - host).find('@') != std::string::npos) {
    return ItemError{Code::invalid_argument, "a URL with a user name is not fetched"};
  }
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  if (left <= 0) return ItemError{Code::deadline_exceeded, "the deadline passed before the URL was fetched"};
  const long most = std::min<long>(left, static_cast<long>(options.seconds * 1000));

  Transfer transfer{options, cancel, stopping, {}, false, false};
  CURL* handle = take_handle();
  if (handle == nullptr) return ItemError{Code::out_of_memory, "no memory to fetch a URL"};
  api.reset(handle);  // connections stay
  api.setopt(handle, CURLOPT_URL, url.c_str());
  api.setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  api.setopt(handle, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
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

  if (transfer.closed) return ItemError{Code::invalid_argument, "the URL leads to an address that is not public"};
  if (transfer.too_large || result == CURLE_FILESIZE_EXCEEDED) {
    return ItemError{Code::too_large, cat("the picture has more than ", options.max_bytes, " bytes")};
  }
  if (stopping) return ItemError{Code::unavailable, "the server is stopping"};
  if (cancel && *cancel) return ItemError{Code::cancelled, "the client has gone"};
  if (result == CURLE_HTTP_RETURNED_ERROR) return ItemError{Code::bad_data, cat("the URL's server answered ", status)};
  if (result != CURLE_OK) return ItemError{Code::bad_data, cat("the URL could not be fetched: ", api.strerror(result))};
  if (transfer.bytes.empty()) return ItemError{Code::bad_data, "the URL's server sent no bytes"};
  return EncodedImage{std::make_shared<const std::vector<std::byte>>(std::move(transfer.bytes))};
}

Fetcher::Fetcher(FetchOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Fetcher::~Fetcher() = default;

void Fetcher::fetch(std::string url, Clock::time_point deadline, CancelFlag cancel,
                    std::function<void(Fetched)> on_done) {
  impl_->pool.submit([impl = impl_.get(), url = std::move(url), deadline, cancel = std::move(cancel),
                      on_done = std::move(on_done)] { on_done(impl->get(url, deadline, cancel)); });
}

}  // namespace tandem::server
