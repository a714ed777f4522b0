// Structured logging of the daemon: one line for each event, as text or as JSON, on standard error.
//
//   observe::Info("part staged", {{"run", id.run}, {"step", id.step}, {"rank", rank}});
//
//   2024-05-01T12:00:00.123456Z I part staged run=team/llama step=1200 rank=3
//   {"time":"2024-05-01T12:00:00.123456Z","level":"info","event":"part
//   staged","run":"team/llama","step":1200,"rank":3}
//
// The event is fixed text; what varies goes into fields. Strings may hold any bytes (a client's
// name among them): a line never has a line break or a control byte in it, and JSON is always
// valid. Each event has so many lines a second and no more (line_budget.h); the next one that is
// written says how many were left out: left_out=N. Thread-safe; never blocks on anything but
// standard error. Depends on no other room.
#ifndef CKPT_SERVER_OBSERVE_LOG_H_
#define CKPT_SERVER_OBSERVE_LOG_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <variant>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace ckpt::observe {

enum class Severity { kDebug, kInfo, kWarning, kError };
enum class LineFormat { kText, kJson };

struct LogOptions {
  LineFormat format = LineFormat::kText;
  Severity minimum = Severity::kInfo;
  // Where lines go instead of standard error (without the line break). Called from any thread, one
  // call at a time.
  std::function<void(const std::string& line)> sink;
  std::function<absl::Time()> clock;  // null: the system's
};

// "debug", "info", "warning", "error"; "text", "json". INVALID_ARGUMENT lists what is allowed.
absl::StatusOr<Severity> ParseSeverity(absl::string_view text);
absl::StatusOr<LineFormat> ParseLineFormat(absl::string_view text);

// Before the first thread that logs, or in a test. Until then: text, kInfo, standard error.
void ConfigureLog(LogOptions options);

// One key=value of a line. Keys are lower_snake_case literals.
class Field {
 public:
  Field(const char* name, const std::string& value) : name_(name), value_(value) {}
  Field(const char* name, const char* value) : name_(name), value_(std::string(value)) {}
  Field(const char* name, absl::string_view value) : name_(name), value_(std::string(value)) {}
  Field(const char* name, bool value) : name_(name), value_(value) {}
  Field(const char* name, double value) : name_(name), value_(value) {}
  Field(const char* name, const absl::Status& value) : name_(name), value_(value.ToString()) {}
  Field(const char* name, absl::Duration value)
      : name_(name), value_(absl::FormatDuration(value)) {}
  template <typename T,
            std::enable_if_t<std::is_integral_v<T> && !std::is_same_v<T, bool>, int> = 0>
  Field(const char* name, T value) : name_(name) {
    if constexpr (std::is_signed_v<T>) {
      value_ = static_cast<int64_t>(value);
    } else {
      value_ = static_cast<uint64_t>(value);
    }
  }

  const char* name() const { return name_; }
  const std::variant<std::string, bool, double, int64_t, uint64_t>& value() const { return value_; }

 private:
  const char* name_;
  std::variant<std::string, bool, double, int64_t, uint64_t> value_;
};

using Fields = std::initializer_list<Field>;

void Event(Severity severity, absl::string_view event, Fields fields);
inline void Debug(absl::string_view event, Fields fields = {}) {
  Event(Severity::kDebug, event, fields);
}
inline void Info(absl::string_view event, Fields fields = {}) {
  Event(Severity::kInfo, event, fields);
}
inline void Warning(absl::string_view event, Fields fields = {}) {
  Event(Severity::kWarning, event, fields);
}
inline void Error(absl::string_view event, Fields fields = {}) {
  Event(Severity::kError, event, fields);
}

// Tells of each event whose last lines were left out: at the end, when none follows that would.
void TellLeftOut();

// The line that Event writes, without its line break. For tests and for the sink.
std::string FormatLine(LineFormat format, absl::Time time, Severity severity,
                       absl::string_view event, Fields fields, uint64_t left_out = 0);

}  // namespace ckpt::observe

#endif  // CKPT_SERVER_OBSERVE_LOG_H_
