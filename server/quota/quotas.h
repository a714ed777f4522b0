// What the runs of one section may have together, and whether there is room for one more. Pure: who
// asks has counted what is used (staging/table_quota.cc).
//
// Every refusal is RESOURCE_EXHAUSTED and names quota, section, limit and what is used.
#ifndef CKPT_SERVER_QUOTA_QUOTAS_H_
#define CKPT_SERVER_QUOTA_QUOTAS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "common/run_pattern.h"

namespace ckpt {

// Of a section: its limits, where 0 is none, or what is used of them.
struct QuotaAmounts {
  uint64_t disk_bytes = 0;    // committed, and of parts that were let in
  uint64_t memory_bytes = 0;  // staging memory of parts that are not durable
  uint64_t checkpoints = 0;   // committed, and alive
  uint64_t open_saves = 0;    // alive: neither committed nor aborted
};

struct QuotaSection {
  RunPattern pattern;
  QuotaAmounts limits;
  std::string where;  // "/etc/ckptd-quota.conf:2 [team/*]"
};

// Immutable.
class Quotas {
 public:
  Quotas() = default;  // nothing is limited
  explicit Quotas(std::vector<QuotaSection> sections) : sections_(std::move(sections)) {}

  const std::vector<QuotaSection>& sections() const { return sections_; }
  // The first whose pattern matches; nullopt: nothing limits the run.
  std::optional<size_t> SectionOf(absl::string_view run) const;

 private:
  std::vector<QuotaSection> sections_;
};

// May one more checkpoint be begun? `adds` is 0 where it replaces one that is committed.
absl::Status AdmitCheckpoint(const QuotaSection& section, const QuotaAmounts& used, uint64_t adds);
// May a part with so many bytes of data be let in?
absl::Status AdmitPart(const QuotaSection& section, const QuotaAmounts& used, uint64_t data_bytes);

// How much memory a part gets. A part larger than the quota goes through a ring of at most a
// quarter of it, so that several can be under way; so does, if its caller would rather not wait,
// one for which there is no room at present.
struct MemoryShare {
  uint64_t bytes = 0;  // 0: not now
  bool ring = false;
};
MemoryShare ShareMemory(const QuotaSection& section, uint64_t used_bytes, uint64_t part_bytes,
                        bool rather_ring);
// What to say where there is none.
absl::Status MemoryUsedUp(const QuotaSection& section, uint64_t used_bytes, uint64_t part_bytes);

inline constexpr uint64_t kMemoryQuotaMin = 1 << 20;
inline constexpr uint64_t kQuotaRingBytesMin = 64 << 10;
static_assert(kMemoryQuotaMin / 4 >= kQuotaRingBytesMin);

}  // namespace ckpt

#endif  // CKPT_SERVER_QUOTA_QUOTAS_H_
