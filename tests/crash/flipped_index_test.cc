// Flipped bits of the index's files: its log alone, as a young index is, and tables with a manifest
// of their own, as an old one is. A start with the flipped bit either is refused, with the way out;
// or some call says DATA_LOSS; or all answers are as before. And after `ckptutil rebuild-index`
// they always are.
#include <algorithm>
#include <filesystem>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/db.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/table.h"
#include "server/observe/log.h"
#include "server/offline/command.h"
#include "tests/common/sample_layout.h"
#include "tests/crash/bit_flips.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

// All that the index says, as one text; the first error instead.
class Answers {
 public:
  explicit Answers(Index* index) : index_(index) {}

  // What the manifests and label files say.
  absl::StatusOr<std::string> FromManifests() {
    text_.clear();
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> uids, index_->AllCheckpoints());
    for (const CheckpointUid uid : uids) {
      CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record, index_->GetCheckpoint(uid));
      Add(record);
      CKPT_RETURN_IF_ERROR(AddParts(uid, record));
    }
    std::vector<std::string> runs;
    CKPT_RETURN_IF_ERROR(index_->ForEachRun("", "", [&](const v1::RunInfo& info) {
      runs.push_back(info.run());
      absl::StrAppend(&text_, info.ShortDebugString(), "\n");
      return true;
    }));
    for (const std::string& run : runs) {
      CKPT_RETURN_IF_ERROR(
          index_->ForEachCheckpoint(run, std::nullopt, [&](const CheckpointRecord& record) {
            Add(record);
            return true;
          }));
      CKPT_ASSIGN_OR_RETURN(const CheckpointRecord latest, index_->FindLatest(run, 1000, true));
      Add(latest);
      CKPT_ASSIGN_OR_RETURN(const CheckpointRecord one, index_->FindStep(run, 1, std::nullopt));
      Add(one);
    }
    CKPT_ASSIGN_OR_RETURN(const CheckpointRecord tagged, index_->FindTag("a", "best"));
    Add(tagged);
    CKPT_RETURN_IF_ERROR(index_->ForEachFile([&](FileId file, CheckpointUid uid) {
      absl::StrAppend(&text_, file.hex(), " ", uid.hex(), "\n");
      return true;
    }));
    CKPT_ASSIGN_OR_RETURN(const std::vector<CheckpointUid> tombstones, index_->Tombstones());
    absl::StrAppend(&text_, tombstones.size(), " tombstones, ", index_->CheckpointCount());
    return text_;
  }

  // What only the index remembers, and forgets with a rebuild: why something was aborted, what was
  // compared, what is damaged.
  absl::StatusOr<std::string> OfItsOwn() {
    text_.clear();
    CKPT_RETURN_IF_ERROR(index_->ForEachAborted("", [&](const v1::CheckpointInfo& info) {
      absl::StrAppend(&text_, info.ShortDebugString(), "\n");
      return true;
    }));
    CKPT_ASSIGN_OR_RETURN(const auto newest, index_->NewestIncarnation("a"));
    absl::StrAppend(&text_, newest.has_value() ? newest->hex() : "none");
    CKPT_ASSIGN_OR_RETURN(const CheckpointRecord record, index_->FindStep("a", 2, std::nullopt));
    absl::StrAppend(&text_, " ", record.compared_step.value_or(0), " ", record.identical_bytes);
    CKPT_RETURN_IF_ERROR(index_->ForEachDamage([&](CheckpointUid uid, const DamageRecord& damage) {
      absl::StrAppend(&text_, " ", uid.hex(), " ", damage.places, " ", damage.first);
    }));
    return text_;
  }

 private:
  void Add(const CheckpointRecord& record) {
    std::vector<std::string> metrics;
    for (const auto& [name, value] : record.labels.metrics()) {
      metrics.push_back(absl::StrCat(name, "=", value));
    }
    std::sort(metrics.begin(), metrics.end());
    absl::StrAppend(&text_, record.manifest.ShortDebugString(), " ", record.labels.note(), " ",
                    record.labels.tags_size(), " ", record.labels.pinned(), " ");
    for (const std::string& metric : metrics) absl::StrAppend(&text_, metric, " ");
    absl::StrAppend(&text_, record.shard_count, " ", record.data_bytes, "\n");
  }

  absl::Status AddParts(CheckpointUid uid, const CheckpointRecord& record) {
    for (const v1::PartReference& reference : record.manifest.parts()) {
      CKPT_ASSIGN_OR_RETURN(const v1::PartManifest head,
                            index_->GetPartHead(uid, reference.rank()));
      absl::StrAppend(&text_, head.ShortDebugString(), "\n");
      CKPT_ASSIGN_OR_RETURN(const std::vector<uint64_t> hashes,
                            index_->ReadBlockHashes(uid, reference.rank(), 0));
      for (const uint64_t hash : hashes) absl::StrAppend(&text_, hash, " ");
      CKPT_ASSIGN_OR_RETURN(const ValueRow values, index_->ReadValues(uid, reference.rank(), ""));
      absl::StrAppend(&text_, values.values.ShortDebugString(), "\n");
      CKPT_ASSIGN_OR_RETURN(const auto leaves, index_->OpenLeaves(head.layout_digest()));
      CKPT_RETURN_IF_ERROR(leaves->Seek(""));
      std::vector<LeafShard> shards;
      while (leaves->valid()) {
        v1::Leaf leaf;
        CKPT_RETURN_IF_ERROR(leaves->ReadLeaf(leaf));
        CKPT_RETURN_IF_ERROR(leaves->ReadShards(shards));
        absl::StrAppend(&text_, leaf.ShortDebugString(), " ");
        for (const LeafShard& shard : shards) {
          absl::StrAppend(&text_, shard.box.ToString(), "@", shard.part_offset, " ");
        }
        CKPT_RETURN_IF_ERROR(leaves->Next());
      }
    }
    return absl::OkStatus();
  }

  Index* const index_;
  std::string text_;
};

