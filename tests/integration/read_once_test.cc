// Ranks of a node that want the same bytes at the same time: the disk is read once for all of them.
// Counted by the kernel, process by process.
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/integration/integration_test.h"
#include "tests/integration/rank_process.h"

namespace ckpt::testing {
namespace {

constexpr uint32_t kRanks = 8;
constexpr uint64_t kBytes = uint64_t{64} << 20;

class ReadOnce : public IntegrationTest {
 protected:
  // Out of the memory tier and the page cache. The bytes of the data files.
  uint64_t MakeCold() {
    DropClients();
    daemon().Kill();
    std::filesystem::remove_all(daemon().memory_folder());
    const absl::Status restarted = daemon().Restart();
    EXPECT_TRUE(restarted.ok()) << restarted;
    return daemon().MakeDataFilesCold();
  }
  // Of all ranks, which start at once.
  uint64_t RestoreTogether(const std::string& selector, const RankSave& save) {
    std::vector<std::unique_ptr<RankProcess>> ranks;
    for (uint32_t i = 0; i < kRanks; ++i) {
      auto rank = RankProcess::Start(daemon().socket());
      EXPECT_TRUE(rank.ok()) << rank.status();
      ranks.push_back(*std::move(rank));
    }
    std::vector<absl::StatusOr<uint64_t>> read(kRanks, uint64_t{0});
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < kRanks; ++i) {
      threads.emplace_back(
          [&, i] { read[i] = ranks[i]->RestoreTogether(selector, save, kRanks); });
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < kRanks; ++i) {
      threads[i].join();
      EXPECT_TRUE(read[i].ok()) << read[i].status();
      sum += read[i].value_or(0);
    }
    return sum;
  }
};

TEST_F(ReadOnce, EightRanksThatRestoreTheSameCauseOneReadFromDisk) {
  const RankSave save{.id = NewId("run", 1), .seed = 4, .bytes = kBytes};
  const TestState state = TestState::Mixed(save.seed, kBytes);
  CKPT_ASSERT_OK(SaveCommitted(save.id, state, 1));
  for (const std::string selector : {"run@1", "run@latest"}) {
    const auto stored = static_cast<double>(MakeCold());
    if (stored == 0) GTEST_SKIP() << "/tmp is in memory: nothing is read from a disk";
    const auto read = static_cast<double>(RestoreTogether(selector, save));
    EXPECT_LE(read, 1.05 * stored) << selector;
    EXPECT_GE(read, 0.95 * stored) << selector << ": it was not cold";
  }
}

}  // namespace
}  // namespace ckpt::testing
