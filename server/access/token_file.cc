#include "server/access/token_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/digest.h"
#include "common/quoted.h"
#include "common/status_macros.h"
#include "server/observe/log.h"

namespace ckpt {
namespace {

constexpr off_t kFileBytesMax = 1 << 20;
constexpr size_t kHashDigits = 64;
constexpr size_t kNameBytesMax = 100;
// File systems tell times by the tick of a clock, some by the second.
constexpr absl::Duration kTimesAreSureAfter = absl::Seconds(3);

bool IsHash(absl::string_view word) {
  if (word.size() != kHashDigits) return false;
  for (const char c : word) {
    if (!absl::ascii_isxdigit(c)) return false;
  }
  return true;
}

bool IsName(absl::string_view word) {
  if (word.size() > kNameBytesMax) return false;
  for (const char c : word) {
    if (!absl::ascii_isalnum(c) && c != '.' && c != '_' && c != '-') return false;
  }
  return true;
}

absl::Status Wrong(const std::string& path, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--token-file: ", path, what));
}

}  // namespace

absl::StatusOr<TokenRights> ParseTokenFile(absl::string_view text, const std::string& name) {
  absl::flat_hash_map<std::string, std::shared_ptr<Rights>> tokens;
  int number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    const auto wrong = [&](absl::string_view what) {
      return absl::InvalidArgumentError(absl::StrCat(name, ":", number, ": ", what));
    };
    const std::vector<absl::string_view> words =
        absl::StrSplit(line, absl::ByAnyChar(" \t"), absl::SkipEmpty());
    // What stands there instead of a hash may be a token: it is not repeated.
    if (!IsHash(words[0])) {
      return wrong("a line begins with the token's SHA-256, 64 hex digits: printf %s \"$TOKEN\" | "
                   "sha256sum");
    }
    if (words.size() != 4) {
      return wrong(
          absl::StrCat("expected SHA256 NAME PATTERN VERBS, got ", words.size(), " words"));
    }
    if (!IsName(words[1])) {
      return wrong(absl::StrCat("a name is at most ", kNameBytesMax,
                                " letters, digits, '.', '_' and '-', got ", Quoted(words[1])));
    }
    absl::StatusOr<RunPattern> pattern = RunPattern::Parse(words[2]);
    if (!pattern.ok()) return wrong(pattern.status().message());
    const std::optional<Verb> verb = ParseVerbs(words[3]);
    if (!verb.has_value()) {
      return wrong(absl::StrCat("verbs are a comma list of read, write and admin, got ",
                                Quoted(words[3])));
    }
    const std::string whose = absl::StrCat("token ", words[1]);
    std::shared_ptr<Rights>& rights = tokens[absl::HexStringToBytes(words[0])];
    if (rights == nullptr) rights = std::make_shared<Rights>(whose);
    if (rights->name() != whose) {
      return wrong(absl::StrCat("one token has two names: ", rights->name(), " above, ", whose,
                                " here"));
    }
    rights->Add(*std::move(pattern), *verb);
  }
  return TokenRights(tokens.begin(), tokens.end());
}

TokenFile::Version TokenFile::VersionOf(const struct stat& file) {
  const auto nanoseconds = [](const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {file.st_dev,  file.st_ino, file.st_size, file.st_mode, nanoseconds(file.st_mtim),
          nanoseconds(file.st_ctim)};
}

absl::StatusOr<std::unique_ptr<TokenFile>> TokenFile::Open(std::string path,
                                                           absl::Duration look_every) {
  std::unique_ptr<TokenFile> file(new TokenFile(std::move(path), look_every));
  MutexLock lock(file->mutex_);
  CKPT_RETURN_IF_ERROR(file->Read());
  return file;
}

absl::Status TokenFile::Read() {
  looked_at_ = absl::Now();
  const int descriptor = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    version_ = Version();
    return Wrong(path_, absl::StrCat(" cannot be read: ", std::strerror(errno)));
  }
  struct stat file {};
  std::string text;
  absl::Status status;
  if (fstat(descriptor, &file) != 0 || !S_ISREG(file.st_mode)) {
    status = Wrong(path_, " is no file");
  } else if (file.st_size > kFileBytesMax) {
    status = Wrong(path_, " is too long");
  } else if ((file.st_mode & S_IWOTH) != 0) {
    status =
        Wrong(path_, " may be written by everybody, who could give himself any right: chmod o-w");
  } else {
    text.resize(static_cast<size_t>(file.st_size));
    size_t got = 0;
    while (got < text.size()) {
      const ssize_t some = read(descriptor, text.data() + got, text.size() - got);
      if (some < 0 && errno == EINTR) continue;
      if (some <= 0) break;
      got += static_cast<size_t>(some);
    }
    if (got < text.size()) status = Wrong(path_, " got shorter while it was read");
  }
  close(descriptor);
  version_ = VersionOf(file);
  may_have_changed_ = looked_at_ - absl::TimeFromTimespec(file.st_mtim) < kTimesAreSureAfter;
  CKPT_RETURN_IF_ERROR(status);
  absl::StatusOr<TokenRights> parsed = ParseTokenFile(text, absl::StrCat("--token-file: ", path_));
  CKPT_RETURN_IF_ERROR(parsed.status());
  tokens_ = *std::move(parsed);
  return absl::OkStatus();
}

void TokenFile::LookAgain() {
  const absl::Time now = absl::Now();
  if (now < looked_at_ + look_every_ && now >= looked_at_) return;
  looked_at_ = now;
  struct stat file {};
  const bool there = stat(path_.c_str(), &file) == 0;
  if (there && !may_have_changed_ && VersionOf(file) == version_) return;
  const Version before = version_;
  absl::Status status = Read();
  if (status.ok() && (version_ != before || !last_error_.ok())) {
    observe::Info("token file read", {{"file", path_}, {"tokens", tokens_.size()}});
  } else if (status != last_error_) {
    observe::Error("token file is wrong: what it said before holds on", {{"error", status}});
  }
  last_error_ = std::move(status);
}

std::shared_ptr<const Rights> TokenFile::Find(absl::string_view token) {
  const std::string hash = Sha256(token);
  MutexLock lock(mutex_);
  LookAgain();
  const auto found = tokens_.find(hash);
  return found == tokens_.end() ? nullptr : found->second;
}

}  // namespace ckpt
