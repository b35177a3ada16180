#include "server/tls.h"

#include <openssl/ssl.h>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::server {

namespace ssl = boost::asio::ssl;

Tls::Tls(std::string certificate, std::string key) : certificate_(std::move(certificate)), key_(std::move(key)) {
  if (certificate_.empty() || key_.empty()) {
    throw Error(Code::invalid_argument, "TLS needs a certificate and its key: give both --tls-cert and --tls-key");
  }
  context_ = read();
}

std::shared_ptr<ssl::context> Tls::read() const {
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  context->set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                       ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 | ssl::context::single_dh_use |
                       SSL_OP_NO_RENEGOTIATION);
  // A key with a pass phrase must be an error here, not a question on the terminal.
  context->set_password_callback([](std::size_t, ssl::context::password_purpose) { return std::string(); });
  const auto use = [](const std::string& path, const char* what, const auto& load) {
    boost::system::error_code error;
    load(error);
    if (error) throw Error(Code::bad_data, cat("cannot use ", path, " as ", what, " (PEM): ", error.message()));
  };
  use(certificate_, "the certificate",
      [&](boost::system::error_code& error) { context->use_certificate_chain_file(certificate_, error); });
  use(key_, "the certificate's key",
      [&](boost::system::error_code& error) { context->use_private_key_file(key_, ssl::context::pem, error); });
  if (SSL_CTX_check_private_key(context->native_handle()) != 1) {
    throw Error(Code::bad_data, cat("the key ", key_, " does not belong to the certificate ", certificate_));
  }
  return context;
}

std::shared_ptr<ssl::context> Tls::context() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

void Tls::reload() {
  auto fresh = read();
  const std::lock_guard lock(mutex_);
  context_ = std::move(fresh);
}

}  // namespace tandem::server
