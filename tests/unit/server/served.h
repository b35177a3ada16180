// The server over real sockets, around an engine that does what the test wants; and a client as raw as tests need it.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "server/server.h"

namespace tandem::server {

using namespace std::chrono_literals;
using nlohmann::json;

/// Switches shared between a test and its engine.
struct Control {
  std::mutex mutex;
  std::condition_variable changed;
  bool hold = false;                ///< keep requests until release()
  bool stall = false;               ///< submit() does not return for a request of more than eight texts
  std::optional<ItemError> refuse;  ///< thrown by submit
  std::optional<ItemError> fail;    ///< given to on_done
  EngineHealth health{1, 1, 0, {}};
  std::deque<std::pair<Request, OnDone>> held;
  std::size_t seen = 0;
  std::atomic<int> cancelled{0}, cleared{0};

  static std::variant<Response, ItemError> answer(const Request& request) {
    if (request.cancel && *request.cancel) return ItemError{Code::cancelled, "withdrawn"};
    Response response;
    for (const ImageInput& image : request.images) {
      Embedding one;
      const auto& bytes = *std::get<EncodedImage>(image).bytes;
      if (bytes.size() < 2) {
        one.error = ItemError{Code::bad_data, "not a picture"};
      } else {
        one.values = {0.6f, 0.8f, 0.0f};
      }
      response.images.push_back(one);
    }
    for (const TextInput& text : request.texts) {
      Embedding one;
      one.values = {1.0f, 0.0f, 0.0f};
      if (const auto* plain = std::get_if<std::string>(&text); plain && *plain == "up") one.values = {0.0f, 1.0f, 0.0f};
      one.tokens = 3;
      response.texts.push_back(one);
    }
    return response;
  }

  void release() {
    std::deque<std::pair<Request, OnDone>> all;
    {
      const std::lock_guard lock(mutex);
      hold = false;
      all.swap(held);
    }
    for (auto& [request, on_done] : all) {
      auto result = answer(request);
      cancelled += std::holds_alternative<ItemError>(result);
      on_done(std::move(result));
    }
  }
  bool wait_until_held(std::size_t count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 5s, [&] { return held.size() >= count; });
  }
};

class FakeEncoder final : public Encoder {
 public:
  explicit FakeEncoder(std::shared_ptr<Control> control) : control_(std::move(control)) {
    info_.model = "fake";
    info_.embed_dim = 3;
    info_.logit_scale = 10;
  }
  ~FakeEncoder() override { control_->release(); }
  const EngineInfo& info() const override { return info_; }
  std::size_t queued() const override { return 0; }
  EngineHealth health() const override {
    const std::lock_guard lock(control_->mutex);
    return control_->health;
  }
  CacheStats cache_stats() const override {
    CacheStats stats;
    stats.texts = {5, 7, 0, 2, 0};
    stats.pictures = {11, 12, 13, 14, 15, 0};
    stats.image_vectors = {21, 22, 23, 24, 25, 26};
    return stats;
  }
  void clear_caches() override { ++control_->cleared; }
  void submit(Request request, OnDone on_done) override {
    std::optional<ItemError> fail;
    {
      std::unique_lock lock(control_->mutex);
      ++control_->seen;
      control_->changed.notify_all();
      control_->changed.wait(lock, [&] { return !control_->stall || request.texts.size() <= 8; });
      if (control_->refuse) throw Error(control_->refuse->code, control_->refuse->message);
      fail = control_->fail;
      if (control_->hold) {
        control_->held.emplace_back(std::move(request), std::move(on_done));
        control_->changed.notify_all();
        return;
      }
    }
    on_done(fail ? std::variant<Response, ItemError>(*fail) : Control::answer(request));
  }

 private:
  std::shared_ptr<Control> control_;
  EngineInfo info_;
};

struct Got {
  int status = 0;
  std::string head, body;
  json parsed() const { return json::parse(body); }
  std::string header(const std::string& name) const {
    const std::size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return {};
    const std::size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

/// One connection, as raw as the tests need it.
class Client {
 public:
  Client() : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {}
  explicit Client(int port) : Client() { connect(port); }
  void connect(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  bool connected() const { return connected_; }
  int descriptor() const { return fd_; }

  void send(std::string_view text) const {
    while (!text.empty()) {
      const auto count = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (count <= 0) return;
      text.remove_prefix(static_cast<std::size_t>(count));
    }
  }
  void finish_sending() const { ::shutdown(fd_, SHUT_WR); }

  /// Reads into the buffer; false at the end of the connection or after the time.
  bool fill(std::chrono::milliseconds time = 10s) {
    pollfd wait{fd_, POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(time.count())) <= 0) return false;
    char part[65536];
    const auto count = ::recv(fd_, part, sizeof part, 0);
    if (count <= 0) {
      ended_ = true;
      return false;
    }
    buffer_.append(part, static_cast<std::size_t>(count));
    return true;
  }
  bool ended() const { return ended_; }

  /// The next answer; status 0 when none comes. head_only: of a HEAD request.
  Got read(bool head_only = false) {
    Got got;
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
      if (!fill()) return got;
    }
    got.head = buffer_.substr(0, end + 2);
    buffer_.erase(0, end + 4);
    got.status = std::stoi(got.head.substr(9, 3));
    const std::string length = got.header("Content-Length");
    const std::size_t size = head_only || length.empty() ? 0 : std::stoul(length);
    while (buffer_.size() < size) {
      if (!fill()) return Got{};
    }
    got.body = buffer_.substr(0, size);
    buffer_.erase(0, size);
    return got;
  }

  Got get(const std::string& path) {
    send("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    return read();
  }
  Got post(const std::string& path, const std::string& body, const std::string& headers = "") {
    send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    return read();
  }

 private:
  int fd_ = -1;
  bool connected_ = false, ended_ = false;
  std::string buffer_;
};

inline const std::string kText = R"({"input":"a text"})";

class ServerTest : public ::testing::Test {
 protected:
  void start(EncoderFactory factory = {}) {
    options.port = 0;
    if (!factory) {
      factory = [control = control](const ServerOptions&) { return std::make_unique<FakeEncoder>(control); };
    }
    server.emplace(options, std::move(factory));
    server->start();
  }
  void start_ready() {
    options.engine.model = "fake";
    start();
    ASSERT_TRUE(eventually([&] { return server->ready(); }));
  }
  static bool eventually(const std::function<bool()>& holds) {
    for (int i = 0; i < 1000; ++i) {
      if (holds()) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  ServerOptions options;
  std::shared_ptr<Control> control = std::make_shared<Control>();
  std::optional<Server> server;
};

}  // namespace tandem::server
