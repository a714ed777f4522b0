// From a restore plan to plain safetensors files: what each tensor is called, which file it goes
// into, and writing a file with bounded memory. torch_file/torch_writer.h is the other format.
#ifndef CKPT_CLIENT_CLI_EXPORT_FILES_H_
#define CKPT_CLIENT_CLI_EXPORT_FILES_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cli/output_file.h"
#include "client/cli/slice_boxes.h"
#include "client/restore/restore.h"
#include "common/box.h"
#include "common/dtype.h"

namespace ckpt::cli {

struct ExportTensor {
  uint32_t leaf_number = 0;
  std::string name;  // in the file
  DType dtype = v1::DTYPE_UNSPECIFIED;
  Extents shape;
  Extents offset;  // of a slice, in the leaf; empty: from its first element
  uint64_t bytes = 0;
};

// A tensor-like leaf, or the box of it; without a name.
ExportTensor MakeExportTensor(const v1::PlannedLeaf& leaf, const SliceBoxes& boxes);

// Every selected tensor-like leaf, or the box of it, but for what a safetensors file said of itself
// when it was imported: that is in ExportMetadata. PER_RANK leaves of a checkpoint of several
// ranks are called KEY.rankN; an alias is written out like any other tensor, so that every key is
// there. A name that is taken (or reserved) gets a trailing "_".
std::vector<ExportTensor> ExportTensors(const RestorePlan& plan, const SliceBoxes& boxes);

// What an imported safetensors file said of itself, as it stood there; which checkpoint this was
// (`ckptd.`...); its plain values as one JSON object (`values`); and format "pt", which the common
// loaders ask for, where the file said no other. Errors as RestorePlan::Read.
absl::StatusOr<std::map<std::string, std::string>> ExportMetadata(RestorePlan& plan);

// Fills files in checkpoint order up to `file_bytes_max` of tensors each (a larger tensor gets a
// file of its own); at least one file. Within a file: descending element size, then name, so that
// every tensor is aligned.
std::vector<std::vector<ExportTensor>> CutIntoFiles(std::vector<ExportTensor> tensors,
                                                    uint64_t file_bytes_max);

// Header, then the tensors in order, read through a buffer of bounded size; synced, not yet
// published. INVALID_ARGUMENT: the header would be larger than readers of safetensors accept.
absl::Status WriteSafetensors(RestorePlan& plan, absl::Span<const ExportTensor> tensors,
                              const std::map<std::string, std::string>& metadata, OutputFile& file,
                              absl::FunctionRef<void(uint64_t bytes)> wrote);

// Reads whole tensors through a buffer of bounded size, many small ones at once. `sink` gets their
// bytes in this order, a piece or several of tensors[i] at a time; nothing of an empty one. Errors
// as RestorePlan::Read, and what the sink returned.
absl::Status ReadInOrder(RestorePlan& plan, absl::Span<const ExportTensor> tensors,
                         absl::FunctionRef<absl::Status(size_t i, absl::string_view bytes)> sink);

// Cuts a dense row-major array into boxes of at most `bytes_max` (but at least one element), each
// contiguous in it, in order.
void ForEachSlab(absl::Span<const uint64_t> shape, uint64_t element_bytes, uint64_t bytes_max,
                 absl::FunctionRef<void(const Box& slab)> slab);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_EXPORT_FILES_H_
