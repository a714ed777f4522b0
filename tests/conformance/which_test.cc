// Which checkpoint is loaded, and what is said where it is not there or not whole.
#include "tests/conformance/conformance_test.h"

namespace ckpt::testing {
namespace {

TEST_F(Conformance, load_missing) {
  ASSERT_OK(Save(12, {{"a", 1}}));
  ASSERT_OK(Save(15, {{"a", 1}}));
  auto checkpointer = Connect();
  StateDict state{{"a", 0}};
  const absl::Status step = checkpointer->Load(13, state).status();
  EXPECT_TRUE(absl::IsNotFound(step)) << step;
  EXPECT_THAT(std::string(step.message()), HasSubstr("12"));
  EXPECT_THAT(std::string(step.message()), HasSubstr("15"));
  const absl::Status run = checkpointer->Load("team/rum@latest", state).status();
  EXPECT_TRUE(absl::IsNotFound(run)) << run;
  EXPECT_THAT(std::string(run.message()), HasSubstr("team/run"));
  const absl::Status tag = checkpointer->Load("best", state).status();
  EXPECT_TRUE(absl::IsNotFound(tag)) << tag;
  EXPECT_TRUE(absl::IsInvalidArgument(checkpointer->Load("a b", state).status()));
  EXPECT_EQ(*state["a"].AsInt(), 0);
}

// Both are NOT_FOUND; a trainer that took the one for the other would start again at step 0.
TEST_F(Conformance, load_missing_is_told_from_a_missing_key) {
  auto checkpointer = Connect();
  StateDict state{{"a", 0}};
  const auto fresh = checkpointer->Resume(state);
  ASSERT_OK(fresh.status());
  EXPECT_FALSE(fresh->has_value());
  EXPECT_EQ(*state["a"].AsInt(), 0);
  ASSERT_OK(Save(12, {{"a", 1}}));
  const auto resumed = checkpointer->Resume(state);
  ASSERT_OK(resumed.status());
  ASSERT_TRUE(resumed->has_value());
  EXPECT_EQ((*resumed)->step(), 12u);
  EXPECT_EQ(*state["a"].AsInt(), 1);
  EXPECT_EQ(checkpointer->resumed_step(), 12u);
  StateDict more{{"a", 0}, {"b", 0}};
  const absl::Status missing = checkpointer->Resume(more).status();
  EXPECT_TRUE(absl::IsNotFound(missing)) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("b"));
  EXPECT_EQ(*more["a"].AsInt(), 0);
}

TEST_F(Conformance, load_latest) {
  const auto state_of = [](int64_t step) {
    return StateDict{{"step", step}, {"t", torch::full({1000}, static_cast<double>(step))}};
  };
  const auto latest = [&] {
    const auto raw = LoadAll("latest");
    EXPECT_OK(raw.status());
    return raw.ok() ? *raw->Find("step")->AsInt() : -1;
  };
  ASSERT_OK(Save(1, state_of(1)));
  const std::vector<std::string> first = daemon_->DataFiles();
  ASSERT_OK(Save(2, state_of(2)));
  EXPECT_EQ(latest(), 2);
  // Incomplete: one rank of two, while its process lives, and once the other cannot come any more.
  {
    auto half = Connect(0, 2);
    auto save = half->Save(3, state_of(3), {.save = {.join_deadline = absl::Seconds(2)}});
    ASSERT_OK(save.status());
    ASSERT_OK(save->AwaitStaged(absl::Minutes(1)));
    StateDict state{{"step", 0}};
    LoadOptions now;
    now.restore.settle_timeout = absl::Milliseconds(100);
    // The half is not staged, so nobody waits for it.
    const auto early = Load("latest", state, now);
    ASSERT_OK(early.status());
    EXPECT_EQ(early->step(), 2u);
    const absl::Status aborted = save->AwaitCommitted(absl::Minutes(1));
    EXPECT_TRUE(absl::IsAborted(aborted)) << aborted;
  }
  EXPECT_EQ(latest(), 2);
  // A commit record that was damaged on disk: it is no commit.
  std::string record;
  for (const std::string& name : daemon_->DataFiles()) {
    const bool of_second = std::find(first.begin(), first.end(), name) == first.end();
    if (of_second && name.rfind("checkpoints/", 0) == 0) record = name;
  }
  ASSERT_FALSE(record.empty());
  daemon_->Kill();
  FlipBit({absl::StrCat(daemon_->data_folder(), "/", record), 0}, 20, 3);
  std::filesystem::remove_all(daemon_->memory_folder());
  std::filesystem::remove_all(daemon_->data_folder() + "/index");
  ASSERT_OK(daemon_->Restart());
  EXPECT_EQ(latest(), 1);
}

TEST_F(Conformance, load_corrupt) {
  struct Job {
    explicit Job(uint64_t seed)
        : model(SmallModel(seed)),
          big(torch::full({3, 1 << 18}, static_cast<double>(seed))),  // three blocks
          turned(torch::rand({30, 20})),
          state({{"model", model}, {"big", big}, {"turned", turned.t()}, {"iteration", 0}}) {}
    torch::nn::Sequential model;
    at::Tensor big;
    at::Tensor turned;
    StateDict state;
  };
  Job good(1);
  ASSERT_OK(Save(1, good.state));
  Job newer(2);
  newer.big[1].fill_(7);
  newer.big[2].fill_(8);
  ASSERT_OK(Save(2, newer.state));
  ForgetMemory();
  const at::Tensor weight = newer.model->parameters()[4].detach();
  const Place of_big = PlaceOf(newer.big);
  const Place of_weight = PlaceOf(weight);
  // Anywhere: the first bit, the last, and some between.
  const uint64_t last = newer.big.nbytes() - 1;
  for (const uint64_t byte : {uint64_t{0}, uint64_t{1} << 20, uint64_t{1234567}, last}) {
    FlipBit(of_big, byte, static_cast<int>(byte % 8));
    StateDict state{{"big", torch::zeros({3, 1 << 18})}};
    const absl::Status status = Load(2, state).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    const std::string text(status.message());
    EXPECT_THAT(text, HasSubstr("team/run@2"));
    EXPECT_THAT(text, HasSubstr("key big"));
    EXPECT_THAT(text, HasSubstr(absl::StrCat("byte offset ", byte >> 20 << 20)));
    FlipBit(of_big, byte, static_cast<int>(byte % 8));
  }
  StateDict whole{{"big", torch::zeros({3, 1 << 18})}};
  ASSERT_OK(Load(2, whole).status());

  // Two among many: the error names both, the report tells of every tensor what it holds now.
  FlipBit(of_big, 1 << 20, 0);
  FlipBit(of_weight, 5, 2);
  Job loaded(3);
  loaded.state["iteration"] = 17;
  const at::Tensor turned = loaded.turned.clone();
  LoadReport report;
  LoadOptions options;
  options.report = &report;
  const absl::Status status = Load(2, loaded.state, options).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("key big"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("key model.3.weight"));
  EXPECT_THAT(report.damaged, UnorderedElementsAre("big", "model.3.weight"));
  EXPECT_THAT(report.restored,
              ElementsAre("model.0.weight", "model.0.bias", "model.1.weight", "model.1.bias",
                          "model.1.running_mean", "model.1.running_var",
                          "model.1.num_batches_tracked", "model.3.bias"));
  for (const size_t i : {0, 1, 2, 3, 5}) {
    EXPECT_TRUE(BitEqual(loaded.model->parameters()[i], newer.model->parameters()[i])) << i;
  }
  EXPECT_TRUE(BitEqual(loaded.turned, turned));  // would have been read beside its place
  EXPECT_EQ(*loaded.state["iteration"].AsInt(), 17);
  // What isn't damaged can be had: by asking for no more, or by leaving the damaged keys out.
  StateDict rest{{"turned", torch::zeros({20, 30})}};
  ASSERT_OK(Load(2, rest).status());
  EXPECT_TRUE(torch::equal(TensorAt(rest, "turned"), newer.turned.t()));
  LoadOptions without;
  for (const std::string& key : report.damaged) {
    without.restore.selection.add_exclude(key);
    without.policies.push_back({.glob = key, .missing = LoadPolicy::Action::kSkip});
  }
  const auto salvaged = Load(2, loaded.state, without);
  ASSERT_OK(salvaged.status());
  EXPECT_THAT(salvaged->report.missing, UnorderedElementsAre("big", "model.3.weight"));
  EXPECT_TRUE(torch::equal(loaded.turned, newer.turned));
  EXPECT_EQ(*loaded.state["iteration"].AsInt(), 0);
  loaded.state["iteration"] = 17;
  // And the newest that verifies goes over all of it.
  const auto valid = Load("latest-valid", loaded.state);
  ASSERT_OK(valid.status());
  EXPECT_EQ(valid->step(), 1u);
  ExpectSameModule(*loaded.model, *good.model);
  EXPECT_TRUE(BitEqual(loaded.big, good.big));
  EXPECT_EQ(*loaded.state["iteration"].AsInt(), 0);
  // What is known to be damaged by now isn't the newest for a job that resumes either.
  const auto resumed = Connect()->Resume(loaded.state);
  ASSERT_OK(resumed.status());
  ASSERT_TRUE(resumed->has_value());
  EXPECT_EQ((*resumed)->step(), 1u);
}

}  // namespace
}  // namespace ckpt::testing
