#include "client/cli/torch_file/zip_reader.h"

#include <zlib.h>

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/torch_file/little_endian.h"
#include "client/cli/torch_file/zip_format.h"
#include "common/byte_size.h"
#include "common/quoted.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

constexpr uint64_t kDirectoryBytesMax = 1 << 30;
constexpr uint64_t kCommentBytesMax = 0xffff;
constexpr uint64_t kPieceBytes = 4 << 20;

uint16_t Number16(absl::string_view bytes, size_t at) { return LoadLittle<uint16_t>(bytes, at); }
uint32_t Number32(absl::string_view bytes, size_t at) { return LoadLittle<uint32_t>(bytes, at); }
uint64_t Number64(absl::string_view bytes, size_t at) { return LoadLittle<uint64_t>(bytes, at); }

absl::Status CheckStored(const ZipEntry& entry) {
  if (!entry.compressed) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(Quoted(entry.name), " is compressed, which torch.save never does: unpack the "
                                       "archive and pack it with `zip -0 -r`"));
}

absl::Status Damaged(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("damaged zip archive: ", what));
}

// An entry's name is only ever compared; but no honest writer makes one like these.
bool LeavesTheArchive(absl::string_view name) {
  if (name.empty() || name[0] == '/' || absl::StrContains(name, '\\')) return true;
  if (name.find('\0') != absl::string_view::npos) return true;
  for (const absl::string_view part : absl::StrSplit(name, '/')) {
    if (part == "..") return true;
  }
  return false;
}

struct Directory {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t entries = 0;
};

absl::StatusOr<std::string> ReadAt(const InputFile& file, uint64_t offset, uint64_t bytes) {
  std::string out(bytes, '\0');
  CKPT_RETURN_IF_ERROR(file.Read(offset, bytes, out.data()));
  return out;
}

// The end record is the last thing in the file but for a comment.
absl::StatusOr<uint64_t> FindEnd(const InputFile& file) {
  const uint64_t bytes = std::min(file.size(), zip::kEndBytes + kCommentBytesMax);
  const uint64_t start = file.size() - bytes;
  CKPT_ASSIGN_OR_RETURN(const std::string tail, ReadAt(file, start, bytes));
  for (uint64_t at = bytes; at-- > 0;) {
    if (bytes - at < zip::kEndBytes || Number32(tail, at) != zip::kEndSignature) continue;
    if (at + zip::kEndBytes + Number16(tail, at + 20) == bytes) return start + at;
  }
  return Damaged("it has no directory at its end; was it copied to the end?");
}

absl::StatusOr<Directory> ReadEnd64(const InputFile& file, uint64_t end, uint64_t& limit) {
  if (end < zip::kLocator64Bytes + zip::kEnd64Bytes) return Damaged("its zip64 record is missing");
  CKPT_ASSIGN_OR_RETURN(const std::string locator,
                        ReadAt(file, end - zip::kLocator64Bytes, zip::kLocator64Bytes));
  if (Number32(locator, 0) != zip::kLocator64Signature) {
    return Damaged("its zip64 record is missing");
  }
  const uint64_t offset = Number64(locator, 8);
  if (offset > end - zip::kLocator64Bytes - zip::kEnd64Bytes) {
    return Damaged("its zip64 record lies outside of the file");
  }
  CKPT_ASSIGN_OR_RETURN(const std::string record, ReadAt(file, offset, zip::kEnd64Bytes));
  if (Number32(record, 0) != zip::kEnd64Signature || Number32(record, 16) != 0 ||
      Number32(record, 20) != 0 || Number64(record, 24) != Number64(record, 32)) {
    return Damaged("its zip64 record is none");
  }
  limit = offset;
  return Directory{.offset = Number64(record, 48),
                   .bytes = Number64(record, 40),
                   .entries = Number64(record, 32)};
}

