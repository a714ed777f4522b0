// What ckptctl prints: aligned tables for people, JSON (one document) or JSON lines for programs.
// Anything that came from a client (keys, run names, reasons) is escaped before it reaches a
// terminal.
#ifndef CKPT_CLIENT_CLI_OUTPUT_H_
#define CKPT_CLIENT_CLI_OUTPUT_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "google/protobuf/timestamp.pb.h"
#include "nlohmann/json.hpp"

namespace ckpt::cli {

using Json = nlohmann::ordered_json;

enum class OutputFormat { kTable, kJson, kJsonLines };
absl::StatusOr<OutputFormat> ParseOutputFormat(absl::string_view text);

struct Column {
  std::string title;
  bool right = false;
};

// A list. Tables are printed by Finish, when all widths are known; JSON lines at once; JSON as one
// array.
class RecordPrinter {
 public:
  RecordPrinter(OutputFormat format, std::vector<Column> columns);
  void Add(const Json& record, std::vector<std::string> cells);
  // `nothing` is what people read when there was no record.
  void Finish(absl::string_view nothing);

 private:
  const OutputFormat format_;
  const std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
  uint64_t count_ = 0;
};

// One thing: "label:  value" lines, or a JSON object.
void PrintRecord(OutputFormat format, const Json& record,
                 const std::vector<std::pair<std::string, std::string>>& lines);

// One JSON object on a line of its own, flushed.
void PrintJsonLine(const Json& record);

// Control characters and broken UTF-8 escaped; other text as it is.
std::string Printable(absl::string_view text);

// "1 shard", "3 shards"
std::string Counted(uint64_t count, absl::string_view noun);
// "3m", "2h", "5d": the greatest unit that fits.
std::string PrintAge(absl::Duration age);
absl::Time ToTime(const google::protobuf::Timestamp& time);
// 2024-05-01T12:00:00Z
std::string PrintTime(absl::Time time);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_OUTPUT_H_
