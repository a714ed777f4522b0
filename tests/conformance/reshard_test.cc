// What N ranks saved, M ranks load: every pair of {1, 2, 3, 4, 8}, along each dimension, with
// pieces that don't divide and ranks that hold nothing.
#include <fcntl.h>
#include <unistd.h>

#include <iterator>

#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

constexpr uint32_t kWorlds[] = {1, 2, 3, 4, 8};

StateDict Shards(uint32_t rank, uint32_t world_size) {
  StateDict state;
  for (int64_t dim = 0; dim < 3; ++dim) {
    for (const int64_t size : {2, 5, 13, 16}) {  // 2 and 5: some of 8 ranks hold nothing
      state[absl::StrCat("dim", dim, "size", size)] =
          ShardOf(WholeTensor(size, dim), {rank, world_size, size, dim});
    }
  }
  // Rows here, columns there; and one that each rank holds whole.
  const bool rows = world_size % 2 == 0;
  const at::Tensor square = torch::arange(36.0f).view({6, 6});
  state["turned"] = ShardOf(square, {rank, world_size, 6, rows ? 0 : 1});
  state["replicated"] = world_size == 3 ? StateValue(ShardOf(square, {rank, world_size, 6, 0}))
                                        : Replicated(square.clone());
  return state;
}

// Not every file system does.
bool ReadsPastThePageCache(const std::string& folder) {
  const int file = open((folder + "/FORMAT").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (file >= 0) close(file);
  return file >= 0;
}

at::Tensor LocalOf(const StateValue& value) {
  const Sharded* sharded = value.If<Sharded>();
  return sharded ? sharded->local : *value.If<at::Tensor>();
}

TEST_F(Conformance, load_reshard) {
  for (const uint32_t from : kWorlds) {
    std::vector<StateDict> saved;
    for (uint32_t rank = 0; rank < from; ++rank) saved.push_back(Shards(rank, from));
    ASSERT_OK(Save(from, saved));
  }
  for (const uint32_t to : kWorlds) {
    for (uint32_t rank = 0; rank < to; ++rank) {
      auto checkpointer = Connect(rank, to);
      const StateDict wanted = Shards(rank, to);
      for (const uint32_t from : kWorlds) {
        StateDict state = Shards(rank, to);
        for (StateEntry& entry : state) LocalOf(entry.value).fill_(-1);
        ASSERT_OK(checkpointer->Load(from, state).status());
        for (const StateEntry& entry : wanted) {
          EXPECT_TRUE(BitEqual(LocalOf(*state.Find(entry.key)), LocalOf(entry.value)))
              << from << " to " << to << ", rank " << rank << ": " << entry.key.ToString();
        }
      }
    }
  }
  // And the full tensors, whoever saved them.
  for (const uint32_t from : kWorlds) {
    const auto raw = LoadAll(from);
    ASSERT_OK(raw.status());
    for (int64_t dim = 0; dim < 3; ++dim) {
      EXPECT_TRUE(
          BitEqual(TensorAt(*raw, absl::StrCat("dim", dim, "size", 13)), WholeTensor(13, dim)))
          << from << ", dimension " << dim;
    }
  }
}

// Each rank a process: model, optimizer and shards go from each number of ranks to another one, out
// of memory and from disk, into uneven and empty shards.
TEST_F(Conformance, load_reshard_between_processes) {
  constexpr uint32_t kLaunches[] = {1, 8, 3, 4, 2, 1};
  for (uint64_t step = 1; step < std::size(kLaunches); ++step) {
    const int64_t size = step % 2 == 0 ? 2 : 13;
    const int64_t dim = static_cast<int64_t>(step % 3);
    const uint32_t from = kLaunches[step - 1];
    const uint32_t to = kLaunches[step];
    SCOPED_TRACE(absl::StrCat(from, " ranks to ", to));
    ASSERT_OK(RunRanks("save", step, {.world_size = from, .size = size, .dim = dim}));
    if (step % 2 == 0) ForgetMemory();
    NewLaunch();
    EXPECT_OK(RunRanks("load", step, {.world_size = to, .size = size, .dim = dim}));
  }
}

// Ranks of one launch that load a named step say so to the client: what all of them want is read
// through the page cache, once, though each rank alone would read past it.
TEST_F(Conformance, load_reshard_reads_what_ranks_share_once) {
  const StateDict saved = {{"shared", Replicated(torch::rand({16, 1024, 1024}))}};
  const double bytes = 16 << 22;
  ASSERT_OK(Save(1, saved));
  for (const uint32_t ranks : {1u, 2u}) {
    ForgetMemory();
    if (daemon_->MakeDataFilesCold() == 0) GTEST_SKIP() << "/tmp is in memory";
    const uint64_t before = BytesReadFromDisk();
    for (uint32_t turn = 0; turn < 2; ++turn) {
      StateDict state = {{"shared", Replicated(torch::zeros({16, 1024, 1024}))}};
      ASSERT_OK(Load(1, state, {}, turn % ranks, ranks).status());
      EXPECT_TRUE(BitEqual(TensorAt(state, "shared"), TensorAt(saved, "shared")));
    }
    const auto read = static_cast<double>(BytesReadFromDisk() - before);
    EXPECT_GE(read, 0.95 * bytes) << "it was not cold";
    if (ranks == 2) {
      EXPECT_LE(read, 1.05 * bytes);
    } else if (ReadsPastThePageCache(daemon_->data_folder())) {
      EXPECT_GE(read, 1.9 * bytes) << "a job of one rank leaves the page cache alone";
    }
  }
}

// One rank's own values are all that ranks of another number get: they are read once, too.
TEST_F(Conformance, load_reshard_reads_another_ranks_own_once) {
  const auto own = [](float value) {
    return StateDict{{"own", PerRank(torch::full({8, 1024, 1024}, value))}};
  };
  const double bytes = 8 << 22;  // of each rank
  ASSERT_OK(Save(1, {own(1), own(2), own(3)}));
  for (const uint32_t source : {0u, LoadOptions::kOwnRankWrapped}) {
    ForgetMemory();
    if (daemon_->MakeDataFilesCold() == 0) GTEST_SKIP() << "/tmp is in memory";
    LoadOptions options;
    options.per_rank_source = source;
    const uint64_t before = BytesReadFromDisk();
    for (const uint32_t rank : {0u, 3u}) {  // of four: wrapped, rank 3 has what rank 0 has
      StateDict state = own(0);
      ASSERT_OK(Load(1, state, options, rank, 4).status());
      EXPECT_TRUE(BitEqual(TensorAt(state, "own"), TensorAt(own(1), "own")));
    }
    const auto read = static_cast<double>(BytesReadFromDisk() - before);
    EXPECT_GE(read, 0.95 * bytes) << "it was not cold";
    EXPECT_LE(read, 1.05 * bytes) << source;
  }
}

}  // namespace
}  // namespace ckpt::testing
