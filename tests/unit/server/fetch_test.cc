// Which addresses a URL may lead to, and that every way around is closed. Servers on loopback stand for the internet:
// the one way in which a Fetcher may reach them is the option that only tests set.
#include "server/fetch.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <future>
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

Fetched get(Fetcher& fetcher, const std::string& url, CancelFlag cancel = nullptr, double seconds = 20) {
  std::promise<Fetched> done;
  fetcher.fetch(url, std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<long>(seconds * 1000)),
                std::move(cancel), [&done](Fetched fetched) { done.set_value(std::move(fetched)); });
  return done.get_future().get();
}
std::string said(const Fetched& fetched) {
  if (const auto* error = std::get_if<ItemError>(&fetched)) return error->message;
  const auto& bytes = *std::get<EncodedImage>(fetched).bytes;
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

constexpr const char* kClosed = "the URL leads to an address that is not public";

TEST(Fetch, NothingOfThisMachineIsReached) {
  Web web(ok("secret"));
  Fetcher fetcher;
  for (const char* host : {"127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0",
                           "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::]"}) {
    const Fetched fetched = get(fetcher, at(web.port, host));
    ASSERT_TRUE(std::holds_alternative<ItemError>(fetched)) << host;
    EXPECT_EQ(said(fetched), kClosed) << host;
  }
  EXPECT_EQ(web.asked, 0);
}

TEST(Fetch, APictureComesAndARedirectMayNotLeadInside) {
  Fetcher fetcher(open_to_one());
  Web picture(ok("picture")), inside(ok("secret"), "127.0.0.2");
  EXPECT_EQ(said(get(fetcher, at(picture.port))), "picture");
  Web near(moved(at(picture.port))), away(moved(at(inside.port, "127.0.0.2")));
  EXPECT_EQ(said(get(fetcher, at(near.port))), "picture");
  EXPECT_EQ(said(get(fetcher, at(away.port))), kClosed);
  EXPECT_EQ(inside.asked, 0);
  for (const char* to : {"file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/x", "dict://127.0.0.1/"}) {
    Web web(moved(to));
    EXPECT_TRUE(std::holds_alternative<ItemError>(get(fetcher, at(web.port)))) << to;
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
  options.seconds = 0.3;
  Fetcher fetcher(options);
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
  EXPECT_TRUE(std::holds_alternative<ItemError>(get(fetcher, at(silent.port))));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(std::get<ItemError>(get(fetcher, at(exact.port), nullptr, -1)).code, Code::deadline_exceeded);
}

TEST(Fetch, AWithdrawnRequestIsNotWaitedFor) {
  Fetcher fetcher(open_to_one());
  Web silent("");
  const auto cancel = std::make_shared<std::atomic<bool>>(true);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(std::get<ItemError>(get(fetcher, at(silent.port), cancel)).code, Code::cancelled);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
}

TEST(Fetch, NamesAndPasswordsAreNotSent) {
  Fetcher fetcher(open_to_one());
  Web web(ok("x"));
  for (const std::string host : {"user@127.0.0.1", "user:password@127.0.0.1", "example.com@127.0.0.1"}) {
    EXPECT_EQ(said(get(fetcher, at(web.port, host))), "a URL with a user name is not fetched");
  }
  EXPECT_EQ(web.asked, 0);
  ::setenv("http_proxy", at(web.port).c_str(), 1);
  Web other(ok("direct"));
  EXPECT_EQ(said(get(fetcher, at(other.port))), "direct");
  ::unsetenv("http_proxy");
  EXPECT_EQ(web.asked, 0);
}

}  // namespace
}  // namespace tandem::server
