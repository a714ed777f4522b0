// A committed part as a reader walks it: leaf by leaf in the order of printed keys, hashes and
// values as they are asked for. From the index; from its manifest's file, which is the truth, as
// soon as the index cannot give something. Only then is a whole manifest in memory.
#ifndef CKPT_SERVER_RPC_COMMITTED_PART_H_
#define CKPT_SERVER_RPC_COMMITTED_PART_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/ids.h"
#include "server/index/index.h"
#include "server/storage/data_folder.h"

namespace ckpt {

// DATA_LOSS: what is wrong with a committed part, whose, and what to do now.
absl::Status DamageOf(const v1::CheckpointId& checkpoint, uint32_t rank, absl::string_view what);

// One thread. Errors of every call: NOT_FOUND: deleted meanwhile. DATA_LOSS: the manifest's file is
// needed and missing or damaged (names it), or its layout, files and hashes do not belong together.
class CommittedPart {
 public:
  static absl::StatusOr<std::unique_ptr<CommittedPart>> Open(Index* index, DataFolder* folder,
                                                             CheckpointUid uid,
                                                             const v1::PartReference& reference);

  // Without layout, values and hashes.
  const v1::PartManifest& head() const { return head_; }
  uint32_t rank() const { return head_.rank(); }

  // As LeafCursor's; it stands nowhere before the first Seek.
  absl::Status Seek(absl::string_view key);
  absl::Status Next();
  bool valid() const { return cursor_ != nullptr && cursor_->valid(); }
  const LeafCursor& leaf() const { return *cursor_; }

  // Appends the hashes of blocks [first, first + count).
  absl::Status ReadHashes(uint64_t first, uint64_t count,
                          google::protobuf::RepeatedField<uint64_t>* hashes);
  // Of the leaf at hand; null where this part has none. Valid until the next call.
  absl::StatusOr<const v1::Value*> FindValue();
  // The data file's entry. DATA_LOSS: there is no such file.
  absl::StatusOr<const v1::DataFile*> file(uint32_t number) const;
  // Why a file of this part is missing or unreadable: NOT_FOUND, the checkpoint was deleted
  // meanwhile; otherwise DamageOf.
  absl::Status Damage(absl::string_view what) const;

 private:
  // In the order of keys, hashes of up to four element sizes take turns.
  static constexpr size_t kHashRowsKept = 4;
  struct HashRow {
    uint64_t number = UINT64_MAX;
    std::vector<uint64_t> hashes;
  };

  CommittedPart(Index* index, DataFolder* folder, CheckpointUid uid,
                const v1::PartReference& reference)
      : index_(index), folder_(folder), uid_(uid), reference_(reference) {}
  absl::Status ReadFile();
  absl::Status OpenCursor();
  const HashRow* FindHashRow(uint64_t number);

  Index* const index_;
  DataFolder* const folder_;
  const CheckpointUid uid_;
  const v1::PartReference reference_;
  v1::PartManifest head_;
  std::unique_ptr<LeafCursor> cursor_;
  std::string last_;  // the key that a failed step began at
  std::array<HashRow, kHashRowsKept> hash_rows_;  // last used first
  std::optional<ValueRow> value_row_;
  std::optional<v1::PartManifest> file_;  // once it was read; without its layout
};

}  // namespace ckpt

#endif  // CKPT_SERVER_RPC_COMMITTED_PART_H_