absl::StatusOr<Directory> FindDirectory(const InputFile& file) {
  CKPT_ASSIGN_OR_RETURN(const uint64_t end, FindEnd(file));
  CKPT_ASSIGN_OR_RETURN(const std::string record, ReadAt(file, end, zip::kEndBytes));
  uint64_t limit = end;
  Directory directory{.offset = Number32(record, 16),
                      .bytes = Number32(record, 12),
                      .entries = Number16(record, 10)};
  if (directory.offset == zip::kIn64 || directory.bytes == zip::kIn64 ||
      directory.entries == zip::kCountIn64) {
    CKPT_ASSIGN_OR_RETURN(directory, ReadEnd64(file, end, limit));
  } else if (Number16(record, 4) != 0 || Number16(record, 6) != 0 ||
             Number16(record, 8) != Number16(record, 10)) {
    return Damaged("it is one of several volumes");
  }
  if (directory.offset > limit || directory.bytes > limit - directory.offset) {
    return Damaged("its directory lies outside of the file");
  }
  if (directory.entries > directory.bytes / zip::kEntryBytes) {
    return Damaged("its directory is too short for its entries");
  }
  if (directory.bytes > kDirectoryBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("a zip directory of ",
                                                   PrintByteSize(directory.bytes), ", more than ",
                                                   PrintByteSize(kDirectoryBytesMax)));
  }
  return directory;
}

// Replaces what the 32-bit fields have no room for, in the order of the format.
absl::Status ReadExtra64(absl::string_view extra, absl::Span<uint64_t* const> fields) {
  while (extra.size() >= 4) {
    const uint16_t id = Number16(extra, 0);
    const uint64_t bytes = Number16(extra, 2);
    if (bytes > extra.size() - 4) return Damaged("an extra field is longer than its entry");
    absl::string_view field = extra.substr(4, bytes);
    extra.remove_prefix(4 + bytes);
    if (id != zip::kExtra64) continue;
    for (uint64_t* const value : fields) {
      if (field.size() < 8) return Damaged("an entry's 64-bit sizes are missing");
      *value = Number64(field, 0);
      field.remove_prefix(8);
    }
    return absl::OkStatus();
  }
  return fields.empty() ? absl::OkStatus() : Damaged("an entry's 64-bit sizes are missing");
}

// Takes one entry from the front of the directory.
absl::StatusOr<ZipEntry> TakeEntry(absl::string_view& directory) {
  if (directory.size() < zip::kEntryBytes || Number32(directory, 0) != zip::kEntrySignature) {
    return Damaged("an entry of its directory is none");
  }
  const uint64_t name_bytes = Number16(directory, 28);
  const uint64_t extra_bytes = Number16(directory, 30);
  const uint64_t bytes = zip::kEntryBytes + name_bytes + extra_bytes + Number16(directory, 32);
  if (bytes > directory.size()) return Damaged("its directory ends within an entry");
  ZipEntry entry;
  entry.name = std::string(directory.substr(zip::kEntryBytes, name_bytes));
  if (LeavesTheArchive(entry.name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("the zip archive has an entry called ", Quoted(entry.name)));
  }
  if (Number16(directory, 8) & zip::kFlagEncrypted) {
    return absl::InvalidArgumentError(absl::StrCat(entry.name, " is encrypted"));
  }
  entry.compressed = Number16(directory, 10) != 0;
  entry.crc32 = Number32(directory, 16);
  entry.bytes = Number32(directory, 20);
  uint64_t unpacked_bytes = Number32(directory, 24);
  entry.header_offset = Number32(directory, 42);
  std::vector<uint64_t*> in_64;
  for (uint64_t* const value : {&unpacked_bytes, &entry.bytes, &entry.header_offset}) {
    if (*value == zip::kIn64) in_64.push_back(value);
  }
  CKPT_RETURN_IF_ERROR(
      ReadExtra64(directory.substr(zip::kEntryBytes + name_bytes, extra_bytes), in_64));
  if (!entry.compressed && unpacked_bytes != entry.bytes) {
    return Damaged(absl::StrCat(Quoted(entry.name), " is stored, but has two sizes"));
  }
  directory.remove_prefix(bytes);
  return entry;
}

}  // namespace

absl::StatusOr<ZipReader> ZipReader::Open(std::shared_ptr<const InputFile> file) {
  ZipReader reader(std::move(file));
  CKPT_RETURN_IF_ERROR(reader.ReadDirectory());
  return reader;
}

