#include "server/daemon/tls_files.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/status_macros.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

constexpr size_t kFileBytesMax = 1 << 20;

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
};
using Bio = std::unique_ptr<BIO, Free>;
using Certificate = std::unique_ptr<X509, Free>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Free>;

// OpenSSL's errors are the thread's: gRPC, whose thread this may be, must not find ours.
class ErrorScope {
 public:
  ErrorScope() { ERR_clear_error(); }
  ~ErrorScope() { ERR_clear_error(); }
  static std::string Reason() {
    const char* reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != nullptr ? reason : "no reason given";
  }
};

absl::Status Wrong(absl::string_view setting, const std::string& path, absl::string_view why) {
  return absl::InvalidArgumentError(absl::StrCat("--", setting, ": ", path, ": ", why));
}

absl::StatusOr<std::string> Read(absl::string_view setting, const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    return Wrong(setting, path, "is a folder, not a file");
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return Wrong(setting, path, absl::StrCat("cannot be read: ", std::strerror(errno)));
  std::string text(kFileBytesMax + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return Wrong(setting, path, "cannot be read");
  text.resize(static_cast<size_t>(file.gcount()));
  if (text.size() > kFileBytesMax) return Wrong(setting, path, "is longer than 1 MiB");
  // C strings from here on.
  if (text.find('\0') != std::string::npos) return Wrong(setting, path, "is no PEM file");
  return text;
}

Bio Open(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// Instead of OpenSSL's own, which asks whoever sits at the terminal.
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writes*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

Certificate NextCertificate(BIO* pem) {
  bool asked = false;
  return Certificate(PEM_read_bio_X509(pem, nullptr, NoPassphrase, &asked));
}

// OK at the end of the file; whatever else stopped the reading is damage.
bool AtEnd() {
  const unsigned long error = ERR_peek_last_error();
  return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

absl::Status CheckCertificates(absl::string_view setting, const std::string& path,
                               const std::string& pem) {
  const ErrorScope errors;
  const Bio bio = Open(pem);
  int count = 0;
  while (NextCertificate(bio.get()) != nullptr) ++count;
  if (!AtEnd()) {
    return Wrong(setting, path,
                 absl::StrCat("certificate ", count + 1, " is damaged: ", ErrorScope::Reason()));
  }
  if (count == 0) return Wrong(setting, path, "holds no certificate in PEM (BEGIN CERTIFICATE)");
  return absl::OkStatus();
}

// As the handshake will use them.
absl::Status CheckPair(const TlsPaths& paths, const TlsMaterial& material) {
  const ErrorScope errors;
  const std::unique_ptr<SSL_CTX, Free> context(SSL_CTX_new(TLS_server_method()));
  if (context == nullptr) return absl::InternalError("OpenSSL gives no context");
  const Certificate certificate = NextCertificate(Open(material.certificate_chain).get());
  if (SSL_CTX_use_certificate(context.get(), certificate.get()) != 1) {
    return Wrong("tls-cert", paths.certificate,
                 absl::StrCat("OpenSSL does not take it: ", ErrorScope::Reason()));
  }
  // OpenSSL's word for a file without one, and for a damaged one, is the same.
  if (!absl::StrContains(material.private_key, "PRIVATE KEY-----")) {
    return Wrong("tls-key", paths.key, "holds no private key in PEM (BEGIN PRIVATE KEY)");
  }
  bool asked = false;
  const Bio bio = Open(material.private_key);
  const PrivateKey key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, &asked));
  if (asked) {
    return Wrong("tls-key", paths.key,
                 "has a passphrase, which nobody could type in: give a key without one");
  }
  if (key == nullptr) {
    return Wrong("tls-key", paths.key, absl::StrCat("is damaged: ", ErrorScope::Reason()));
  }
  if (X509_check_private_key(certificate.get(), key.get()) != 1) {
    return Wrong("tls-key", paths.key,
                 absl::StrCat("is not the key of the certificate in ", paths.certificate,
                              " (--tls-cert)"));
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1) {
    return Wrong("tls-key", paths.key,
                 absl::StrCat("OpenSSL does not take it: ", ErrorScope::Reason()));
  }
  return absl::OkStatus();
}

absl::StatusOr<TlsMaterial> ReadMaterial(const TlsPaths& paths) {
  TlsMaterial material;
  CKPT_ASSIGN_OR_RETURN(material.certificate_chain, Read("tls-cert", paths.certificate));
  CKPT_ASSIGN_OR_RETURN(material.private_key, Read("tls-key", paths.key));
  CKPT_ASSIGN_OR_RETURN(material.client_ca, Read("tls-client-ca", paths.client_ca));
  CKPT_RETURN_IF_ERROR(
      CheckCertificates("tls-cert", paths.certificate, material.certificate_chain));
  CKPT_RETURN_IF_ERROR(CheckPair(paths, material));
  CKPT_RETURN_IF_ERROR(CheckCertificates("tls-client-ca", paths.client_ca, material.client_ca));
  return material;
}

void WarnIfExpired(const TlsPaths& paths, const TlsMaterial& material) {
  const ErrorScope errors;
  const Certificate certificate = NextCertificate(Open(material.certificate_chain).get());
  if (X509_cmp_current_time(X509_get0_notAfter(certificate.get())) < 0) {
    observe::Warning("the certificate of the TCP port has expired: callers will refuse it",
                     {{"tls_cert", paths.certificate}});
  }
}

}  // namespace

absl::StatusOr<std::shared_ptr<TlsFiles>> TlsFiles::Open(TlsPaths paths) {
  std::shared_ptr<TlsFiles> files(new TlsFiles(std::move(paths)));
  const Look look = files->LookAtFiles();
  CKPT_ASSIGN_OR_RETURN(TlsMaterial material, ReadMaterial(files->paths_));
  WarnIfExpired(files->paths_, material);
  MutexLock lock(files->mutex_);
  files->taken_ = look;
  files->current_ = std::make_shared<const TlsMaterial>(std::move(material));
  return files;
}

std::shared_ptr<const TlsMaterial> TlsFiles::Current() {
  MutexLock lock(mutex_);
  // Before they are read: what changes meanwhile looks different the next time.
  const Look look = LookAtFiles();
  if (look == taken_) return current_;
  absl::StatusOr<TlsMaterial> read = ReadMaterial(paths_);
  if (read.ok()) {
    taken_ = look;
    current_ = std::make_shared<const TlsMaterial>(*std::move(read));
    WarnIfExpired(paths_, *current_);
    observe::Info("TLS files read again", {{"tls_cert", paths_.certificate}});
  } else if (look != refused_) {
    refused_ = look;
    observe::Warning("TLS files do not fit together: the earlier ones go on serving",
                     {{"reason", std::string(read.status().message())}});
  }
  return current_;
}

TlsFiles::Look TlsFiles::LookAtFiles() const {
  Look look = {};
  size_t at = 0;
  for (const std::string* path : {&paths_.certificate, &paths_.key, &paths_.client_ca}) {
    struct stat status {};
    if (::stat(path->c_str(), &status) != 0) status = {};
    for (const uint64_t part :
         {uint64_t{status.st_dev}, uint64_t{status.st_ino}, static_cast<uint64_t>(status.st_size),
          static_cast<uint64_t>(status.st_mtim.tv_sec),
          static_cast<uint64_t>(status.st_mtim.tv_nsec)}) {
      look[at++] = part;
    }
  }
  return look;
}

}  // namespace ckpt
