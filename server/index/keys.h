// The keys of the index's rows. Integers are big-endian, so that rows sort as numbers do; a run
// name never contains 0x00, so that no run's rows lie between those of another.
#ifndef CKPT_SERVER_INDEX_KEYS_H_
#define CKPT_SERVER_INDEX_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"
#include "common/checkpoint_id.h"
#include "common/ids.h"

namespace ckpt::index_keys {

std::string BigEndian32(uint32_t value);
std::string BigEndian64(uint64_t value);
uint64_t ReadBigEndian64(absl::string_view eight_bytes);

std::string RunPrefix(const std::string& run);                  // run 0x00
std::string StepPrefix(const std::string& run, uint64_t step);  // run 0x00 step
std::string IncarnationPrefix(const CheckpointId& id);          // run 0x00 step incarnation
std::string Checkpoint(const CheckpointId& id, CheckpointUid uid);
std::string Part(CheckpointUid uid, uint32_t rank);
bool IsPart(absl::string_view key);  // of a row in `parts`: not one of its hashes or values
std::string PartHashes(CheckpointUid uid, uint32_t rank, uint64_t row);
std::string PartValuesPrefix(CheckpointUid uid, uint32_t rank);  // before the printed key
std::string Leaves(const std::string& digest, absl::string_view first_printed_key);
std::string File(FileId file, CheckpointUid uid);
std::string Tag(const std::string& run, const std::string& tag);
inline constexpr absl::string_view kDamagePrefix = "damaged ";  // among the index's own rows
std::string Damage(CheckpointUid uid);

// Of a row in `checkpoints` or `aborted`. nullopt: not such a key.
struct CheckpointKey {
  std::string run;
  uint64_t step = 0;
  Incarnation incarnation;
  CheckpointUid uid;
};
std::optional<CheckpointKey> ParseCheckpoint(absl::string_view key);

// The smallest key that is greater than every key with this prefix; empty: there is none.
std::string After(absl::string_view prefix);

// Ids from rows: an all-zero or short one gives "none".
template <typename Id>
Id IdOf(absl::string_view bytes) {
  auto id = Id::FromBytes(bytes, "id");
  return id.ok() ? *id : Id();
}

}  // namespace ckpt::index_keys

#endif  // CKPT_SERVER_INDEX_KEYS_H_
