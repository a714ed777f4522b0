// conformance_rank TASK SOCKET RUN STEP INCARNATION RANK WORLD SIZE DIM: one rank of a training job
// that saves its state of rank_state.h (`save`; `save_filtered`: of the model weights alone) and
// says how far it is (staged, committed), or loads the step and compares every byte (`load`). Its
// exit status is 0 if all went well.
#include <cstdlib>
#include <iostream>

#include "tests/conformance/rank_state.h"

namespace ckpt::testing {
namespace {

absl::Status SaveRank(Checkpointer& checkpointer, uint64_t step, const RankShape& shape,
                      const TorchSaveOptions& options) {
  RankState rank(shape, 1);
  TrainStep(rank.model, rank.optimizer, 1);
  const auto save = checkpointer.Save(step, rank.state, options);
  if (!save.ok()) return save.status();
  SaveHandle handle = *save;
  if (absl::Status staged = handle.AwaitStaged(absl::Minutes(1)); !staged.ok()) return staged;
  std::cout << "staged" << std::endl;
  if (absl::Status end = handle.AwaitCommitted(absl::Minutes(1)); !end.ok()) return end;
  std::cout << "committed" << std::endl;
  return absl::OkStatus();
}

absl::Status LoadRank(Checkpointer& checkpointer, uint64_t step, const RankShape& shape) {
  RankState wanted(shape, 1);
  TrainStep(wanted.model, wanted.optimizer, 1);
  RankState rank(shape, 2);
  rank.shard.local.fill_(-1);
  LoadOptions options;
  options.per_rank_source = 0;
  const auto loaded = checkpointer.Load(step, rank.state, options);
  if (!loaded.ok()) return loaded.status();
  if (!BitEqual(rank.shard.local, wanted.shard.local)) return absl::DataLossError("the shard");
  TrainStep(wanted.model, wanted.optimizer, 2);
  TrainStep(rank.model, rank.optimizer, 2);
  for (size_t i = 0; i < wanted.model->parameters().size(); ++i) {
    if (BitEqual(wanted.model->parameters()[i], rank.model->parameters()[i])) continue;
    return absl::DataLossError(absl::StrCat("parameter ", i, " after another step"));
  }
  return absl::OkStatus();
}

absl::Status Run(char** argv) {
  const auto number = [&](int i) { return std::strtoll(argv[i], nullptr, 10); };
  CheckpointerOptions options;
  options.client.socket = argv[2];
  options.run = argv[3];
  const auto incarnation = Incarnation::FromHex(argv[5], "incarnation");
  if (!incarnation.ok()) return incarnation.status();
  options.incarnation = *incarnation;
  options.rank = static_cast<uint32_t>(number(6));
  options.world_size = static_cast<uint32_t>(number(7));
  auto checkpointer = Checkpointer::Connect(options);
  if (!checkpointer.ok()) return checkpointer.status();
  const RankShape shape{options.rank, options.world_size, number(8), number(9)};
  const auto step = static_cast<uint64_t>(number(4));
  const std::string task = argv[1];
  if (task == "load") return LoadRank(**checkpointer, step, shape);
  TorchSaveOptions save;
  if (task == "save_filtered") {
    save.filters["model"] = [](const std::string& key, const StateValue&) {
      return key.ends_with("weight");
    };
  }
  return SaveRank(**checkpointer, step, shape, save);
}

}  // namespace
}  // namespace ckpt::testing

int main(int argc, char** argv) {
  if (argc != 10) return 2;
  const absl::Status status = ckpt::testing::Run(argv);
  if (!status.ok()) std::cout << status << std::endl;
  return status.ok() ? 0 : 1;
}
