// What a checkpoint library must do for a training loop, row by row: each test bears the name of
// its row in rows.txt. Real LibTorch modules and optimizers, a real daemon. Ranks are Checkpointers
// of this process, each with a session of its own, or, where a test says so, processes
// (rank_main.cc).
#ifndef CKPT_TESTS_CONFORMANCE_CONFORMANCE_TEST_H_
#define CKPT_TESTS_CONFORMANCE_CONFORMANCE_TEST_H_

#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/conformance/rank_state.h"
#include "tests/fixtures/daemon.h"
#include "tests/fixtures/process.h"
#include "tests/torch/torch_test.h"

namespace ckpt::testing {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

constexpr char kConformanceRun[] = "team/run";

class Conformance : public ::testing::Test {
 protected:
  void SetUp() override {
    auto daemon = Daemon::Start();
    ASSERT_OK(daemon.status());
    daemon_ = *std::move(daemon);
  }

  std::unique_ptr<Checkpointer> Connect(uint32_t rank = 0, uint32_t world_size = 1) {
    CheckpointerOptions options;
    options.client.socket = daemon_->socket();
    options.run = kConformanceRun;
    options.rank = rank;
    options.world_size = world_size;
    options.incarnation = launch_;
    auto checkpointer = Checkpointer::Connect(options);
    EXPECT_OK(checkpointer.status());
    return checkpointer.ok() ? *std::move(checkpointer) : nullptr;
  }
  void NewLaunch() { launch_ = Incarnation::TimeOrdered(); }

  // Each rank's state, by a Checkpointer of its own; until committed.
  absl::Status Save(uint64_t step, const std::vector<StateDict>& states,
                    const TorchSaveOptions& options = {}) {
    std::vector<std::unique_ptr<Checkpointer>> ranks;
    std::vector<SaveHandle> saves;
    for (size_t rank = 0; rank < states.size(); ++rank) {
      ranks.push_back(Connect(static_cast<uint32_t>(rank), static_cast<uint32_t>(states.size())));
      auto save = ranks.back()->Save(step, states[rank], options);
      if (!save.ok()) return save.status();
      saves.push_back(*std::move(save));
    }
    absl::Status status;
    for (SaveHandle& save : saves) status.Update(save.AwaitCommitted(absl::Minutes(1)));
    return status;
  }
  absl::Status Save(uint64_t step, const StateDict& state, const TorchSaveOptions& options = {}) {
    return Save(step, std::vector<StateDict>{state}, options);
  }

  // With a fresh Checkpointer, as after a restart of the job.
  absl::StatusOr<LoadResult> Load(const Which& which, StateDict& state,
                                  const LoadOptions& options = {}, uint32_t rank = 0,
                                  uint32_t world_size = 1) {
    return Connect(rank, world_size)->Load(which, state, options);
  }
  absl::StatusOr<StateDict> LoadAll(const Which& which, const LoadOptions& options = {}) {
    return Connect()->Load(which, options);
  }
  absl::StatusOr<v1::CheckpointInfo> Info(uint64_t step) {
    v1::Selector selector;
    selector.set_run(kConformanceRun);
    selector.set_step(step);
    return Connect()->client().GetCheckpoint(selector);
  }

  // As after a reboot: what is not on disk is gone.
  void ForgetMemory() {
    daemon_->Kill();
    std::filesystem::remove_all(daemon_->memory_folder());
    ASSERT_OK(daemon_->Restart());
  }

  struct Place {
    std::string path;
    uint64_t offset = 0;
  };
  // Where on disk the bytes of `tensor` lie, which no other tensor may have.
  Place PlaceOf(const at::Tensor& tensor) {
    const std::string bytes(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes());
    std::vector<Place> places;
    for (const std::string& name : daemon_->DataFiles()) {
      const std::string path = absl::StrCat(daemon_->data_folder(), "/", name);
      const size_t at = ReadWholeFile(path).find(bytes);
      if (at != std::string::npos) places.push_back({path, at});
    }
    EXPECT_EQ(places.size(), 1u);
    return places.empty() ? Place() : places[0];
  }
  static void FlipBit(const Place& place, uint64_t byte, int bit) {
    std::fstream file(place.path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(place.offset + byte));
    const int was = file.get();
    file.seekp(static_cast<std::streamoff>(place.offset + byte));
    file.put(static_cast<char>(was ^ (1 << bit)));
    ASSERT_TRUE(file.flush().good()) << place.path;
  }

