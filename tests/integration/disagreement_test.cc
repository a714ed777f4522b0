// Ranks that don't agree on what they save together, and launches that don't know of each other.
#include "common/key.h"
#include "tests/integration/integration_test.h"

namespace ckpt::testing {
namespace {

class Disagreement : public IntegrationTest {
 protected:
  // Saves one part per rank, each of its own making, and returns how each ended.
  std::vector<absl::Status> SaveParts(const CheckpointId& id, std::vector<Part> parts) {
    std::vector<SaveHandle> saves;
    std::vector<absl::Status> ends;
    for (Part& part : parts) {
      clients_.push_back(Connect());
      absl::StatusOr<SaveHandle> save =
          clients_.back()->Save(id, std::move(part), {.join_deadline = absl::Seconds(20)});
      EXPECT_TRUE(save.ok()) << save.status();
      saves.push_back(*save);
    }
    for (SaveHandle& save : saves) ends.push_back(save.AwaitCommitted(absl::Seconds(60)));
    return ends;
  }
  // At least one rank is told the reason itself, the others that it was aborted for it.
  void ExpectRefused(const std::vector<absl::Status>& ends, const std::string& text) {
    for (const absl::Status& end : ends) {
      EXPECT_FALSE(end.ok());
      EXPECT_NE(end.code(), absl::StatusCode::kDeadlineExceeded) << end;
      EXPECT_THAT(std::string(end.message()), ::testing::ContainsRegex(text)) << end;
    }
    EXPECT_THAT(CommittedSteps("run"), ::testing::IsEmpty());
  }
  static Part Tensor(uint32_t rank, const std::string& key, DType dtype, Extents shape, Box box) {
    auto bytes = std::make_shared<std::string>(box.volume() * 8, static_cast<char>('a' + rank));
    Part part{.rank = rank, .world_size = 2};
    part.leaves.push_back(ShardLeaf(MakeKey({key}), dtype, shape, box, bytes->data()));
    part.keep_alive = bytes;
    return part;
  }
  std::vector<std::unique_ptr<Client>> clients_;
};

TEST_F(Disagreement, OnTheShare) {
  Part first = MakeTestPart(TestState::Mixed(1), 0, 3);
  Part second = MakeTestPart(TestState::Mixed(1), 1, 3);
  first.share = {0, 1};
  second.share = {1, 2};
  ExpectRefused(SaveParts(NewId("run", 1), {first, second}), "share");
}

TEST_F(Disagreement, OnTheWorldSize) {
  ExpectRefused(SaveParts(NewId("run", 1), {MakeTestPart(TestState::Mixed(1), 0, 2),
                                            MakeTestPart(TestState::Mixed(1), 1, 3)}),
                "world");
}

TEST_F(Disagreement, OnTheReplicatedList) {
  TestState more = TestState::Mixed(1);
  more.tensors.push_back({"model.extra", v1::DTYPE_F32, {4}, v1::PLACEMENT_REPLICATED});
  ExpectRefused(SaveParts(NewId("run", 1),
                          {MakeTestPart(TestState::Mixed(1), 0, 2), MakeTestPart(more, 1, 2)}),
                "replicated");
}

TEST_F(Disagreement, OverlappingBoxes) {
  ExpectRefused(
      SaveParts(NewId("run", 1), {Tensor(0, "weight", v1::DTYPE_F32, {8, 4}, {{0, 0}, {5, 4}}),
                                  Tensor(1, "weight", v1::DTYPE_F32, {8, 4}, {{4, 0}, {4, 4}})}),
      "weight");
}

TEST_F(Disagreement, MissingBoxes) {
  ExpectRefused(
      SaveParts(NewId("run", 1), {Tensor(0, "weight", v1::DTYPE_F32, {8, 4}, {{0, 0}, {3, 4}}),
                                  Tensor(1, "weight", v1::DTYPE_F32, {8, 4}, {{4, 0}, {4, 4}})}),
      "weight");
}

TEST_F(Disagreement, DTypesOfOneTensor) {
  ExpectRefused(
      SaveParts(NewId("run", 1), {Tensor(0, "weight", v1::DTYPE_F32, {8, 4}, {{0, 0}, {4, 4}}),
                                  Tensor(1, "weight", v1::DTYPE_BF16, {8, 4}, {{4, 0}, {4, 4}})}),
      "weight");
}

TEST_F(Disagreement, ShapesOfOneTensor) {
  ExpectRefused(
      SaveParts(NewId("run", 1), {Tensor(0, "weight", v1::DTYPE_F32, {8, 4}, {{0, 0}, {4, 4}}),
                                  Tensor(1, "weight", v1::DTYPE_F32, {9, 4}, {{4, 0}, {5, 4}})}),
      "weight");
}

TEST_F(Disagreement, AShareSmallerThanTheWorldIsNeverLatest) {
  TestState state{.seed = 3};
  state.tensors = {{"own", v1::DTYPE_U8, {100}, v1::PLACEMENT_PER_RANK}};
  Part part = MakeTestPart(state, 1, 4);
  part.share = {1};
  for (const absl::Status& end : SaveParts(NewId("run", 7), {part})) CKPT_EXPECT_OK(end);
  const auto list = List("run");
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].share_size(), 1);
  EXPECT_EQ(list[0].world_size(), 4u);
  EXPECT_FALSE(Check("run@latest", state).ok());
}