absl::Status ZipReader::ReadDirectory() {
  CKPT_ASSIGN_OR_RETURN(const Directory directory, FindDirectory(*file_));
  CKPT_ASSIGN_OR_RETURN(const std::string bytes,
                        ReadAt(*file_, directory.offset, directory.bytes));
  absl::string_view rest = bytes;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    CKPT_ASSIGN_OR_RETURN(ZipEntry entry, TakeEntry(rest));
    if (!by_name_.emplace(entry.name, entries_.size()).second) {
      return Damaged(absl::StrCat("two entries are called ", Quoted(entry.name)));
    }
    entries_.push_back(std::move(entry));
  }
  if (!rest.empty()) return Damaged("its directory has more in it than it says");
  return ReadLocalHeaders(directory.offset);
}

absl::Status ZipReader::ReadLocalHeaders(uint64_t directory_offset) {
  std::vector<ZipEntry*> by_offset;
  for (ZipEntry& entry : entries_) by_offset.push_back(&entry);
  std::sort(by_offset.begin(), by_offset.end(), [](const ZipEntry* a, const ZipEntry* b) {
    return a->header_offset < b->header_offset;
  });
  uint64_t free_from = 0;  // no entry before this one reaches further
  for (ZipEntry* entry : by_offset) {
    const uint64_t header_bytes = zip::kLocalBytes + entry->name.size();
    if (entry->header_offset < free_from) {
      return Damaged(absl::StrCat(Quoted(entry->name), " overlaps another entry"));
    }
    if (entry->header_offset > directory_offset ||
        header_bytes > directory_offset - entry->header_offset) {
      return Damaged(absl::StrCat(Quoted(entry->name), " lies outside of the file"));
    }
    CKPT_ASSIGN_OR_RETURN(const std::string header,
                          ReadAt(*file_, entry->header_offset, header_bytes));
    if (Number32(header, 0) != zip::kLocalSignature ||
        (Number16(header, 8) != 0) != entry->compressed ||
        Number16(header, 26) != entry->name.size() ||
        header.substr(zip::kLocalBytes) != entry->name) {
      return Damaged(absl::StrCat("its directory has ", Quoted(entry->name),
                                  ", but where it should be is something else"));
    }
    entry->data_offset = entry->header_offset + header_bytes + Number16(header, 28);
    if (entry->data_offset > directory_offset ||
        entry->bytes > directory_offset - entry->data_offset) {
      return Damaged(absl::StrCat(Quoted(entry->name), " lies outside of the file"));
    }
    free_from = entry->data_offset + entry->bytes;
  }
  return absl::OkStatus();
}

const ZipEntry* ZipReader::Find(absl::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &entries_[found->second];
}

absl::Status ZipReader::CheckCrc(const ZipEntry& entry, uint32_t crc) const {
  if (crc == entry.crc32) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("the bytes of ", Quoted(entry.name), " at offset ", entry.data_offset,
                   " fail their CRC-32: the file is damaged, or was written without checksums "
                   "(torch.serialization.set_crc32_options)"));
}

absl::StatusOr<std::string> ZipReader::Read(const ZipEntry& entry, uint64_t bytes_max) const {
  CKPT_RETURN_IF_ERROR(CheckStored(entry));
  if (entry.bytes > bytes_max) {
    return absl::InvalidArgumentError(absl::StrCat(Quoted(entry.name), " is ",
                                                   PrintByteSize(entry.bytes), ", at most ",
                                                   PrintByteSize(bytes_max), " are read"));
  }
  CKPT_ASSIGN_OR_RETURN(std::string bytes, ReadAt(*file_, entry.data_offset, entry.bytes));
  CKPT_RETURN_IF_ERROR(CheckCrc(
      entry, static_cast<uint32_t>(
                 crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()))));
  return bytes;
}

absl::Status ZipReader::Verify(const ZipEntry& entry) const {
  CKPT_RETURN_IF_ERROR(CheckStored(entry));
  std::string piece(std::min(entry.bytes, kPieceBytes), '\0');
  uLong crc = 0;
  for (uint64_t at = 0; at < entry.bytes; at += piece.size()) {
    const uint64_t bytes = std::min<uint64_t>(piece.size(), entry.bytes - at);
    CKPT_RETURN_IF_ERROR(file_->Read(entry.data_offset + at, bytes, piece.data()));
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(piece.data()), bytes);
  }
  return CheckCrc(entry, static_cast<uint32_t>(crc));
}

}  // namespace ckpt::cli
