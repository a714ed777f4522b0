// What N ranks saved, M ranks load: every pair of {1, 2, 3, 4, 8}, along each dimension, with
// pieces that don't divide and ranks that hold nothing.
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

// Each rank a process: model, optimizer and shards of three ranks go to four, and of four to two.
TEST_F(Conformance, load_reshard_between_processes) {
  ASSERT_OK(RunRanks("save", 1, {.world_size = 3, .size = 13, .dim = 1}));
  NewLaunch();
  EXPECT_OK(RunRanks("load", 1, {.world_size = 4, .size = 13, .dim = 1}));
  ASSERT_OK(RunRanks("save", 2, {.world_size = 4, .size = 2, .dim = 2}));
  ForgetMemory();
  NewLaunch();
  EXPECT_OK(RunRanks("load", 2, {.world_size = 2, .size = 2, .dim = 2}));
}

}  // namespace
}  // namespace ckpt::testing
