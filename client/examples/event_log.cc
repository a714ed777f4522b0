#include "client/examples/event_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace train_lm {
namespace {

std::string Quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      absl::StrAppendFormat(&out, "\\u%04x", c);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace

absl::StatusOr<EventLog> EventLog::Open(const std::string& path, int rank) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  return EventLog(fd, rank);
}

EventLog::~EventLog() {
  if (fd_ >= 0) ::close(fd_);
}

void EventLog::Write(const std::string& event,
                     std::initializer_list<std::pair<const char*, Value>> fields) const {
  std::string line = absl::StrFormat("{\"time\":%.6f,\"rank\":%d,\"event\":\"%s\"",
                                     absl::ToUnixMicros(absl::Now()) / 1e6, rank_, event);
  for (const auto& [name, value] : fields) {
    absl::StrAppend(&line, ",\"", name, "\":");
    if (const auto* number = std::get_if<int64_t>(&value)) {
      absl::StrAppend(&line, *number);
    } else if (const auto* real = std::get_if<double>(&value)) {
      absl::StrAppendFormat(&line, "%.6g", *real);
    } else {
      absl::StrAppend(&line, Quoted(std::get<std::string>(value)));
    }
  }
  line += "}\n";
  if (::write(fd_, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    std::fprintf(stderr, "train_lm: an event was not written: %s", line.c_str());
  }
}

absl::Status AppendLine(const std::string& path, const std::string& line) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  const std::string whole = line + "\n";
  const ssize_t written = ::write(fd, whole.data(), whole.size());
  const int error = errno;
  ::close(fd);
  if (written != static_cast<ssize_t>(whole.size())) {
    return absl::ErrnoToStatus(error, absl::StrCat("cannot append to ", path));
  }
  return absl::OkStatus();
}

}  // namespace train_lm
