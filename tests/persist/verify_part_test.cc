#include "server/persist/verify_part.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/storage/names.h"
#include "tests/persist/persist_fixture.h"

namespace ckpt {
namespace {

class VerifyPartTest : public testing::Test {
 protected:
  void SetUp() override {
    auto store = Store::Open(folder_.path() + "/data", &files_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    layout_ = LayoutOfSizes({10 * kMiB + 7, 100});
    auto part = store_->Persist(MakePart(IdOf("r", 1), CheckpointUid::TimeOrdered(), layout_, 3));
    ASSERT_TRUE(part.ok()) << part.status();
    part_ = *std::move(part);
    id_ = *FileId::FromBytes(part_.manifest.files(0).file_id(), "id");
    path_ = absl::StrCat(store_->folder().ObjectsFolder(), "/", names::DataFile(id_));
    header_ = part_.manifest.files(0).header_length();
  }
  std::vector<std::string> Damage() {
    std::vector<std::string> damage;
    uint64_t bytes = 0;
    absl::Status status =
        VerifyPart(&store_->folder(), part_.manifest, *layout_,
                   {.damage = [&](const std::string& line) { damage.push_back(line); },
                    .progress =
                        [&](uint64_t more) {
                          bytes += more;
                          return true;
                        }});
    EXPECT_TRUE(status.ok()) << status;
    EXPECT_EQ(bytes, PartBytesOnDisk(part_.manifest));
    return damage;
  }
  // Where the `nth` read of the data file fails: its opening, its header, its first shard.
  void FailRead(int nth, absl::Status status) {
    files_.Restart();
    files_.FailOn(FaultyFileSystem::Call::kRead, names::DataFile(id_), nth, std::move(status));
  }
  TemporaryFolder folder_{TemporaryFolder::kDisk};
  TemporaryFolder shadow_{TemporaryFolder::kDisk};
  FaultyFileSystem files_{shadow_.path()};
  std::unique_ptr<Store> store_;
  std::shared_ptr<const PartLayout> layout_;
  DurablePart part_;
  FileId id_;
  std::string path_;
  uint64_t header_ = 0;
};

TEST_F(VerifyPartTest, SaysNothingOfAHealthyPart) { EXPECT_THAT(Damage(), testing::IsEmpty()); }

TEST_F(VerifyPartTest, NamesFileKeyAndOffsetOfAFlippedByte) {
  FlipByte(path_, header_ + 3 * kMiB + 5);
  EXPECT_THAT(Damage(), testing::ElementsAre(testing::AllOf(
                            testing::HasSubstr(id_.hex()), testing::HasSubstr("t0"),
                            testing::HasSubstr(absl::StrCat("offset ", header_ + 3 * kMiB)))));
}

TEST_F(VerifyPartTest, NamesAFlippedByteOfTheHeader) {
  FlipByte(path_, header_ - 1);
  EXPECT_THAT(Damage(), testing::ElementsAre(testing::HasSubstr("header")));
}

TEST_F(VerifyPartTest, NamesAFileThatIsTooShortOrGone) {
  CutFile(path_, header_ + 5 * kMiB);
  EXPECT_THAT(Damage(), testing::ElementsAre(testing::HasSubstr("bytes long"),
                                             testing::HasSubstr("t0"), testing::HasSubstr("t1")));
  ASSERT_TRUE(store_->folder().DeleteDataFile(id_).ok());
  EXPECT_THAT(Damage(), testing::ElementsAre(testing::HasSubstr("cannot be opened")));
}

TEST_F(VerifyPartTest, WhatTheDeviceCannotReadIsDamage) {
  for (const int nth : {1, 2, 3}) {
    FailRead(nth, absl::DataLossError("the device cannot read"));
    EXPECT_THAT(Damage(), testing::ElementsAre(testing::AllOf(
                              testing::HasSubstr(id_.hex()), testing::HasSubstr("the device"))));
  }
}

// As where an allowed caller has used up all descriptors.
TEST_F(VerifyPartTest, WhatCannotBeReadForAnotherReasonIsAnErrorAndNoDamage) {
  for (const int nth : {1, 2, 3}) {
    FailRead(nth, absl::InternalError("open failed: Too many open files"));
    std::vector<std::string> damage;
    const absl::Status status =
        VerifyPart(&store_->folder(), part_.manifest, *layout_,
                   {.damage = [&](const std::string& line) { damage.push_back(line); },
                    .progress = [](uint64_t) { return true; }});
    EXPECT_TRUE(absl::IsInternal(status)) << nth << ": " << status;
    EXPECT_THAT(damage, testing::IsEmpty()) << nth;
  }
  files_.Restart();
  EXPECT_THAT(Damage(), testing::IsEmpty());
}

TEST_F(VerifyPartTest, CanBeCancelled) {
  absl::Status status =
      VerifyPart(&store_->folder(), part_.manifest, *layout_,
                 {.damage = [](const std::string&) {}, .progress = [](uint64_t) { return false; }});
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
}

}  // namespace
}  // namespace ckpt
