// Which addresses a URL may lead to, and that every way around is closed. Servers on loopback stand for the internet:
// the one way in which a Fetcher may reach them is the option that only tests set.
#include "server/fetch.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>

namespace tandem::server {
namespace {

bool is_public(const std::string& text) {
  sockaddr_storage storage{};
  if (text.find(':') == std::string::npos) {
    auto& address = reinterpret_cast<sockaddr_in&>(storage);
    address.sin_family = AF_INET;
    EXPECT_EQ(::inet_pton(AF_INET, text.c_str(), &address.sin_addr), 1) << text;
  } else {
    auto& address = reinterpret_cast<sockaddr_in6&>(storage);
    address.sin6_family = AF_INET6;
    EXPECT_EQ(::inet_pton(AF_INET6, text.c_str(), &address.sin6_addr), 1) << text;
  }
  return server::is_public(reinterpret_cast<const sockaddr&>(storage));
}

TEST(Fetch, OnlyAddressesOfTheOpenInternetArePublic) {
  for (const char* open :
       {"1.1.1.1",         "8.8.8.8",      "9.255.255.255", "11.0.0.1",      "100.63.255.255", "100.128.0.1",
        "126.1.1.1",       "128.0.0.1",    "168.63.129.15", "168.63.129.17", "169.253.1.1",    "172.15.255.255",
        "172.32.0.1",      "192.167.1.1",  "192.169.1.1",   "198.17.1.1",    "198.20.0.1",     "223.255.255.255",
        "2606:4700::1111", "2a00:1450::1", "2001:4860::1"}) {
    EXPECT_TRUE(is_public(open)) << open;
  }
  for (const char* closed : {"0.0.0.0",
                             "0.1.2.3",
                             "10.0.0.1",
                             "10.255.255.255",
                             "100.64.0.1",
                             "100.127.255.255",
                             "127.0.0.1",
                             "127.255.255.254",
                             "168.63.129.16",
                             "169.254.169.254",
                             "172.16.0.1",
                             "172.31.255.255",
                             "192.0.0.1",
                             "192.0.2.1",
                             "192.88.99.1",
                             "192.168.0.1",
                             "198.18.0.1",
                             "198.19.255.255",
                             "198.51.100.1",
                             "203.0.113.9",
                             "224.0.0.1",
                             "239.255.255.255",
                             "240.0.0.1",
                             "255.255.255.255",
                             "::",
                             "::1",
                             "::ffff:127.0.0.1",
                             "::ffff:8.8.8.8",
                             "::8.8.8.8",
                             "64:ff9b::7f00:1",
                             "100::1",
                             "2001::1",
                             "2001:1ff::1",
                             "2001:db8::1",
                             "2002:7f00:1::",
                             "3fff::1",
                             "fc00::1",
                             "fd12::1",
                             "fe80::1",
                             "fec0::1",
                             "ff02::1"}) {
    EXPECT_FALSE(is_public(closed)) << closed;
  }
  sockaddr other{};
  other.sa_family = AF_UNIX;
  EXPECT_FALSE(server::is_public(other));
}

/// A web server on loopback that gives one answer to everybody, and counts them.
class Web {
 public:
  explicit Web(std::string answer, const char* address = "127.0.0.1") : answer_(std::move(answer)) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    ::inet_pton(AF_INET, address, &at.sin_addr);
    ::bind(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at);
    ::listen(fd_, 16);
    socklen_t size = sizeof at;
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
    port = ntohs(at.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~Web() {
    stop_ = true;
    thread_.join();
    ::close(fd_);
  }

  int port = 0;
  std::atomic<int> asked{0};

 private:
  void serve() {
    while (!stop_) {
      pollfd wait{fd_, POLLIN, 0};
      if (::poll(&wait, 1, 20) <= 0) continue;
      const int client = ::accept(fd_, nullptr, nullptr);
      char request[4096];
      if (::recv(client, request, sizeof request, 0) > 0) {
        ++asked;
        if (!answer_.empty()) {
          (void)!::send(client, answer_.data(), answer_.size(), MSG_NOSIGNAL);
        } else {
          while (!stop_) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
      }
      ::close(client);
    }
  }

  const std::string answer_;
  int fd_ = -1;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

std::string ok(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n" + body;
}
std::string moved(const std::string& to) {
  return "HTTP/1.1 302 Found\r\nLocation: " + to + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
}
std::string at(int port, const std::string& host = "127.0.0.1") {
  return "http://" + host + ":" + std::to_string(port) + "/a.png";
}

/// Loopback's one open address; its neighbours 127.0.0.2, … stay closed.
FetchOptions open_to_one() {
  FetchOptions options;
  options.allowed = [](const sockaddr& address) {
    return address.sa_family == AF_INET &&
           ntohl(reinterpret_cast<const sockaddr_in&>(address).sin_addr.s_addr) == INADDR_LOOPBACK;
  };
  return options;
}

Wanted wanted(std::vector<std::string> urls, CancelFlag cancel = nullptr, double seconds = 60) {
  return {std::move(urls),
          std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<long>(seconds * 1000)),
          std::move(cancel)};
}
Fetched get(Fetcher& fetcher, const std::string& url, CancelFlag cancel = nullptr, double seconds = 60) {
  std::promise<Fetched> done;
  fetcher.fetch(wanted({url}, std::move(cancel), seconds),
                [&done](std::size_t, Fetched fetched) { done.set_value(std::move(fetched)); });
  return done.get_future().get();
}
/// What several URLs of one request came to, as they come.
struct Results {
  std::mutex mutex;
  std::vector<std::pair<std::size_t, Fetched>> all;
  std::size_t count() {
    const std::lock_guard lock(mutex);
    return all.size();
  }
  auto take() {
    return [this](std::size_t index, Fetched fetched) {
      const std::lock_guard lock(mutex);
      all.emplace_back(index, std::move(fetched));
    };
  }
};
template <class Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 6000 && !condition(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return condition();
}
std::string said(const Fetched& fetched) {
  if (const auto* error = std::get_if<ItemError>(&fetched)) return error->message;
  const auto& bytes = *std::get<EncodedImage>(fetched).bytes;
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

TEST(Fetch, NothingOfThisMachineIsReached) {
  Web web(ok("secret"));
  // Under any port that it may have: the addresses alone must not be reached.
  FetchOptions options;
  options.allowed = [](const sockaddr& address) { return server::is_public(address); };
  Fetcher fetcher(options);
  for (const char* host : {"127.0.0.1",
                           "localhost",
                           "LOCALHOST",
                           "localhost.",
                           "127.0.0.1.",
                           "127.1",
                           "127.0.1",
                           "2130706433",
                           "0x7f000001",
                           "0x7f.1",
                           "0177.0.0.1",
                           "017700000001",
                           "0.0.0.0",
                           "0",
                           "127.0.0.2",
                           "%31%32%37.0.0.1",
                           "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",  // digits in circles: 127.0.0.1
                           "[::1]",
                           "[0:0:0:0:0:0:0:1]",
                           "[::1%25lo]",
                           "[::]",
                           "[::127.0.0.1]",
                           "[::ffff:127.0.0.1]",
                           "[::ffff:7f00:1]",
                           "[::ffff:10.0.0.1]",
                           "[64:ff9b::7f00:1]",
                           "[2002:7f00:1::]",
                           "[fe80::1%25lo]",
                           "[fe80::1]",
                           "[fc00::1]"}) {
    const Fetched fetched = get(fetcher, at(web.port, host));
    ASSERT_TRUE(std::holds_alternative<ItemError>(fetched)) << host;
    EXPECT_EQ(said(fetched), kNotFetched) << host;
  }
  for (const std::string scheme : {"file", "ftp", "gopher", "dict", "ldap", "smb", "scp", "telnet", "unix", "ws"}) {
    EXPECT_EQ(said(get(fetcher, scheme + "://127.0.0.1:" + std::to_string(web.port) + "/")), kNotFetched) << scheme;
  }
  for (const char* none : {"", "h", "http:", "http:/127.0.0.1", "/etc/passwd", "127.0.0.1"}) {
    EXPECT_EQ(std::get<ItemError>(get(fetcher, none)).code, Code::invalid_argument) << none;
  }
  EXPECT_EQ(web.asked, 0);
}

TEST(Fetch, OnlyPortsOfTheWebAndOtherMachinesAreAsked) {
  const auto may = [](const std::string& host, int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    EXPECT_EQ(::inet_pton(AF_INET, host.c_str(), &address.sin_addr), 1);
    return may_be_fetched_from(reinterpret_cast<const sockaddr&>(address));
  };
  for (const int port : {80, 443, 8080, 8443}) {
    EXPECT_TRUE(may("8.8.8.8", port)) << port;
    EXPECT_FALSE(may("10.0.0.1", port)) << port;
  }
  for (const int port : {0, 22, 25, 53, 2375, 5432, 6379, 9200, 11211, 65535})
    EXPECT_FALSE(may("8.8.8.8", port)) << port;
  ifaddrs* all = nullptr;
  ASSERT_EQ(::getifaddrs(&all), 0);
  int own = 0;
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    const int family = one->ifa_addr == nullptr ? 0 : one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    EXPECT_TRUE(is_of_this_machine(*one->ifa_addr)) << to_string(*one->ifa_addr);
    ++own;
  }
  ::freeifaddrs(all);
  EXPECT_GT(own, 0);
  sockaddr_in other{};
  other.sin_family = AF_INET;
  ::inet_pton(AF_INET, "192.0.2.77", &other.sin_addr);  // an example's, nobody's
  EXPECT_FALSE(is_of_this_machine(reinterpret_cast<const sockaddr&>(other)));
}

TEST(Fetch, WhyIsForTheLogAlone) {
  FetchOptions options = open_to_one();
  options.seconds = 60;
  std::mutex mutex;
  std::string log;
  options.log = [&](const std::string& line) {
    const std::lock_guard lock(mutex);
    log += line + "\n";
  };
  Fetcher fetcher(options);
  options.seconds = 0.3;
  Fetcher hasty(options);
  Web silent(""), plain(ok("x")), away(moved("http://10.0.0.3/x"));
  int closed = 0;
  {
    Web gone(ok("x"));
    closed = gone.port;
  }
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"http://10.0.0.3/secret?key=1", "10.0.0.3 port 80"},                             // an address inside
      {at(away.port), "10.0.0.3 port 80"},                                              // or behind a redirect
      {"http://a..b/x", "http://a..b"},                                                 // a name that is none
      {at(closed), std::to_string(closed)},                                             // nobody listens
      {at(silent.port), "timed out"},                                                   // nobody answers
      {"https://127.0.0.1:" + std::to_string(plain.port) + "/", "https://127.0.0.1"}};  // no TLS
  for (const auto& [url, detail] : cases) {
    log.clear();
    const Fetched fetched = get(detail == "timed out" ? hasty : fetcher, url);
    ASSERT_TRUE(std::holds_alternative<ItemError>(fetched)) << url;
    EXPECT_EQ(std::get<ItemError>(fetched).code, Code::invalid_argument) << url;
    EXPECT_EQ(said(fetched), kNotFetched) << url;
    const std::lock_guard lock(mutex);
    EXPECT_NE(log.find(detail), std::string::npos) << url << ": " << log;
    EXPECT_EQ(log.find("secret"), std::string::npos) << log;
  }
  log.clear();
  Wanted named = wanted({"http://10.0.0.3/a\nb"});
  named.name = "request-7";
  std::promise<void> done;
  fetcher.fetch(named, [&](std::size_t, Fetched) { done.set_value(); });
  done.get_future().get();
  EXPECT_NE(log.find("request-7"), std::string::npos) << log;
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  for (int i = 0; i < 200; ++i) get(fetcher, "http://10.0.0.3/");
  EXPECT_LT(std::count(log.begin(), log.end(), '\n'), 150) << "a client could fill a disk";
}

TEST(Fetch, OneRequestLeavesThreadsToOthers) {
  FetchOptions options = open_to_one();
  options.seconds = 300;
  options.threads = 4, options.threads_each = 2;
  Fetcher fetcher(options);
  Web silent(""), quick(ok("picture"));
  const auto leave = std::make_shared<std::atomic<bool>>(false);
  Results slow, second;
  fetcher.fetch(wanted(std::vector<std::string>(12, at(silent.port)), leave, 300), slow.take());
  EXPECT_TRUE(eventually([&] { return silent.asked > 0; }));
  // Everything of a second and a third request comes while nothing of the first does.
  fetcher.fetch(wanted(std::vector<std::string>(5, at(quick.port))), second.take());
  EXPECT_EQ(said(get(fetcher, at(quick.port))), "picture");
  EXPECT_TRUE(eventually([&] { return second.count() == 5; }));
  EXPECT_EQ(slow.count(), 0u);
  *leave = true;
  EXPECT_TRUE(eventually([&] { return slow.count() == 12; }));
  for (const auto& [index, fetched] : slow.all) EXPECT_EQ(std::get<ItemError>(fetched).code, Code::cancelled);
}

TEST(Fetch, EveryUrlHasItsOwnResult) {
  Fetcher fetcher(open_to_one());
  Web a(ok("a")), b(ok("b"));
  std::vector<std::string> urls;
  for (int i = 0; i < 20; ++i) urls.push_back(i % 3 == 2 ? "http://10.0.0.3/" : at(i % 3 == 0 ? a.port : b.port));
  Results results;
  fetcher.fetch(wanted(urls), results.take());
  ASSERT_TRUE(eventually([&] { return results.count() == 20; }));
  std::sort(results.all.begin(), results.all.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(results.all[i].first, i);
    EXPECT_EQ(said(results.all[i].second), i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : kNotFetched);
  }
}

TEST(Fetch, WaitingPicturesAndTheirMemoryAreBounded) {
  FetchOptions options = open_to_one();
  options.seconds = 300, options.threads = 1, options.max_waiting = 3;
  Web silent(""), quick(ok(std::string(1000, 'x')));
  MemoryLimit limit(1500);
  auto memory = std::make_shared<Reservation>(limit);
  Results results;
  {
    Fetcher fetcher(options);
    Wanted two = wanted({at(quick.port), at(quick.port)});
    two.memory = memory;
    fetcher.fetch(two, results.take());
    ASSERT_TRUE(eventually([&] { return results.count() == 2; }));
    EXPECT_EQ(said(results.all[0].second).size(), 1000u);
    EXPECT_EQ(std::get<ItemError>(results.all[1].second).code, Code::too_large) << "for all there is";
    EXPECT_EQ(limit.used(), 1000u) << "what the second had is given back";
    fetcher.fetch(wanted({at(silent.port)}), results.take());
    EXPECT_TRUE(eventually([&] { return silent.asked > 0; }));
    fetcher.fetch(wanted({"http://10.0.0.3/", "http://10.0.0.3/"}), results.take());
    const auto code_of = [&](std::size_t count) {
      try {
        fetcher.fetch(wanted(std::vector<std::string>(count, "http://10.0.0.3/")), results.take());
      } catch (const Error& error) {
        return error.code();
      }
      return Code::internal;
    };
    EXPECT_EQ(code_of(2), Code::overloaded);
    EXPECT_EQ(code_of(4), Code::too_large);
  }
  // Who goes answers everybody.
  ASSERT_EQ(results.count(), 5u);
  for (std::size_t i = 2; i < 5; ++i) EXPECT_EQ(std::get<ItemError>(results.all[i].second).code, Code::unavailable);
}

TEST(Fetch, APictureComesAndARedirectMayNotLeadInside) {
  Fetcher fetcher(open_to_one());
  Web picture(ok("picture")), inside(ok("secret"), "127.0.0.2");
  EXPECT_EQ(said(get(fetcher, at(picture.port))), "picture");
  Web near(moved(at(picture.port))), away(moved(at(inside.port, "127.0.0.2")));
  EXPECT_EQ(said(get(fetcher, at(near.port))), "picture");
  EXPECT_EQ(said(get(fetcher, at(away.port))), kNotFetched);
  const std::string port = ":" + std::to_string(inside.port) + "/";
  for (const std::string& to :
       std::vector<std::string>{"//127.0.0.2" + port, "http://2130706434" + port, "http://0x7f000002" + port,
                                "http://127.2" + port, "http://[::ffff:127.0.0.2]" + port, "http://127.0.0.2." + port,
                                "http:\\\\127.0.0.2" + port, "HTTP://127.0.0.2" + port}) {
    Web web(moved(to));
    EXPECT_TRUE(std::holds_alternative<ItemError>(get(fetcher, at(web.port)))) << to;
  }
  EXPECT_EQ(inside.asked, 0);
  Web secret(ok("secret"));
  Web disguised(moved(at(secret.port, "user:password@127.0.0.1")));
  EXPECT_EQ(said(get(fetcher, at(disguised.port))), kNotFetched);
  EXPECT_EQ(secret.asked, 0);
  for (const char* to : {"file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/x", "dict://127.0.0.1/"}) {
    Web web(moved(to));
    EXPECT_EQ(said(get(fetcher, at(web.port))), kNotFetched) << to;
  }
}

TEST(Fetch, AnEndlessRedirectEnds) {
  Fetcher fetcher(open_to_one());
  Web first(moved("/again"));
  EXPECT_NE(said(get(fetcher, at(first.port))).find("redirect"), std::string::npos);
  EXPECT_LE(first.asked, 4);
}

TEST(Fetch, SizeTimeAndStatusAreBounded) {
  FetchOptions options = open_to_one();
  options.max_bytes = 1000;
  Fetcher fetcher(options);
  options.seconds = 0.3;
  Fetcher hasty(options);
  Web exact(ok(std::string(1000, 'x'))), large(ok(std::string(1001, 'x')));
  Web unsaid("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + std::string(5000, 'x'));
  EXPECT_EQ(said(get(fetcher, at(exact.port))).size(), 1000u);
  for (const int port : {large.port, unsaid.port}) {
    const Fetched fetched = get(fetcher, at(port));
    ASSERT_TRUE(std::holds_alternative<ItemError>(fetched));
    EXPECT_EQ(std::get<ItemError>(fetched).code, Code::too_large);
  }
  Web missing("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(said(get(fetcher, at(missing.port))), "the URL's server answered 404");
  Web silent("");
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_TRUE(std::holds_alternative<ItemError>(get(hasty, at(silent.port))));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(30));
  EXPECT_EQ(std::get<ItemError>(get(fetcher, at(exact.port), nullptr, -1)).code, Code::deadline_exceeded);
}

TEST(Fetch, AWithdrawnRequestIsNotWaitedFor) {
  Fetcher fetcher(open_to_one());
  Web silent("");
  const auto cancel = std::make_shared<std::atomic<bool>>(true);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(std::get<ItemError>(get(fetcher, at(silent.port), cancel)).code, Code::cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(9));  // before the fetcher's own limit
}

TEST(Fetch, NamesAndPasswordsAreNotSent) {
  Fetcher fetcher(open_to_one());
  Web web(ok("x"));
  for (const std::string host : {"user@127.0.0.1", "user:password@127.0.0.1", "example.com@127.0.0.1"}) {
    EXPECT_EQ(said(get(fetcher, at(web.port, host))), "a URL with a user name is not fetched");
  }
  // Before a backslash as well, which browsers take for a slash.
  EXPECT_TRUE(std::holds_alternative<ItemError>(get(fetcher, at(web.port, "8.8.8.8\\@127.0.0.1"))));
  EXPECT_EQ(web.asked, 0);
  ::setenv("http_proxy", at(web.port).c_str(), 1);
  Web other(ok("direct"));
  EXPECT_EQ(said(get(fetcher, at(other.port))), "direct");
  ::unsetenv("http_proxy");
  EXPECT_EQ(web.asked, 0);
}

}  // namespace
}  // namespace tandem::server
