#include "server/index/record.h"

#include "absl/strings/str_cat.h"
#include "google/protobuf/message_lite.h"

namespace ckpt::index_records {
namespace {

void PutFixed(std::string& out, uint64_t value) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  out.append(bytes, sizeof(bytes));
}

void PutMessage(std::string& out, const google::protobuf::MessageLite& message) {
  PutFixed(out, message.ByteSizeLong());
  message.AppendToString(&out);
}

// Reads fields off the front of a row; once one is missing, everything after is too.
class Reader {
 public:
  explicit Reader(absl::string_view row) : rest_(row) {}
  uint64_t Fixed() {
    if (rest_.size() < 8) return Fail();
    uint64_t value = 0;
    for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(rest_[i]);
    rest_.remove_prefix(8);
    return value;
  }
  absl::string_view Bytes(uint64_t bytes) {
    if (rest_.size() < bytes) {
      Fail();
      return {};
    }
    const absl::string_view out = rest_.substr(0, bytes);
    rest_.remove_prefix(bytes);
    return out;
  }
  void Message(google::protobuf::MessageLite& message) {
    const absl::string_view bytes = Bytes(Fixed());
    ok_ = ok_ && message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
  }
  absl::string_view Rest() { return Bytes(rest_.size()); }
  bool Done() const { return ok_ && rest_.empty(); }

 private:
  uint64_t Fail() {
    ok_ = false;
    rest_ = {};
    return 0;
  }
  absl::string_view rest_;
  bool ok_ = true;
};

}  // namespace

absl::Status Damaged(absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("the index is damaged (", what,
                   "); it is only derived: stop the daemon, run `ckptutil rebuild-index "
                   "DATA_FOLDER`, start it again"));
}

std::string Encode(const CheckpointRecord& record) {
  std::string out;
  PutMessage(out, record.manifest);
  PutMessage(out, record.labels);
  PutFixed(out, record.shard_count);
  PutFixed(out, record.data_bytes);
  if (!record.compared_step) return out;
  PutFixed(out, *record.compared_step);
  PutFixed(out, record.identical_bytes);
  return out;
}

absl::StatusOr<CheckpointRecord> DecodeCheckpoint(absl::string_view row) {
  Reader reader(row);
  CheckpointRecord record;
  reader.Message(record.manifest);
  reader.Message(record.labels);
  record.shard_count = reader.Fixed();
  record.data_bytes = reader.Fixed();
  if (!reader.Done()) {  // rows of checkpoints that were not compared end here
    record.compared_step = reader.Fixed();
    record.identical_bytes = reader.Fixed();
  }
  if (!reader.Done()) return Damaged("a checkpoint row");
  return record;
}

std::string EncodeValues(const v1::Values& values, absl::string_view until) {
  std::string out;
  PutFixed(out, until.size());
  out.append(until.data(), until.size());
  values.AppendToString(&out);
  return out;
}

absl::StatusOr<ValueRow> DecodeValues(absl::string_view row) {
  Reader reader(row);
  ValueRow out;
  out.until = std::string(reader.Bytes(reader.Fixed()));
  const absl::string_view values = reader.Rest();
  if (!reader.Done() ||
      !out.values.ParseFromArray(values.data(), static_cast<int>(values.size()))) {
    return Damaged("a row of values");
  }
  return out;
}

std::string EncodeHashes(absl::Span<const uint64_t> hashes) {
  std::string out;
  out.reserve(hashes.size() * 8);
  for (const uint64_t hash : hashes) PutFixed(out, hash);
  return out;
}

absl::StatusOr<std::vector<uint64_t>> DecodeHashes(absl::string_view row) {
  Reader reader(row);
  std::vector<uint64_t> hashes(row.size() / 8);
  for (uint64_t& hash : hashes) hash = reader.Fixed();
  if (!reader.Done()) return Damaged("a row of block hashes");
  return hashes;
}

std::string Encode(const RunRow& row) {
  std::string out;
  PutFixed(out, row.checkpoint_count);
  PutFixed(out, row.data_bytes);
  out += row.newest_incarnation.bytes();
  return out;
}

absl::StatusOr<RunRow> DecodeRun(absl::string_view row) {
  Reader reader(row);
  RunRow out;
  out.checkpoint_count = reader.Fixed();
  out.data_bytes = reader.Fixed();
  auto incarnation = Incarnation::FromBytes(reader.Bytes(16), "incarnation");
  if (incarnation.ok()) out.newest_incarnation = *incarnation;
  if (!reader.Done()) return Damaged("a run row");
  return out;
}

std::string Encode(const AbortedRow& row) {
  std::string out;
  PutFixed(out, static_cast<uint64_t>(absl::ToUnixMicros(row.aborted_at)));
  PutMessage(out, row.info);
  return out;
}

absl::StatusOr<AbortedRow> DecodeAborted(absl::string_view row) {
  Reader reader(row);
  AbortedRow out;
  out.aborted_at = absl::FromUnixMicros(static_cast<int64_t>(reader.Fixed()));
  reader.Message(out.info);
  if (!reader.Done()) return Damaged("an aborted row");
  return out;
}

std::string Encode(const DamageRecord& damage) {
  std::string out;
  PutFixed(out, damage.places);
  PutFixed(out, damage.labels_only ? 1 : 0);
  return out + damage.first;
}

absl::StatusOr<DamageRecord> DecodeDamage(absl::string_view row) {
  Reader reader(row);
  DamageRecord out;
  out.places = static_cast<uint32_t>(reader.Fixed());
  out.labels_only = reader.Fixed() != 0;
  out.first = std::string(reader.Rest());
  if (!reader.Done()) return Damaged("a row about a damaged checkpoint");
  return out;
}

std::string EncodeCount(uint64_t count) {
  std::string out;
  PutFixed(out, count);
  return out;
}

absl::StatusOr<uint64_t> DecodeCount(absl::string_view row) {
  Reader reader(row);
  const uint64_t count = reader.Fixed();
  if (!reader.Done()) return Damaged("a reference count");
  return count;
}

}  // namespace ckpt::index_records
