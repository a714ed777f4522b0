// Zip archives as torch.save writes them: entries that are stored as they are. Nothing is ever
// decompressed or extracted; names are only compared. Sizes beyond 4 GiB (zip64) are read.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_ZIP_READER_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_ZIP_READER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/cli/input_file.h"

namespace ckpt::cli {

struct ZipEntry {
  std::string name;
  uint64_t header_offset = 0;  // of its local header, in the file
  uint64_t data_offset = 0;
  uint64_t bytes = 0;  // in the file
  uint32_t crc32 = 0;
  bool compressed = false;  // can be listed, not read
};

// Immutable and thread-safe once opened.
class ZipReader {
 public:
  // Everything that a hostile file could get wrong is checked here, every local header included.
  // INVALID_ARGUMENT says what: no directory, one that lies outside of the file or says other than
  // the local headers, entries that overlap, repeat a name, are encrypted, or whose names are paths
  // that leave the archive.
  static absl::StatusOr<ZipReader> Open(std::shared_ptr<const InputFile> file);

  absl::Span<const ZipEntry> entries() const { return entries_; }  // as the directory lists them
  const ZipEntry* Find(absl::string_view name) const;
  const std::shared_ptr<const InputFile>& file() const { return file_; }

  // A whole entry, its CRC-32 checked. INVALID_ARGUMENT: compressed, or longer than `bytes_max`;
  // DATA_LOSS.
  absl::StatusOr<std::string> Read(const ZipEntry& entry, uint64_t bytes_max) const;
  // Reads it piece by piece only to check its CRC-32. INVALID_ARGUMENT: compressed; DATA_LOSS.
  absl::Status Verify(const ZipEntry& entry) const;

 private:
  explicit ZipReader(std::shared_ptr<const InputFile> file) : file_(std::move(file)) {}
  absl::Status ReadDirectory();
  absl::Status ReadLocalHeaders(uint64_t directory_offset);
  absl::Status CheckCrc(const ZipEntry& entry, uint32_t crc) const;

  std::shared_ptr<const InputFile> file_;
  std::vector<ZipEntry> entries_;
  absl::flat_hash_map<std::string, size_t> by_name_;
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_ZIP_READER_H_
