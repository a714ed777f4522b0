// A part on disk is exactly what staging held, and a part that fails leaves nothing.
#include <future>
#include <mutex>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/digest.h"
#include "common/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/storage/names.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

using Call = FaultyFileSystem::Call;

class PersistPart : public testing::Test {
 protected:
  void OpenStore(FileSystem* files = nullptr, PersistOptions options = Store::SmallWrites()) {
    auto store = Store::Open(folder_.path() + "/data", files, options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  PartToPersist Part(const std::vector<uint64_t>& sizes, uint32_t rank = 0) {
    return MakePart(IdOf("team/run", 5), uid_, LayoutOfSizes(sizes), 1 + rank, rank, 8);
  }
  std::string FileBytes(const v1::DataFile& file) {
    return *PosixFileSystem()->ReadWhole(store_->folder().ObjectsFolder() + "/" +
                                         names::DataFile(*FileId::FromBytes(file.file_id(), "id")));
  }
  std::string MakeShadow() {
    EXPECT_TRUE(PosixFileSystem()->MakeFolder(folder_.path() + "/shadow").ok());
    return folder_.path() + "/shadow";
  }

  TemporaryFolder folder_{TemporaryFolder::kDisk};
  const CheckpointUid uid_ = CheckpointUid::TimeOrdered();
  std::unique_ptr<Store> store_;
};

TEST_F(PersistPart, WritesAPlainSafetensorsFileWithExactlyTheStagedBytes) {
  OpenStore();
  const PartToPersist part = Part({5 * kMiB + 123, 17, 3 * kMiB, 1});
  auto durable = store_->Persist(part);
  ASSERT_TRUE(durable.ok()) << durable.status();
  ASSERT_EQ(durable->manifest.files_size(), 1);
  const v1::DataFile& file = durable->manifest.files(0);
  const std::string bytes = FileBytes(file);
  ASSERT_EQ(bytes.size(), file.length());
  EXPECT_EQ(bytes.substr(file.header_length()), PartBytes(*part.layout, 1));
  EXPECT_EQ(Xxh3(bytes.substr(0, file.header_length())), file.header_hash());
  auto header = ParseSafetensorsHeader(bytes.substr(0, file.header_length()), bytes.size());
  ASSERT_TRUE(header.ok()) << header.status();
  EXPECT_EQ(header->header_region_bytes % 4096, 0u);
  EXPECT_EQ(header->tensors.size(), 4u);
  EXPECT_EQ(header->metadata["run"], "team/run");
  auto read = store_->folder().ReadPartManifest(durable->reference);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->layout().SerializeAsString(), part.layout->serialized());
  read->clear_layout();
  EXPECT_EQ(read->SerializeAsString(), durable->manifest.SerializeAsString());
  EXPECT_EQ(durable->reference.data_bytes(), part.layout->data_bytes());
  EXPECT_EQ(static_cast<StringSource&>(*part.source).consumed(), part.layout->part_bytes());
}

TEST_F(PersistPart, APartWithoutShardsIsAManifestAlone) {
  OpenStore();
  auto durable = store_->Persist(Part({}));
  ASSERT_TRUE(durable.ok()) << durable.status();
  EXPECT_EQ(durable->manifest.files_size(), 0);
  EXPECT_EQ(store_->FilesOnDisk().size(), 1u);
  EXPECT_TRUE(store_->folder().ReadPartManifest(durable->reference).ok());
}

TEST_F(PersistPart, AHeaderTooLargeForOneFileGivesSeveralFiles) {
  OpenStore();
  v1::Layout layout;
  for (int i = 0; i < 1500; ++i) {
    v1::Leaf* leaf = layout.add_leaves();
    leaf->mutable_key()->add_segments()->set_name(absl::StrCat(std::string(4000, '"'), i));
    leaf->set_kind(v1::LEAF_KIND_TENSOR);
    leaf->set_placement(v1::PLACEMENT_PER_RANK);
    leaf->set_dtype(v1::DTYPE_U8);
    leaf->add_shape(100);
    v1::Shard* shard = layout.add_shards();
    shard->set_leaf(static_cast<uint32_t>(i));
    shard->mutable_box()->add_offset(0);
    shard->mutable_box()->add_extent(100);
  }
  auto made = PartLayout::FromProto(layout);
  ASSERT_TRUE(made.ok()) << made.status();
  ASSERT_GT((*made)->files().size(), 1u);
  const CheckpointId id = IdOf("many", 1);
  auto durable = store_->Persist(MakePart(id, uid_, *made, 1));
  ASSERT_TRUE(durable.ok()) << durable.status();
  ASSERT_EQ(durable->manifest.files_size(), static_cast<int>((*made)->files().size()));
  ASSERT_TRUE(store_->persister().Commit(id, uid_, 1, {0}, {*durable}).ok());
  EXPECT_TRUE(store_->Check(uid_).ok()) << store_->Check(uid_);
}

TEST_F(PersistPart, AFullDiskIsRefusedBeforeAByteIsAccepted) {
  FaultyFileSystem files(MakeShadow());
  OpenStore(&files);
  files.SetFreeBytes(200 * kMiB);
  EXPECT_TRUE(absl::IsResourceExhausted(store_->persister().Reserve(300 * kMiB)));
  ASSERT_TRUE(store_->persister().Reserve(80 * kMiB).ok());
  absl::Status second = store_->persister().Reserve(80 * kMiB);  // the first one's are promised
  EXPECT_TRUE(absl::IsResourceExhausted(second));
  EXPECT_THAT(std::string(second.message()), testing::HasSubstr("promised"));
  store_->persister().ReleaseReservation(80 * kMiB);
  EXPECT_TRUE(store_->persister().Reserve(80 * kMiB).ok());
}

TEST_F(PersistPart, AReservationEndsWithItsPartWhetherItSucceedsOrFails) {
  FaultyFileSystem files(MakeShadow());
  OpenStore(&files);
  files.SetFreeBytes(80 * kMiB);  // room for one reservation of 4 MiB beside what is kept free
  files.FailOn(Call::kWrite, ".safetensors", 2, absl::ResourceExhaustedError("full"));
  for (int i = 0; i < 3; ++i) {
    auto durable = store_->Persist(Part({4 * kMiB}));
    EXPECT_EQ(durable.ok(), i > 0) << durable.status();
  }
}

TEST_F(PersistPart, EveryFailureFailsOnlyThePartAndLeavesNothing) {
  struct Fault {
    Call call;
    const char* path_part;
    int nth;
    absl::Status status;
  };
  const std::vector<Fault> faults = {
      {Call::kCreate, ".safetensors.partial", 1, absl::ResourceExhaustedError("no space")},
      {Call::kWrite, ".safetensors", 1, absl::ResourceExhaustedError("no space")},
      {Call::kWrite, ".safetensors", 4, absl::InternalError("input/output error")},
      {Call::kTruncate, ".safetensors", 1, absl::InternalError("input/output error")},
      {Call::kSync, ".safetensors", 1, absl::InternalError("input/output error")},
      {Call::kCreate, ".part.partial", 1, absl::ResourceExhaustedError("no space")},
      {Call::kWrite, ".part.partial", 1, absl::ResourceExhaustedError("no space")},
      {Call::kSync, ".part.partial", 1, absl::InternalError("input/output error")},
      {Call::kRename, ".safetensors", 1, absl::InternalError("input/output error")},
      {Call::kRename, ".part", 1, absl::InternalError("input/output error")},
      {Call::kSyncFolder, "/objects", 1, absl::InternalError("input/output error")},
  };
  FaultyFileSystem files(MakeShadow());
  OpenStore(&files);
  for (size_t i = 0; i < faults.size(); ++i) {
    const Fault& fault = faults[i];
    const int before = files.calls(fault.call, fault.path_part);
    files.FailOn(fault.call, fault.path_part, fault.nth, fault.status);
    auto failed = store_->Persist(Part({5 * kMiB + 1}));
    EXPECT_EQ(failed.status(), fault.status) << i;
    EXPECT_GT(files.calls(fault.call, fault.path_part), before) << i;
    EXPECT_THAT(store_->FilesOnDisk(), testing::IsEmpty()) << i;
  }
  auto durable = store_->Persist(Part({5 * kMiB + 1}));
  EXPECT_TRUE(durable.ok()) << durable.status();
}

TEST_F(PersistPart, AFailedSyncIsNeverTriedAgain) {
  FaultyFileSystem files(MakeShadow());
  OpenStore(&files);
  files.FailOn(Call::kSync, ".safetensors", 1, absl::InternalError("input/output error"));
  EXPECT_FALSE(store_->Persist(Part({kMiB})).ok());
  EXPECT_EQ(files.calls(Call::kSync, ".safetensors"), 1);
}

TEST_F(PersistPart, AShortReadOfStagingFailsThePart) {
  OpenStore();
  PartToPersist part = Part({5 * kMiB});
  part.source = std::make_shared<StringSource>(PartBytes(*part.layout, 1).substr(0, 3 * kMiB));
  auto durable = store_->Persist(part);
  EXPECT_TRUE(absl::IsDataLoss(durable.status())) << durable.status();
  EXPECT_THAT(store_->FilesOnDisk(), testing::IsEmpty());
}

TEST_F(PersistPart, AnAbortWhileReadingFailsThePart) {
  OpenStore();
  PartToPersist part = Part({5 * kMiB});
  static_cast<StringSource&>(*part.source).before_read = [](uint64_t offset) {
    return offset > 2 * kMiB ? absl::AbortedError("rank 3 died") : absl::OkStatus();
  };
  EXPECT_EQ(store_->Persist(part).status(), absl::AbortedError("rank 3 died"));
  EXPECT_THAT(store_->FilesOnDisk(), testing::IsEmpty());
}

// More parts than may be at work, and one that streams: the streaming one must get through while
// all others are held up.
TEST_F(PersistPart, AStreamingPartDoesNotWaitInTheQueue) {
  PersistOptions options = Store::SmallWrites();
  options.parts_at_once = 2;
  options.buffer_bytes_max = 2 * options.write_bytes;
  OpenStore(nullptr, options);
  std::promise<void> gate;
  const std::shared_future<void> opened = gate.get_future().share();
  std::mutex mutex;
  std::vector<absl::Status> held_up;
  for (uint32_t rank = 0; rank < 5; ++rank) {
    PartToPersist part = Part({2 * kMiB}, rank);
    static_cast<StringSource&>(*part.source).before_read = [opened](uint64_t) {
      opened.wait();
      return absl::OkStatus();
    };
    ASSERT_TRUE(store_->persister().Reserve(part.layout->part_bytes()).ok());
    store_->persister().Persist(std::move(part), [&](absl::StatusOr<DurablePart> done) {
      std::lock_guard<std::mutex> lock(mutex);
      held_up.push_back(done.status());
    });
  }
  PartToPersist streaming = Part({20 * kMiB}, 7);
  streaming.streaming = true;
  EXPECT_TRUE(store_->Persist(streaming).ok());
  EXPECT_GE(store_->persister().parts_at_work(), 5u);
  gate.set_value();
  store_.reset();  // waits for all of them
  EXPECT_THAT(held_up, testing::ElementsAre(absl::OkStatus(), absl::OkStatus(), absl::OkStatus(),
                                            absl::OkStatus(), absl::OkStatus()));
}

TEST_F(PersistPart, ManyPartsAtOnceShareBuffersAndWriters) {
  OpenStore();
  const CheckpointId id = IdOf("team/run", 5);
  const auto layout = LayoutOfSizes({3 * kMiB + 5, 700001, 9});
  std::mutex mutex;
  std::vector<DurablePart> parts(12);
  for (uint32_t rank = 0; rank < 12; ++rank) {
    ASSERT_TRUE(store_->persister().Reserve(layout->part_bytes()).ok());
    store_->persister().Persist(MakePart(id, uid_, layout, 1 + rank, rank, 12),
                                [&, rank](absl::StatusOr<DurablePart> done) {
                                  ASSERT_TRUE(done.ok()) << done.status();
                                  std::lock_guard<std::mutex> lock(mutex);
                                  parts[rank] = *std::move(done);
                                });
  }
  while (store_->persister().parts_at_work() > 0) std::this_thread::yield();
  std::lock_guard<std::mutex> lock(mutex);
  std::vector<uint32_t> share(12);
  for (uint32_t i = 0; i < 12; ++i) share[i] = i;
  ASSERT_TRUE(store_->persister().Commit(id, uid_, 12, share, parts).ok());
  EXPECT_TRUE(store_->Check(uid_).ok()) << store_->Check(uid_);
}

}  // namespace
}  // namespace ckpt
