// kill_loop: a daemon, a job's ranks, a reader and an operator on a real disk; somebody is killed
// at a random moment, the daemon comes back, and everything that was promised must be there.
//
//   kill_loop [--runs N] [--seed S] [--parallel P] [--seconds T] [--power] [--folder DIR]
//
// A run is one kill, recovery and the whole oracle. Every kRunsPerSeed of them are an episode with
// a seed and a data folder of its own: S, S+1, ...; P of them side by side. Exits 1 at the first
// broken promise, with the command that repeats its schedule and the folder where everything was
// kept.
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/mutex.h"
#include "tests/crash/episode.h"

namespace ckpt::testing {
namespace {

constexpr uint64_t kRunsPerSeed = 25;

struct Flags {
  uint64_t runs = 200;
  uint64_t seed = static_cast<uint64_t>(absl::ToUnixMillis(absl::Now()));
  uint64_t parallel = std::max(1u, std::thread::hardware_concurrency());
  uint64_t seconds = 0;  // 0: until all runs are done
  bool power = false;
  std::string folder = CKPT_KILL_LOOP_FOLDER;
};

bool ReadFlags(int argc, char** argv, Flags& flags) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view flag = argv[i];
    if (flag == "--power") {
      flags.power = true;
      continue;
    }
    if (++i == argc) return false;
    uint64_t* number = flag == "--runs"       ? &flags.runs
                       : flag == "--seed"     ? &flags.seed
                       : flag == "--parallel" ? &flags.parallel
                       : flag == "--seconds"  ? &flags.seconds
                                              : nullptr;
    if (number != nullptr ? !absl::SimpleAtoi(argv[i], number) : flag != "--folder") return false;
    if (number == nullptr) flags.folder = argv[i];
  }
  return flags.parallel > 0;
}

class KillLoop {
 public:
  explicit KillLoop(const Flags& flags)
      : flags_(flags),
        until_(flags.seconds > 0
                   ? absl::Now() + absl::Seconds(static_cast<int64_t>(flags.seconds))
                   : absl::InfiniteFuture()) {}

  int Run() {
    const absl::Time began = absl::Now();
    std::cout << "kill_loop --seed " << flags_.seed << " --runs " << flags_.runs << " --parallel "
              << flags_.parallel << (flags_.power ? " --power" : "") << std::endl;
    std::vector<std::thread> lanes;
    for (uint64_t i = 0; i < flags_.parallel; ++i) lanes.emplace_back([this] { Lane(); });
    for (std::thread& lane : lanes) lane.join();
    MutexLock lock(mutex_);
    Print(absl::ToDoubleSeconds(absl::Now() - began));
    return exit_status_;
  }

 private:
  void Lane() {
    for (;;) {
      const uint64_t episode = next_++;
      const uint64_t done = episode * kRunsPerSeed;
      if (stop_ || done >= flags_.runs || absl::Now() >= until_) return;
      EpisodeOptions options{.seed = flags_.seed + episode,
                             .runs = static_cast<uint32_t>(
                                 std::min(kRunsPerSeed, flags_.runs - done)),
                             .power = flags_.power,
                             .until = until_};
      options.folder = absl::StrCat(flags_.folder, "/seed-", options.seed);
      Figures figures;
      const absl::Status status = PlayEpisode(options, figures);
      MutexLock lock(mutex_);
      total_.Add(figures);
      if (status.ok()) continue;
      stop_ = true;
      const bool denied = flags_.power && absl::IsPermissionDenied(status);
      if (!denied) exit_status_ = 1;
      if (denied && exit_status_ == 0) exit_status_ = 77;
      if (denied) {
        std::cerr << "kill_loop: no power to cut on this machine: " << status.message()
                  << std::endl;
      } else {
        std::cerr << "kill_loop: " << status << "\n  after " << figures.runs
                  << " runs of this seed; kept: " << options.folder
                  << "\n  repeat: kill_loop --seed " << options.seed << " --runs " << kRunsPerSeed
                  << " --parallel 1" << (flags_.power ? " --power" : "") << std::endl;
      }
    }
  }

  void Print(double seconds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const Figures& f = total_;
    std::printf("%llu runs in %.1f s (%.1f/s)\n", Of(f.runs), seconds,
                static_cast<double>(f.runs) / seconds);
    for (int i = 0; i < kVictims; ++i) {
      const uint64_t count = f.by_victim[static_cast<size_t>(i)];
      if (count == 0) continue;
      std::printf("  %6llu x %s\n", Of(count), std::string(NameOf(static_cast<Victim>(i))).c_str());
    }
    std::printf("  %llu starts of the daemon, %llu of them killed while it recovered\n",
                Of(f.starts), Of(f.killed_starting));
    std::printf("  %llu checkpoints begun, %llu seen staged, %llu committed, %llu deleted, %llu "
                "retired, %llu tags; %llu parts adopted\n",
                Of(f.begun), Of(f.staged), Of(f.committed), Of(f.deleted), Of(f.retired),
                Of(f.tagged), Of(f.adopted_parts));
    std::printf("  %llu restores meanwhile, %llu afterwards, each compared byte for byte\n",
                Of(f.restored_meanwhile), Of(f.restored_after));
    const auto per_run = [runs = f.runs](absl::Duration all) {
      return runs == 0 ? 0.0 : absl::ToDoubleMilliseconds(all) / static_cast<double>(runs);
    };
    std::printf("  each %.0f ms until the kill, %.0f ms until it served, %.0f ms oracle\n",
                per_run(f.storm), per_run(f.recovery), per_run(f.oracle));
  }

  static unsigned long long Of(uint64_t number) { return number; }

  const Flags flags_;
  const absl::Time until_;
  std::atomic<uint64_t> next_{0};
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  Figures total_ ABSL_GUARDED_BY(mutex_);
  int exit_status_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace
}  // namespace ckpt::testing

int main(int argc, char** argv) {
  ckpt::testing::Flags flags;
  if (!ckpt::testing::ReadFlags(argc, argv, flags)) {
    std::fprintf(stderr,
                 "usage: kill_loop [--runs N] [--seed S] [--parallel P] [--seconds T] [--power] "
                 "[--folder DIR]\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  return ckpt::testing::KillLoop(flags).Run();
}
