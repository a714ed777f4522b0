#include "server/observe/log.h"

#include <cmath>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "server/observe/line_budget.h"
#include "spdlog/sinks/base_sink.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace ckpt::observe {
namespace {

class CallbackSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit CallbackSink(std::function<void(const std::string&)> callback)
      : callback_(std::move(callback)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    callback_(std::string(message.payload.data(), message.payload.size()));
  }
  void flush_() override {}

 private:
  const std::function<void(const std::string&)> callback_;
};

// The lines are made here; spdlog filters, serializes and writes them.
struct Writer {
  explicit Writer(LogOptions options)
      : format(options.format), minimum(options.minimum), clock(std::move(options.clock)) {
    spdlog::sink_ptr sink;
    if (options.sink) {
      sink = std::make_shared<CallbackSink>(std::move(options.sink));
    } else {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    }
    logger = std::make_shared<spdlog::logger>("ckptd", std::move(sink));
    logger->set_pattern("%v");
    logger->set_level(spdlog::level::trace);
    logger->flush_on(spdlog::level::trace);
  }
  absl::Time Now() const { return clock ? clock() : absl::Now(); }
  void Write(const std::string& line) const {
    logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
  }

  LineFormat format;
  Severity minimum;
  std::function<absl::Time()> clock;
  std::shared_ptr<spdlog::logger> logger;
  mutable LineBudget budget;
};

char LetterOf(Severity severity) { return "DIWE"[static_cast<int>(severity)]; }

// Replaced as a whole; a thread that logs meanwhile keeps the old one alive.
std::shared_ptr<const Writer>& Current() {
  static auto* current = new std::shared_ptr<const Writer>(std::make_shared<Writer>(LogOptions{}));
  return *current;
}

absl::string_view SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kDebug:
      return "debug";
    case Severity::kInfo:
      return "info";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "error";
}

// Length of the valid UTF-8 sequence that starts at `text[at]`; 0 where there is none.
size_t Utf8Length(absl::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 0;
  if (length == 0 || lead > 0xF4 || at + length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return 0;
  }
  const unsigned char second = byte(at + 1);
  if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
      (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
    return 0;
  }
  return length;
}

// Appends `text` as the inside of a JSON string; bytes that are no UTF-8 become U+FFFD.
void AppendEscaped(std::string& out, absl::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = Utf8Length(text, i);
    if (length == 0) {
      out += "\\ufffd";
      ++i;
      continue;
    }
    if (length > 1) {
      out.append(text.data() + i, length);
      i += length;
      continue;
    }
    const char c = text[i++];
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
          absl::StrAppendFormat(&out, "\\u%04x", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
}

void AppendQuoted(std::string& out, absl::string_view text) {
  out += '"';
  AppendEscaped(out, text);
  out += '"';
}

bool IsPlainWord(absl::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (c <= 0x20 || c >= 0x7F || c == '"' || c == '=' || c == '\\') return false;
  }
  return true;
}

void AppendText(std::string& out, const Field& field) {
  absl::StrAppend(&out, " ", field.name(), "=");
  std::visit(
      [&out](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string>) {
          if (IsPlainWord(value)) {
            out += value;
          } else {
            AppendQuoted(out, value);
          }
        } else if constexpr (std::is_same_v<T, bool>) {
          out += value ? "true" : "false";
        } else {
          absl::StrAppend(&out, value);
        }
      },
      field.value());
}

void AppendJson(std::string& out, const Field& field) {
  out += ',';
  AppendQuoted(out, field.name());
  out += ':';
  std::visit(
      [&out](const auto& value) {
        using T = std::decay_t<decltype(value)>;
        if constexpr (std::is_same_v<T, std::string>) {
          AppendQuoted(out, value);
        } else if constexpr (std::is_same_v<T, bool>) {
          out += value ? "true" : "false";
        } else if constexpr (std::is_same_v<T, double>) {
          if (std::isfinite(value)) {
            absl::StrAppendFormat(&out, "%.17g", value);
          } else {
            out += "null";
          }
        } else {
          absl::StrAppend(&out, value);
        }
      },
      field.value());
}

}  // namespace

absl::StatusOr<Severity> ParseSeverity(absl::string_view text) {
  for (const Severity severity :
       {Severity::kDebug, Severity::kInfo, Severity::kWarning, Severity::kError}) {
    if (text == SeverityName(severity)) return severity;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("expected debug, info, warning or error, got '", text, "'"));
}

absl::StatusOr<LineFormat> ParseLineFormat(absl::string_view text) {
  if (text == "text") return LineFormat::kText;
  if (text == "json") return LineFormat::kJson;
  return absl::InvalidArgumentError(absl::StrCat("expected text or json, got '", text, "'"));
}

void ConfigureLog(LogOptions options) {
  std::atomic_store(&Current(),
                    std::shared_ptr<const Writer>(std::make_shared<Writer>(std::move(options))));
}

std::string FormatLine(LineFormat format, absl::Time time, Severity severity,
                       absl::string_view event, Fields fields, uint64_t left_out) {
  const Field more("left_out", left_out);
  const std::string stamp = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone());
  std::string line;
  if (format == LineFormat::kJson) {
    absl::StrAppend(&line, "{\"time\":\"", stamp, "\",\"level\":\"", SeverityName(severity),
                    "\",\"event\":");
    AppendQuoted(line, event);
    for (const Field& field : fields) AppendJson(line, field);
    if (left_out > 0) AppendJson(line, more);
    line += '}';
    return line;
  }
  const char letter = LetterOf(severity);
  absl::StrAppend(&line, stamp, " ", absl::string_view(&letter, 1), " ");
  AppendEscaped(line, event);
  for (const Field& field : fields) AppendText(line, field);
  if (left_out > 0) AppendText(line, more);
  return line;
}

void Event(Severity severity, absl::string_view event, Fields fields) {
  const std::shared_ptr<const Writer> writer = std::atomic_load(&Current());
  if (severity < writer->minimum) return;
  const absl::Time now = writer->Now();
  const std::optional<uint64_t> left_out = writer->budget.Admit(LetterOf(severity), event, now);
  if (!left_out.has_value()) return;
  writer->Write(FormatLine(writer->format, now, severity, event, fields, *left_out));
}

void TellLeftOut() {
  const std::shared_ptr<const Writer> writer = std::atomic_load(&Current());
  for (const auto& [event, left_out] : writer->budget.TakeLeftOut()) {
    writer->Write(FormatLine(writer->format, writer->Now(), Severity::kWarning,
                             "lines were left out", {{"of", event}}, left_out));
  }
}

}  // namespace ckpt::observe
