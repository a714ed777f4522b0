// Zip archives as torch.load reads them: stored entries, the bytes of each on a 64-byte boundary,
// sizes and CRC-32 before the bytes and in the directory, zip64 where 4 GiB or 65535 entries are
// passed. Goes from front to back, but for each entry's header, which is written again when the
// CRC-32 is known.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_ZIP_WRITER_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_ZIP_WRITER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "client/cli/output_file.h"
#include "client/cli/torch_file/zip_reader.h"

namespace ckpt::cli {

// One thread. Begin, Write..., End for each entry, then Finish; nothing after an error. Errors as
// OutputFile::WriteAt's.
class ZipWriter {
 public:
  explicit ZipWriter(OutputFile& file) : file_(file) {}

  // `bytes_max`: as many as will be written, or more. What is larger than 4 GiB needs a larger
  // header.
  absl::Status Begin(std::string name, uint64_t bytes_max);
  absl::Status Write(absl::string_view bytes);
  absl::Status End();
  absl::Status Add(std::string name, absl::string_view bytes);
  // The directory. The file is neither synced nor published yet.
  absl::Status Finish();

 private:
  struct Written {
    ZipEntry entry;
    bool in_64 = false;
  };
  std::string LocalHeader(const Written& written) const;
  static void AppendDirectoryEntry(const Written& written, std::string& out);

  OutputFile& file_;
  uint64_t offset_ = 0;  // of the next byte
  std::vector<Written> written_;  // the last one is being written between Begin and End
};

}  // namespace ckpt::cli

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_ZIP_WRITER_H_
