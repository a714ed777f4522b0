// The rows of the table, a file each, and what they share: the state, the daemon, the printer.
#ifndef CKPT_TESTS_BENCHMARK_ROWS_H_
#define CKPT_TESTS_BENCHMARK_ROWS_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/client.h"
#include "tests/benchmark/bench_daemon.h"
#include "tests/benchmark/options.h"
#include "tests/benchmark/raw_disk.h"
#include "tests/benchmark/result.h"
#include "tests/benchmark/sample_state.h"

namespace ckpt::bench {

class Bench {
 public:
  Bench(Options options, std::string binary)
      : options_(std::move(options)),
        binary_(std::move(binary)),
        printer_(options_.json) {}

  absl::Status Open();  // the state, the raw disk's memory and the daemon

  const Options& options() const { return options_; }
  const std::string& binary() const { return binary_; }  // ckpt_bench itself
  Printer& printer() { return printer_; }
  const SampleState& state() const { return *state_; }
  // What the raw disk's baselines write from and read into: huge pages, filled from the state.
  absl::Span<std::byte> raw_memory() const {
    return {raw_memory_->data(), static_cast<size_t>(raw_memory_->bytes())};
  }
  BenchDaemon& daemon() { return *daemon_; }

  // A count that is `full` for a state of 2 GiB and more; of a smaller one in proportion, at least
  // `least`.
  uint32_t Scaled(uint32_t full, uint32_t least) const;

  // A new id of the run, at the next step.
  CheckpointId NextId();
  // Found once.
  absl::StatusOr<RawSetting> WriteSetting();

 private:
  Options options_;
  std::string binary_;
  Printer printer_;
  std::unique_ptr<SampleState> state_;
  std::optional<Memory> raw_memory_;
  std::unique_ptr<BenchDaemon> daemon_;
  Incarnation incarnation_ = Incarnation::TimeOrdered();
  uint64_t step_ = 0;
  std::optional<RawSetting> write_setting_;
};

struct SaveTimes {
  CheckpointId id;
  double stall = 0;    // from calling Save to AwaitStaged's return
  double durable = 0;  // from there to AwaitCommitted's return
};
// Saves `part` and waits until it is committed.
absl::StatusOr<SaveTimes> SaveAndWait(Bench& bench, Client& client, Part part,
                                      const SaveOptions& options);
// A session whose saves go at their steady speed: prepared, two saves done.
absl::StatusOr<std::unique_ptr<Client>> WarmClient(Bench& bench);
absl::StatusOr<std::unique_ptr<Client>> WarmClient(Bench& bench, BenchDaemon& daemon);

v1::Selector SelectorOf(const CheckpointId& id);

struct Row {
  const char* name;
  const char* what;
  absl::Status (*run)(Bench& bench);
};
absl::Span<const Row> Rows();

absl::Status StallRow(Bench& bench);
absl::Status FirstSaveRow(Bench& bench);
absl::Status DurableRow(Bench& bench);
absl::Status RestoreMemoryRow(Bench& bench);
absl::Status RestoreDiskRow(Bench& bench);
absl::Status VerificationRow(Bench& bench);
absl::Status PartialRow(Bench& bench);
absl::Status ReadOnceRow(Bench& bench);
absl::Status FairRow(Bench& bench);
absl::Status CallsRow(Bench& bench);
absl::Status StreamRow(Bench& bench);
absl::Status CommitRow(Bench& bench);
absl::Status GlobRow(Bench& bench);
absl::Status CatalogueRow(Bench& bench);
absl::Status DeclareRow(Bench& bench);
absl::Status TorchSaveRow(Bench& bench);

// `ckpt_bench --fresh-restore SOCKET RUN@STEP BYTES`: restores once, in a process that has never
// seen the daemon, and prints the seconds.
int FreshRestore(const std::string& socket, const std::string& selector, uint64_t state_bytes);

// `ckpt_bench --restore-rank SOCKET RUN@STEP BYTES RANKS`: one of the ranks of ReadOnceRow.
int RestoreRank(const std::string& socket, const std::string& selector, uint64_t state_bytes,
                uint32_t together);

// `ckpt_bench --busy-rank SOCKET RUN BYTES MILLISECONDS save|restore`: one of the ranks of FairRow.
int BusyRank(const std::vector<std::string>& arguments);

}  // namespace ckpt::bench

#endif  // CKPT_TESTS_BENCHMARK_ROWS_H_
