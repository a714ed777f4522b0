// An index that is opened again and again, as by a daemon that is restarted in a loop.
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/fixtures/small_disk.h"
#include "tests/index/index_fixture.h"

namespace ckpt {
namespace {

constexpr int kStarts = 30;
constexpr size_t kFew = 10;

size_t Logs(const std::string& folder) {
  size_t logs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    logs += entry.path().extension() == ".log" ? 1 : 0;
  }
  return logs;
}

class IndexRestarts : public IndexTest {};

// Each start leaves a log, which each later one would read, and copy.
TEST_F(IndexRestarts, ManyOfThemLeaveFewLogs) {
  for (uint64_t step = 1; step <= kStarts; ++step) {
    Put({"r", step, Incarnation::TimeOrdered()});
    Reopen();
    EXPECT_LT(Logs(path_), kFew);
  }
  EXPECT_EQ(index_->CheckpointCount(), static_cast<uint64_t>(kStarts));
  for (uint64_t step = 1; step <= kStarts; ++step) {
    EXPECT_TRUE(index_->FindStep("r", step, std::nullopt).ok()) << step;
  }
}

// There is room to read the logs, and none to make tables of them.
TEST(IndexRestartsOnAFullDisk, AreReadAllTheSame) {
  const SmallDisk disk(32);
  CKPT_NEED_DISK(disk);
  constexpr uint64_t kRowBytes = 100000;
  std::mt19937 random(1);
  std::vector<CheckpointId> put;
  for (int start = 0; start < 15; ++start) {
    const bool full = start >= 8;
    if (start == 8) {
      std::ofstream(disk / "room", std::ios::binary) << std::string(4 * kRowBytes, 'r');
      disk.Fill();
      std::filesystem::remove(disk / "room");
    }
    const absl::StatusOr<std::unique_ptr<Index>> index = Index::Open(disk / "index");
    ASSERT_TRUE(index.ok()) << index.status();
    for (const CheckpointId& id : put) EXPECT_TRUE((*index)->FindAborted(id).ok());
    if (full) continue;
    v1::CheckpointInfo info;
    put.push_back({"run", static_cast<uint64_t>(start), Incarnation::TimeOrdered()});
    *info.mutable_id() = put.back().ToProto();
    info.set_checkpoint_uid(CheckpointUid::TimeOrdered().bytes());
    std::string& text = *info.mutable_abort_reason();  // that does not compress
    while (text.size() < kRowBytes) text.push_back(static_cast<char>('!' + random() % 90));
    ASSERT_TRUE((*index)->PutAborted(info).ok());
  }
  EXPECT_GE(Logs(disk / "index"), kFew);
  disk.GiveRoom();
  const absl::StatusOr<std::unique_ptr<Index>> index = Index::Open(disk / "index");
  ASSERT_TRUE(index.ok()) << index.status();
  for (const CheckpointId& id : put) EXPECT_TRUE((*index)->FindAborted(id).ok());
  EXPECT_LT(Logs(disk / "index"), kFew);
}

}  // namespace
}  // namespace ckpt
