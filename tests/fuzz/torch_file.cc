// An archive as it stands, and a pickle in an archive that is sound.
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/import_leaf.h"
#include "client/cli/input_file.h"
#include "client/cli/torch_file/torch_reader.h"
#include "common/box.h"
#include "common/dtype.h"
#include "tests/cli/torch_file_bytes.h"
#include "tests/fuzz/targets.h"

namespace ckpt::fuzz {
namespace {

constexpr uint64_t kReadBytesMax = 4096;  // of each tensor, at its beginning and its end

void ReadAll(std::string bytes) {
  const auto file = cli::InputFile::OfBytes("fuzzed.pt", std::move(bytes));
  const auto leaves = cli::ReadTorchFile(file);
  if (!leaves.ok()) return;
  for (const cli::ImportLeaf& leaf : *leaves) {
    if (leaf.kind != v1::LEAF_KIND_TENSOR) continue;
    const std::optional<uint64_t> volume = Volume(leaf.shape);
    Require(volume.has_value(), "a tensor has a size");
    const uint64_t length = *volume * DTypeBytes(leaf.dtype);
    const uint64_t some = std::min(length, kReadBytesMax);
    std::vector<char> out(some);
    Require(leaf.read(0, some, out.data()).ok(), "a tensor's first bytes can be read");
    Require(leaf.read(length - some, some, out.data()).ok(), "and its last ones");
  }
}

void FuzzTorchFile(absl::string_view bytes) { ReadAll(std::string(bytes)); }

void FuzzPickle(absl::string_view bytes) {
  static const std::vector<std::string> storages = {std::string(64, 'a'), std::string(16, 'b')};
  ReadAll(testing::TorchFileOf(std::string(bytes), storages));
}

const Registration kTorchFile("torch_file", FuzzTorchFile);
const Registration kPickle("pickle", FuzzPickle);

}  // namespace
}  // namespace ckpt::fuzz
