// What people do without ckptd: torch::save of the same tensors into a new file, and fdatasync. It
// runs in a helper process, so that ckpt_bench itself does without LibTorch.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "tests/benchmark/measure.h"
#include "tests/benchmark/rows.h"

namespace ckpt::bench {
namespace {

// The helper saves once for each line that it gets, and answers with the seconds.
class TorchSaver {
 public:
  ~TorchSaver() {
    if (to_ != nullptr) std::fclose(to_);
    if (from_ != nullptr) std::fclose(from_);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
  }

  absl::Status Start(const std::string& binary, const std::string& folder, uint64_t bytes) {
    int requests[2], answers[2];
    if (pipe2(requests, O_CLOEXEC) != 0 || pipe2(answers, O_CLOEXEC) != 0) {
      return absl::InternalError("no pipe");
    }
    const std::string size = absl::StrCat(bytes);
    pid_ = vfork();
    if (pid_ == 0) {
      dup2(requests[0], 0);
      dup2(answers[1], 1);
      execl(binary.c_str(), binary.c_str(), folder.c_str(), size.c_str(), nullptr);
      _exit(127);
    }
    close(requests[0]);
    close(answers[1]);
    to_ = fdopen(requests[1], "w");
    from_ = fdopen(answers[0], "r");
    return absl::OkStatus();
  }

  absl::StatusOr<double> Save() {
    char line[64] = {};
    double seconds = 0;
    if (std::fputs("save\n", to_) < 0 || std::fflush(to_) != 0 ||
        std::fgets(line, sizeof(line), from_) == nullptr ||
        !absl::SimpleAtod(absl::StripAsciiWhitespace(line), &seconds)) {
      return absl::InternalError("the torch::save helper failed");
    }
    return seconds;
  }

 private:
  pid_t pid_ = 0;
  FILE* to_ = nullptr;
  FILE* from_ = nullptr;
};

}  // namespace

absl::Status TorchSaveRow(Bench& bench) {
  const SampleState& state = bench.state();
  const std::string helper = absl::StrCat(bench.binary(), "_torch_save");
  if (!std::filesystem::exists(helper)) {
    if (CKPT_BENCH_TORCH) {
      return absl::NotFoundError(absl::StrCat(helper, " is missing: build ckpt_bench_torch_save"));
    }
    bench.printer().Note("torch-save: left out, this build is without LibTorch");
    return absl::OkStatus();
  }
  TorchSaver torch;
  CKPT_RETURN_IF_ERROR(torch.Start(helper, bench.daemon().disk_folder(), state.bytes()));
  CKPT_ASSIGN_OR_RETURN(const std::unique_ptr<Client> client, WarmClient(bench));
  bench.printer().Note("torch::save");
  CKPT_RETURN_IF_ERROR(torch.Save().status());
  std::vector<double> stalls;
  auto torch_save = [&] { return torch.Save(); };
  auto ours = [&]() -> absl::StatusOr<double> {
    CKPT_ASSIGN_OR_RETURN(const SaveTimes times, SaveAndWait(bench, *client, state.MakePart(), {}));
    CKPT_RETURN_IF_ERROR(bench.daemon().Delete(times.id));
    stalls.push_back(times.stall);
    return times.stall + times.durable;
  };
  CKPT_ASSIGN_OR_RETURN(Pairs pairs, MeasurePairs(bench.options().pairs, torch_save, ours));
  const char* conditions =
      "both from populated tensors into new files; torch::save with one thread, through the page "
      "cache, in a process of its own; our copy threads: 1, staging files recycled, mapped and "
      "populated";
  auto figures = [&] {
    return absl::StrCat(PrintSeconds(Median(pairs.measured)), " over ",
                        PrintSeconds(Median(pairs.baseline)));
  };
  bench.printer().Print({"torch_save_over_durable", pairs.MeasuredOverBaseline(), "ratio",
                         "our save, from Save to committed", Bar{2, true}, conditions, figures()});
  pairs.baseline = stalls;
  bench.printer().Print({"torch_save_over_stall", pairs.MeasuredOverBaseline(), "ratio",
                         "our stall, from Save to staged", Bar{10, true}, conditions, figures()});
  return absl::OkStatus();
}

}  // namespace ckpt::bench
