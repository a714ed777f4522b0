#include "client/cli/token.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

constexpr size_t kTokenBytesMax = 4096;

// gRPC would end the process over metadata that HTTP cannot carry.
absl::Status Check(const std::string& where, const std::string& token) {
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(where, " ", what));
  };
  if (token.empty()) return wrong("is empty");
  if (token.size() > kTokenBytesMax) return wrong("is too long to be a token");
  for (const char c : token) {
    if (!absl::ascii_isgraph(c)) return wrong("must hold one token, of printable characters");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadTokenFile(const std::string& path) {
  const std::string where = absl::StrCat("--token-file: ", Quoted(path));
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    const std::string text = absl::StrCat(where, " cannot be read: ", std::strerror(errno));
    return errno == ENOENT ? absl::NotFoundError(text) : absl::PermissionDeniedError(text);
  }
  struct stat file {};
  const bool open_to_all = fstat(descriptor, &file) == 0 && (file.st_mode & S_IRWXO) != 0;
  std::string text(kTokenBytesMax + 2, '\0');
  const ssize_t got = open_to_all ? 0 : read(descriptor, text.data(), text.size());
  close(descriptor);
  if (open_to_all) {
    return absl::PermissionDeniedError(absl::StrCat(
        where,
        " is open to every user of this machine: chmod o= it, and have the token replaced if "
        "others may have read it"));
  }
  if (got < 0) return absl::InvalidArgumentError(absl::StrCat(where, " cannot be read"));
  text.resize(static_cast<size_t>(got));
  std::string token(absl::StripAsciiWhitespace(text));
  CKPT_RETURN_IF_ERROR(Check(where, token));
  return token;
}

}  // namespace

absl::StatusOr<std::string> FindToken(const std::string& path) {
  if (!path.empty()) return ReadTokenFile(path);
  const char* variable = std::getenv("CKPTD_TOKEN");
  if (variable == nullptr || *variable == '\0') return std::string();
  std::string token = variable;
  CKPT_RETURN_IF_ERROR(Check("CKPTD_TOKEN", token));
  return token;
}

}  // namespace ckpt::cli
