// Every flipped bit of the files that are the truth: data files with their headers and the padding
// of these, part and checkpoint manifests, labels, FORMAT. Each is flipped in place and met on
// every way that reads it: a restore, `checkpoint verify`, a start, `ckptutil verify`.
#include <filesystem>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "server/observe/log.h"
#include "server/offline/command.h"
#include "server/persist/verify_on_disk.h"
#include "tests/common/sample_layout.h"
#include "tests/crash/bit_flips.h"
#include "tests/rpc/restore_fixture.h"

namespace ckpt {
namespace {

using testing::HasSubstr;

v1::Values Epoch(int64_t number) {
  v1::Values values;
  v1::Values::Entry* entry = values.add_entries();
  entry->set_leaf(6);
  entry->mutable_value()->set_integer(number);
  return values;
}

class FlippedFiles : public RestoreTest {
 protected:
  // Whole tensors and boxes, an alias, values; a shard of two blocks; two ranks.
  void SetUp() override {
    observe::ConfigureLog({.sink = [](const std::string&) {}});
    SaveLayouts(IdOf("team/run", 1), {SampleLayout()}, {Epoch(3)});
    Save(IdOf("team/run", 2), {kMiB + 300, 70});
    const CheckpointUid labelled = Save(IdOf("other", 7), {100, 3}, 2);
    v1::Labels labels;
    labels.add_tags("best");
    labels.set_pinned(true);
    (*labels.mutable_metrics())["loss"] = 0.25;
    labels.set_note("before the learning rate changed");
    const auto uids = store_->index().AllCheckpoints();
    for (const CheckpointUid uid : *uids) {
      records_.push_back(*store_->index().GetCheckpoint(uid));
    }
    ASSERT_TRUE(store_->folder().WriteLabels(labelled, labels).ok());
    ASSERT_TRUE(store_->index().PutLabels(labelled, labels).ok());
  }
  void TearDown() override { observe::ConfigureLog({}); }

  CheckpointUid UidOf(const CheckpointRecord& record) {
    return *CheckpointUid::FromBytes(record.manifest.checkpoint_uid(), "uid");
  }
  std::string ManifestPath(const CheckpointRecord& record) {
    return absl::StrCat(store_->folder().CheckpointsFolder(), "/",
                        names::CheckpointManifest(UidOf(record)));
  }
  std::string PartPath(const v1::PartReference& part) {
    return absl::StrCat(store_->folder().ObjectsFolder(), "/",
                        names::PartManifest(*FileId::FromBytes(part.manifest_id(), "id")));
  }
  std::vector<std::string> Verify(const CheckpointRecord& record) {
    const auto read = VerifyOnDisk(&store_->folder(), UidOf(record), {.known = &record.manifest},
                                   [](const VerificationProgress&) { return true; });
    return read->damage;
  }
  static std::string NameOf(const Region& region) {
    return std::filesystem::path(region.path).filename().string();
  }

  // `checkpoint verify` says so, in one line that has all of `texts` in it.
  Fate VerifySays(const CheckpointRecord& record, const std::vector<std::string>& texts) {
    const std::vector<std::string> damage = Verify(record);
    EXPECT_EQ(damage.size(), 1u) << testing::PrintToString(damage);
    if (damage.size() != 1) return Fate::kMissed;
    for (const std::string& text : texts) EXPECT_THAT(damage[0], HasSubstr(text));
    return Fate::kFound;
  }

  int Ckptutil(const std::string& verb) {
    std::ostringstream text, errors;
    const int code =
        offline::RunCommand({verb, scratch_.path() + "/data"}, {text, errors, false});
    text_ = text.str() + errors.str();
    return code;
  }
  Fate OfflineVerifySays(const Region& region) {
    const int code = Ckptutil("verify");
    if (code == offline::kExitDamaged && absl::StrContains(text_, NameOf(region))) {
      return Fate::kFound;
    }
    return Fate::kMissed;
  }

  std::vector<Region> Headers(const CheckpointRecord& record) {
    std::vector<Region> regions;
    for (const v1::PartReference& part : record.manifest.parts()) {
      const auto head = store_->index().GetPartHead(UidOf(record), part.rank());
      for (const v1::DataFile& file : head->files()) {
        const std::string path = ObjectPath(file.file_id());
        uint64_t json_bytes = file.header_length();
        for (const std::string text = *PosixFileSystem()->ReadWhole(path);
             text[json_bytes - 1] == ' ';) {
          --json_bytes;
        }
        regions.push_back({"header", path, 0, json_bytes});
        regions.push_back({"header padding", path, json_bytes, file.header_length() - json_bytes});
      }
    }
    return regions;
  }

