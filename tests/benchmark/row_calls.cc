// Orchestration beside a trainer: five hundred watchers that have nothing to hear, and callers that
// ask as fast as they are answered, for a minute, while a trainer saves. How many calls a second,
// none of which may fail, and the trainer's longest stall beside its longest without them.
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "ckpt/v1/catalog.grpc.pb.h"
#include "common/byte_size.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

constexpr uint32_t kWatchersMax = 500;
constexpr uint32_t kWatchersMin = 20;
constexpr uint32_t kCalledMillisecondsMax = 60'000;
constexpr uint32_t kCalledMillisecondsMin = 500;
constexpr int kCallers = 2;
constexpr uint32_t kRounds = 4;  // quiet and loud by turns
constexpr absl::Duration kBetweenSaves = absl::Milliseconds(100);

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

// Watches of a run in which nothing happens. No thread of ours: they have read what is there, and
// wait.
class Watchers {
 public:
  static absl::StatusOr<std::unique_ptr<Watchers>> Open(const BenchDaemon& daemon, uint32_t count) {
    constexpr uint32_t kOnOneConnection = 50;
    auto watchers = std::make_unique<Watchers>();
    std::unique_ptr<v1::CatalogService::Stub> stub;
    for (uint32_t i = 0; i < count; ++i) {
      if (i % kOnOneConnection == 0) stub = v1::CatalogService::NewStub(daemon.Channel());
      auto& watch = watchers->watches_.emplace_back(std::make_unique<Watch>());
      v1::WatchCheckpointsRequest request;
      request.set_run("calls/quiet");
      watch->reader = stub->WatchCheckpoints(&watch->context, request);
      v1::WatchCheckpointsResponse response;
      while (!response.snapshot_end()) {
        if (!watch->reader->Read(&response)) return FromGrpc(watch->reader->Finish());
      }
    }
    return watchers;
  }
  ~Watchers() {
    for (const auto& watch : watches_) watch->context.TryCancel();
    for (const auto& watch : watches_) {
      v1::WatchCheckpointsResponse response;
      while (watch->reader->Read(&response)) {
      }
      (void)watch->reader->Finish();
    }
  }

 private:
  struct Watch {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::WatchCheckpointsResponse>> reader;
  };
  std::vector<std::unique_ptr<Watch>> watches_;
};

// Callers, each on a connection of its own, until it is destroyed.
class Callers {
 public:
  Callers(const BenchDaemon& daemon, const CheckpointId& id) {
    for (int i = 0; i < kCallers; ++i) {
      threads_.emplace_back([this, selector = SelectorOf(id),
                             stub = std::shared_ptr(
                                 v1::CatalogService::NewStub(daemon.Channel()))] {
        while (!stop_) Ask(*stub, selector);
      });
    }
  }
  ~Callers() { Stop(); }
  void Stop() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  uint64_t answered() const { return answered_; }
  uint64_t failed() const { return failed_; }

 private:
  void Ask(v1::CatalogService::Stub& stub, const v1::Selector& selector) {
    grpc::ClientContext context;
    v1::GetCheckpointRequest request;
    *request.mutable_selector() = selector;
    v1::GetCheckpointResponse response;
    ++(stub.GetCheckpoint(&context, request, &response).ok() ? answered_ : failed_);
  }

  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> answered_{0};
  std::atomic<uint64_t> failed_{0};
  std::vector<std::thread> threads_;
};

// The longest stall of the saves of so long a time.
absl::StatusOr<double> LongestStall(Bench& bench, Client& client, double seconds) {
  double longest = 0;
  for (const double end = Now() + seconds; Now() < end;) {
    CKPT_RETURN_IF_ERROR(CheckInterrupt());
    CKPT_ASSIGN_OR_RETURN(const SaveTimes saved,
                          SaveAndWait(bench, client, bench.state().MakePart(), {}));
    longest = std::max(longest, saved.stall);
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(saved.id));
    absl::SleepFor(kBetweenSaves);  // a step of training
  }
  return longest;
}

}  // namespace

absl::Status CallsRow(Bench& bench) {
  const uint32_t watchers = bench.Scaled(kWatchersMax, kWatchersMin);
  const double seconds =
      bench.Scaled(kCalledMillisecondsMax, kCalledMillisecondsMin) / 1000.0 / kRounds;
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, WarmClient(bench));
  CKPT_ASSIGN_OR_RETURN(const SaveTimes asked,
                        SaveAndWait(bench, *client, bench.state().MakePart(), {}));
  double quiet = 0;
  double loud = 0;
  double called_for = 0;
  uint64_t answered = 0;
  for (uint32_t i = 0; i < kRounds; ++i) {
    bench.printer().Note("a trainer saves, alone");
    CKPT_ASSIGN_OR_RETURN(const double alone, LongestStall(bench, *client, seconds));
    quiet = std::max(quiet, alone);
    bench.printer().Note("a trainer saves, watched and asked");
    CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Watchers> watching,
                          Watchers::Open(bench.daemon(), watchers));
    const double begin = Now();
    Callers callers(bench.daemon(), asked.id);
    CKPT_ASSIGN_OR_RETURN(const double watched, LongestStall(bench, *client, seconds));
    loud = std::max(loud, watched);
    callers.Stop();
    called_for += Now() - begin;
    answered += callers.answered();
    if (callers.failed() > 0) {
      return absl::InternalError(absl::StrCat(callers.failed(), " calls failed"));
    }
  }
  const std::string conditions =
      absl::StrCat(watchers, " idle watchers, ", kCallers, " threads that ask for a checkpoint, a "
                   "trainer that saves ", PrintByteSize(bench.state().bytes()), " again and again");
  bench.printer().Print({"calls", static_cast<double>(answered) / called_for / 1000, "thousand/s",
                         "a second", Bar{2.00, true}, conditions,
                         absl::StrFormat("%u calls in %.1f s, none failed", answered, called_for)});
  bench.printer().Print({"stall_beside_calls", loud / quiet, "ratio",
                         "the longest stall without watchers and calls", Bar{2.00, false},
                         conditions,
                         absl::StrCat(PrintSeconds(loud), " beside ", PrintSeconds(quiet))});
  return bench.daemon().Delete(asked.id);
}

}  // namespace ckpt::bench
