#include "server/index/keys.h"

#include "absl/strings/str_cat.h"

namespace ckpt::index_keys {

std::string BigEndian32(uint32_t value) {
  std::string out(4, '\0');
  for (int i = 0; i < 4; ++i) out[i] = static_cast<char>(value >> (24 - 8 * i));
  return out;
}

std::string BigEndian64(uint64_t value) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (56 - 8 * i));
  return out;
}

uint64_t ReadBigEndian64(absl::string_view eight_bytes) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | static_cast<uint8_t>(eight_bytes[i]);
  return value;
}

std::string RunPrefix(const std::string& run) { return run + '\0'; }
std::string StepPrefix(const std::string& run, uint64_t step) {
  return RunPrefix(run) + BigEndian64(step);
}
std::string IncarnationPrefix(const CheckpointId& id) {
  return StepPrefix(id.run, id.step) + id.incarnation.bytes();
}
std::string Checkpoint(const CheckpointId& id, CheckpointUid uid) {
  return IncarnationPrefix(id) + uid.bytes();
}
std::string Part(CheckpointUid uid, uint32_t rank) { return uid.bytes() + BigEndian32(rank); }
bool IsPart(absl::string_view key) { return key.size() == 20; }
std::string PartHashes(CheckpointUid uid, uint32_t rank, uint64_t row) {
  return Part(uid, rank) + 'h' + BigEndian64(row);
}
std::string PartValuesPrefix(CheckpointUid uid, uint32_t rank) { return Part(uid, rank) + 'v'; }
std::string Leaves(const std::string& digest, absl::string_view first_printed_key) {
  return absl::StrCat(digest, first_printed_key);
}
std::string File(FileId file, CheckpointUid uid) { return file.bytes() + uid.bytes(); }
std::string Tag(const std::string& run, const std::string& tag) { return RunPrefix(run) + tag; }
std::string Damage(CheckpointUid uid) { return absl::StrCat(kDamagePrefix, uid.bytes()); }

std::optional<CheckpointKey> ParseCheckpoint(absl::string_view key) {
  const size_t zero = key.find('\0');
  if (zero == absl::string_view::npos || key.size() != zero + 1 + 8 + 16 + 16) return std::nullopt;
  CheckpointKey parsed;
  parsed.run = std::string(key.substr(0, zero));
  key.remove_prefix(zero + 1);
  parsed.step = ReadBigEndian64(key.substr(0, 8));
  parsed.incarnation = IdOf<Incarnation>(key.substr(8, 16));
  parsed.uid = IdOf<CheckpointUid>(key.substr(24, 16));
  return parsed;
}

std::string After(absl::string_view prefix) {
  std::string key(prefix);
  while (!key.empty() && static_cast<uint8_t>(key.back()) == 0xff) key.pop_back();
  if (!key.empty()) key.back() = static_cast<char>(static_cast<uint8_t>(key.back()) + 1);
  return key;
}

}  // namespace ckpt::index_keys
