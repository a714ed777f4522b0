// The first byte says which, and whether the rest is the file as it stands or only what lies in a
// sound envelope: the checksum would keep everything else from being reached.
#include "common/manifest.h"

#include <string>

#include "ckpt/v1/checkpoint.pb.h"
#include "common/digest.h"
#include "common/layout.h"
#include "server/staging/staged_plan.pb.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/targets.h"

namespace ckpt::fuzz {
namespace {

constexpr size_t kEnvelopeHeadBytes = 24;

// An envelope of that kind, with another payload.
std::string Envelope(EnvelopeKind kind, absl::string_view payload) {
  std::string bytes = SealEnvelope(kind, v1::Labels()).substr(0, kEnvelopeHeadBytes);
  for (size_t i = 0; i < 8; ++i) {
    bytes[16 + i] = static_cast<char>(uint64_t{payload.size()} >> (8 * i));
  }
  bytes.append(payload.data(), payload.size());
  return bytes + Xxh3Canonical128(bytes);
}

// What opens can be sealed, and opens again. Sealed bytes are compared: they alone have one order of
// a map's entries.
void SealAgain(EnvelopeKind kind, const google::protobuf::MessageLite& message,
               google::protobuf::MessageLite& empty) {
  const std::string sealed = SealEnvelope(kind, message);
  Require(OpenEnvelope(kind, sealed, "again", &empty).ok(), "an envelope of ours opens");
  Require(SealEnvelope(kind, empty) == sealed, "what it holds is kept");
}

template <typename Message>
void OpenAs(EnvelopeKind kind, absl::string_view bytes) {
  Message message;
  if (!OpenEnvelope(kind, bytes, "file", &message).ok()) return;
  Message again;
  SealAgain(kind, message, again);
}

void FuzzManifest(absl::string_view bytes) {
  Input input(bytes);
  const uint8_t which = input.Byte();
  const bool sealed = (which & 0x80) != 0;
  const auto file = [&](EnvelopeKind kind) {
    return sealed ? Envelope(kind, input.Rest()) : std::string(input.Rest());
  };
  switch (which % 5) {
    case 0: {
      const auto part = OpenPartManifest(file(EnvelopeKind::kPartManifest), "file");
      if (part.ok()) (void)PartLayout::FromProto(part->layout());
      break;
    }
    case 1: {
      const auto manifest = OpenCheckpointManifest(file(EnvelopeKind::kCheckpointManifest), "file");
      v1::CheckpointManifest again;
      if (manifest.ok()) SealAgain(EnvelopeKind::kCheckpointManifest, *manifest, again);
      break;
    }
    case 2:
      OpenAs<v1::Labels>(EnvelopeKind::kLabels, file(EnvelopeKind::kLabels));
      break;
    case 3:
      OpenAs<staging::StagedPlan>(EnvelopeKind::kStagedPlan, file(EnvelopeKind::kStagedPlan));
      break;
    default:
      OpenAs<staging::DurableRecord>(EnvelopeKind::kStagedPlan, file(EnvelopeKind::kStagedPlan));
  }
}

const Registration kManifest("manifest", FuzzManifest);

}  // namespace
}  // namespace ckpt::fuzz
