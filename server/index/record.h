// How rows are serialized: fixed-width little-endian integers and length-prefixed protobufs.
// Decoding says DATA_LOSS with the way out.
#ifndef CKPT_SERVER_INDEX_RECORD_H_
#define CKPT_SERVER_INDEX_RECORD_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/index/index.h"

namespace ckpt::index_records {

// The text that every error about a damaged index ends with.
absl::Status Damaged(absl::string_view what);

std::string Encode(const CheckpointRecord& record);
absl::StatusOr<CheckpointRecord> DecodeCheckpoint(absl::string_view row);

// A row of values, apart from where it begins, which its key says.
std::string EncodeValues(const v1::Values& values, absl::string_view until);
absl::StatusOr<ValueRow> DecodeValues(absl::string_view row);

std::string EncodeHashes(absl::Span<const uint64_t> hashes);
absl::StatusOr<std::vector<uint64_t>> DecodeHashes(absl::string_view row);

// Totals of a run, and the greatest incarnation that was ever seen of it.
struct RunRow {
  uint64_t checkpoint_count = 0;
  uint64_t data_bytes = 0;
  Incarnation newest_incarnation;
};
std::string Encode(const RunRow& row);
absl::StatusOr<RunRow> DecodeRun(absl::string_view row);

struct AbortedRow {
  absl::Time aborted_at;
  v1::CheckpointInfo info;
};
std::string Encode(const AbortedRow& row);
absl::StatusOr<AbortedRow> DecodeAborted(absl::string_view row);

std::string Encode(const DamageRecord& damage);
absl::StatusOr<DamageRecord> DecodeDamage(absl::string_view row);

std::string EncodeCount(uint64_t count);
absl::StatusOr<uint64_t> DecodeCount(absl::string_view row);

}  // namespace ckpt::index_records

#endif  // CKPT_SERVER_INDEX_RECORD_H_
