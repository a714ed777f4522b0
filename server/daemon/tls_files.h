// The PEM files of the TCP port: read, checked as a whole, and looked at again for each connection,
// so that a renewed certificate or another client CA holds without a restart.
//
// Files are replaced one after the other, and not always at once: what does not fit together (a new
// key beside the old certificate, half a file) is not taken; the last set that did goes on serving.
#ifndef CKPT_SERVER_DAEMON_TLS_FILES_H_
#define CKPT_SERVER_DAEMON_TLS_FILES_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "common/mutex.h"

namespace ckpt {

struct TlsPaths {
  std::string certificate;  // the daemon's, with the chain up to its CA
  std::string key;          // of the certificate, without a passphrase
  std::string client_ca;    // whose certificates callers must show; one or more
};

struct TlsMaterial {  // PEM
  std::string certificate_chain;
  std::string private_key;
  std::string client_ca;
};

// Thread-safe.
class TlsFiles {
 public:
  // INVALID_ARGUMENT names setting, file and reason: missing, not readable, no PEM of that kind, a
  // key with a passphrase, a key of another certificate, a certificate that OpenSSL finds too weak.
  // One that has expired is only warned of: the unix socket needs none.
  static absl::StatusOr<std::shared_ptr<TlsFiles>> Open(TlsPaths paths);

  // The newest that fits together; the same object as long as the files are the same. Costs three
  // stat(2); reads only what has changed. Never null.
  std::shared_ptr<const TlsMaterial> Current();

 private:
  // What changes with a file: device, inode, size, time of modification.
  using Look = std::array<uint64_t, 15>;

  explicit TlsFiles(TlsPaths paths) : paths_(std::move(paths)) {}
  Look LookAtFiles() const;

  const TlsPaths paths_;
  Mutex mutex_;
  Look taken_ ABSL_GUARDED_BY(mutex_) = {};    // when `current_` was read
  Look refused_ ABSL_GUARDED_BY(mutex_) = {};  // said once in the log
  std::shared_ptr<const TlsMaterial> current_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_DAEMON_TLS_FILES_H_
