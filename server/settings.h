// The table of settings: one row for each, with its name, help, default and how its text is
// understood. Flags, environment, file and help text are all made from it (config.cc).
#ifndef CKPT_SERVER_SETTINGS_H_
#define CKPT_SERVER_SETTINGS_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/config.h"

namespace ckpt {

struct Setting {
  const char* name;  // as a flag, without the dashes
  const char* group;
  const char* value;     // what to write after it; empty: a switch
  const char* fallback;  // the default, as people read it
  const char* help;
  // INVALID_ARGUMENT says what was expected and what came.
  absl::Status (*apply)(Config& config, absl::string_view value);
};

const std::vector<Setting>& Settings();
const Setting* FindSetting(absl::string_view name);  // null: unknown

inline constexpr uint64_t kMemoryBudgetMin = 1 << 20;

}  // namespace ckpt

#endif  // CKPT_SERVER_SETTINGS_H_
