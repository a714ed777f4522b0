// die_at_call before|after N PROGRAM ARGUMENTS...
//
// Runs the program and kills it, all its threads at once (SIGKILL), right before or right after the
// Nth system call by which it changes a file: makes, writes, cuts, names or removes one. Its log
// (descriptors 1 and 2), sockets, pipes and memory without a name are no files here; nor do syncs
// count, which change nothing for whoever only dies. Exits as the program does, 137 where it was
// killed. SIGTERM is passed on; whoever kills this one kills the program.
// Where it cannot trace: 126.
//
// ptrace(2), with a seccomp filter that stops at these calls and lets all others run. The program's
// threads are one count: with several at work, which call is the Nth is theirs to decide.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

namespace {

enum class Kind { kAlways, kDescriptor, kOpen, kOpenAt };

struct Call {
  long number;
  Kind kind;  // kDescriptor: where the first argument is that of a file; kOpen*: where it may make
              // one
};

constexpr Call kCalls[] = {
    {SYS_openat, Kind::kOpenAt},
    {SYS_write, Kind::kDescriptor},
    {SYS_pwrite64, Kind::kDescriptor},
    {SYS_writev, Kind::kDescriptor},
    {SYS_pwritev, Kind::kDescriptor},
    {SYS_pwritev2, Kind::kDescriptor},
    {SYS_ftruncate, Kind::kDescriptor},
    {SYS_fallocate, Kind::kDescriptor},
    {SYS_truncate, Kind::kAlways},
    {SYS_renameat2, Kind::kAlways},
    {SYS_linkat, Kind::kAlways},
    {SYS_symlinkat, Kind::kAlways},
    {SYS_unlinkat, Kind::kAlways},
    {SYS_mkdirat, Kind::kAlways},
    {SYS_bind, Kind::kAlways},
#ifdef SYS_renameat
    {SYS_renameat, Kind::kAlways},
#endif
#ifdef SYS_open  // what newer machines have only in its `at` form
    {SYS_open, Kind::kOpen},
    {SYS_creat, Kind::kAlways},
    {SYS_rename, Kind::kAlways},
    {SYS_link, Kind::kAlways},
    {SYS_symlink, Kind::kAlways},
    {SYS_unlink, Kind::kAlways},
    {SYS_mkdir, Kind::kAlways},
    {SYS_rmdir, Kind::kAlways},
#endif
};

pid_t program = 0;

[[noreturn]] void Fail(const char* what) {
  std::fprintf(stderr, "die_at_call: %s: %s\n", what, std::strerror(errno));
  if (program > 0) kill(program, SIGKILL);
  std::exit(126);
}

// In the child: stops at kCalls, once somebody watches.
void InstallFilter() {
  std::vector<sock_filter> filter = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const Call& call : kCalls) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call.number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog code{static_cast<unsigned short>(filter.size()), filter.data()};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) Fail("no_new_privs");
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &code) != 0) Fail("seccomp");
}

bool IsFile(pid_t thread, uint64_t descriptor) {
  if (descriptor <= STDERR_FILENO) return false;
  const std::string link =
      "/proc/" + std::to_string(thread) + "/fd/" + std::to_string(static_cast<int>(descriptor));
  char target[4096];
  const ssize_t length = readlink(link.c_str(), target, sizeof(target));
  const std::string name(target, length > 0 ? static_cast<size_t>(length) : 0);
  return name.starts_with("/dev/shm/") ||
         (name.starts_with("/") && !name.starts_with("/memfd:") && !name.starts_with("/dev/"));
}

bool ChangesAFile(pid_t thread) {
  __ptrace_syscall_info info;
  if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof(info), &info) <= 0) return false;  // it died
  constexpr uint64_t kMakes = O_CREAT | O_TRUNC;
  for (const Call& call : kCalls) {
    if (static_cast<uint64_t>(call.number) != info.seccomp.nr) continue;
    switch (call.kind) {
      case Kind::kAlways:
        return true;
      case Kind::kDescriptor:
        return IsFile(thread, info.seccomp.args[0]);
      case Kind::kOpen:
        return (info.seccomp.args[1] & kMakes) != 0;
      case Kind::kOpenAt:
        return (info.seccomp.args[2] & kMakes) != 0;
    }
  }
  return false;
}

// Until the program has ended, by itself or killed at that call. Its exit status.
int Watch(bool before, uint64_t fatal) {
  std::set<pid_t> known = {program};
  uint64_t calls = 0;
  pid_t doomed = 0;  // the thread that is inside of the call behind which all of them end
  for (;;) {
    int status = 0;
    const pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0 && errno == EINTR) continue;
    if (thread < 0) Fail("waitpid");
    if (!WIFSTOPPED(status)) {
      if (thread != program) continue;
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    const int event = status >> 16;
    int signal = 0;  // to be delivered
    auto resume = PTRACE_CONT;
    if (event == PTRACE_EVENT_SECCOMP) {
      calls += ChangesAFile(thread) ? 1 : 0;
      if (calls == fatal && doomed == 0) {
        doomed = thread;
        if (before) kill(program, SIGKILL);
        resume = PTRACE_SYSCALL;  // stops again behind it
      }
    } else if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
      kill(program, SIGKILL);
    } else if (event == 0 && !(known.insert(thread).second && WSTOPSIG(status) == SIGSTOP)) {
      signal = WSTOPSIG(status);
    }
    ptrace(resume, thread, 0, signal);  // one that was killed meanwhile is met again above
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string when = argc > 3 ? argv[1] : "";
  const uint64_t fatal = argc > 3 ? std::strtoull(argv[2], nullptr, 10) : 0;
  if ((when != "before" && when != "after") || fatal == 0) {
    std::fprintf(stderr, "usage: die_at_call before|after N PROGRAM ARGUMENTS...\n");
    return 2;
  }
  program = fork();
  if (program < 0) Fail("fork");
  if (program == 0) {
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) Fail("ptrace");
    raise(SIGSTOP);
    InstallFilter();
    execv(argv[3], argv + 3);
    Fail(argv[3]);
  }
  signal(SIGTERM, [](int number) { kill(program, number); });
  int status = 0;
  if (waitpid(program, &status, __WALL) != program) Fail("waitpid");
  if (!WIFSTOPPED(status)) return 126;  // it has said why
  if (ptrace(PTRACE_SETOPTIONS, program, 0,
             PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
                 PTRACE_O_TRACEEXEC | PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD) != 0) {
    Fail("ptrace");
  }
  ptrace(PTRACE_CONT, program, 0, 0);
  return Watch(when == "before", fatal);
}
