#include "server/quota/quota_file.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/run_sections.h"
#include "common/status_macros.h"

namespace ckpt {
namespace {

absl::Status Unlike(absl::string_view expected, absl::string_view got) {
  return absl::InvalidArgumentError(
      absl::StrCat("expected ", expected, ", got '", absl::CHexEscape(got.substr(0, 100)), "'"));
}

absl::Status SetBytes(absl::string_view value, uint64_t min, uint64_t& limit) {
  CKPT_ASSIGN_OR_RETURN(limit, ParseByteSize(value));
  if (limit < min) return Unlike(absl::StrCat("a size of at least ", PrintByteSize(min)), value);
  return absl::OkStatus();
}

absl::Status SetCount(absl::string_view value, uint64_t& limit) {
  if (!absl::SimpleAtoi(value, &limit) || limit == 0) return Unlike("a number from 1", value);
  return absl::OkStatus();
}

absl::Status SetQuota(absl::string_view rule, absl::string_view value, QuotaAmounts& limits) {
  if (rule == "disk-bytes") return SetBytes(value, 1, limits.disk_bytes);
  if (rule == "memory-bytes") return SetBytes(value, kMemoryQuotaMin, limits.memory_bytes);
  if (rule == "checkpoints") return SetCount(value, limits.checkpoints);
  if (rule == "open-saves") return SetCount(value, limits.open_saves);
  return absl::NotFoundError(
      absl::StrCat("no quota '", absl::CHexEscape(rule.substr(0, 100)),
                   "'; there are disk-bytes, memory-bytes, checkpoints, open-saves"));
}

}  // namespace

absl::StatusOr<std::vector<QuotaSection>> ParseQuotaFile(absl::string_view text,
                                                         const std::string& name) {
  std::vector<QuotaAmounts> limits;
  const auto set = [&limits](size_t section, absl::string_view rule, absl::string_view value) {
    if (limits.size() <= section) limits.resize(section + 1);
    return SetQuota(rule, value, limits[section]);
  };
  CKPT_ASSIGN_OR_RETURN(const std::vector<RunSection> found, ParseRunSections(text, name, set));
  limits.resize(found.size());
  std::vector<QuotaSection> sections;
  for (size_t i = 0; i < found.size(); ++i) {
    sections.push_back(
        {.pattern = found[i].pattern, .limits = limits[i], .where = found[i].where});
  }
  return sections;
}

absl::StatusOr<std::vector<QuotaSection>> ReadQuotaFile(const std::string& path) {
  CKPT_ASSIGN_OR_RETURN(const std::string text, ReadRunSections("quota-file", path));
  return ParseQuotaFile(text, path);
}

}  // namespace ckpt
