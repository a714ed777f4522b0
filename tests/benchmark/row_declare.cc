// A checkpoint of a million shards from 8 ranks: its layout declared, validated and committed for
// the first time, and the same layout again at the next step. The bytes are next to none.
#include <time.h>

#include <algorithm>
#include <barrier>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/byte_size.h"
#include "common/key.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

constexpr uint32_t kRanks = 8;
constexpr uint32_t kTensors = 131'072;  // each with a shard on every rank
constexpr uint64_t kShardElements = 2;
constexpr uint64_t kShardBytes = kShardElements * 4;
constexpr double kDeclareSeconds = 2.5;
constexpr double kDeclareAgainSeconds = 0.5;
constexpr int kRoundsMax = 5;

// Of one rank. `data` holds a shard's bytes, the same for all. `root` tells layouts apart.
Part MakePart(uint32_t rank, uint32_t tensors, const std::string& root, const float* data) {
  Part part;
  part.rank = rank;
  part.world_size = kRanks;
  part.leaves.reserve(tensors);
  const uint64_t shape[] = {kRanks * kShardElements};
  for (uint32_t i = 0; i < tensors; ++i) {
    Box box = Box::Whole(shape);
    box.offset[0] = rank * kShardElements;
    box.extent[0] = kShardElements;
    part.leaves.push_back(ShardLeaf(MakeKey({root, "layers", absl::StrCat(i / 16), "experts",
                                             absl::StrCat("block", i % 16), "weight"}),
                                    v1::DTYPE_F32, shape, std::move(box), data));
  }
  return part;
}

struct Times {
  std::vector<double> seconds;
  std::vector<double> clients;  // of processors, in this process
  std::vector<double> daemon;   // and in the daemon's
};

double ProcessorSeconds() {
  timespec time = {};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

// From the moment that all ranks may save until the last has been told that the checkpoint is
// committed; the parts are made before.
absl::Status SaveFromAllRanks(const BenchDaemon& daemon,
                              const std::vector<std::unique_ptr<Client>>& clients,
                              const CheckpointId& id, uint32_t tensors, const std::string& root,
                              Times& times) {
  constexpr float kData[kShardElements] = {1, 2};
  CKPT_RETURN_IF_ERROR(daemon.AwaitIdle());
  CKPT_ASSIGN_OR_RETURN(const double daemon_before, daemon.ProcessorSeconds());
  double begin = 0;
  double processors_before = 0;
  std::barrier start(kRanks, [&]() noexcept {
    processors_before = ProcessorSeconds();
    begin = Now();
  });
  std::vector<absl::Status> statuses(kRanks);
  std::vector<double> ends(kRanks);
  std::vector<std::thread> ranks;
  for (uint32_t rank = 0; rank < kRanks; ++rank) {
    ranks.emplace_back([&, rank] {
      Part part = MakePart(rank, tensors, root, kData);
      start.arrive_and_wait();
      absl::StatusOr<SaveHandle> save = clients[rank]->Save(id, std::move(part), {});
      statuses[rank] = save.ok() ? save->AwaitCommitted() : save.status();
      ends[rank] = Now();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const absl::Status& status : statuses) CKPT_RETURN_IF_ERROR(status);
  CKPT_ASSIGN_OR_RETURN(const double daemon_after, daemon.ProcessorSeconds());
  times.seconds.push_back(*std::max_element(ends.begin(), ends.end()) - begin);
  times.clients.push_back(ProcessorSeconds() - processors_before);
  times.daemon.push_back(daemon_after - daemon_before);
  return absl::OkStatus();
}

}  // namespace

absl::Status DeclareRow(Bench& bench) {
  const uint32_t tensors = bench.Scaled(kTensors, 1024);
  const int rounds = std::min(bench.options().pairs, kRoundsMax);
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<BenchDaemon> daemon,
                        BenchDaemon::Start(bench.options()));
  bench.printer().Note("layouts of a million shards");
  Times first, again;
  for (int round = 0; round < rounds; ++round) {
    // Sessions that have saved nothing, and a layout that nobody knows.
    std::vector<std::unique_ptr<Client>> clients(kRanks);
    for (std::unique_ptr<Client>& client : clients) {
      CKPT_ASSIGN_OR_RETURN(client, daemon->Connect());
    }
    const std::string root = absl::StrCat("model", round);
    for (Times* const times : {&first, &again}) {
      const CheckpointId id = bench.NextId();
      CKPT_RETURN_IF_ERROR(SaveFromAllRanks(*daemon, clients, id, tensors, root, *times));
    }
  }
  const std::string conditions = absl::StrCat(
      kRanks * tensors, " shards: ", tensors, " tensors, each with a shard of ", kShardBytes,
      " B on each of ", kRanks, " ranks (", PrintByteSize(kRanks * tensors * kShardBytes),
      " in all); ", kRanks, " clients on ", kRanks,
      " threads of one process, a copy thread each; from the first Save to the last "
      "AwaitCommitted; median of ",
      rounds);
  const auto print = [&](const char* name, double bar, const Times& times, absl::string_view more) {
    const auto [fastest, slowest] = std::minmax_element(times.seconds.begin(), times.seconds.end());
    bench.printer().Print(
        {name, Median(times.seconds), "s", "nothing", Bar{bar, false},
         absl::StrCat(conditions, more),
         absl::StrCat("fastest ", PrintSeconds(*fastest), ", slowest ", PrintSeconds(*slowest),
                      "; time on processors: daemon ", PrintSeconds(Median(times.daemon)),
                      ", clients ", PrintSeconds(Median(times.clients)))});
  };
  print("declare", kDeclareSeconds, first, "; layouts that neither client nor daemon knows");
  print("declare_again", kDeclareAgainSeconds, again, "; the layouts of the step before");
  return absl::OkStatus();
}

}  // namespace ckpt::bench
