// A ckptd of the benchmark's own: the real binary, on fresh folders, and calls that rows need.
#ifndef CKPT_TESTS_BENCHMARK_BENCH_DAEMON_H_
#define CKPT_TESTS_BENCHMARK_BENCH_DAEMON_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/client.h"
#include "tests/benchmark/options.h"

namespace ckpt::bench {

// The destructor kills the daemon and removes its folders.
class BenchDaemon {
 public:
  static absl::StatusOr<std::unique_ptr<BenchDaemon>> Start(const Options& options);
  ~BenchDaemon();

  const std::string& socket() const { return socket_; }
  const std::string& disk_folder() const { return disk_folder_; }  // of this run, for raw files
  absl::StatusOr<std::unique_ptr<Client>> Connect() const;

  // SIGTERM and a fresh start on the same data. `forget_memory`: what was in the memory tier is
  // removed in between, so that restores come from disk.
  absl::Status Restart(bool forget_memory);
  absl::Status Delete(const CheckpointId& id);
  // Data files of checkpoints: what a cold restore reads.
  std::vector<std::string> DataFiles() const;

 private:
  BenchDaemon() = default;
  absl::Status Spawn();
  absl::Status Stop();

  std::string ckptd_;
  std::string memory_budget_;
  std::string disk_folder_;
  std::string data_folder_;  // inside disk_folder_
  std::string memory_folder_;
  std::string socket_folder_;
  std::string socket_;
  pid_t pid_ = 0;
};

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_BENCH_DAEMON_H_
