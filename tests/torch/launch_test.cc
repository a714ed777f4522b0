// The incarnation reaches every rank, by process group and by store.
#include "client/torch/launch.h"

#include <cstdlib>
#include <thread>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "tests/torch/torch_test.h"

namespace ckpt::testing {
namespace {

TEST(Launch, AllRanksOfAProcessGroupGetOneIncarnation) {
  constexpr int kRanks = 3;
  auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<absl::StatusOr<Incarnation>> got(kRanks, absl::UnknownError(""));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      auto options = c10d::ProcessGroupGloo::Options::create();
      options->devices = {c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")};
      c10d::ProcessGroupGloo group(store, rank, kRanks, options);
      got[static_cast<size_t>(rank)] = ShareIncarnation(group);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& incarnation : got) {
    ASSERT_OK(incarnation.status());
    EXPECT_EQ(*incarnation, *got[0]);
    EXPECT_FALSE(incarnation->none());
  }
}

TEST(Launch, AStoreTellsLaunchesApart) {
  auto store = c10::make_intrusive<c10d::HashStore>();
  std::vector<Incarnation> made;
  for (const char* name : {"job/0", "job/1"}) {
    absl::StatusOr<Incarnation> other = absl::UnknownError("");
    std::thread rank_one([&] { other = ShareIncarnation(*store, 1, name); });
    const auto mine = ShareIncarnation(*store, 0, name);
    rank_one.join();
    ASSERT_OK(mine.status());
    ASSERT_OK(other.status());
    EXPECT_EQ(*mine, *other);
    made.push_back(*mine);
  }
  EXPECT_LT(made[0], made[1]);
}

TEST(Launch, TorchrunsStoreIsUsed) {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.waitWorkers = false;
  c10d::TCPStore agent("127.0.0.1", options);
  ::unsetenv("TORCHELASTIC_RUN_ID");
  const absl::Status none = IncarnationFromTorchrun().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(none));
  EXPECT_THAT(std::string(none.message()), ::testing::HasSubstr("TORCHELASTIC_RUN_ID"));
  ::setenv("TORCHELASTIC_RUN_ID", "job", 1);
  ::setenv("TORCHELASTIC_RESTART_COUNT", "2", 1);
  ::setenv("TORCHELASTIC_USE_AGENT_STORE", "True", 1);
  ::setenv("MASTER_ADDR", "127.0.0.1", 1);
  ::setenv("MASTER_PORT", std::to_string(agent.getPort()).c_str(), 1);
  ::setenv("RANK", "0", 1);
  const auto first = IncarnationFromTorchrun();
  ASSERT_OK(first.status());
  ::setenv("RANK", "1", 1);
  const auto second = IncarnationFromTorchrun();
  ASSERT_OK(second.status());
  EXPECT_EQ(*first, *second);
}

TEST(TorchConnect, BadOptionsAreRefused) {
  CheckpointerOptions options;
  options.run = "../x";
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpointer::Connect(options).status()));
  options.run = "x";
  options.rank = 2;
  options.world_size = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(Checkpointer::Connect(options).status()));
}

}  // namespace
}  // namespace ckpt::testing
