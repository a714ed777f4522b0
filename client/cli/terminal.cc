#include "client/cli/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/output.h"
#include "common/byte_size.h"

namespace ckpt::cli {
namespace {

constexpr int kBarCells = 30;
constexpr absl::Duration kRedraw = absl::Milliseconds(100);

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), shown_(isatty(STDERR_FILENO) == 1), started_(absl::Now()) {}

ProgressBar::~ProgressBar() {
  if (shown_ && drawn_ != absl::InfinitePast()) std::fputs("\r\x1b[K", stderr);
}

void ProgressBar::Show(uint64_t bytes_done, uint64_t bytes_total) {
  const absl::Time now = absl::Now();
  if (!shown_ || now - drawn_ < kRedraw) return;
  drawn_ = now;
  const double share =
      bytes_total == 0
          ? 1.0
          : std::min(1.0, static_cast<double>(bytes_done) / static_cast<double>(bytes_total));
  const int full = static_cast<int>(share * kBarCells);
  const double seconds = std::max(0.001, absl::ToDoubleSeconds(now - started_));
  const auto rate = static_cast<uint64_t>(static_cast<double>(bytes_done) / seconds);
  const std::string line =
      absl::StrFormat("\r\x1b[K%s [%s%s] %3d%%  %s of %s  %s/s", label_, std::string(full, '#'),
                      std::string(kBarCells - full, '.'), static_cast<int>(share * 100),
                      PrintByteSize(bytes_done), PrintByteSize(bytes_total), PrintByteSize(rate));
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

void PrintError(const absl::Status& status) {
  std::fflush(stdout);
  const std::vector<std::string> lines = absl::StrSplit(status.message(), '\n');
  for (size_t i = 0; i < lines.size(); ++i) {
    std::fprintf(stderr, "%s%s\n", i == 0 ? "ckptctl: " : "  ", Printable(lines[i]).c_str());
  }
}

absl::Status Confirm(bool yes, absl::string_view what) {
  if (yes) return absl::OkStatus();
  if (isatty(STDIN_FILENO) != 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("nobody can be asked, as stdin is not a terminal: give --yes to ", what));
  }
  std::fprintf(stderr, "%s? [y/N] ", std::string(what).c_str());
  std::fflush(stderr);
  char answer[16] = {};
  if (std::fgets(answer, sizeof(answer), stdin) != nullptr &&
      (answer[0] == 'y' || answer[0] == 'Y')) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError("not confirmed: nothing was done");
}

}  // namespace ckpt::cli