// Everything that lies in memtables goes into tables, as when they have filled up.
void FlushTables(const std::string& path) {
  rocksdb::BlockBasedTableOptions table;  // as server/index/open.cc
  table.checksum = rocksdb::kXXH3;
  table.format_version = 5;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = rocksdb::kLZ4Compression;
  std::vector<std::string> names;
  ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, path, &names).ok());
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  for (const std::string& name : names) descriptors.emplace_back(name, options);
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open({}, path, descriptors, &handles, &db);
  ASSERT_TRUE(opened.ok()) << opened.ToString();
  ASSERT_TRUE(db->Flush({}, handles).ok());
  for (rocksdb::ColumnFamilyHandle* handle : handles) db->DestroyColumnFamilyHandle(handle);
  delete db;
}

class FlippedIndex : public testing::TestWithParam<bool> {
 protected:
  bool flushed() const { return GetParam(); }

  void SetUp() override {
    observe::ConfigureLog({.sink = [this](const std::string& line) {
      dropped_ = dropped_ || absl::StrContains(line, "dropping");
    }});
    {
      auto store = Store::Open(path_);
      ASSERT_TRUE(store.ok()) << store.status();
      Fill(**store);
    }
    if (flushed()) FlushTables(path_ + "/index");
    std::filesystem::copy(path_ + "/index", pristine_);
    auto folder = DataFolder::Open(PosixFileSystem(), path_);
    ASSERT_TRUE(folder.ok()) << folder.status();
    folder_ = *std::move(folder);
    auto index = Index::Open(folder_->IndexFolder());
    ASSERT_TRUE(index.ok()) << index.status();
    const auto answers = Answers(index->get()).FromManifests();
    ASSERT_TRUE(answers.ok()) << answers.status();
    answers_ = *answers;
    of_its_own_ = *Answers(index->get()).OfItsOwn();
    files_ = *PosixFileSystem()->List(folder_->ObjectsFolder());
    std::sort(files_.begin(), files_.end());
  }
  void TearDown() override { observe::ConfigureLog({}); }

  static void Fill(Store& store) {
    const auto sample = PartLayout::FromProto(SampleLayout());
    ASSERT_TRUE(sample.ok()) << sample.status();
    for (const auto& [run, step] : {std::pair("a", 1), std::pair("a", 2), std::pair("b", 1)}) {
      const CheckpointUid uid = CheckpointUid::TimeOrdered();
      const auto id = IdOf(run, static_cast<uint64_t>(step));
      PartToPersist part = MakePart(id, uid, *sample, 3);
      v1::Values::Entry* epoch = part.values.add_entries();
      epoch->set_leaf(6);
      epoch->mutable_value()->set_integer(step);
      const auto durable = store.Persist(part);
      ASSERT_TRUE(durable.ok()) << durable.status();
      ASSERT_TRUE(store.persister().Commit(id, uid, 1, {0}, {*durable}).ok());
      if (step != 2) continue;
      v1::Labels labels;
      labels.add_tags("best");
      labels.set_note("kept");
      (*labels.mutable_metrics())["loss"] = 0.5;
      ASSERT_TRUE(store.folder().WriteLabels(uid, labels).ok());
      ASSERT_TRUE(store.index().PutLabels(uid, labels).ok());
      ASSERT_TRUE(store.index().PutComparison(uid, 1, 7).ok());
      ASSERT_TRUE(store.index().PutDamage(uid, DamageRecord{2, "a file", false}).ok());
    }
    v1::CheckpointInfo aborted;
    *aborted.mutable_id() = IdOf("a", 9, 5).ToProto();
    aborted.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
    aborted.set_abort_reason("rank 3 died");
    ASSERT_TRUE(store.index().PutAborted(aborted).ok());
  }

