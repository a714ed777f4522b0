// A ckptd of the benchmark's own: the real binary, on fresh folders, and calls that rows need.
#ifndef CKPT_TESTS_BENCHMARK_BENCH_DAEMON_H_
#define CKPT_TESTS_BENCHMARK_BENCH_DAEMON_H_

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "client/client.h"
#include "tests/benchmark/options.h"

namespace grpc {
class Channel;
}  // namespace grpc

namespace ckpt::bench {

// The destructor kills the daemon and removes its folders.
class BenchDaemon {
 public:
  static absl::StatusOr<std::unique_ptr<BenchDaemon>> Start(const Options& options);
  // `fill` makes the data folder, which is not there yet, before the daemon starts on it.
  static absl::StatusOr<std::unique_ptr<BenchDaemon>> StartOn(
      const Options& options,
      absl::FunctionRef<absl::Status(const std::string& data_folder)> fill);
  static absl::StatusOr<std::unique_ptr<BenchDaemon>> StartWith(const Options& options,
                                                                std::vector<std::string> flags);
  ~BenchDaemon();

  const std::string& socket() const { return socket_; }
  const std::string& disk_folder() const { return disk_folder_; }  // of this run, for raw files
  absl::StatusOr<std::unique_ptr<Client>> Connect() const;
  std::shared_ptr<grpc::Channel> Channel() const;  // a new one, for calls that Client has not
  // Of the daemon's own memory: what it has allocated and its program, but not the memory tier.
  absl::StatusOr<uint64_t> ResidentBytes() const;
  absl::StatusOr<double> ProcessorSeconds() const;  // that the daemon has used
  // Returns once the daemon has not been on a processor for a while: what it does after a commit is
  // done with.
  absl::Status AwaitIdle() const;

  // SIGTERM and a fresh start on the same data. `forget_memory`: what was in the memory tier is
  // removed in between, so that restores come from disk.
  absl::Status Restart(bool forget_memory);
  absl::Status Delete(const CheckpointId& id);
  // Data files of checkpoints: what a cold restore reads.
  std::vector<std::string> DataFiles() const;
  std::vector<std::string> IndexFiles() const;

 private:
  BenchDaemon() = default;
  static absl::StatusOr<std::unique_ptr<BenchDaemon>> MakeFolders(const Options& options);
  absl::Status Spawn();
  absl::Status Stop();

  std::string ckptd_;
  std::string memory_budget_;
  std::vector<std::string> flags_;  // beside those that all daemons get
  std::string disk_folder_;
  std::string data_folder_;  // inside disk_folder_
  std::string memory_folder_;
  std::string socket_folder_;
  std::string socket_;
  pid_t pid_ = 0;
};

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_BENCH_DAEMON_H_
