// The index on a disk that fills up: writes are refused with the reason, the process lives, and
// once there is room they are taken again.
#include "absl/time/clock.h"
#include "tests/fixtures/small_disk.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

TEST(IndexOnAFullDisk, RefusesAndGoesOnOnceThereIsRoom) {
  const SmallDisk disk(64);
  CKPT_NEED_DISK(disk);
  absl::StatusOr<std::unique_ptr<Index>> index = Index::Open(disk / "index");
  ASSERT_TRUE(index.ok()) << index.status();
  uint64_t step = 0;
  const auto put = [&] {
    v1::CheckpointInfo info;
    *info.mutable_id() = CheckpointId{"run", ++step, Incarnation::TimeOrdered()}.ToProto();
    info.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
    info.set_abort_reason(std::string(100000, 'x'));
    return (*index)->PutAborted(info);
  };
  ASSERT_TRUE(put().ok());
  disk.Fill();
  absl::Status status;
  while (status.ok() && step < 1000) status = put();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(put().ok());
  EXPECT_TRUE((*index)->FindAborted({"run", 1, Incarnation()}).ok()) << "it still reads";
  disk.GiveRoom();
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  do {
    absl::SleepFor(absl::Milliseconds(100));
    status = put();
  } while (!status.ok() && absl::Now() < deadline);
  EXPECT_TRUE(status.ok()) << status;
  index->reset();
  index = Index::Open(disk / "index");
  ASSERT_TRUE(index.ok()) << index.status();
  EXPECT_TRUE((*index)->FindAborted({"run", step, Incarnation()}).ok());
}

// As ckptutil makes it beside the old one, which is no worse for it.
TEST(IndexOnAFullDisk, ANewOneIsRefusedAndNotCalledDamaged) {
  const SmallDisk disk(64);
  CKPT_NEED_DISK(disk);
  disk.Fill();
  const absl::Status status = Index::Open(disk / "index").status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(std::string(status.message()), testing::HasSubstr("free some MiB"));
}

}  // namespace
}  // namespace ckpt