  std::vector<std::string> IndexFiles() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(pristine_)) {
      const std::string name = entry.path().filename().string();
      if (name != "LOCK" && name != "LOG") names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  static std::string KindOf(const std::string& name) {
    if (absl::EndsWith(name, ".sst")) return "index: table";
    if (absl::EndsWith(name, ".log")) return "index: log";
    return absl::StrCat("index: ", name.substr(0, name.find('-')));
  }

  // A start over the index as it lies in `pristine_` at this moment.
  Fate Start() {
    std::filesystem::remove_all(folder_->IndexFolder());
    std::filesystem::copy(pristine_, folder_->IndexFolder());
    dropped_ = false;
    const absl::Status asked = Ask();
    std::vector<std::string> files = *PosixFileSystem()->List(folder_->ObjectsFolder());
    std::sort(files.begin(), files.end());
    EXPECT_EQ(files, files_) << "a damaged index costs no file";
    if (asked.ok()) return dropped_ ? Fate::kFound : Fate::kHarmless;
    EXPECT_TRUE(absl::IsDataLoss(asked) || absl::IsFailedPrecondition(asked)) << asked;
    EXPECT_THAT(std::string(asked.message()), testing::HasSubstr("ckptutil rebuild-index"));
    return absl::IsAborted(asked) ? Fate::kMissed : Fate::kFound;
  }

  // ABORTED: other answers than before, and nobody has said that something is wrong.
  absl::Status Ask() {
    CKPT_ASSIGN_OR_RETURN(const auto index, Index::Open(folder_->IndexFolder()));
    CKPT_ASSIGN_OR_RETURN(const RecoveryReport report,
                          RecoverDataFolder(folder_.get(), index.get(), {}));
    if (report.damaged > 0) return absl::DataLossError(report.damage[0]);
    Answers answers(index.get());
    CKPT_ASSIGN_OR_RETURN(const std::string now, answers.FromManifests());
    if (now != answers_) return absl::AbortedError(absl::StrCat(now, "\nnot\n", answers_));
    CKPT_ASSIGN_OR_RETURN(const std::string own, answers.OfItsOwn());
    if (own != of_its_own_ && !dropped_) ++forgotten_;
    return absl::OkStatus();
  }

  TemporaryFolder scratch_;
  const std::string path_ = scratch_.path() + "/data";
  const std::string pristine_ = scratch_.path() + "/pristine";
  std::unique_ptr<DataFolder> folder_;
  std::string answers_;
  std::string of_its_own_;
  std::vector<std::string> files_;
  bool dropped_ = false;     // the log said that a damaged tail of the index's log was left out
  uint64_t forgotten_ = 0;
  BitFlips bits_;
};

TEST_P(FlippedIndex, IsReportedOrChangesNoAnswer) {
  for (const std::string& name : IndexFiles()) {
    const Region file = WholeFile(KindOf(name), pristine_ + "/" + name);
    if (file.bytes == 0) continue;
    bits_.Flip(file, FlipsPerRegion(96) / 12, [&](const Region&, uint64_t) { return Start(); });
  }
  std::printf(
      "flipped bits: of the harmless ones %llu cost the reason of an abort, a comparison or a mark of damage\n",
      static_cast<unsigned long long>(forgotten_));
}

TEST_P(FlippedIndex, IsAsBeforeOnceRebuilt) {
  folder_.reset();
  for (const std::string& name : IndexFiles()) {
    std::filesystem::remove_all(path_ + "/index");
    std::filesystem::copy(pristine_, path_ + "/index");
    const std::string damaged = path_ + "/index/" + name;
    for (uint64_t at = 0; at < std::filesystem::file_size(damaged); at += 7) FlipByte(damaged, at);
    std::ostringstream text, errors;
    ASSERT_EQ(offline::RunCommand({"rebuild-index", path_}, {text, errors, false}),
              offline::kExitOk)
        << text.str() << errors.str();
    auto index = Index::Open(path_ + "/index");
    ASSERT_TRUE(index.ok()) << index.status();
    const auto answers = Answers(index->get()).FromManifests();
    ASSERT_TRUE(answers.ok()) << answers.status();
    EXPECT_EQ(*answers, answers_);
    EXPECT_TRUE((*index)->VerifyFiles().ok());
  }
}

INSTANTIATE_TEST_SUITE_P(All, FlippedIndex, testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "Tables" : "LogAlone");
});

}  // namespace
}  // namespace ckpt
