// The tensors that one load reads: which boxes of the checkpoint, and where to.
//
//   Into, Own  while the load is gathered: nothing is read
//   Ahead      what decides whether the rest fits, read at once, into tensors of its own
//   Read       all the rest: into the caller's tensors where they lie dense, else into buffers. Of
//              damage it finds all, not the first
//   Copy       buffers into the caller's tensors
//
// One thread.
#ifndef CKPT_CLIENT_TORCH_LOAD_READS_H_
#define CKPT_CLIENT_TORCH_LOAD_READS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/restore/restore.h"
#include "client/torch/checkpoint_tree.h"
#include "client/torch/checkpointer.h"
#include "common/box.h"

namespace ckpt {

// RUN@STEP, as errors name it.
std::string NameOf(const RestorePlan& plan);

class LoadReads {
 public:
  // Both must outlive it. `report` is told what was read, and what is damaged.
  LoadReads(RestorePlan& plan, LoadReport& report) : plan_(plan), report_(report) {}

  // `region` of the leaf, whose elements are stored as `stored`, goes into `target`, which has the
  // region's shape. Of two for one tensor (names that are tied) the later one counts. `callers`: the
  // caller sees the tensor before Copy already.
  void Into(const at::Tensor& target, uint32_t leaf_number, const Box& region,
            c10::ScalarType stored, bool callers);
  // A new tensor, which has the region's bytes after Read.
  at::Tensor Own(uint32_t leaf_number, const Box& region, c10::ScalarType stored);

  // Whole tensors, one for each node; undefined where one is damaged or not all there. An error is
  // of something else: the daemon went away.
  absl::StatusOr<std::vector<at::Tensor>> Ahead(absl::Span<const CheckpointNode* const> nodes);

  // Whether everything can be read, as far as the plan says. Where it is not all there, DATA_LOSS.
  absl::Status Check() const;
  // Names in the report what Check complains of.
  void NoteUnreadable();

  // DATA_LOSS: as Checkpointer::Load says, and in the report.
  absl::Status Read();
  // LibTorch's exceptions come through.
  void Copy();

 private:
  struct Target {
    uint32_t leaf_number;
    Box region;
    at::Tensor target;  // undefined: only `buffer` is wanted
    at::Tensor buffer;  // dense; the target itself where it can be read into directly
    bool callers = false;

    bool in_place() const { return target.defined() && buffer.is_same(target); }
    ReadTarget read() const {
      return {leaf_number, region, static_cast<std::byte*>(buffer.data_ptr())};
    }
  };
  // Counts what it reads.
  absl::Status ReadInto(absl::Span<const ReadTarget> reads);
  void SeparateOverlaps();
  std::vector<ReadTarget> AllReads() const;
  // Reads again, one tensor at a time, after a read that found damage: which are whole. What else
  // goes wrong then, ends it.
  absl::Status FindDamage(const absl::Status& first);
  void TellAutograd() const;
  std::string KeyOf(const Target& target) const;

  RestorePlan& plan_;
  LoadReport& report_;
  std::vector<Target> targets_;
  absl::flat_hash_map<const void*, size_t> by_tensor_;
};

}  // namespace ckpt

#endif  // CKPT_CLIENT_TORCH_LOAD_READS_H_
