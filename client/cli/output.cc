#include "client/cli/output.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace ckpt::cli {
namespace {

// Columns of a terminal, near enough: code points.
size_t Width(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

void Put(absl::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string Dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

std::string Row(const std::vector<Column>& columns, const std::vector<size_t>& widths,
                const std::vector<std::string>& cells) {
  std::string line;
  for (size_t i = 0; i < columns.size(); ++i) {
    const std::string padding(widths[i] - Width(cells[i]), ' ');
    absl::StrAppend(&line, i == 0 ? "" : "  ", columns[i].right ? padding : "", cells[i],
                    columns[i].right ? "" : padding);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

// The length of the control character that `text` begins with; 0: it begins with something else.
// Terminals obey U+0080 to U+009F as well: U+009B is another way to begin an escape sequence.
size_t ControlBytes(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x20 || byte(0) == 0x7F) return 1;
  return byte(0) == 0xC2 && text.size() > 1 && byte(1) >= 0x80 && byte(1) < 0xA0 ? 2 : 0;
}

bool IsPlain(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
}

}  // namespace

absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view text) {
  if (text == "table") return OutputFormat::kTable;
  if (text == "json") return OutputFormat::kJson;
  if (text == "jsonl") return OutputFormat::kJsonLines;
  return absl::InvalidArgumentError(
      absl::StrCat("-o must be table, json or jsonl, not \"", absl::Utf8SafeCEscape(text), "\""));
}

RecordPrinter::RecordPrinter(OutputFormat format, std::vector<Column> columns)
    : format_(format), columns_(std::move(columns)) {}

void RecordPrinter::Add(const Json& record, std::vector<std::string> cells) {
  switch (format_) {
    case OutputFormat::kTable:
      for (std::string& cell : cells) cell = Printable(cell);
      rows_.push_back(std::move(cells));
      break;
    case OutputFormat::kJson:
      Put(count_ == 0 ? "[\n" : ",\n");
      Put(Dump(record, -1));
      break;
    case OutputFormat::kJsonLines:
      PrintJsonLine(record);
      break;
  }
  ++count_;
}

void RecordPrinter::Finish(absl::string_view nothing) {
  if (format_ == OutputFormat::kJson) Put(count_ == 0 ? "[]\n" : "\n]\n");
  if (format_ != OutputFormat::kTable) return;
  if (rows_.empty()) {
    Put(absl::StrCat(nothing, "\n"));
    return;
  }
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  std::vector<size_t> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    size_t width = Width(titles[i]);
    for (const auto& row : rows_) width = std::max(width, Width(row[i]));
    widths.push_back(width);
  }
  Put(Row(columns_, widths, titles));
  for (const auto& row : rows_) Put(Row(columns_, widths, row));
}

void PrintRecord(OutputFormat format, const Json& record,
                 const std::vector<std::pair<std::string, std::string>>& lines) {
  if (format != OutputFormat::kTable) {
    Put(Dump(record, format == OutputFormat::kJson ? 2 : -1));
    Put("\n");
    return;
  }
  size_t width = 0;
  for (const auto& [label, value] : lines) width = std::max(width, label.size());
  for (const auto& [label, value] : lines) {
    Put(absl::StrCat(label, ":", std::string(width - label.size() + 2, ' '), Printable(value),
                     "\n"));
  }
}

void PrintJsonLine(const Json& record) {
  Put(Dump(record, -1));
  Put("\n");
  std::fflush(stdout);
}

std::string Printable(absl::string_view text) {
  if (IsPlain(text)) return std::string(text);
  // Bytes above 0x7F stay; the trip through JSON replaces those that are not UTF-8.
  std::string escaped;
  while (!text.empty()) {
    const size_t control = ControlBytes(text);
    const absl::string_view next = text.substr(0, std::max<size_t>(control, 1));
    absl::StrAppend(&escaped, control > 0 ? absl::CEscape(next) : std::string(next));
    text.remove_prefix(next.size());
  }
  return Json::parse(Dump(Json(escaped), -1)).get<std::string>();
}

std::string Counted(uint64_t count, absl::string_view noun) {
  return absl::StrCat(count, " ", noun, count == 1 ? "" : "s");
}

std::string PrintAge(absl::Duration age) {
  const int64_t seconds = std::max<int64_t>(0, absl::ToInt64Seconds(age));
  if (seconds < 60) return absl::StrCat(seconds, "s");
  if (seconds < 3600) return absl::StrCat(seconds / 60, "m");
  if (seconds < 48 * 3600) return absl::StrCat(seconds / 3600, "h");
  return absl::StrCat(seconds / 86400, "d");
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

std::string PrintTime(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

}  // namespace ckpt::cli
