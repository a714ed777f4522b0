#include "client/examples/launcher.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace train_lm {
namespace {

[[noreturn]] void ExecuteRank(const Options& options, int rank, const std::string& rendezvous,
                              int argc, char** argv, pid_t launcher) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != launcher) ::_exit(1);  // it died before the line above
  std::vector<std::string> words = {"train_lm", "rank"};
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "launch") != 0) words.push_back(argv[i]);
  }
  words.push_back(absl::StrCat("--ranks=", options.ranks));
  words.push_back(absl::StrCat("--rank=", rank));
  words.push_back(absl::StrCat("--rendezvous=", rendezvous));
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  // One thread per rank: ranks share the cores, and sums are added in one order.
  ::setenv("OMP_NUM_THREADS", "1", 1);
  ::setenv("OPENBLAS_NUM_THREADS", "1", 1);
  ::execv("/proc/self/exe", pointers.data());
  std::fprintf(stderr, "train_lm: cannot execute itself: %s\n", std::strerror(errno));
  ::_exit(127);
}

std::string DescribeEnd(int status) {
  if (WIFSIGNALED(status)) {
    return absl::StrCat("was killed by signal ", WTERMSIG(status), " (",
                        ::strsignal(WTERMSIG(status)), ")");
  }
  return absl::StrCat("ended with status ", WEXITSTATUS(status));
}

}  // namespace

int Launch(const Options& options, int argc, char** argv) {
  std::error_code error;
  std::filesystem::create_directories(options.out, error);
  if (error) {
    std::fprintf(stderr, "train_lm: cannot create --out=%s: %s\n", options.out.c_str(),
                 error.message().c_str());
    return 1;
  }
  std::string folder = (std::filesystem::temp_directory_path() / "train_lm.XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) {
    std::fprintf(stderr, "train_lm: cannot create %s: %s\n", folder.c_str(), std::strerror(errno));
    return 1;
  }
  const std::string rendezvous = folder + "/rendezvous";
  const pid_t self = ::getpid();
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < options.ranks; ++rank) {
    const pid_t pid = ::fork();
    if (pid == 0) ExecuteRank(options, rank, rendezvous, argc, argv, self);
    if (pid < 0) {
      std::fprintf(stderr, "train_lm: cannot start rank %d: %s\n", rank, std::strerror(errno));
      for (const pid_t started : ranks) ::kill(started, SIGKILL);
      return 1;
    }
    ranks.push_back(pid);
  }

  int result = 0;
  for (size_t running = ranks.size(); running > 0; --running) {
    int status = 0;
    pid_t pid;
    do {
      pid = ::waitpid(-1, &status, 0);
    } while (pid < 0 && errno == EINTR);
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      if (ranks[rank] != pid) continue;
      ranks[rank] = 0;
      if (status == 0) break;
      if (result == 0) {
        std::fprintf(stderr, "train_lm: rank %zu %s; stopping the others\n", rank,
                     DescribeEnd(status).c_str());
        for (const pid_t other : ranks) {
          if (other > 0) ::kill(other, SIGKILL);
        }
      }
      result = 1;
    }
  }
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
  return result;
}

}  // namespace train_lm
