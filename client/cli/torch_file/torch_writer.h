// A checkpoint as one file that torch.load reads, also with weights_only: nested dictionaries and
// lists as its keys say, tensors that are aliases share one storage where they are cut alike.
//
// Where readers differ: the weights_only reader of PyTorch 1.13 knows no floats, up to 2.4 none
// knows bytes, those of a torch.save file as little as ours; torch::pickle_load knows no bytes.
// Float8 and unsigned integers of more than 8 bits need PyTorch 2.3.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_TORCH_WRITER_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_TORCH_WRITER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/export_files.h"
#include "client/cli/output_file.h"
#include "client/cli/slice_boxes.h"
#include "client/cli/torch_file/state_tree.h"
#include "client/restore/restore.h"

namespace ckpt::cli {

// Points into its plan.
struct TorchState {
  std::unique_ptr<StateNode> root;
  std::vector<ExportTensor> storages;  // in checkpoint order; `name` is the storage's key
  absl::flat_hash_map<uint32_t, uint32_t> storage_of_leaf;  // by leaf number; aliases have theirs
  SliceBoxes boxes;
  uint64_t data_bytes = 0;
};

// Of the selected leaves, or the boxes of them: a tensor has the shape of its box and a storage of
// that size. Errors as MakeStateTree.
absl::StatusOr<TorchState> MakeTorchState(const RestorePlan& plan, SliceBoxes boxes);

// The whole archive, synced, not yet published. Tensors are read through a buffer of bounded size,
// every block verified; strings and bytes of any length are held in memory one by one.
// INVALID_ARGUMENT: one of more than 1 GiB; a box that cuts a character of a string in two.
absl::Status WriteTorchFile(RestorePlan& plan, const TorchState& state, OutputFile& file,
                            absl::FunctionRef<void(uint64_t bytes)> wrote);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_TORCH_WRITER_H_
