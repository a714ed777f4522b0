// VerifyCheckpoint: progress and damage.
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "server/storage/names.h"
#include "tests/rpc/catalog_fixture.h"

namespace ckpt {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST_F(CatalogTest, VerifyReportsProgressAndDamage) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20, 100});
  v1::VerifyCheckpointRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  v1::VerifyCheckpointResponse last;
  std::vector<std::string> damage;
  const auto keep = [&](const v1::VerifyCheckpointResponse& response) {
    last = response;
    damage.insert(damage.end(), response.damage().begin(), response.damage().end());
    return true;
  };
  ASSERT_TRUE(VerifyCheckpoint(*catalog_, request, Never, keep).ok());
  EXPECT_TRUE(last.done());
  EXPECT_GE(last.bytes_total(), (3u << 20) + 100);
  EXPECT_EQ(last.bytes_done(), last.bytes_total());
  EXPECT_THAT(damage, IsEmpty());

  const auto part = store_->index().GetPartHead(uid, 0);
  ASSERT_TRUE(part.ok()) << part.status();
  const std::string file = names::DataFile(*FileId::FromBytes(part->files(0).file_id(), "file_id"));
  FlipByte(store_->folder().ObjectsFolder() + "/" + file,
           part->files(0).header_length() + (2 << 20) + 17);
  ASSERT_TRUE(VerifyCheckpoint(*catalog_, request, Never, keep).ok());
  EXPECT_TRUE(last.done());
  EXPECT_THAT(damage, ElementsAre(AllOf(HasSubstr(file), HasSubstr("t0"))));
}

TEST_F(CatalogTest, VerifyOfACutFileIsDamageNotAnError) {
  const CheckpointUid uid = Save(IdOf("r", 1), {3 << 20});
  const auto part = store_->index().GetPartHead(uid, 0);
  CutFile(store_->folder().ObjectsFolder() + "/" +
              names::DataFile(*FileId::FromBytes(part->files(0).file_id(), "file_id")),
          1 << 20);
  v1::VerifyCheckpointRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  int damage = 0;
  ASSERT_TRUE(VerifyCheckpoint(*catalog_, request, Never,
                               [&](const v1::VerifyCheckpointResponse& response) {
                                 damage += response.damage_size();
                                 return true;
                               })
                  .ok());
  EXPECT_GT(damage, 0);
}

TEST_F(CatalogTest, VerifyStopsWhenCancelled) {
  Save(IdOf("r", 1), {3 << 20});
  v1::VerifyCheckpointRequest request;
  *request.mutable_selector() = StepOf("r", 1);
  EXPECT_TRUE(absl::IsCancelled(VerifyCheckpoint(
      *catalog_, request, [] { return true; },
      [](const v1::VerifyCheckpointResponse&) { return true; })));
}

}  // namespace
}  // namespace ckpt