  // A rank as a process of its own, running; killed with the object.
  struct RankProcess {
    pid_t pid = 0;
    std::string output;  // a file
    RankProcess(pid_t child, std::string path) : pid(child), output(std::move(path)) {}
    RankProcess(RankProcess&& other) noexcept
        : pid(std::exchange(other.pid, 0)), output(std::move(other.output)) {}
    ~RankProcess() {
      if (pid == 0) return;
      kill(pid, SIGKILL);
      (void)AwaitProcess(pid, absl::Minutes(1));
    }
    std::string Text() const { return ReadWholeFile(output); }
    // OK if it ended well; else what it said.
    absl::Status Await() {
      const absl::StatusOr<int> status = AwaitProcess(pid, absl::Minutes(2));
      if (!status.ok()) return status.status();
      pid = 0;
      return *status == 0 ? absl::OkStatus() : absl::InternalError(Text());
    }
  };
  RankProcess StartRank(const std::string& task, uint64_t step, const RankShape& shape) {
    const std::string output = scratch_ / absl::StrCat("rank", processes_++);
    SpawnOptions spawn{.output = output, .errors = output};
    spawn.arguments = {BuiltBinary("conformance_rank"),
                       task,
                       daemon_->socket(),
                       kConformanceRun,
                       absl::StrCat(step),
                       launch_.hex(),
                       absl::StrCat(shape.rank),
                       absl::StrCat(shape.world_size),
                       absl::StrCat(shape.size),
                       absl::StrCat(shape.dim)};
    const auto pid = Spawn(spawn);
    EXPECT_OK(pid.status());
    return RankProcess(pid.value_or(0), output);
  }
  // One process for each rank, at once, each to its end.
  absl::Status RunRanks(const std::string& task, uint64_t step, RankShape shape) {
    std::vector<RankProcess> ranks;
    for (shape.rank = 0; shape.rank < shape.world_size; ++shape.rank) {
      ranks.push_back(StartRank(task, step, shape));
    }
    absl::Status status;
    for (RankProcess& rank : ranks) status.Update(rank.Await());
    return status;
  }

  Incarnation launch_ = Incarnation::TimeOrdered();
  std::unique_ptr<Daemon> daemon_;
  ScratchFolder scratch_;
  int processes_ = 0;
};

// An object with the state-dict protocol.
class Counter : public Stateful {
 public:
  explicit Counter(int64_t n) : n(n), t(torch::full({2}, static_cast<double>(n))) {}
  absl::StatusOr<StateDict> SaveState() override { return StateDict{{"n", n}, {"t", t}}; }
  absl::Status LoadState(const StateDict& state) override {
    const StateValue* value = state.Find("n");
    if (value == nullptr || !value->AsInt().ok()) return absl::InvalidArgumentError("no n");
    n = *value->AsInt();
    t = TensorAt(state, "t");
    return absl::OkStatus();
  }
  int64_t n;
  at::Tensor t;
};

inline const StateList& List(const StateDict& dict, const StateKey& key) {
  const StateValue* value = dict.Find(key);
  static const StateList kNone;
  EXPECT_TRUE(value != nullptr && value->If<StateList>() != nullptr) << key.ToString();
  return value && value->If<StateList>() ? *value->If<StateList>() : kNone;
}

inline void ExpectSameModule(torch::nn::Module& a, torch::nn::Module& b) {
  const auto x = a.named_parameters();
  const auto y = b.named_parameters();
  ASSERT_EQ(x.size(), y.size());
  for (const auto& entry : x) EXPECT_TRUE(BitEqual(entry.value(), y[entry.key()])) << entry.key();
  const auto p = a.named_buffers();
  const auto q = b.named_buffers();
  ASSERT_EQ(p.size(), q.size());
  for (const auto& entry : p) EXPECT_TRUE(BitEqual(entry.value(), q[entry.key()])) << entry.key();
}

}  // namespace ckpt::testing

#endif  // CKPT_TESTS_CONFORMANCE_CONFORMANCE_TEST_H_
