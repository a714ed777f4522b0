#include "common/manifest.h"

#include <gtest/gtest.h>

#include <functional>

#include "common/digest.h"
#include "common/ids.h"
#include "common/layout.h"
#include "common/limits.h"
#include "sample_layout.h"

namespace ckpt {
namespace {

v1::PartManifest SamplePart() {
  const auto layout = PartLayout::FromProto(SampleLayout()).value();
  v1::PartManifest part;
  part.set_format_version(kFormatVersion);
  part.mutable_id()->set_run("r");
  part.mutable_id()->set_step(3);
  part.mutable_id()->set_incarnation(std::string(16, 'i'));
  part.set_checkpoint_uid(std::string(16, 'u'));
  part.set_rank(1);
  part.set_world_size(4);
  part.add_share(1);
  part.add_share(3);
  part.set_layout_digest(layout->digest());
  *part.mutable_layout() = layout->ToProto();
  v1::Values::Entry* entry = part.mutable_values()->add_entries();
  entry->set_leaf(6);
  entry->mutable_value()->set_integer(1);
  v1::DataFile* file = part.add_files();
  file->set_file_id(std::string(16, 'f'));
  file->set_header_length(4096);
  file->set_length(4096 + layout->files()[0].length);
  file->set_shard_count(layout->files()[0].shard_count);
  part.set_block_bytes(kHashBlockBytes);
  for (uint64_t i = 0; i < layout->block_count(); ++i) part.add_block_hashes(i);
  return part;
}

v1::CheckpointManifest SampleCheckpoint() {
  v1::CheckpointManifest checkpoint;
  checkpoint.set_format_version(kFormatVersion);
  *checkpoint.mutable_id() = SamplePart().id();
  checkpoint.set_checkpoint_uid(std::string(16, 'u'));
  checkpoint.set_world_size(4);
  for (const uint32_t rank : {1, 3}) {
    checkpoint.add_share(rank);
    v1::PartReference* part = checkpoint.add_parts();
    part->set_rank(rank);
    part->set_manifest_id(std::string(16, 'm'));
  }
  return checkpoint;
}

TEST(ManifestTest, RoundTrip) {
  const std::string bytes = SealEnvelope(EnvelopeKind::kPartManifest, SamplePart());
  const auto part = OpenPartManifest(bytes, "p");
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(part->SerializeAsString(), SamplePart().SerializeAsString());
  const auto checkpoint = OpenCheckpointManifest(
      SealEnvelope(EnvelopeKind::kCheckpointManifest, SampleCheckpoint()), "c");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ(checkpoint->parts_size(), 2);
}

TEST(ManifestTest, APartManifestIsTheSameWithItsLayoutSpliced) {
  v1::PartManifest manifest = SamplePart();
  const std::string whole = SealEnvelope(EnvelopeKind::kPartManifest, manifest);
  const auto layout = PartLayout::FromProto(manifest.layout()).value();
  manifest.clear_layout();
  const SealedPart sealed = SealPartManifest(manifest, *layout);
  EXPECT_EQ(absl::StrCat(sealed.before, sealed.layout, sealed.after), whole);
  EXPECT_EQ(sealed.size(), whole.size());
  EXPECT_EQ(sealed.xxh3, Xxh3(whole));
}

// The format on disk, byte by byte: it must never change.
TEST(ManifestTest, EnvelopeIsStable) {
  v1::Labels labels;
  labels.add_tags("best");
  const std::string bytes = SealEnvelope(EnvelopeKind::kLabels, labels);
  EXPECT_EQ(internal::Hex(bytes.substr(0, bytes.size() - 16)),
            internal::Hex(std::string("CKPTLABL\x01\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x0a\x04"
                                      "best",
                                      30)));
  EXPECT_EQ(internal::Hex(bytes.substr(bytes.size() - 16)), "b3894d008ea53c379bc8b7e6c032ff2f");
}

TEST(ManifestTest, EveryFlippedByteAndEveryTruncationIsDataLoss) {
  const std::string bytes = SealEnvelope(EnvelopeKind::kCheckpointManifest, SampleCheckpoint());
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] ^= 0x10;
    const absl::Status status = OpenCheckpointManifest(damaged, "file-17").status();
    ASSERT_EQ(status.code(), absl::StatusCode::kDataLoss) << i << status;
    ASSERT_NE(status.message().find("file-17"), absl::string_view::npos);
    ASSERT_EQ(OpenCheckpointManifest(bytes.substr(0, i), "f").status().code(),
              absl::StatusCode::kDataLoss);
  }
  EXPECT_EQ(OpenCheckpointManifest(bytes + "x", "f").status().code(), absl::StatusCode::kDataLoss);
}