  std::vector<CheckpointRecord> records_;
  std::string text_;
  BitFlips bits_;
};

TEST_F(FlippedFiles, DataIsFoundByRestoreAndByVerify) {
  for (const CheckpointRecord& record : records_) {
    const v1::CheckpointId& id = record.manifest.id();
    const auto plan = Plan(RequestOf(StepOf(id.run(), id.step())));
    ASSERT_TRUE(plan.ok()) << plan.status();
    ASSERT_FALSE(plan->pieces.empty());
    for (const v1::Piece& piece : plan->pieces) {
      const std::string key = PrintKey(plan->leaves[piece.leaf_number()].leaf().key());
      bits_.Flip({"data", ObjectPath(piece.file_id()), piece.file_offset(), piece.length()},
                 FlipsPerRegion(100), [&](const Region& region, uint64_t offset) {
                   const auto bytes = ReadPiece(*plan, piece);
                   EXPECT_TRUE(bytes.ok()) << bytes.status();
                   if (Verifies(piece, *bytes)) return Fate::kMissed;
                   const uint64_t block =
                       region.begin + (offset - region.begin) / piece.block_bytes() * kMiB;
                   return VerifySays(record, {NameOf(region), key, absl::StrCat("offset ", block)});
                 });
      EXPECT_TRUE(Verifies(piece, *ReadPiece(*plan, piece)));
    }
  }
  EXPECT_EQ(bits_.harmless("data"), 0u);
}

// No restore reads a header: its answers do not depend on it.
TEST_F(FlippedFiles, AHeaderAndItsPaddingAreFoundByVerify) {
  for (const CheckpointRecord& record : records_) {
    for (const Region& region : Headers(record)) {
      bits_.Flip(region, FlipsPerRegion(100), [&](const Region& region, uint64_t) {
        return VerifySays(record, {NameOf(region), "header", "offset 0"});
      });
    }
  }
  EXPECT_EQ(bits_.harmless("header") + bits_.harmless("header padding"), 0u);
}

TEST_F(FlippedFiles, APartManifestIsFoundByVerifyAndByWhoeverReadsIt) {
  for (const CheckpointRecord& record : records_) {
    for (const v1::PartReference& part : record.manifest.parts()) {
      bits_.Flip(WholeFile("part manifest", PartPath(part)), FlipsPerRegion(200),
                 [&](const Region& region, uint64_t) {
                   const absl::Status read = store_->folder().ReadPartManifest(part).status();
                   EXPECT_THAT(std::string(read.message()), HasSubstr(NameOf(region)));
                   if (!absl::IsDataLoss(read)) return Fate::kMissed;
                   return VerifySays(record, {NameOf(region)});
                 });
    }
  }
  EXPECT_EQ(bits_.harmless("part manifest"), 0u);
}

TEST_F(FlippedFiles, ACheckpointManifestIsFoundByVerifyAndByWhoeverReadsIt) {
  for (const CheckpointRecord& record : records_) {
    bits_.Flip(WholeFile("checkpoint manifest", ManifestPath(record)), FlipsPerRegion(200),
               [&](const Region& region, uint64_t) {
                 const absl::Status read =
                     store_->folder().ReadCheckpointManifest(UidOf(record)).status();
                 EXPECT_THAT(std::string(read.message()), HasSubstr(NameOf(region)));
                 if (!absl::IsDataLoss(read)) return Fate::kMissed;
                 return VerifySays(record, {NameOf(region)});
               });
  }
  EXPECT_EQ(bits_.harmless("checkpoint manifest"), 0u);
}

// What the index knows goes on being answered.
TEST_F(FlippedFiles, LabelsAreFoundByAStartAndByVerify) {
  for (const CheckpointRecord& record : records_) {
    const std::string path = absl::StrCat(store_->folder().CheckpointsFolder(), "/",
                                          names::Labels(UidOf(record)));
    if (!std::filesystem::exists(path)) continue;
    bits_.Flip(WholeFile("labels", path), FlipsPerRegion(200),
               [&](const Region& region, uint64_t) {
                 const auto report =
                     RecoverDataFolder(&store_->folder(), &store_->index(), {});
                 EXPECT_TRUE(report.ok()) << report.status();
                 if (report->damaged != 1) return Fate::kMissed;
                 EXPECT_THAT(report->damage[0], HasSubstr(NameOf(region)));
                 EXPECT_TRUE(store_->index().FindTag("other", "best").ok());
                 return VerifySays(record, {NameOf(region)});
               });
  }
  EXPECT_EQ(bits_.harmless("labels"), 0u);
}

// What it means otherwise is what retention's tests show: nothing is deleted.
TEST_F(FlippedFiles, PoliciesAreFoundByWhoeverReadsThem) {
  v1::RetentionPolicies policies;
  (*policies.mutable_runs())["team/run"].set_keep_last(3);
  (*policies.mutable_runs())["other"].set_max_bytes(1 << 20);
  ASSERT_TRUE(store_->folder().WriteRetention(policies).ok());
  const std::string path = absl::StrCat(store_->folder().path(), "/", names::kRetention);
  bits_.Flip(WholeFile("policies", path), FlipsPerRegion(200), [&](const Region& region, uint64_t) {
    const absl::Status read = store_->folder().ReadRetention().status();
    EXPECT_THAT(std::string(read.message()), HasSubstr(NameOf(region)));
    return absl::IsDataLoss(read) ? Fate::kFound : Fate::kMissed;
  });
  EXPECT_EQ(bits_.harmless("policies"), 0u);
}

TEST_F(FlippedFiles, FormatIsFoundByAStart) {
  store_.reset();
  const std::string path = scratch_.path() + "/data";
  bits_.Flip(WholeFile("FORMAT", path + "/FORMAT"), FlipsPerRegion(1000),
             [&](const Region&, uint64_t) {
               const absl::Status opened = DataFolder::Open(PosixFileSystem(), path).status();
               if (opened.ok()) return Fate::kHarmless;
               EXPECT_TRUE(absl::IsDataLoss(opened) || absl::IsFailedPrecondition(opened));
               EXPECT_THAT(std::string(opened.message()), HasSubstr(path));
               return Fate::kFound;
             });
  // The line's end, where another kind of white space stands.
  EXPECT_LE(bits_.harmless("FORMAT"), 1u);
}

TEST_F(FlippedFiles, CkptutilVerifyFindsEachKind) {
  std::vector<Region> regions;
  for (const CheckpointRecord& record : records_) {
    for (const Region& region : Headers(record)) {
      regions.push_back(region);
      const uint64_t data = std::filesystem::file_size(region.path);
      if (region.begin == 0) continue;
      const uint64_t header = region.begin + region.bytes;
      regions.push_back({"data", region.path, header, data - header});
    }
    regions.push_back(WholeFile("checkpoint manifest", ManifestPath(record)));
    for (const v1::PartReference& part : record.manifest.parts()) {
      regions.push_back(WholeFile("part manifest", PartPath(part)));
    }
  }
  for (const auto& entry :
       std::filesystem::directory_iterator(store_->folder().CheckpointsFolder())) {
    if (entry.path().extension() == ".labels") {
      regions.push_back(WholeFile("labels", entry.path().string()));
    }
  }
  store_.reset();
  for (const Region& region : regions) {
    bits_.Flip(region, FlipsPerRegion(300) / 20,
               [&](const Region& region, uint64_t) { return OfflineVerifySays(region); });
  }
  EXPECT_EQ(Ckptutil("verify"), offline::kExitOk) << text_;
}

// The index is gone, so that a start has only the manifests.
TEST_F(FlippedFiles, AStartWithoutAnIndexReportsDamagedManifests) {
  std::vector<Region> regions;
  for (const CheckpointRecord& record : records_) {
    regions.push_back(WholeFile("checkpoint manifest", ManifestPath(record)));
    for (const v1::PartReference& part : record.manifest.parts()) {
      regions.push_back(WholeFile("part manifest", PartPath(part)));
    }
  }
  for (const Region& region : regions) {
    bits_.Flip(region, FlipsPerRegion(300) / 100, [&](const Region& region, uint64_t) {
      const std::string empty = scratch_.path() + "/empty";
      std::filesystem::remove_all(empty);
      auto index = Index::Open(empty);
      EXPECT_TRUE(index.ok()) << index.status();
      const auto files = store_->FilesOnDisk();
      const auto report = RecoverDataFolder(&store_->folder(), index->get(), {});
      EXPECT_TRUE(report.ok()) << report.status();
      EXPECT_EQ(store_->FilesOnDisk(), files) << "nothing goes where something is damaged";
      if (report->damaged != 1) return Fate::kMissed;
      EXPECT_THAT(report->damage[0], HasSubstr(NameOf(region)));
      EXPECT_EQ((*index)->AllCheckpoints()->size(), records_.size() - 1);
      return Fate::kFound;
    });
  }
}

}  // namespace
}  // namespace ckpt
