// The numbers of the zip format (PKWARE's APPNOTE.TXT) that we read and write. All little-endian.
#ifndef CKPT_CLIENT_CLI_TORCH_FILE_ZIP_FORMAT_H_
#define CKPT_CLIENT_CLI_TORCH_FILE_ZIP_FORMAT_H_

#include <cstdint>

namespace ckpt::cli::zip {

inline constexpr uint32_t kLocalSignature = 0x04034b50;  // before each entry's bytes
inline constexpr uint64_t kLocalBytes = 30;              // then name and extra field
inline constexpr uint32_t kEntrySignature = 0x02014b50;  // an entry of the directory
inline constexpr uint64_t kEntryBytes = 46;              // then name, extra field and comment
inline constexpr uint32_t kEndSignature = 0x06054b50;
inline constexpr uint64_t kEndBytes = 22;  // then a comment
inline constexpr uint32_t kEnd64Signature = 0x06064b50;
inline constexpr uint64_t kEnd64Bytes = 56;
inline constexpr uint32_t kLocator64Signature = 0x07064b50;  // where the end record of zip64 is
inline constexpr uint64_t kLocator64Bytes = 20;
inline constexpr uint16_t kExtra64 = 0x0001;  // id of the extra field with the 64-bit sizes
inline constexpr uint32_t kIn64 = 0xffffffff;  // instead of a size or offset: it stands there
inline constexpr uint16_t kCountIn64 = 0xffff;
inline constexpr uint16_t kFlagEncrypted = 1;

}  // namespace ckpt::cli::zip

#endif  // CKPT_CLIENT_CLI_TORCH_FILE_ZIP_FORMAT_H_
