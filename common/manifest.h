// The envelope of manifests and other small files on disk: 8 bytes magic, 4 bytes format version, 4
// bytes reserved (zero), 8 bytes payload length (integers little-endian), the serialized protobuf,
// and 16 bytes XXH3-128 (canonical, big-endian) of everything before.
#ifndef CKPT_COMMON_MANIFEST_H_
#define CKPT_COMMON_MANIFEST_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "ckpt/v1/checkpoint.pb.h"
#include "common/layout.h"
#include "google/protobuf/message_lite.h"

namespace ckpt {

inline constexpr uint32_t kFormatVersion = 1;

enum class EnvelopeKind { kPartManifest, kCheckpointManifest, kLabels, kStagedPlan, kRetention };

std::string SealEnvelope(EnvelopeKind kind, const google::protobuf::MessageLite& message);

// A sealed part manifest in three pieces, one after another: a layout of many shards is not copied,
// nor serialized again.
struct SealedPart {
  std::string before;
  absl::string_view layout;
  std::string after;
  uint64_t xxh3 = 0;  // of all three

  uint64_t size() const { return before.size() + layout.size() + after.size(); }
};
// The same bytes as SealEnvelope(kPartManifest) of `manifest` with `layout` in it, which it must
// not have, and which must outlive the answer.
SealedPart SealPartManifest(const v1::PartManifest& manifest, const PartLayout& layout);

// DATA_LOSS: magic, length or checksum is wrong, or the payload does not parse;
// FAILED_PRECONDITION: a newer format version. `file_name` goes into the error.
absl::Status OpenEnvelope(EnvelopeKind kind, absl::string_view bytes, absl::string_view file_name,
                          google::protobuf::MessageLite* message);

// Open and check that the parts agree with each other (digest, counts, lengths): DATA_LOSS.
absl::StatusOr<v1::PartManifest> OpenPartManifest(absl::string_view bytes,
                                                  absl::string_view file_name);
absl::StatusOr<v1::CheckpointManifest> OpenCheckpointManifest(absl::string_view bytes,
                                                              absl::string_view file_name);

}  // namespace ckpt

#endif  // CKPT_COMMON_MANIFEST_H_
