// What torch.save wrote (PyTorch 1.6 and later; LibTorch's torch::pickle_save too), as the leaves
// of a checkpoint: as our LibTorch adapter would have saved that state.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_TORCH_READER_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_TORCH_READER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/cli/import_leaf.h"
#include "client/cli/input_file.h"

namespace ckpt::cli {

enum class TorchFormat { kNone, kZip, kLegacy };
inline constexpr size_t kTorchFormatBytes = 16;
// Judged by the first kTorchFormatBytes of a file, or all of a shorter one. kLegacy: what
// torch.save wrote before PyTorch 1.6, a row of pickles, which nothing here reads.
TorchFormat RecognizeTorchFormat(absl::string_view first_bytes);

// The file's state, checked as a whole: the bytes of every storage that a tensor needs have been
// read once for their CRC-32. Nothing in the file is executed; names in it are never looked up, on
// disk or elsewhere.
//   - dictionaries: str and int keys; OrderedDict is one, its attributes are left out
//   - lists, tuples, torch.Size: lists
//   - None, bool, int of 64 bits, float, str, bytes; a dtype as its name, "torch.float32"
//   - tensors and parameters, made contiguous; equal views of one storage are aliases
// INVALID_ARGUMENT with the path: anything else, a damaged archive, views whose dense bytes are far
// more than the file's, a TorchScript archive (what LibTorch's torch::save writes), a big-endian
// file, a legacy file. DATA_LOSS: a CRC-32 that fails.
absl::StatusOr<std::vector<ImportLeaf>> ReadTorchFile(std::shared_ptr<const InputFile> file);

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_TORCH_READER_H_
