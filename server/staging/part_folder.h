// The folder of one part in the memory tier, and every name that staging makes in tmpfs:
//
//   <memory>/LOCK                  flock'ed by the daemon
//   <memory>/pool/<file id>        idle files, to be recycled
//   <memory>/parts/<folder id>/    one part:
//       data      the bytes (absent for a ring that is durable, and for a part without bytes)
//       layout    serialized Layout, hard-linked between parts that share it
//       plan      StagedPlan in an envelope
//       staged    link to plan: the daemon has promised to keep this part
//       durable   DurableRecord in an envelope: the part is on disk under that reference
//       committed link to plan: the checkpoint is committed; what is left here is a memory copy
//
// Each mark is made complete under a temporary name and linked into place, so that it is there
// wholly or not at all whenever the daemon is killed. tmpfs does not outlive the machine, so
// nothing is synced.
#ifndef CKPT_SERVER_STAGING_PART_FOLDER_H_
#define CKPT_SERVER_STAGING_PART_FOLDER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/ids.h"
#include "common/layout.h"
#include "server/staging/staged_plan.pb.h"

namespace ckpt {

std::string PoolFolder(const std::string& memory_folder);
std::string PartsFolder(const std::string& memory_folder);

// Calls of one part come one at a time (its owner's lock); OK from any thread.
class PartFolder {
 public:
  static absl::StatusOr<std::shared_ptr<PartFolder>> Create(const std::string& memory_folder);
  static std::shared_ptr<PartFolder> Existing(std::string path);

  std::string data_path() const { return path_ + "/data"; }
  std::string layout_path() const { return path_ + "/layout"; }
  const std::string& path() const { return path_; }

  // Links the layout from `like` (null, or a folder that has perhaps been removed), else writes it.
  absl::Status WriteLayout(const PartLayout& layout, const PartFolder* like);
  absl::Status WritePlan(const staging::StagedPlan& plan);
  // In this order, each once.
  absl::Status MarkStaged();
  absl::Status MarkDurable(const v1::PartReference& reference);
  absl::Status MarkCommitted();
  // Takes the promise back: the next daemon will not adopt the part. Before anybody hears of an
  // abort.
  void Unstage();
  // All but `data`; then the folder, if `data` is gone.
  void Remove();
  // Of an earlier daemon's folder, once those that are of no use are gone: what they share counts
  // by its share.
  void CountRecords();
  // Bytes of pages that plan, layout (where this one wrote it) and marks occupy.
  uint64_t record_bytes() const { return record_bytes_; }

 private:
  explicit PartFolder(std::string path) : path_(std::move(path)) {}
  absl::Status Put(const std::string& name, absl::string_view bytes);
  const std::string path_;
  std::atomic<uint64_t> record_bytes_{0};
};

// What a folder of an earlier daemon says.
struct FoundPart {
  std::shared_ptr<PartFolder> folder;
  staging::StagedPlan plan;
  std::optional<v1::PartReference> durable;
  bool committed = false;
  bool has_data = false;
  absl::Status damage;  // a record that does not read: nothing else is set
};
// nullopt: never staged, and removed.
std::optional<FoundPart> ReadPartFolder(const std::string& path);
// The layout that lies beside a found part. DATA_LOSS.
absl::StatusOr<std::shared_ptr<const PartLayout>> ReadLayout(const FoundPart& part);

}  // namespace ckpt

#endif  // CKPT_SERVER_STAGING_PART_FOLDER_H_