TEST(ManifestTest, AnotherKindIsRefused) {
  const std::string bytes = SealEnvelope(EnvelopeKind::kPartManifest, SamplePart());
  EXPECT_EQ(OpenCheckpointManifest(bytes, "f").status().code(), absl::StatusCode::kDataLoss);
}

TEST(ManifestTest, ANewerVersionIsRefusedAsSuch) {
  std::string bytes = SealEnvelope(EnvelopeKind::kLabels, v1::Labels());
  bytes.resize(bytes.size() - 16);
  bytes[8] = 2;
  bytes += Xxh3Canonical128(bytes);
  v1::Labels labels;
  const absl::Status status = OpenEnvelope(EnvelopeKind::kLabels, bytes, "labels-1", &labels);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_NE(status.message().find("version 2"), absl::string_view::npos);
}

TEST(ManifestTest, PartsThatDisagreeWithThemselvesAreDataLoss) {
  const std::function<void(v1::PartManifest&)> edits[] = {
      [](auto& m) { m.mutable_id()->set_run("../x"); },
      [](auto& m) { m.mutable_id()->clear_incarnation(); },
      [](auto& m) { m.set_checkpoint_uid("short"); },
      [](auto& m) { m.set_rank(2); },
      [](auto& m) { m.set_world_size(3); },
      [](auto& m) { m.set_world_size(0); },
      [](auto& m) { m.set_share(1, 1); },
      [](auto& m) { m.clear_share(); },
      [](auto& m) { (*m.mutable_layout_digest())[0] ^= 1; },
      [](auto& m) { m.mutable_layout()->mutable_leaves(0)->set_shape(0, 400); },
      [](auto& m) { m.mutable_layout()->mutable_shards()->RemoveLast(); },
      [](auto& m) { m.mutable_values()->mutable_entries(0)->set_leaf(0); },
      [](auto& m) { m.clear_files(); },
      [](auto& m) { *m.add_files() = v1::DataFile(m.files(0)); },
      [](auto& m) { m.mutable_files(0)->set_file_id("../../etc/passwd"); },
      [](auto& m) { m.mutable_files(0)->clear_file_id(); },
      [](auto& m) { m.mutable_files(0)->set_length(m.files(0).length() + 1); },
      [](auto& m) {
        m.mutable_files(0)->set_header_length(4097);
        m.mutable_files(0)->set_length(m.files(0).length() + 1);
      },
      [](auto& m) {
        m.mutable_files(0)->set_header_length(0);
        m.mutable_files(0)->set_length(m.files(0).length() - 4096);
      },
      [](auto& m) { m.mutable_files(0)->set_first_shard(1); },
      [](auto& m) { m.mutable_files(0)->set_shard_count(1); },
      [](auto& m) { m.set_block_bytes(4096); },
      [](auto& m) { m.add_block_hashes(1); },
  };
  int i = 0;
  for (const auto& edit : edits) {
    v1::PartManifest part = SamplePart();
    edit(part);
    const auto opened = OpenPartManifest(SealEnvelope(EnvelopeKind::kPartManifest, part), "part-9");
    // The 16 bytes of "../../etc/passwd" are a fine id: nothing but a number.
    const bool fine = part.files_size() > 0 && part.files(0).file_id() == "../../etc/passwd";
    EXPECT_EQ(opened.status().code(), fine ? absl::StatusCode::kOk : absl::StatusCode::kDataLoss)
        << "edit " << i << ": " << opened.status();
    ++i;
  }
}

TEST(ManifestTest, CheckpointsThatDisagreeWithThemselvesAreDataLoss) {
  const std::function<void(v1::CheckpointManifest&)> edits[] = {
      [](auto& m) { m.mutable_id()->set_step(uint64_t{1} << 63); },
      [](auto& m) { m.clear_checkpoint_uid(); },
      [](auto& m) { m.set_replaces_uid("x"); },
      [](auto& m) { m.set_world_size(2); },
      [](auto& m) { m.mutable_parts()->RemoveLast(); },
      [](auto& m) { m.mutable_parts()->SwapElements(0, 1); },
      [](auto& m) { m.mutable_parts(0)->set_rank(3); },
      [](auto& m) { m.mutable_parts(1)->clear_manifest_id(); },
  };
  for (const auto& edit : edits) {
    v1::CheckpointManifest checkpoint = SampleCheckpoint();
    edit(checkpoint);
    EXPECT_EQ(
        OpenCheckpointManifest(SealEnvelope(EnvelopeKind::kCheckpointManifest, checkpoint), "f")
            .status()
            .code(),
        absl::StatusCode::kDataLoss);
  }
}

}  // namespace
}  // namespace ckpt
