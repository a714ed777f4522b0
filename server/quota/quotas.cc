#include "server/quota/quotas.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"

namespace ckpt {
namespace {

constexpr uint64_t kPageBytes = 4096;

absl::Status Refused(const QuotaSection& section, absl::string_view quota, absl::string_view limit,
                     absl::string_view used, absl::string_view what_to_do) {
  return absl::ResourceExhaustedError(absl::StrCat("quota ", quota, " of section [",
                                                   section.pattern.text(), "] is used up: ", used,
                                                   ", the limit is ", limit, "; ", what_to_do));
}

absl::Status DiskUsedUp(const QuotaSection& section, const QuotaAmounts& used,
                        uint64_t data_bytes) {
  return Refused(section, "disk-bytes", PrintByteSize(section.limits.disk_bytes),
                 absl::StrCat(PrintByteSize(used.disk_bytes), " are committed or being saved",
                              data_bytes == 0 ? ""
                                              : absl::StrCat(", this part has ",
                                                             PrintByteSize(data_bytes), " more")),
                 data_bytes > section.limits.disk_bytes
                     ? "it can never fit: raise the limit"
                     : "delete checkpoints (ckptctl checkpoint rm), or retry later");
}

}  // namespace

std::optional<size_t> Quotas::SectionOf(absl::string_view run) const {
  for (size_t i = 0; i < sections_.size(); ++i) {
    if (sections_[i].pattern.Matches(run)) return i;
  }
  return std::nullopt;
}

absl::Status AdmitCheckpoint(const QuotaSection& section, const QuotaAmounts& used, uint64_t adds) {
  const QuotaAmounts& limits = section.limits;
  if (limits.open_saves > 0 && used.open_saves >= limits.open_saves) {
    return Refused(section, "open-saves", absl::StrCat(limits.open_saves),
                   absl::StrCat(used.open_saves, " checkpoints are being saved"),
                   "retry when one of them is committed");
  }
  if (limits.checkpoints > 0 && adds > 0 && used.checkpoints >= limits.checkpoints) {
    return Refused(section, "checkpoints", absl::StrCat(limits.checkpoints),
                   absl::StrCat(used.checkpoints, " are committed or being saved"),
                   "delete checkpoints (ckptctl checkpoint rm), or retry later");
  }
  // Before anybody has joined: some part of it will have bytes.
  if (limits.disk_bytes > 0 && used.disk_bytes >= limits.disk_bytes) {
    return DiskUsedUp(section, used, 0);
  }
  return absl::OkStatus();
}

absl::Status AdmitPart(const QuotaSection& section, const QuotaAmounts& used, uint64_t data_bytes) {
  const uint64_t limit = section.limits.disk_bytes;
  if (limit == 0) return absl::OkStatus();
  if (used.disk_bytes <= limit && data_bytes <= limit - used.disk_bytes) return absl::OkStatus();
  return DiskUsedUp(section, used, data_bytes);
}

MemoryShare ShareMemory(const QuotaSection& section, uint64_t used_bytes, uint64_t part_bytes,
                        bool rather_ring) {
  const uint64_t limit = section.limits.memory_bytes;
  if (limit == 0) return {part_bytes, false};
  const uint64_t free = limit - std::min(limit, used_bytes);
  if (part_bytes <= free) return {part_bytes, false};
  if (part_bytes <= limit && !rather_ring) return {};
  const uint64_t ring = std::min(limit / 4, free) / kPageBytes * kPageBytes;
  return ring >= kQuotaRingBytesMin ? MemoryShare{ring, true} : MemoryShare{};
}

absl::Status MemoryUsedUp(const QuotaSection& section, uint64_t used_bytes, uint64_t part_bytes) {
  return Refused(section, "memory-bytes", PrintByteSize(section.limits.memory_bytes),
                 absl::StrCat(PrintByteSize(used_bytes), " are held by parts that are not yet ",
                              "durable, this part has ", PrintByteSize(part_bytes)),
                 "retry later, wait, or go through a ring");
}

}  // namespace ckpt
