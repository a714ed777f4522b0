// ckptd: reads its settings, starts the daemon, waits for a signal, stops it.
//
// Exit codes: 0 done; 1 could not start, or its index takes no more writes; 2 wrong settings; 128 +
// signal: told twice to stop.
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "server/config.h"
#include "server/daemon/daemon.h"
#include "server/daemon/library_logs.h"
#include "server/observe/log.h"

extern char** environ;

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitWrongSettings = 2;
constexpr uint64_t kFreedBytesMax = uint64_t{256} << 20;
constexpr absl::Duration kTrimEvery = absl::Seconds(15);

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

int AwaitStopSignal() {
  const sigset_t signals = StopSignals();
  int number = 0;
  while (sigwait(&signals, &number) != 0) {
  }
  return number;
}

// Sessions, plans and parts hold descriptors; the usual soft limit of 1024 is for programs that use
// select.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// gRPC receives a stream into 64 KiB blocks from the heap and frees them a moment later. By default
// glibc hands the heap's end back to the kernel each time 128 KiB of it are free, so that every
// byte received costs a share of a page fault: a tenth of the time of a save over a stream. An
// arena may keep this much instead; as many arenas are used as threads receive at once.
void KeepFreedMemory() {
#ifdef M_TRIM_THRESHOLD
  mallopt(M_TRIM_THRESHOLD, 32 << 20);
  mallopt(M_MMAP_THRESHOLD, 4 << 20);  // would stay at 128 KiB from here on, for want of a setting
#endif
}

// What this process holds of the machine's memory and has freed: a burst of large requests leaves it
// in as many arenas as there were threads at work.
uint64_t FreedBytesHeld() {
#if __GLIBC_PREREQ(2, 33)
  std::ifstream pages("/proc/self/statm");
  uint64_t size = 0;
  uint64_t resident = 0;
  uint64_t shared = 0;
  if (!(pages >> size >> resident >> shared) || resident < shared) return 0;
  const uint64_t held = (resident - shared) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const struct mallinfo2 heap = mallinfo2();
  const uint64_t used = heap.uordblks + heap.hblkhd;
  return held > used ? held - used : 0;
#else
  return 0;
#endif
}

void GiveFreedMemoryBack() {
  std::thread([] {
    while (true) {
      absl::SleepFor(kTrimEvery);
      if (FreedBytesHeld() > kFreedBytesMax) malloc_trim(0);
    }
  }).detach();
}

int Refuse(const absl::Status& status, const char* what) {
  const bool settings = absl::IsInvalidArgument(status);
  std::fprintf(stderr, "ckptd: %s: %s\n", what, std::string(status.message()).c_str());
  return settings ? kExitWrongSettings : kExitFailed;
}

int Serve(const ckpt::CommandLine& command_line) {
  ckpt::observe::LogOptions log;
  log.format = command_line.config.log_format;
  log.minimum = command_line.config.log_level;
  ckpt::observe::ConfigureLog(std::move(log));
  ckpt::TakeLibraryLogs();
  for (const std::string& note : command_line.notes) {
    ckpt::observe::Warning("setting ignored", {{"reason", note}});
  }
  // Blocked in all threads, which inherit this: taken by AwaitStopSignal alone.
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a bound on the size of files is an error of the write
  RaiseDescriptorLimit();
  KeepFreedMemory();
  GiveFreedMemoryBack();

  absl::StatusOr<std::unique_ptr<ckpt::Daemon>> daemon =
      ckpt::Daemon::Start(command_line.config, [] {
        ckpt::observe::TellLeftOut();
        _exit(kExitFailed);  // as if killed: what is staged stays for the next daemon
      });
  if (!daemon.ok()) return Refuse(daemon.status(), "cannot start");

  const int first = AwaitStopSignal();
  ckpt::observe::Info("signal", {{"number", first}});
  std::thread([] {
    const int second = AwaitStopSignal();
    ckpt::observe::Warning(
        "second signal: exiting at once; what is staged stays for the next "
        "daemon",
        {{"number", second}});
    _exit(128 + second);
  }).detach();
  const uint32_t left = (*daemon)->Stop();
  ckpt::observe::TellLeftOut();
  ckpt::observe::Info("stopped", {{"parts_left", left}});
  // What is left is being written at this moment: not waited for. The index needs no closing: its
  // batches are in the file of its log, and what a power cut takes of it (a commit's batch is not
  // synced) the next start indexes from the manifests.
  if (left > 0) _exit(0);
  daemon->reset();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ckpt::ConfigSources sources;
  for (int i = 1; i < argc; ++i) sources.arguments.emplace_back(argv[i]);
  for (char** entry = environ; *entry != nullptr; ++entry) sources.environment.emplace_back(*entry);
  const absl::StatusOr<ckpt::CommandLine> command_line = ckpt::ReadConfig(sources);
  if (!command_line.ok()) return Refuse(command_line.status(), "wrong settings");
  switch (command_line->action) {
    case ckpt::CommandLine::Action::kHelp:
      std::fputs(ckpt::HelpText().c_str(), stdout);
      return 0;
    case ckpt::CommandLine::Action::kVersion:
      std::puts(ckpt::VersionText().c_str());
      return 0;
    case ckpt::CommandLine::Action::kServe:
      break;
  }
  return Serve(*command_line);
}
