// The file of --token-file: which bearer token may do what to which runs. One rule a line; several
// lines may give one token several rules.
//
//     # sha256 of the token             name    runs        verbs
//     9f86d081884c7d659a2feaa0c55a...   team-a  team-a/**   read,write
//     9f86d081884c7d659a2feaa0c55a...   team-a  shared/*    read
//     60303ae22b998861bce3b28f33ee...   ops     **          admin
//
// Only hashes stand in it, so it gives nobody a token; whoever can write it, though, can give
// himself any right, so one that everybody may write is refused. Hashes are plain: a token must be
// random, not a word (`openssl rand -hex 32`), and its line begins with what
// `printf %s "$TOKEN" | sha256sum` prints.
//
// It is looked at again while it is in use, so that rights come and go without a restart: a change
// holds for calls that begin a second later. Calls that are at work keep what they began with.
#ifndef CKPT_SERVER_ACCESS_TOKEN_FILE_H_
#define CKPT_SERVER_ACCESS_TOKEN_FILE_H_

#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/mutex.h"
#include "server/access/rights.h"

namespace ckpt {

// By the token's SHA-256, 32 raw bytes.
using TokenRights = absl::flat_hash_map<std::string, std::shared_ptr<const Rights>>;

// INVALID_ARGUMENT names the line and what is wrong with it. `name` goes into errors.
absl::StatusOr<TokenRights> ParseTokenFile(absl::string_view text, const std::string& name);

// Thread-safe.
class TokenFile {
 public:
  // INVALID_ARGUMENT: it cannot be read, everybody may write it, or a line is wrong.
  static absl::StatusOr<std::unique_ptr<TokenFile>> Open(
      std::string path, absl::Duration look_every = absl::Seconds(1));

  // Null: nobody's token. Reads the file again where it has changed and was not looked at for a
  // second; a version that is wrong is logged, and the one before it holds on.
  std::shared_ptr<const Rights> Find(absl::string_view token);

 private:
  TokenFile(std::string path, absl::Duration look_every)
      : path_(std::move(path)), look_every_(look_every) {}
  // Device, inode, length, mode, modified and changed (ns): another version of the file differs in
  // one.
  using Version = std::tuple<dev_t, ino_t, off_t, mode_t, int64_t, int64_t>;
  static Version VersionOf(const struct stat& file);
  void LookAgain() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Read() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  const absl::Duration look_every_;
  Mutex mutex_;
  absl::Time looked_at_ ABSL_GUARDED_BY(mutex_);
  Version version_ ABSL_GUARDED_BY(mutex_);  // the last one that was looked at, good or bad
  // The version was read so soon after it was written that a second write need not show in it.
  bool may_have_changed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status last_error_ ABSL_GUARDED_BY(mutex_);
  TokenRights tokens_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace ckpt

#endif  // CKPT_SERVER_ACCESS_TOKEN_FILE_H_
