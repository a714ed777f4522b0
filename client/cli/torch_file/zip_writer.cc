#include "client/cli/torch_file/zip_writer.h"

#include <zlib.h>

#include <utility>

#include "client/cli/torch_file/little_endian.h"
#include "client/cli/torch_file/zip_format.h"
#include "common/status_macros.h"

namespace ckpt::cli {
namespace {

constexpr uint64_t kAlignmentBytes = 64;      // as torch.save aligns, for readers that map the file
constexpr uint16_t kExtraPadding = 0x4246;    // "FB": what torch.save pads with
constexpr uint16_t kVersionNeeded = 45;       // zip64
constexpr uint16_t kFlagUtf8Names = 1 << 11;  // as torch.save sets
constexpr uint16_t kMidnight = 0;
constexpr uint16_t kNewYear1980 = 1 << 5 | 1;  // the earliest there is
constexpr uint64_t kExtra64Bytes = 16;

// A value in its 32-bit field; where it stands in 64 bits elsewhere, the mark of that.
void AppendOr64(uint64_t value, bool in_64, std::string& out) {
  AppendLittle(in_64 ? zip::kIn64 : static_cast<uint32_t>(value), out);
}

// What local headers and directory entries have in common, up to the length of the name.
void AppendCommon(const ZipEntry& entry, bool in_64, std::string& out) {
  AppendLittle(kVersionNeeded, out);
  AppendLittle(kFlagUtf8Names, out);
  AppendLittle(uint16_t{0}, out);  // stored
  AppendLittle(kMidnight, out);
  AppendLittle(kNewYear1980, out);
  AppendLittle(entry.crc32, out);
  AppendOr64(entry.bytes, in_64, out);  // packed
  AppendOr64(entry.bytes, in_64, out);
  AppendLittle(static_cast<uint16_t>(entry.name.size()), out);
}

}  // namespace

// Ends where the entry's bytes begin.
std::string ZipWriter::LocalHeader(const Written& written) const {
  std::string out;
  AppendLittle(zip::kLocalSignature, out);
  AppendCommon(written.entry, written.in_64, out);
  const uint64_t before_padding = written.entry.header_offset + zip::kLocalBytes +
                                  written.entry.name.size() +
                                  (written.in_64 ? 4 + kExtra64Bytes : 0) + 4;
  const uint64_t padding = (kAlignmentBytes - before_padding % kAlignmentBytes) % kAlignmentBytes;
  AppendLittle(static_cast<uint16_t>((written.in_64 ? 4 + kExtra64Bytes : 0) + 4 + padding), out);
  out += written.entry.name;
  if (written.in_64) {
    AppendLittle(zip::kExtra64, out);
    AppendLittle(static_cast<uint16_t>(kExtra64Bytes), out);
    AppendLittle(written.entry.bytes, out);
    AppendLittle(written.entry.bytes, out);
  }
  AppendLittle(kExtraPadding, out);
  AppendLittle(static_cast<uint16_t>(padding), out);
  out.append(padding, 'Z');
  return out;
}

absl::Status ZipWriter::Begin(std::string name, uint64_t bytes_max) {
  Written& written = written_.emplace_back();
  written.entry.name = std::move(name);
  written.entry.header_offset = offset_;
  written.in_64 = bytes_max >= zip::kIn64;
  const std::string header = LocalHeader(written);
  CKPT_RETURN_IF_ERROR(file_.WriteAt(offset_, header));
  offset_ += header.size();
  written.entry.data_offset = offset_;
  return absl::OkStatus();
}

absl::Status ZipWriter::Write(absl::string_view bytes) {
  ZipEntry& entry = written_.back().entry;
  CKPT_RETURN_IF_ERROR(file_.WriteAt(offset_, bytes));
  entry.crc32 = static_cast<uint32_t>(
      crc32_z(entry.crc32, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
  entry.bytes += bytes.size();
  offset_ += bytes.size();
  return absl::OkStatus();
}

absl::Status ZipWriter::End() {
  const Written& written = written_.back();
  if (written.entry.bytes >= zip::kIn64 && !written.in_64) {
    return absl::InternalError("an entry of a zip archive became larger than was said");
  }
  return file_.WriteAt(written.entry.header_offset, LocalHeader(written));
}

absl::Status ZipWriter::Add(std::string name, absl::string_view bytes) {
  CKPT_RETURN_IF_ERROR(Begin(std::move(name), bytes.size()));
  CKPT_RETURN_IF_ERROR(Write(bytes));
  return End();
}

void ZipWriter::AppendDirectoryEntry(const Written& written, std::string& out) {
  const ZipEntry& entry = written.entry;
  const bool offset_in_64 = entry.header_offset >= zip::kIn64;
  std::string extra;
  if (written.in_64) {
    AppendLittle(entry.bytes, extra);
    AppendLittle(entry.bytes, extra);
  }
  if (offset_in_64) AppendLittle(entry.header_offset, extra);
  AppendLittle(zip::kEntrySignature, out);
  AppendLittle(kVersionNeeded, out);  // made by: the same, on no system in particular
  AppendCommon(entry, written.in_64, out);
  AppendLittle(static_cast<uint16_t>(extra.empty() ? 0 : 4 + extra.size()), out);
  AppendLittle(uint16_t{0}, out);  // no comment
  AppendLittle(uint16_t{0}, out);  // on the first volume
  AppendLittle(uint16_t{0}, out);  // attributes
  AppendLittle(uint32_t{0}, out);
  AppendOr64(entry.header_offset, offset_in_64, out);
  out += entry.name;
  if (extra.empty()) return;
  AppendLittle(zip::kExtra64, out);
  AppendLittle(static_cast<uint16_t>(extra.size()), out);
  out += extra;
}

absl::Status ZipWriter::Finish() {
  const uint64_t start = offset_;
  std::string out;
  for (const Written& written : written_) AppendDirectoryEntry(written, out);
  const uint64_t bytes = out.size();
  const uint64_t count = written_.size();
  const bool in_64 = start >= zip::kIn64 || bytes >= zip::kIn64 || count >= zip::kCountIn64;
  if (in_64) {
    const uint64_t record = start + bytes;
    AppendLittle(zip::kEnd64Signature, out);
    AppendLittle(uint64_t{zip::kEnd64Bytes - 12}, out);  // of what follows
    AppendLittle(kVersionNeeded, out);
    AppendLittle(kVersionNeeded, out);
    AppendLittle(uint32_t{0}, out);  // of one volume
    AppendLittle(uint32_t{0}, out);
    for (const uint64_t value : {count, count, bytes, start}) AppendLittle(value, out);
    AppendLittle(zip::kLocator64Signature, out);
    AppendLittle(uint32_t{0}, out);
    AppendLittle(record, out);
    AppendLittle(uint32_t{1}, out);
  }
  AppendLittle(zip::kEndSignature, out);
  AppendLittle(uint16_t{0}, out);
  AppendLittle(uint16_t{0}, out);
  for (int twice = 0; twice < 2; ++twice) {
    AppendLittle(in_64 ? zip::kCountIn64 : static_cast<uint16_t>(count), out);
  }
  AppendOr64(bytes, in_64, out);
  AppendOr64(start, in_64, out);
  AppendLittle(uint16_t{0}, out);  // no comment
  CKPT_RETURN_IF_ERROR(file_.WriteAt(offset_, out));
  offset_ += out.size();
  return absl::OkStatus();
}

}  // namespace ckpt::cli
