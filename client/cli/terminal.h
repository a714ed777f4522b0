// Talking to the person at the terminal: progress of long work, and questions before something is
// destroyed. Both use stderr and stdin; neither exists for a program.
#ifndef CKPT_CLIENT_CLI_TERMINAL_H_
#define CKPT_CLIENT_CLI_TERMINAL_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ckpt::cli {

// A bar on stderr while stderr is a terminal; nothing otherwise. One thread.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();  // clears the line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  // Redraws at most ten times a second.
  void Show(uint64_t bytes_done, uint64_t bytes_total);

 private:
  const std::string label_;
  const bool shown_;
  const absl::Time started_;
  absl::Time drawn_ = absl::InfinitePast();
};

// The status of a verb, after what it has printed on stdout. A message may have several lines (a
// list of damage), but nothing else that moves the cursor.
void PrintError(const absl::Status& status);

// OK when `yes` is set or the person at the terminal says y. FAILED_PRECONDITION otherwise: without
// a terminal nobody is asked.
absl::Status Confirm(bool yes, absl::string_view what);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TERMINAL_H_