TEST_F(Disagreement, AnOlderIncarnationThatTurnsUpLate) {
  const CheckpointId older = NewId("run", 1);
  const CheckpointId newer = NewId("run", 1);
  CKPT_ASSERT_OK(SaveCommitted(newer, TestState::Mixed(2), 2));
  for (const uint64_t step : {uint64_t{1}, uint64_t{2}}) {
    for (SaveHandle& save :
         StartSaves({older.run, step, older.incarnation}, TestState::Mixed(1), 2)) {
      CKPT_EXPECT_ERROR(save.AwaitStaged(absl::Seconds(60)), absl::StatusCode::kFailedPrecondition,
                        "incarnation");
    }
  }
  CKPT_EXPECT_OK(Check("run@latest", TestState::Mixed(2), 2));
}

TEST_F(Disagreement, ANewerIncarnationAbortsWhatTheOlderOneIsWriting) {
  const CheckpointId older = NewId("run", 5);
  const auto client = Connect();
  absl::StatusOr<SaveHandle> half =
      client->Save(older, MakeTestPart(TestState::Mixed(1), 0, 2), {});  // rank 1 never comes
  ASSERT_TRUE(half.ok()) << half.status();
  CKPT_ASSERT_OK(half->AwaitStaged(absl::Seconds(60)));
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 5), TestState::Mixed(2), 2));
  CKPT_EXPECT_ERROR(half->AwaitCommitted(absl::Seconds(60)), absl::StatusCode::kAborted,
                    "incarnation");
  CKPT_EXPECT_OK(Check("run@5", TestState::Mixed(2), 2));
}

TEST_F(Disagreement, AStepThatExistsIsRefused) {
  const Incarnation launch = Incarnation::TimeOrdered();
  CKPT_ASSERT_OK(SaveCommitted({"run", 1, launch}, TestState::Mixed(1), 2));
  for (const auto if_exists : {v1::IF_EXISTS_UNSPECIFIED, v1::IF_EXISTS_FAIL}) {
    for (const Incarnation incarnation : {launch, Incarnation::TimeOrdered()}) {
      for (SaveHandle& save :
           StartSaves({"run", 1, incarnation}, TestState::Mixed(2), 2, {.if_exists = if_exists})) {
        CKPT_EXPECT_ERROR(save.AwaitStaged(absl::Seconds(60)), absl::StatusCode::kAlreadyExists,
                          "run@1");
      }
    }
  }
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1), 2));
}

TEST_F(Disagreement, ReplaceKeepsTheOldOneUntilTheNewOneIsCommitted) {
  StartDaemon({.flags = {"--persist-delay=1s"}});
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 2));
  auto saves =
      StartSaves(NewId("run", 1), TestState::Mixed(2), 2, {.if_exists = v1::IF_EXISTS_REPLACE});
  for (SaveHandle& save : saves) CKPT_ASSERT_OK(save.AwaitStaged(absl::Seconds(60)));
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1), 2));  // the exact step: no waiting
  for (SaveHandle& save : saves) CKPT_ASSERT_OK(save.AwaitCommitted(absl::Seconds(60)));
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(2), 2));
  EXPECT_THAT(CommittedSteps("run"), ::testing::ElementsAre(1));
  CKPT_EXPECT_OK(Eventually("the old one's files go", [this] {
    size_t data_files = 0;
    for (const std::string& name : daemon().DataFiles()) {
      data_files += name.ends_with(".safetensors") ? 1 : 0;
    }
    return data_files == 2;
  }));
}

TEST_F(Disagreement, AReplacementThatFailsLeavesTheOldOne) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 2));
  auto client = Connect();
  absl::StatusOr<SaveHandle> half =
      client->Save(NewId("run", 1), MakeTestPart(TestState::Mixed(2), 0, 2),
                   {.if_exists = v1::IF_EXISTS_REPLACE, .join_deadline = absl::Milliseconds(200)});
  ASSERT_TRUE(half.ok()) << half.status();
  EXPECT_TRUE(absl::IsAborted(half->AwaitCommitted(absl::Seconds(60))));
  CKPT_EXPECT_OK(Check("run@1", TestState::Mixed(1), 2));
  CKPT_EXPECT_OK(Check("run@latest", TestState::Mixed(1), 2));
}

TEST_F(Disagreement, StepsBeyondTheResumedOneAreReplacedByDefault) {
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 1), TestState::Mixed(1), 2));
  CKPT_ASSERT_OK(SaveCommitted(NewId("run", 2), TestState::Mixed(2), 2));
  // A launch that resumed from step 1 comes to step 2 again.
  CKPT_ASSERT_OK(
      SaveCommitted(NewId("run", 2), TestState::Mixed(3), 2, {.resumed_step = uint64_t{1}}));
  CKPT_EXPECT_OK(Check("run@2", TestState::Mixed(3), 2));
}

}  // namespace
}  // namespace ckpt::testing
